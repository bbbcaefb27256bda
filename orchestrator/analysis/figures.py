"""The plots of an analysis: Figures 1 and 3 of the paper, Lemma 4.1, and what explains them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from orchestrator.analysis.comparison import Floats, chance_angle
from orchestrator.analysis.perturbations import Noise, Perturbation
from orchestrator.analysis.summary import Analysis, RangeSummary, summaries
from orchestrator.report.drawing import INK, Figure, Look, Panel, canvas, legend_below, render, style
from orchestrator.report.statistics import Summary

# Tol's bright scheme, which the colour-blind can tell apart; markers and lines repeat the message.
_PALETTE = (
    Look("#4477aa", "o", "-"),
    Look("#ee6677", "s", (0, (5, 1.6))),
    Look("#228833", "^", (0, (1, 1.4))),
    Look("#aa3377", "D", (0, (4, 1.5, 1, 1.5))),
    Look("#66ccee", "v", (0, (7, 1.8))),
    Look("#bbbb33", "P", (0, (3, 1, 1, 1, 1, 1))),
)
_DOTS = (0, (1, 1.4))
_ANGLES = (0.0, 92.0)  # degrees, with room for a marker at 90

Group = Sequence[tuple[Perturbation, Look]]


def draw(analysis: Analysis) -> list[Figure]:
    """All plots of an analysis."""
    with style():
        return [_growth(analysis), _angles(analysis), _perturbation(analysis), _lemma(analysis), _shrunk(analysis)]


def _growth(analysis: Analysis) -> Figure:
    panels = []
    for name, group in _groups(analysis):
        label = "relative change of σ (%)"
        panel = _by_range(analysis, group, f"growth-{name}", label, lambda one: one.relative, scale=100)
        panels.append(panel)
    return Figure(
        "How much singular values change",
        f"σ̃ᵢ/σᵢ − 1, averaged over each range of singular values: mean ± standard deviation over {_samples(analysis)}. "
        "Noise is the paper’s Figure 1 (a, b), the other augmentations are its Figure 3.",
        tuple(panels),
    )


def _angles(analysis: Analysis) -> Figure:
    first = analysis.trials[0]
    chance = chance_angle(first.draws[0].ranges, first.rows, analysis.settings.seed)
    panels = []
    for name, group in _groups(analysis):
        for side, space in (("left", "examples and outputs"), ("right", "parameters")):
            value = (lambda one: one.left) if side == "left" else (lambda one: one.right)
            axes = _Axes(f"{side}: {space}", _ANGLES, (chance, "random subspaces") if side == "left" else None)
            panels.append(_by_range(analysis, group, f"{side}-{name}", "mean angle (°)", value, axes))
    return Figure(
        "How far singular subspaces turn",
        "Mean principal angle between the singular subspaces of J and of J̃ that belong to the same range: mean ± "
        f"standard deviation over {_samples(analysis)} (Figure 1 c, d). Subspaces mix with those of neighbouring "
        "ranges most: where the left ones fill their space, the first and the last range have one neighbour, the "
        "others two. Right ones also turn out of all the others, into the rest of the parameters’ space.",
        tuple(panels),
    )


def _perturbation(analysis: Analysis) -> Figure:
    panels = []
    for name, group in _groups(analysis):
        ranges = summaries(analysis, group[0][0])
        middle = np.array([np.sqrt(one.largest * one.smallest) for one in ranges])
        axes = _Axes(reference=(middle, "σ of the original"), log=True)
        panels.append(_by_range(analysis, group, f"perturbation-{name}", "‖uᵢᵀE‖", lambda one: one.along, axes))
    return Figure(
        "How large the perturbation is along each direction",
        "E = J̃ − J along the left singular vectors uᵢ of J: where it is small beside σᵢ, values and vectors stay. "
        "Were E equally large along all of them, as bounds by ‖E‖ assume, the lines would be level.",
        tuple(panels),
    )


def _lemma(analysis: Analysis) -> Figure:
    trial = analysis.trials[0]
    panels = []
    for draws in trial.draws:
        figure = canvas()
        axes = figure.add_subplot()
        index, sides = np.arange(1, trial.rank + 1), draws.lemma
        right = axes.plot(index, sides.right, color=_PALETTE[1].colour, linestyle=_PALETTE[1].line)
        left = axes.plot(index, sides.left, color=_PALETTE[0].colour)
        square = axes.plot(index, draws.singular**2, color=INK, linestyle=_DOTS)
        axes.set(xlabel="i, from the largest", ylabel="eigenvalue of the NTK", yscale="log")
        axes.set_title(draws.perturbation.title)
        axes.margins(x=0.02)
        names = ["original, σᵢ²", "left side, mean of σ̃ᵢ²", "right side of Eq. 5"]
        legend_below(figure, [*square, *left, *right], names, 3, handle=2.2)
        ratio = float(np.median(sides.right / sides.left))
        alt = f"{draws.perturbation.title}: the right side is {ratio:.3g} times the left one at the median eigenvalue."
        panels.append(render(figure, f"lemma-{draws.perturbation.name.replace(':', '')}", alt))
    of_first = f", of seed {trial.trial.spec.seed}" if len(analysis.trials) > 1 else ""
    return Figure(
        "Lemma 4.1",
        f"Expected eigenvalues of the NTK under augmentation: measured, and by Eq. 5 with the measured pᵢ and ‖E‖"
        f"{of_first}. The lemma spreads every singular value evenly over all that Weyl’s theorem leaves it, ± ‖E‖. "
        "Where the right side is above the left, real ones stay within less.",
        tuple(panels),
    )


def _shrunk(analysis: Analysis) -> Figure:
    trials = len(analysis.trials)
    over = f" Mean ± standard deviation over {trials} seeds." if trials > 1 else ""
    axes = _Axes(limits=(-0.03, 1.03))
    return Figure(
        "How often singular values shrink",
        f"pᵢ, the share of {analysis.settings.draws} draws in which σᵢ decreased, averaged over each range; smaller "
        f"for smaller singular values, says the paper.{over}",
        tuple(
            _by_range(analysis, group, f"shrunk-{name}", "p", lambda one: one.shrunk, axes)
            for name, group in _groups(analysis)
        ),
    )


@dataclass(frozen=True)
class _Axes:
    """What a plot shows beside its lines. `reference`: a height for each range, and its name."""

    title: str = ""
    limits: tuple[float, float] | None = None
    reference: tuple[Floats, str] | None = None
    log: bool = False


_PLAIN = _Axes()


def _by_range(
    analysis: Analysis,
    group: Group,
    stem: str,
    label: str,
    value: Callable[[RangeSummary], Summary],
    shown: _Axes = _PLAIN,
    scale: float = 1.0,
) -> Panel:
    """Mean and deviation of a value in each range, one line an augmentation."""
    figure = canvas()
    axes = figure.add_subplot()
    handles: list[Any] = []
    labels, ends = [], []
    for number, (perturbation, look) in enumerate(group):
        found = [value(one) for one in summaries(analysis, perturbation)]
        mean = np.array([one.mean for one in found]) * scale
        deviation = np.array([one.std or 0.0 for one in found]) * scale
        places = np.arange(len(found)) + 0.1 * (number - (len(group) - 1) / 2)  # bars side by side
        dress = {"color": look.colour, "linestyle": look.line, "marker": look.marker, "linewidth": 1.5}
        handles.append(axes.errorbar(places, mean, deviation, capsize=2.5, elinewidth=1.1, **dress))
        labels.append(perturbation.title)
        ends.append(f"{perturbation.title} from {mean[0]:.3g} to {mean[-1]:.3g}")
    if shown.reference is not None:
        heights, name = shown.reference
        handles += axes.plot(np.arange(len(heights)), heights, color=INK, linestyle=_DOTS, linewidth=1.3)
        labels.append(name)
    if shown.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda height, _: f"{height:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif shown.limits is None:
        axes.axhline(0, color=INK, linewidth=0.8, zorder=1)
    if shown.limits is not None:
        axes.set_ylim(shown.limits)
    _range_axis(axes, analysis.settings.ranges)
    axes.set(ylabel=label, title=shown.title)
    legend_below(figure, handles, labels, 2)
    return render(figure, stem, f"{label} from the largest singular values to the smallest: {'; '.join(ends)}.")


def _range_axis(axes: Any, count: int) -> None:
    shares = np.linspace(0, 100, count + 1)
    axes.set_xticks(range(count), [f"{low:.0f}–{high:.0f}" for low, high in pairwise(shares)])
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("singular values, largest first (% of all)")


def _groups(analysis: Analysis) -> list[tuple[str, Group]]:
    """Noise apart from the operations, whose effects are of another order; a look for each augmentation."""
    noise: list[tuple[Perturbation, Look]] = []
    operations: list[tuple[Perturbation, Look]] = []
    for place, one in enumerate(analysis.perturbations):
        (noise if isinstance(one, Noise) else operations).append((one, _PALETTE[place % len(_PALETTE)]))
    return [(name, group) for name, group in (("noise", noise), ("operations", operations)) if group]


def _samples(analysis: Analysis) -> str:
    draws, trials = analysis.settings.draws, len(analysis.trials)
    return f"{draws} draws" if trials == 1 else f"{draws} draws for each of {trials} seeds"
