"""`table.md`: the tables, their notes and what the numbers come from. Holds no clock and no host name."""

from orchestrator.report.comparisons import Cell, Comparison
from orchestrator.report.provenance import Provenance
from orchestrator.report.results import Results
from orchestrator.report.wording import (
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
