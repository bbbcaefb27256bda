"""Numbers and notes in the words that every form of the table shares."""

from orchestrator.report.comparisons import Cell, Comparison, Point, value_text
from orchestrator.report.paper import LABELS, Entry, PaperTable, Reproduction
from orchestrator.report.published import Quantity
from orchestrator.report.results import Results
from orchestrator.report.statistics import RESAMPLES, GainShare, Summary

BLANK = "–"


def accuracy_text(accuracy: Summary | None) -> str:
    """`91.0 ± 1.0`, in %; without a deviation for a single seed."""
    if accuracy is None:
        return BLANK
    if accuracy.std is None:
        return f"{accuracy.mean * 100:.1f}"
    return f"{accuracy.mean * 100:.1f} ± {accuracy.std * 100:.1f}"


def seeds_text(cell: Cell) -> str:
    """`n = 3`, or `n = 2 of 3` where trials are missing."""
    finished, asked = len(cell.results), len(cell.outcomes)
    return f"n = {finished}" if finished == asked else f"n = {finished} of {asked}"


def share_text(share: GainShare | None) -> str:
    """`73 %`."""
    return BLANK if share is None else f"{_percent(share.share)} %"


def interval_text(share: GainShare | None) -> str:
    """`[51, 92]`, in %; nothing where there is no interval."""
    if share is None or share.low is None or share.high is None:
        return ""
    return f"[{_percent(share.low)}, {_percent(share.high)}]"


def _percent(share: float) -> str:
    return _signed(share * 100, 0)


def has_share(comparison: Comparison, cell: Cell) -> bool:
    """Whether a cell's share of full's gain is worth a line, be it blank."""
    return comparison.has_reference and cell.strategy not in ("none", "full") and cell.accuracy is not None


def point_text(point: Point) -> str:
    """`training.epochs = 30, model.name = mlp`."""
    return ", ".join(f"{field} = {value_text(value)}" for field, value in point)


QUANTITIES: dict[Quantity, str] = {
    "accuracy": "test accuracy in %",
    "share": "share of full augmentation’s gain over weak only, in %",
    "speedup": "speed-up over full augmentation, in training time",
}


def entry_text(quantity: Quantity, entry: Entry) -> str:
    """What was measured here: `37.1 ± 0.4`, a share `73 [51, 92]`, a speed-up `3.10 ± 0.04 ×`."""
    here = entry.here
    if here is None:
        return BLANK
    digits = {"accuracy": 1, "share": 0, "speedup": 2}[quantity]
    text = _signed(here.value, digits)
    if here.std is not None:
        text += f" ± {here.std:.{digits}f}"
    if here.low is not None and here.high is not None:
        text += f" [{_signed(here.low, digits)}, {_signed(here.high, digits)}]"
    return f"{text} ×" if quantity == "speedup" else text


def beside_text(quantity: Quantity, entry: Entry) -> str:
    """What the paper has there, and the difference: `paper 37.8, −0.7`; nothing where the paper has nothing."""
    found = entry.published
    if found is None:
        return ""
    if entry.here is None:
        return f"paper {found.text}"
    if entry.difference is None:
        return f"paper {found.text}, so here"
    difference = f"{entry.difference:+.{2 if quantity == 'speedup' else 1}f}".replace("-", "−")
    return f"paper {found.text}, {difference}"


def baseline_text(quantity: Quantity, entry: Entry) -> str:
    """`Weak only: 89.5 ± 0.2 (n = 3; paper 89.46, +0.0)`."""
    said = "; ".join(part for part in (entry_seeds_text(entry), beside_text(quantity, entry)) if part)
    return f"{LABELS[entry.strategy]}: {entry_text(quantity, entry)} ({said})"


def entry_seeds_text(entry: Entry) -> str:
    """`n = 3`, or `n = 2 of 3` where trials are missing; nothing where there are none."""
    if not entry.asked:
        return ""
    return f"n = {entry.n}" if entry.n == entry.asked else f"n = {entry.n} of {entry.asked}"


def table_title(table: PaperTable) -> str:
    """What a table of the paper's layout shows."""
    return QUANTITIES[table.quantity]


def setup_text(reproduction: Reproduction) -> str:
    """How the set-up relates to the paper's, to be followed by the differences where there are some."""
    library = f"the library’s spec {reproduction.name}"
    known = "which is the paper’s as far as it is known and marks what is our own choice"
    if not reproduction.differences:
        return f"The set-up is that of {library}, {known}."
    return f"The set-up is not that of {library}, {known}. Where it differs:"


def _signed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def notes(results: Results, comparisons: tuple[Comparison, ...]) -> list[str]:
    """What a reader must know to read the tables rightly."""
    said = [
        "Test accuracy after the last epoch in %: mean ± sample standard deviation over n seeds. "
        "n = 2 of 3: one of three trials has no result."
    ]
    if any(comparison.has_reference for comparison in comparisons):
        sized = any(cell.strategy == "none" and cell.size for comparison in comparisons for cell in comparison.cells)
        said.append(
            "Share of full augmentation's gain: (mean − mean of none) / (mean of full − mean of none)"
            + (", with none at the same size," if sized else "")
            + " over the seeds that all three have. In brackets its 95 % percentile bootstrap interval, in %: "
            f"seeds resampled jointly, {RESAMPLES:,} times; with few seeds it is rough. Left blank ({BLANK}) with "
            "fewer than two such seeds, and where full's own gain is below two standard errors of the paired "
            "difference; the interval alone, where full gains nothing in some resample."
        )
    if results.stopped():
        said.append(
            f"ASHA stopped {results.stopped()} of {len(results.outcomes)} trials early. They stay outside the table, "
            "so a mean over fewer seeds than asked is a mean over those that did well."
        )
    return said
