"""Writes the report of a sweep into its storage."""

import logging
from dataclasses import dataclass

from orchestrator.report.comparisons import compare
from orchestrator.report.contact_sheets import ImageSource, contact_sheets
from orchestrator.report.csv_files import csv_files
from orchestrator.report.figures import draw
from orchestrator.report.markdown import table_markdown, times_markdown
from orchestrator.report.page import Chapter, page_html
from orchestrator.report.paper import reproduction
from orchestrator.report.provenance import provenance
from orchestrator.report.results import Results, read_results
from workers.records import SweepRecord
from workers.storage import Storage

FOLDER = "report"
FIGURED = 12  # comparisons that get figures: beyond that nobody scrolls, and drawing takes a second each
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportFiles:
    """Keys in storage of what a report is made of, and the results that it tells."""

    results: Results
    page: str
    texts: tuple[str, ...]
    csv: tuple[str, ...]
    figures: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """All of them."""
        return (self.page, *self.texts, *self.csv, *self.figures)


def write_report(storage: Storage, sweep: SweepRecord, images: ImageSource | None = None) -> ReportFiles:
    """Write the report of what is in storage now, finished or not, under `report/`.

    With `images` it has contact sheets of the selected images. Figures of an earlier report that are no more are
    deleted. Only `times.csv`, `times.md` and the page depend on when and where trials ran: the other files are the
    same bytes for the same results, whatever happened on the way.
    Raises StorageError where a trial's file is damaged or storage fails.
    """
    results = read_results(storage, sweep)
    comparisons = compare(results)
    found = reproduction(results)
    chapters = []
    for index, comparison in enumerate(comparisons):
        prefix = f"{index + 1:02d}-" if len(comparisons) > 1 else ""
        figures = draw(comparison, prefix, found) if index < FIGURED else []
        if images is not None and index < FIGURED:
            sheets = contact_sheets(storage, comparison, images, prefix)
            figures += [sheets] if sheets else []
        chapters.append(Chapter(comparison, tuple(figures)))
    notice = ""
    if len(comparisons) > FIGURED:
        notice = (
            f"Figures are drawn for the first {FIGURED} of {len(comparisons)} comparisons; the tables and the CSV "
            "files hold all."
        )
    source = provenance(results, comparisons)
    tables = csv_files(results)
    for name, data in tables.items():
        storage.write(f"{FOLDER}/{name}", data)
    texts = {
        "table.md": table_markdown(results, comparisons, source).encode(),
        "times.md": times_markdown(results, comparisons).encode(),
    }
    for name, data in texts.items():
        storage.write(f"{FOLDER}/{name}", data)
    drawn = {
        f"{FOLDER}/figures/{panel.stem}.png": panel.png
        for chapter in chapters
        for figure in chapter.figures
        for panel in figure.panels
    }
    for key, png in drawn.items():
        storage.write(key, png)
    for key in set(storage.list(f"{FOLDER}/figures")) - drawn.keys():
        storage.delete(key)
    if "paper.csv" not in tables:  # of an earlier spec
        storage.delete(f"{FOLDER}/paper.csv")
    page = page_html(results, tuple(chapters), source, found, (*texts, *tables), notice)
    storage.write(f"{FOLDER}/index.html", page.encode())
    log.info("report of %s: %s/%s/index.html", sweep.name, storage.uri, FOLDER)
    return ReportFiles(
        results,
        f"{FOLDER}/index.html",
        tuple(f"{FOLDER}/{name}" for name in texts),
        tuple(f"{FOLDER}/{name}" for name in tables),
        tuple(drawn),
    )
