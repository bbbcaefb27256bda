"""The plots of time: accuracy against training time, and what the time was spent on. Drawn within `drawing.style`."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from orchestrator.report.comparisons import Cell, Comparison
from orchestrator.report.drawing import INK, LOOKS, TIME_COLOURS, Figure, canvas, legend_below, render
from orchestrator.report.results import Outcome
from orchestrator.report.statistics import summarise
from workers.records import EpochTimes

_SIZES_TOLD = 8  # of more, the legend tells the first and the last


def _timed(comparison: Comparison) -> Iterator[Cell]:
    return (cell for cell in comparison.cells if cell.times)


def _unit(seconds: float) -> tuple[float, str]:
    """The unit in which so many seconds read well: (its seconds, its name)."""
    return (3600.0, "h") if seconds >= 7200 else (60.0, "min") if seconds >= 180 else (1.0, "s")


def _duration(seconds: float) -> str:
    scale, unit = _unit(seconds)
    return f"{seconds / scale:.3g} {unit}"


def _training_seconds(cell: Cell) -> list[float]:
    return [sum(epoch.training_time for epoch in times.epochs) for times in cell.times]


def _time_notes(comparison: Comparison) -> str:
    times = [one for cell in comparison.cells for one in cell.times]
    note = ""
    if any(one.concurrent for one in times):
        note += " Trials ran side by side on one machine and slowed each other, so these times are not speed-ups."
    if len({one.hardware for one in times}) > 1:
        note += " Trials ran on different hardware, so their times do not compare."
    return note


def accuracy_against_time(comparison: Comparison, prefix: str) -> Figure | None:
    """Scatter of final accuracy and training time, a point a cell; None without times."""
    points = [
        (cell, spent, accuracy)
        for cell in _timed(comparison)
        if (spent := summarise(_training_seconds(cell))) and (accuracy := cell.accuracy)
    ]
    if not points:
        return None
    scale, unit = _unit(max(spent.mean for _, spent, _ in points))
    figure = canvas(4.1)
    axes = figure.add_subplot()
    areas = dict(zip(comparison.sizes, np.linspace(5.5, 12, len(comparison.sizes)).tolist(), strict=True))
    for strategy in comparison.strategies:
        look = LOOKS[strategy]
        own = [point for point in points if point[0].strategy == strategy]
        axes.plot(
            [spent.mean / scale for _, spent, _ in own],
            [accuracy.mean * 100 for _, _, accuracy in own],
            color=look.colour,
            linewidth=0.9,
            alpha=0.6,
        )
        for cell, spent, accuracy in own:
            axes.errorbar(
                spent.mean / scale,
                accuracy.mean * 100,
                xerr=None if spent.std is None else spent.std / scale,
                yerr=None if accuracy.std is None else accuracy.std * 100,
                color=look.colour,
                marker=look.marker,
                markersize=areas.get(cell.size, 8.0),
                linewidth=1.2,
                capsize=2.5,
            )
    axes.set(xlabel=f"training time ({unit})", ylabel="test accuracy (%)")
    axes.set_xlim(left=0)
    axes.margins(y=0.08)
    present = {cell.strategy for cell, _, _ in points}
    names = [name for name in comparison.strategies if name in present]
    handles = [_dot(axes, LOOKS[name].colour, LOOKS[name].marker, 7.0) for name in names]
    columns = len(names)  # the sizes get a row of their own
    if len(areas) > 1:
        told = list(areas) if len(areas) <= _SIZES_TOLD else [comparison.sizes[0], comparison.sizes[-1]]
        handles += [_dot(axes, INK, "o", areas[size]) for size in told]
        names += [f"size {size}" for size in told]
    legend_below(figure, handles, names, columns, handle=1.2)
    described = ", ".join(
        f"{_name(cell)} {accuracy.mean * 100:.1f} % after {spent.mean / scale:.3g} {unit}"
        for cell, spent, accuracy in points
    )
    return Figure(
        "Accuracy against training time",
        "Final test accuracy against the time training took: augmentation, steps, proxies, selection and waiting for "
        "it, without evaluation. Means over seeds; bars are ± one standard deviation." + _time_notes(comparison),
        (render(figure, f"{prefix}accuracy-time", f"Final accuracy and training time: {described}."),),
    )


def _dot(axes: Any, colour: str, marker: str, size: float) -> Any:
    (handle,) = axes.plot([], [], color=colour, marker=marker, markersize=size, linestyle="none")
    return handle


def time_split(comparison: Comparison, prefix: str) -> Figure | None:
    """Stacked bars of what a trial's time was spent on, a bar a cell; None without times."""
    cells = list(_timed(comparison))
    if not cells:
        return None
    seconds = np.array([[_mean_seconds(cell, part) for part in TIME_COLOURS] for cell in cells])
    totals = seconds.sum(axis=1)
    scale, unit = _unit(float(totals.max()))
    figure = canvas(1.5 + 0.33 * len(cells))
    axes = figure.add_subplot()
    rows = np.arange(len(cells))
    handles = []
    starts = np.cumsum(seconds, axis=1) - seconds
    for column, colour in enumerate(TIME_COLOURS.values()):
        handles.append(axes.barh(rows, seconds[:, column] / scale, 0.68, starts[:, column] / scale, color=colour))
    for row, total in enumerate(totals / scale):
        axes.annotate(f"{total:.3g}", (total, row), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(rows, [_name(cell) for cell in cells])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel=f"mean time a trial ({unit})", xlim=(0, 1.13 * float(totals.max()) / scale or 1.0))
    legend_below(figure, handles, list(TIME_COLOURS), 3)
    described = ", ".join(
        f"{_name(cell)} {total / scale:.3g} {unit}" for cell, total in zip(cells, totals, strict=True)
    )
    return Figure(
        "Where the time goes",
        "Mean time of a trial by what it was spent on. Stall: training stood still for a selection beyond computing it."
        + _background_note(cells)
        + _harvest_note(cells)
        + _time_notes(comparison),
        (render(figure, f"{prefix}time-split", f"Mean time a trial: {described}."),),
    )


