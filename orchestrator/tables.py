"""Tables for the terminal."""

from rich.table import Table

from orchestrator.estimates import Outlook


def plan_table(outlook: Outlook) -> Table:
    """What every cell of a sweep takes, and the whole."""
    done = outlook.trials - outlook.todo
    skipped = f" ({done} finished: skipped)" if done else ""
    at_once = sorted({cell.at_once for cell in outlook.cells})
    table = Table(
        title=f"{outlook.sweep}: {outlook.trials} trials, {outlook.todo} to do{skipped}",
        caption=f"About {_time(outlook.seconds)} in all on {outlook.place}, {' or '.join(map(str, at_once))} at a "
        "time. Times marked * are those of finished trials; the others are reckoned from a few steps there.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("trials")
    for column in ("of", "to do", "augmented set", "images an epoch", "selection memory", "a trial"):
        table.add_column(column, justify="right")
    for estimate in outlook.cells:
        table.add_row(
            estimate.label,
            str(estimate.trials),
            str(estimate.todo),
            "by tolerance" if estimate.selected is None else f"{estimate.selected:,}",
            "by tolerance" if estimate.views is None else f"{estimate.views:,}",
            _bytes(estimate.selection_bytes),
            _time(estimate.seconds) + ("*" if estimate.measured else ""),
        )
    return table


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bytes(count: int) -> str:
    if not count:
        return "–"
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
