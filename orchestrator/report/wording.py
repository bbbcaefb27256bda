"""Numbers and notes in the words that every form of the table shares."""

from orchestrator.report.comparisons import Cell, Comparison, Point, value_text
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
    return f"{share * 100:.0f}".replace("-", "−")


def has_share(comparison: Comparison, cell: Cell) -> bool:
    """Whether a cell's share of full's gain is worth a line, be it blank."""
    return comparison.has_reference and cell.strategy not in ("none", "full") and cell.accuracy is not None


def point_text(point: Point) -> str:
    """`training.epochs = 30, model.name = mlp`."""
    return ", ".join(f"{field} = {value_text(value)}" for field, value in point)


def balanced(results: Results) -> bool:
    """Whether test accuracy is class-balanced in these results."""
    found = [outcome.result for outcome in results.outcomes if outcome.result is not None]
    return any(result.metric == "balanced_accuracy" for result in found)


def notes(results: Results, comparisons: tuple[Comparison, ...]) -> list[str]:
    """What a reader must know to read the tables rightly."""
    incomplete = " “n = 2 of 3” means that one of three trials has no result." if results.missing() else ""
    said = [f"Test accuracy after the last epoch in %: mean ± sample standard deviation over n seeds.{incomplete}"]
    if balanced(results):
        said.append(
            "Test accuracy is class-balanced (evaluation.metric = balanced_accuracy): the mean over the classes of "
            "each one's share of test images classified rightly."
        )
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
