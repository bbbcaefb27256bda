"""How plots look, and how they become SVG for the page and PNG for everything else.

Everything goes through matplotlib's object API under a style of its own: no pyplot, no state left behind, and the
same bytes for the same data.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

INK = "#1c2128"
GRID = "#d8dce2"
PAPER = "#fdfefe"
DPI = 160


@dataclass(frozen=True)
class Look:
    """A strategy's colour, marker and line, the same in every plot."""

    colour: str
    marker: str
    line: Any


# Okabe and Ito's palette, which the colour-blind can tell apart; markers and lines repeat the message.
LOOKS = {
    "none": Look("#808080", "s", (0, (1, 1.4))),
    "random": Look("#3a8fd0", "^", (0, (4, 1.6))),
    "max_loss": Look("#d55e00", "v", (0, (4, 1.5, 1, 1.5))),
    "coreset": Look("#009e73", "o", "-"),
    "full": Look("#cc79a7", "D", (0, (7, 1.8))),
}

# Tol's light scheme: none of these can be taken for a strategy.
TIME_COLOURS = {
    "train": "#77aadd",
    "augmentation": "#99ddff",
    "proxies": "#44bb99",
    "selection": "#ee8866",
    "stall": "#ffaabb",
    "evaluation": "#bbbbbb",
}

_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same shapes everywhere
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.9,
    "lines.markersize": 5.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "svg.hashsalt": "medoid",  # element ids from this instead of a random number
    "svg.fonttype": "path",
}

# In the page a plot follows the reader's colour scheme: its ink, grid and paper are looked up, not fixed.
_SCHEME = (
    f"<style>:root{{--ink:{INK};--grid:{GRID};--paper:{PAPER}}}"
    "@media (prefers-color-scheme:dark){:root{--ink:#dfe3e8;--grid:#3a414b;--paper:#1b2027}}</style>"
)


@dataclass(frozen=True)
class Panel:
    """One drawn plot. `stem` names its file, `alt` says in words what it shows."""

    stem: str
    alt: str
    svg: bytes
    png: bytes


@dataclass(frozen=True)
class Figure:
    """Plots that belong together, usually one for each size."""

    title: str
    caption: str
    panels: tuple[Panel, ...]
    columns: int = 2  # side by side on a wide screen


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The style of all plots, whatever the user's matplotlibrc says; undone at the end."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def canvas(height: float = 4.0, width: float = 5.4) -> Canvas:
    """An empty plot, in inches; no wider than a phone can show without shrinking its letters away."""
    return Canvas(figsize=(width, height), dpi=DPI, layout="constrained")


def legend_below(figure: Canvas, handles: list[Any], labels: list[str], columns: int, handle: float = 2.6) -> None:
    """A legend outside the axes, where it cannot hide data; it reads along its rows."""
    columns = min(columns, len(handles))
    order = [index for column in range(columns) for index in range(column, len(handles), columns)]
    figure.legend(
        [handles[index] for index in order],  # matplotlib fills column by column
        [labels[index] for index in order],
        loc="outside lower center",
        ncols=columns,
        columnspacing=1.3,
        handlelength=handle,
    )


def render(figure: Canvas, stem: str, alt: str) -> Panel:
    """Draw a plot as SVG and as PNG, without dates or program versions in either."""
    png, svg = io.BytesIO(), io.BytesIO()
    # Not savefig, which lays out and draws each plot five times over.
    FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
    figure.set_layout_engine("none")  # as the PNG is laid out
    FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None})
    text = svg.getvalue().decode()
    for name, colour in (("ink", INK), ("grid", GRID), ("paper", PAPER)):
        text = text.replace(colour, f"var(--{name})")
    start = text.index(">", text.index("<svg")) + 1
    return Panel(stem, alt, (text[:start] + _SCHEME + text[start:]).encode(), png.getvalue())
