"""The plots of one comparison: learning curves, where the time went, and what was selected."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from orchestrator.report.comparisons import Cell, Comparison
from orchestrator.report.drawing import INK, LOOKS, Figure, canvas, legend_below, render, style
from orchestrator.report.paper import Reproduction
from orchestrator.report.speed_figure import gain_against_speed_up
from orchestrator.report.time_figures import accuracy_against_time, time_split
from workers.records import SelectionRecord, TrialResult

Values = Callable[[TrialResult], dict[int, float]]
_SELECTING = ("random", "max_loss", "coreset")


@dataclass(frozen=True)
class _Series:
    """One line: mean over seeds at each epoch, and the sample deviation where there are several."""

    strategy: str
    epochs: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64] | None

    @property
    def low(self) -> npt.NDArray[np.float64]:
        return self.mean if self.std is None else self.mean - self.std

    @property
    def high(self) -> npt.NDArray[np.float64]:
        return self.mean if self.std is None else self.mean + self.std


def draw(comparison: Comparison, prefix: str, found: Reproduction | None = None) -> list[Figure]:
    """All plots of a comparison that have data, with the points of what it reproduces. `prefix` starts file names."""
    with style():
        drawn = [
            _learning_curves(comparison, prefix),
            gain_against_speed_up(comparison, prefix, found.published if found else None),
            accuracy_against_time(comparison, prefix),
            time_split(comparison, prefix),
            _overlap(comparison, prefix),
            _mislabelled(comparison, prefix),
            _gradient_error(comparison, prefix),
        ]
    return [figure for figure in drawn if figure is not None]


def slug(size: str) -> str:
    """A size as part of a file name: `10%` is `10pct`, no size is `all`."""
    text = size.replace("%", "pct").replace("ξ=", "tolerance")
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-") or "all"


def _learning_curves(comparison: Comparison, prefix: str) -> Figure | None:
    def accuracy(result: TrialResult) -> dict[int, float]:
        return {one.epoch: one.test_accuracy * 100 for one in result.epochs if one.test_accuracy is not None}

    return _over_epochs(
        comparison,
        f"{prefix}curves",
        "Learning curves",
        "Test accuracy by epoch: mean over seeds, with a band of ± one standard deviation. "
        "Strategies without a size are repeated in every plot.",
        "test accuracy (%)",
        accuracy,
        comparison.strategies,
        ceiling=100,
    )


def _overlap(comparison: Comparison, prefix: str) -> Figure | None:
    return _over_epochs(
        comparison,
        f"{prefix}overlap",
        "Overlap with the max-loss set",
        "Share of the selected examples that are also among as many examples of largest loss, at each selection.",
        "overlap (%)",
        _of_selections(lambda one: one.overlap_max_loss),
        tuple(name for name in _SELECTING if name != "max_loss"),
        floor=0,
        ceiling=100,
    )


def _mislabelled(comparison: Comparison, prefix: str) -> Figure | None:
    rates = {
        result.spec.dataset.label_noise
        for cell in comparison.cells
        for result in cell.results
        if result.spec.dataset.label_noise
    }
    if not rates:
        return None
    return _over_epochs(
        comparison,
        f"{prefix}mislabelled",
        "Mislabelled examples selected",
        "Share of the selected examples whose label was corrupted. On the line of the noise rate, selection is blind "
        "to wrong labels; below it, it avoids them; above it, it seeks them.",
        "mislabelled (%)",
        _of_selections(lambda one: one.mislabelled),
        _SELECTING,
        floor=0,
        ceiling=100,
        references=[(rate * 100, f"noise rate {rate * 100:g} %") for rate in sorted(rates)],
    )


def _gradient_error(comparison: Comparison, prefix: str) -> Figure | None:
    return _over_epochs(
        comparison,
        f"{prefix}gradient-error",
        "Relative gradient error",
        "How far the weighted gradient of the selected examples is from that of the whole training set, relative to "
        "the latter's norm (Eq. 8), at each selection. Lower is better.",
        "relative gradient error",
        lambda result: {one.epoch: one.gradient_error for one in result.selections if one.gradient_error is not None},
        _SELECTING,
        floor=0,
    )


def _of_selections(value: Callable[[SelectionRecord], float | None]) -> Values:
    def percent(result: TrialResult) -> dict[int, float]:
        found = ((one.epoch, value(one)) for one in result.selections)
        return {epoch: share * 100 for epoch, share in found if share is not None}

    return percent


def _over_epochs(
    comparison: Comparison,
    stem: str,
    title: str,
    caption: str,
    label: str,
    values: Values,
    strategies: Sequence[str],
    floor: float | None = None,
    ceiling: float | None = None,
    references: Sequence[tuple[float, str]] = (),
) -> Figure | None:
    """One plot a size, all on one scale; None where no trial has such values."""
    plots = {
        size: [
            series
            for name in strategies
            if (cell := comparison.beside(name, size)) is not None and (series := _series(cell, values)) is not None
        ]
        for size in comparison.sizes or ("",)
    }
    plots = {size: lines for size, lines in plots.items() if lines}
    if not plots:
        return None
    limits = _limits([line for lines in plots.values() for line in lines], references, floor, ceiling)
    panels = []
    for size, lines in plots.items():
        figure = canvas()
        axes = figure.add_subplot()
        handles: list[Any] = []
        for line in lines:
            look = LOOKS[line.strategy]
            if line.std is not None:
                axes.fill_between(line.epochs, line.low, line.high, color=look.colour, alpha=0.16, linewidth=0)
            handles += axes.plot(
                line.epochs,
                line.mean,
                color=look.colour,
                linestyle=look.line,
                marker=look.marker,
                zorder=3 if line.strategy == "coreset" else 2,
                markevery=max(1, len(line.epochs) // 8),
            )
        names = [line.strategy for line in lines]
        for height, name in references:
            handles.append(axes.axhline(height, color=INK, linestyle=(0, (1, 2)), linewidth=1.3, zorder=1))
            names.append(name)
        axes.set(xlabel="epoch", ylabel=label, title=f"size {size}" if size else "", ylim=limits)
        axes.margins(x=0.03)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_below(figure, handles, names, 2 if len(names) == 4 else 3)
        panels.append(render(figure, f"{stem}-{slug(size)}", _describe(title, size, lines)))
    return Figure(title, caption, tuple(panels))


def _series(cell: Cell, values: Values) -> _Series | None:
    """A cell's line over the epochs at which each of its trials has a value."""
    found = [values(result) for result in cell.results]
    epochs = sorted(set.intersection(*(set(one) for one in found))) if found else []
    if not epochs:
        return None
    data = np.array([[one[epoch] for epoch in epochs] for one in found])
    std = data.std(axis=0, ddof=1) if len(data) > 1 else None
    return _Series(cell.strategy, np.array(epochs), data.mean(axis=0), std)


def _limits(
    lines: Sequence[_Series],
    references: Sequence[tuple[float, str]],
    floor: float | None,
    ceiling: float | None,
) -> tuple[float, float]:
    heights = [height for height, _ in references]
    low = min([*(float(line.low.min()) for line in lines), *heights])
    high = max([*(float(line.high.max()) for line in lines), *heights])
    room = 0.05 * (high - low) or 0.5
    bottom = floor if floor is not None else max(0.0, low - room)
    # A value at the ceiling itself keeps half a line's width of room.
    top = high + room if ceiling is None else min(ceiling + 0.01 * (ceiling - bottom), high + room)
    return bottom, top


def _describe(title: str, size: str, lines: Sequence[_Series]) -> str:
    at = f" at size {size}" if size else ""
    ends = ", ".join(f"{line.strategy} {line.mean[-1]:.3g}" for line in lines)
    return f"{title}{at}. At the end (epoch {max(int(line.epochs[-1]) for line in lines)}): {ends}."
