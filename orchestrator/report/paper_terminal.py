"""What a sweep reproduces, in the paper's layout, for the terminal."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.report.comparisons import compare
from orchestrator.report.paper import Entry, PaperTable, reproduction
from orchestrator.report.paper_wording import (
    baseline_text,
    beside_text,
    entry_seeds_text,
    entry_text,
    setup_text,
    table_title,
)
from orchestrator.report.results import Results
from orchestrator.report.wording import BLANK, point_text


def paper_tables(results: Results) -> Group | None:
    """What the sweep reproduces, in the paper's layout, with the published figures; None where it reproduces nothing.

    Speed-ups are shown too: the terminal is no file that must not depend on clocks.
    """
    found = reproduction(results)
    if found is None:
        return None
    parts: list[Table | Text] = [Text(f"Beside the paper: {found.published.place}", style="bold")]
    for comparison in compare(results):
        point = point_text(comparison.point)
        parts += [_paper_table(table, point) for table in found.timed_tables(comparison)]
    parts.append(Text(setup_text(found)))
    if found.differences:
        differing = Table("field", "here", "library", box=None, padding=(0, 2, 0, 0))
        for one in found.differences:
            differing.add_row(*(Text(text) for text in (one.field, one.here or BLANK, one.there or BLANK)))
        parts.append(differing)
    parts += [Text(remark, style="dim") for remark in found.published.remarks]
    return Group(*parts)


def _paper_table(table: PaperTable, point: str) -> Table | Text:
    title = f"{table_title(table)}{f' ({point})' if point else ''}"
    baselines = [baseline_text(table.quantity, entry) for entry in table.baselines]
    if not table.rows:
        return Text("\n".join([f"{title}:", *baselines]))
    shown = Table(title=Text(title), title_justify="left", caption_justify="left")
    shown.caption = Text("\n".join(baselines)) if baselines else None
    shown.add_column("")
    for column in table.columns:
        shown.add_column(column, justify="right")
    for label, entries in table.rows:
        shown.add_row(label, *(_entry(table, entry) for entry in entries))
    return shown


def _entry(table: PaperTable, entry: Entry) -> Text:
    text = Text(entry_text(table.quantity, entry), style="bold")
    if entry.n < entry.asked:
        text.append(f" ({entry_seeds_text(entry)})", style="not bold yellow")
    beside = beside_text(table.quantity, entry)
    if beside:
        text.append(f"\n{beside}", style="not bold dim")
    return text
