"""Writes an analysis into its sweep's storage."""

import torch

from orchestrator.analysis.csv_files import csv_files
from orchestrator.analysis.figures import draw
from orchestrator.analysis.page import Origin, page_html
from orchestrator.analysis.summary import Analysis
from orchestrator.report.provenance import NO_COMMIT, UNKNOWN
from workers.commits import commit
from workers.data import ImageData
from workers.environment import hardware, versions
from workers.records import SweepRecord, TrialTimes, load_record, trial_key
from workers.storage import Storage

FOLDER = "analysis/spectrum"


def write_analysis(
    storage: Storage, sweep: SweepRecord, analysis: Analysis, images: ImageData, device: torch.device
) -> str:
    """Write page, figures and CSV files under `analysis/spectrum/`, instead of those of an earlier analysis.

    Returns the key of the page. Raises StorageError.
    """
    figures = draw(analysis)
    tables = csv_files(analysis)
    origin = _origin(storage, analysis, images, device)
    page = page_html(analysis, sweep, figures, origin, tuple(tables))
    written = {
        **{f"{FOLDER}/{name}": data for name, data in tables.items()},
        **{f"{FOLDER}/figures/{panel.stem}.png": panel.png for figure in figures for panel in figure.panels},
        f"{FOLDER}/index.html": page.encode(),
    }
    for key, data in written.items():
        storage.write(key, data)
    for key in set(storage.list(FOLDER)) - written.keys():
        storage.delete(key)
    return f"{FOLDER}/index.html"


def _origin(storage: Storage, analysis: Analysis, images: ImageData, device: torch.device) -> Origin:
    spec = analysis.trials[0].trial.spec
    times = [load_record(storage, trial_key(one.trial.id, "times.json"), TrialTimes) for one in analysis.trials]
    trained = [(one.commit or NO_COMMIT) if one is not None else UNKNOWN for one in times]
    height, width, channels = images.image_shape
    return Origin(
        commit=commit() or NO_COMMIT,
        hardware=hardware(device),
        versions=", ".join(f"{name} {found}" for name, found in versions().items()),
        data=f"{spec.dataset.name}: {height}x{width}x{channels}, {len(images.classes)} classes, "
        f"fingerprint {images.fingerprint}",
        trained=", ".join(dict.fromkeys(trained)),
    )
