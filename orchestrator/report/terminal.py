"""The comparison as a table for the terminal."""

from rich.table import Table
from rich.text import Text

from orchestrator.report.comparisons import Cell, Comparison, compare, value_text
from orchestrator.report.results import Results
from orchestrator.report.wording import (
    BLANK,
    accuracy_text,
    balanced,
    has_share,
    interval_text,
    seeds_text,
    share_text,
)


def terminal_table(results: Results) -> Table:
    """Mean ± standard deviation of the final test accuracy by strategy and size; one block for each comparison."""
    comparisons = compare(results)
    sizes = list(dict.fromkeys(size for comparison in comparisons for size in comparison.sizes))
    unsized = any(not cell.size for comparison in comparisons for cell in comparison.cells)
    columns = sizes + ([""] if unsized else [])
    metric = "class-balanced test accuracy" if balanced(results) else "test accuracy"
    table = Table(
        title=f"{results.sweep.name}: {metric} in %, mean ± standard deviation",
        caption=_caption(results, comparisons),
        caption_justify="left",
    )
    axes = [field for field, _ in comparisons[0].point] if comparisons else []
    for axis in axes:
        table.add_column(axis)
    table.add_column("strategy")
    for size in columns:
        table.add_column(size or ("any size" if sizes else "accuracy"), justify="right")
    for comparison in comparisons:
        values = [value_text(value) for _, value in comparison.point]
        for strategy in comparison.strategies:
            cells = [comparison.at(strategy, size) for size in columns]
            table.add_row(*values, strategy, *(_cell(comparison, cell) for cell in cells))
        table.add_section()
    return table


def _cell(comparison: Comparison, cell: Cell | None) -> Text:
    if cell is None:
        return Text("")
    text = Text(accuracy_text(cell.accuracy), style="bold")
    if len(cell.results) < len(cell.outcomes):
        text.append(f" ({seeds_text(cell)})", style="not bold yellow")
    if has_share(comparison, cell) and cell.share is not None:
        text.append(f"\n{share_text(cell.share)} {interval_text(cell.share)}".rstrip(), style="not bold dim")
    return text


def _caption(results: Results, comparisons: tuple[Comparison, ...]) -> str:
    counts = sorted({len(cell.outcomes) for comparison in comparisons for cell in comparison.cells})
    seeds = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else BLANK
    said = [f"n = {seeds} seeds unless noted"]
    states = [outcome.state for outcome in results.missing()]
    said += [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    caption = "; ".join(said) + "."
    if any(cell.share for comparison in comparisons for cell in comparison.cells):
        caption += "\nBelow: share of full augmentation's gain, with its 95 % interval."
    return caption
