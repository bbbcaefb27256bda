"""Reports from storage, for `medoid run` and `medoid report`."""

import numpy as np
from rich.console import Console

from orchestrator.errors import UserError
from orchestrator.preparation import Library, Prepared, named_storage
from orchestrator.report.contact_sheets import Ids, Pictures
from orchestrator.report.paper_terminal import paper_tables
from orchestrator.report.results import read_results
from orchestrator.report.terminal import terminal_table
from orchestrator.report.writing import ReportFiles, write_report
from orchestrator.state import tracking_store
from specs import TrialSpec
from specs.resources import Storage as Place
from specs.resources import Tracking
from workers.data import DataError, corrupt
from workers.records import SWEEP_KEY, SweepRecord, load_record
from workers.storage import Storage, open_storage


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


def report_on(prepared: Prepared, library: Library, console: Console) -> tuple[str, ...]:
    """Write the report of a sweep that was just run, and show its table; returns the keys of the report's files."""
    return _write(prepared.storage, prepared.record, library, console).keys


def write_stored_report(place: Place, name: str, console: Console) -> None:
    """Write the report of a stored sweep anew, which may be running.

    Where its run ended meanwhile, this has been written over the run's own report, which knew more: so once again.
    """
    storage, record = _stored(place, name)
    told = _write(storage, record, Library(), console).results.states()
    while (now := read_results(*_stored(place, name)).states()) != told and "unfinished" not in now:
        told = _write(*_stored(place, name), Library(), console).results.states()


def stored_sweep(place: Place, name: str) -> str:
    """The MLflow store of a stored sweep."""
    storage, record = _stored(place, name)
    return tracking_store(storage, Tracking.model_validate(record.spec.get("tracking", {})))


def _stored(place: Place, name: str) -> tuple[Storage, SweepRecord]:
    storage = named_storage(place, name)
    record = load_record(storage, SWEEP_KEY, SweepRecord)
    if record is None:
        every = open_storage(place.path, place.endpoint)
        there = [found for found in every.folders("") if every.exists(f"{found}/{SWEEP_KEY}")]
        known = ", ".join(there) or "none"
        raise UserError(f"no sweep {name!r} in {place.path}; sweeps there: {known} (another folder: --storage)")
    return storage, record


def _write(storage: Storage, record: SweepRecord, library: Library, console: Console) -> ReportFiles:
    try:
        files = write_report(storage, record, StoredImages(library))
    except DataError as error:  # a report can be written where the data is not
        console.print(f"no contact sheet: {error}", style="yellow")
        files = write_report(storage, record)
    console.print(terminal_table(files.results))
    if (beside := paper_tables(files.results)) is not None:
        console.print(beside)
    console.print(f"report: {storage.uri}/{files.page}", soft_wrap=True)
    return files
