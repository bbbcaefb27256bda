"""The page: one HTML file with everything in it."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from orchestrator.report import paper_wording, wording
from orchestrator.report.comparisons import Comparison
from orchestrator.report.drawing import LOOKS, Figure
from orchestrator.report.paper import PaperTable, Reproduction
from orchestrator.report.provenance import Provenance
from orchestrator.report.results import Results
from orchestrator.report.time_tables import time_table
from specs.errors import without_passwords
from workers.records import SweepRecord

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Chapter:
    """A comparison and its figures."""

    comparison: Comparison
    figures: tuple[Figure, ...]

    @property
    def shares(self) -> tuple[str, ...]:
        """The strategies with a share of full's gain to show, be it blank."""
        cells = self.comparison.cells
        shown = {cell.strategy for cell in cells if wording.has_share(self.comparison, cell)}
        return tuple(name for name in self.comparison.strategies if name in shown)

    def beside(self, found: Reproduction) -> tuple[PaperTable, ...]:
        """The comparison in the paper's layout."""
        return found.timed_tables(self.comparison)


def page_html(
    results: Results,
    chapters: tuple[Chapter, ...],
    source: Provenance,
    found: Reproduction | None,
    files: tuple[str, ...],
    notice: str,
) -> str:
    """The report as one self-contained page.

    `found` is what the sweep reproduces, `files` are those that lie next to the page, `notice` may be empty.
    """
    comparisons = tuple(chapter.comparison for chapter in chapters)
    finished = len(results.outcomes) - len(results.missing())
    values: dict[str, Any] = {
        "sweep": results.sweep,
        "results": results,
        "chapters": chapters,
        "source": source,
        "found": found,
        "times": time_table(comparisons),
        "files": files,
        "notice": notice,
        "finished": finished,
        "notes": wording.notes(results, comparisons),
        "yaml": spec_yaml(results.sweep),
        "looks": LOOKS,
        "words": wording,
        "beside": paper_wording,
    }
    return templates(HERE).get_template("page.html.j2").render(values)


def templates(folder: Path) -> Environment:
    """A folder's templates, with what every page of medoid has: its style sheet as `css`, pictures as data URIs."""
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["data_uri"] = _data_uri
    environment.globals["css"] = (HERE / "page.css").read_text(encoding="utf-8")
    return environment


def spec_yaml(sweep: SweepRecord) -> str:
    """The spec as YAML, name and description first; passwords that an old sweep's spec may hold are left out."""
    first: dict[str, Any] = {key: sweep.spec[key] for key in ("name", "description") if key in sweep.spec}
    text = yaml.safe_dump(
        {**first, **sweep.spec}, sort_keys=False, allow_unicode=True, width=90, default_flow_style=None
    )
    return without_passwords(text)


def _data_uri(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
