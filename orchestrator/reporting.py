"""Reports from storage, for `medoid run` and `medoid report`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console

from orchestrator.errors import UserError
from orchestrator.preparation import Library, Prepared, named_storage
from orchestrator.report.contact_sheets import Ids, Pictures
from orchestrator.report.paper_terminal import paper_tables
from orchestrator.report.results import read_results
from orchestrator.report.terminal import terminal_table
from orchestrator.report.writing import write_report
from orchestrator.tracking_uri import store_uri
from specs import TrialSpec
from specs.resources import Tracking
from workers.data import DataError, corrupt
from workers.records import SWEEP_KEY, SweepRecord, load_record
from workers.storage import LocalStorage


class StoredImages:
    """Training images for contact sheets, with each trial's corruption."""

    def __init__(self, library: Library):
        self.library = library

    def __call__(self, spec: TrialSpec, ids: Ids) -> Pictures:
        images = self.library.images(spec.dataset)
        examples = corrupt(spec.dataset, images, spec.seed)
        rows = np.searchsorted(examples.ids, ids)
        return Pictures(
            images.train.shown(ids),
            [images.classes[label] for label in examples.labels[rows]],
            [images.classes[label] for label in examples.clean_labels[rows]],
        )


def report_on(prepared: Prepared, library: Library, console: Console) -> Mapping[str, Path]:
    """Write the report of a sweep that was just run, and show its table; returns the report's files by name."""
    return _write(prepared.storage, prepared.record, library, console)


def write_stored_report(path: str, name: str, console: Console) -> None:
    """Write the report of a stored sweep anew."""
    storage = named_storage(path, name)
    _write(storage, _record(storage, path, name), Library(), console)


def stored_sweep(path: str, name: str) -> str:
    """The MLflow store of a stored sweep."""
    storage = named_storage(path, name)
    tracking = Tracking.model_validate(_record(storage, path, name).spec.get("tracking", {}))
    return store_uri(storage.root, tracking)


def _record(storage: LocalStorage, path: str, name: str) -> SweepRecord:
    record = load_record(storage, SWEEP_KEY, SweepRecord)
    if record is None:
        there = sorted(entry.parent.name for entry in Path(path).glob(f"*/{SWEEP_KEY}"))
        known = ", ".join(there) or "none"
        raise UserError(f"no sweep {name!r} in {path}; sweeps there: {known} (another folder: --storage)")
    return record


def _write(storage: LocalStorage, record: SweepRecord, library: Library, console: Console) -> Mapping[str, Path]:
    try:
        files = write_report(storage, record, StoredImages(library))
    except DataError as error:  # a report can be written where the data is not
        console.print(f"no contact sheet: {error}", style="yellow")
        files = write_report(storage, record)
    results = read_results(storage, record)
    console.print(terminal_table(results))
    if (beside := paper_tables(results)) is not None:
        console.print(beside)
    paths = {key: storage.path(key) for key in files.keys}
    console.print(f"report: {paths['report/index.html']}", soft_wrap=True)
    return paths
