"""The table of times: training time, speed-up over full augmentation, and what a selection takes."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.report.comparisons import Cell, Comparison, Point
from orchestrator.report.speed import SelectionCost, SpeedUps, selection_costs, speed_ups, training_seconds
from orchestrator.report.statistics import Summary, summarise
from orchestrator.report.wording import BLANK, point_text


@dataclass(frozen=True)
class TimeTable:
    """The times of all cells in words, a row a cell, and what must be known to read them."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def time_table(comparisons: Sequence[Comparison]) -> TimeTable | None:
    """Every cell that has times, once for each of its speed-ups; None where no trial has any."""
    axes = any(comparison.point for comparison in comparisons)
    speeds = [speed_ups(comparison) for comparison in comparisons]
    found: dict[str, tuple[Cell, dict[tuple[str, ...], Point]]] = {}  # by hash; with what is said of it, and where
    for comparison, speed in zip(comparisons, speeds, strict=True):
        costs = {cost.cell.cell_hash: cost for cost in selection_costs(comparison)}
        for cell in comparison.cells:
            if cell.times:
                said = _times(cell, speed.of(cell), costs.get(cell.cell_hash))
                found.setdefault(cell.cell_hash, (cell, {}))[1].setdefault(said, comparison.point)
    if not found:
        return None
    rows: list[tuple[str, ...]] = []
    for cell, sayings in found.values():
        for said, point in sayings.items():
            # beside several fulls a cell has several speed-ups, each at the point of its full
            place = [point_text(cell.point if len(sayings) == 1 else point)] if axes else []
            rows.append((cell.strategy, cell.size, *place, *said))
    columns = ("training time", "speed-up", "selections", "proxies", "solving", "waiting", "beside", "of training")
    notes = ["Training time: augmentation, steps, proxies, selection and waiting for it, without evaluation."]
    notes += speed_notes(comparisons, speeds)
    if any(selection_costs(comparison) for comparison in comparisons):
        notes.append(
            "A selection, on average over all of them: proxies are the losses and gradients of all examples, solving "
            "is choosing by them, waiting is what training stood still beyond that, beside is choosing while training "
            "went on. The last column is the share of training time that proxies, solving and waiting took."
        )
    if any(times.concurrent for one in comparisons for cell in one.cells for times in cell.times):
        notes.append("Trials ran side by side and slowed each other: alone, all of it takes less.")
    return TimeTable(("strategy", "size", *(["axes"] if axes else []), *columns), tuple(rows), tuple(notes))


def _times(cell: Cell, ratio: Summary | None, cost: SelectionCost | None) -> tuple[str, ...]:
    spent = summarise([training_seconds(times) for times in cell.times])
    assert spent is not None
    times = (_seconds(spent.mean, spent.std), speed_up_text(ratio))
    if cost is None:
        return (*times, "", "", "", "", "", "")
    parts = (_seconds(value) for value in (cost.proxies, cost.solving, cost.waiting))
    beside = _seconds(cost.background) if cost.background else BLANK
    return (*times, f"{cost.selections:,}", *parts, beside, f"{cost.share * 100:.1f} %")


def speed_up_text(ratio: Summary | None) -> str:
    """`3.43 ± 0.05 ×`."""
    if ratio is None:
        return BLANK
    return f"{ratio.mean:.2f}{'' if ratio.std is None else f' ± {ratio.std:.2f}'} ×"


def _seconds(mean: float, std: float | None = None) -> str:
    """`16.8 ± 0.2 s`, `102 ms`: three digits of the mean, and as many places of the deviation."""
    scale, unit = (1, "s") if mean >= 1 else (1000, "ms")
    value = round(mean * scale, 6)  # 0.1 s are 100 ms, not 99.99999999999999
    places = 0 if value >= 100 else 1 if value >= 10 else 2
    deviation = "" if std is None else f" ± {std * scale:,.{places}f}"
    return f"{value:,.{places}f}{deviation} {unit}"


def speed_notes(comparisons: Sequence[Comparison], speeds: Sequence[SpeedUps]) -> list[str]:
    """Which trials the speed-ups are of, and why some have none."""
    if not any("full" in comparison.strategies for comparison in comparisons):
        return ["There are no speed-ups without strategy full, which they are measured against."]
    said = [
        "Speed-up: the mean training time of full augmentation over that of each trial, selection included, mean ± "
        "standard deviation over the trials that ran alone on their device, on the same hardware as full’s."
    ]
    timed = {times.trial_id for comparison in comparisons for cell in comparison.cells for times in cell.times}
    left_out = timed.difference(*(speed.compared for speed in speeds))
    if left_out:
        said.append(
            f"{len(left_out)} of {len(timed)} trials have no part in the speed-ups: others of the sweep could run "
            "beside them, or full augmentation did not run alone on their hardware. For speed-ups, run the sweep with "
            "--inline, which takes one trial at a time, or give every trial all processors."
        )
    return said
