"""`table.md`: the tables, their notes and what the numbers come from, without clock or host; `times.md`: the times."""

from orchestrator.report.comparisons import Cell, Comparison
from orchestrator.report.paper import Entry, PaperTable, Reproduction, reproduction
from orchestrator.report.paper_wording import (
    baseline_text,
    beside_text,
    entry_seeds_text,
    entry_text,
    setup_text,
    table_title,
)
from orchestrator.report.provenance import Provenance
from orchestrator.report.results import Results
from orchestrator.report.time_tables import time_table
from orchestrator.report.wording import (
    BLANK,
    accuracy_text,
    has_share,
    interval_text,
    notes,
    point_text,
    seeds_text,
    share_text,
)


def table_markdown(results: Results, comparisons: tuple[Comparison, ...], source: Provenance) -> str:
    """The report's tables in GitHub's Markdown."""
    sweep = results.sweep
    parts = [f"# {sweep.name}"]
    if sweep.description:
        parts.append(sweep.description)
    for comparison in comparisons:
        if comparison.point:
            parts.append(f"## {point_text(comparison.point)}")
        parts.append(_table(comparison))
    parts += notes(results, comparisons)
    parts += [f"**{warning}**" for warning in source.warnings]
    if results.missing():
        rows = [
            [o.entry.strategy, o.entry.size, str(o.entry.seed), f"`{o.entry.id}`", o.state, o.reason]
            for o in results.missing()
        ]
        parts += ["Trials without a result:", _rows(["strategy", "size", "seed", "trial", "state", ""], rows)]
    found = reproduction(results)
    if found is not None:
        parts += _beside_the_paper(found, comparisons)
    parts.append("## Where the numbers come from")
    lines = [
        f"- commit: {', '.join(source.commits)}",
        f"- hardware: {'; '.join(source.hardware)}",
        *(f"- data: {data}" for data in source.data),
    ]
    parts.append("\n".join(lines))
    cells = [
        [
            cell.strategy,
            cell.size,
            point_text(cell.point),
            seeds_text(cell),
            accuracy_text(cell.accuracy),
            f"`{cell.cell_hash}`",
        ]
        for cell in (one.cell for one in source.sources)
    ]
    parts.append(_rows(["strategy", "size", "axes", "seeds", "accuracy", "cell hash"], cells))
    return "\n\n".join(parts) + "\n"


def times_markdown(results: Results, comparisons: tuple[Comparison, ...]) -> str:
    """What the trials took: everything here depends on when and where they ran."""
    parts = [f"# {results.sweep.name}: times"]
    times = time_table(comparisons)
    if times is None:
        return "\n\n".join([*parts, "No trial has times yet."]) + "\n"
    parts.append(_rows(list(times.header), [list(row) for row in times.rows]))
    parts += times.notes
    found = reproduction(results)
    if found is not None:
        parts += _speed_beside_the_paper(found, comparisons)
    return "\n\n".join(parts) + "\n"


def _speed_beside_the_paper(found: Reproduction, comparisons: tuple[Comparison, ...]) -> list[str]:
    parts = []
    for comparison in comparisons:
        for table in found.timed_tables(comparison):
            if table.quantity == "speedup":
                point = f" ({point_text(comparison.point)})" if comparison.point else ""
                parts += [f"Beside the paper, {found.published.place}{point}:", _paper_table(table)]
    return parts


def _beside_the_paper(found: Reproduction, comparisons: tuple[Comparison, ...]) -> list[str]:
    parts = [f"## Beside the paper: {found.published.place}"]
    for comparison in comparisons:
        tables = found.tables(comparison)
        if comparison.point and tables:
            parts.append(f"### {point_text(comparison.point)}")
        for table in tables:
            parts.append(f"{table_title(table).capitalize()}:")
            parts += [baseline_text(table.quantity, entry) for entry in table.baselines]
            if table.rows:
                parts.append(_paper_table(table))
    parts.append(setup_text(found))
    if found.differences:
        rows = [[one.field, one.here or BLANK, one.there or BLANK] for one in found.differences]
        parts.append(_rows(["field", "here", "library"], rows))
    return [*parts, *found.published.remarks]


def _paper_table(table: PaperTable) -> str:
    def cell(entry: Entry) -> str:
        here = f"**{entry_text(table.quantity, entry)}**"
        lines = (here, entry_seeds_text(entry), beside_text(table.quantity, entry))
        return "<br>".join(line for line in lines if line)

    return _rows(["", *table.columns], [[label, *map(cell, entries)] for label, entries in table.rows])


def _table(comparison: Comparison) -> str:
    unsized = any(not cell.size for cell in comparison.cells)
    columns = [*comparison.sizes, *([""] if unsized else [])]
    names = [size or ("any size" if comparison.sizes else "accuracy") for size in columns]
    rows = [
        [strategy, *(_cell(comparison, comparison.at(strategy, size)) for size in columns)]
        for strategy in comparison.strategies
    ]
    return _rows(["strategy", *names], rows)


def _cell(comparison: Comparison, cell: Cell | None) -> str:
    if cell is None:
        return ""
    lines = [f"**{accuracy_text(cell.accuracy)}**", seeds_text(cell)]
    if has_share(comparison, cell):
        lines.append(f"share {share_text(cell.share)} {interval_text(cell.share)}".rstrip())
    return "<br>".join(lines)


def _rows(header: list[str], rows: list[list[str]]) -> str:
    def line(texts: list[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in texts) + " |"

    return "\n".join([line(header), "|" + " --- |" * len(header), *(line(row) for row in rows)])
