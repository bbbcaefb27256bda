"""The paper's Figure 2: share of full augmentation's gain against speed-up. Drawn within `drawing.style`."""

from collections.abc import Iterator

from orchestrator.report.comparisons import Comparison
from orchestrator.report.drawing import INK, LOOKS, Figure, canvas, legend_below, render
from orchestrator.report.published import Published
from orchestrator.report.speed import speed_ups
from orchestrator.report.time_tables import speed_notes


def gain_against_speed_up(comparison: Comparison, prefix: str, published: Published | None) -> Figure | None:
    """A point a cell with its interval, and the published points where there are some; None without any point."""
    speed = speed_ups(comparison)
    points = [
        (cell, cell.share, ratio) for cell in comparison.cells if cell.share is not None and (ratio := speed.of(cell))
    ]
    if not points:
        return None
    figure = canvas(4.1)
    axes = figure.add_subplot()
    handles, names = [], []
    for strategy in comparison.strategies:
        own = [point for point in points if point[0].strategy == strategy]
        if not own:
            continue
        look = LOOKS[strategy]
        handles += axes.plot(
            [ratio.mean for _, _, ratio in own],
            [share.share * 100 for _, share, _ in own],
            color=look.colour,
            linestyle=look.line,
            marker=look.marker,
            linewidth=1.2,
        )
        names.append(strategy)
        for cell, share, ratio in own:
            bounds = None
            if share.low is not None and share.high is not None:
                # a ratio of means may lie outside the percentiles of its resamples
                bounds = [[max(0.0, share.share - share.low) * 100], [max(0.0, share.high - share.share) * 100]]
            axes.errorbar(
                ratio.mean, share.share * 100, xerr=ratio.std, yerr=bounds, color=look.colour, linewidth=1.0, capsize=2
            )
            axes.annotate(
                cell.size,
                (ratio.mean, share.share * 100),
                (6, 5),
                textcoords="offset points",
                fontsize=8.5,
                color=look.colour,
            )
    for strategy, size, ratio_there, share_there in _published_points(published) if published else ():
        (star,) = axes.plot(
            ratio_there,
            share_there,
            marker="*",
            markersize=13,
            color=LOOKS[strategy].colour,
            markeredgecolor=INK,
            linestyle="none",
        )
        handles.append(star)
        names.append(f"paper: {strategy} {size}")
    axes.set(xlabel="speed-up over full augmentation (×)", ylabel="share of full’s gain (%)")
    axes.axvline(1.0, color=INK, linestyle=(0, (1, 2)), linewidth=1.2, zorder=1)
    axes.axhline(100.0, color=INK, linestyle=(0, (1, 2)), linewidth=1.2, zorder=1)
    axes.margins(0.12)
    axes.set_xlim(left=0)
    legend_below(figure, handles, names, 3)
    described = ", ".join(
        f"{cell.strategy} {cell.size} {share.share * 100:.0f} % at {ratio.mean:.2f} times"
        for cell, share, ratio in points
    )
    return Figure(
        "Gain against speed-up",
        "Share of full augmentation’s gain over weak only, with its 95 % interval, against the speed-up; the dotted "
        "lines cross at full augmentation. " + " ".join(speed_notes([comparison], [speed])),
        (render(figure, f"{prefix}gain-speed-up", f"Gain and speed-up: {described}."),),
    )


def _published_points(published: Published) -> Iterator[tuple[str, str, float, float]]:
    """(strategy, size, speed-up, share in %) of every point of which the paper gives both."""
    for strategy in published.of("speedup"):
        for size in published.sizes:
            ratio, share = published.at("speedup", strategy, size), published.at("share", strategy, size)
            if ratio is not None and share is not None:
                yield strategy, size, ratio.value, share.value