def _background_note(cells: Sequence[Cell]) -> str:
    """What was computed beside training, which no bar holds."""
    found = [(cell, _mean_seconds(cell, "background")) for cell in cells]
    said = ", ".join(f"{_name(cell)} {_duration(seconds)}" for cell, seconds in found if seconds)
    return f" Not in the bars: selections computed beside training, per trial {said}." if said else ""


def _harvest_note(cells: Sequence[Cell]) -> str:
    """What harvesting spared, by the trials' own first selections, which went by a forward pass."""
    found = [(cell, [_spared(outcome) for outcome in cell.outcomes]) for cell in cells]
    known = [(cell, [seconds for seconds in each if seconds is not None]) for cell, each in found]
    said = ", ".join(f"{_name(cell)} {_duration(float(np.mean(each)))}" for cell, each in known if each)
    if not said:
        return ""
    return f" Proxies harvested from training spared forward passes, by the first selection's about {said} a trial."


def _spared(outcome: Outcome) -> float | None:
    """Seconds; None where nothing was harvested, or there was no forward pass to go by (after a warm-up)."""
    result, times = outcome.result, outcome.times
    if result is None or times is None:
        return None
    harvested = sum(one.staleness is not None for one in result.selections)
    if not harvested or result.selections[0].overlap_max_loss is None:
        return None
    forward, *rest = (epoch.proxies for epoch in times.epochs)
    return harvested * forward - sum(rest)


def _mean_seconds(cell: Cell, part: str) -> float:
    def of_trial(epochs: Sequence[EpochTimes]) -> float:
        return float(sum(getattr(epoch, part) for epoch in epochs))

    return float(np.mean([of_trial(times.epochs) for times in cell.times]))


def _name(cell: Cell) -> str:
    return f"{cell.strategy} {cell.size}".rstrip()
