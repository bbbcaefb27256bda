"""Contact sheets: the images that a trial's last selection holds."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from matplotlib.patches import Rectangle

from orchestrator.report.comparisons import Cell, Comparison
from orchestrator.report.drawing import INK, LOOKS, Figure, Panel, canvas, render, style
from orchestrator.report.figures import slug
from specs import TrialSpec
from workers.records import TrialResult, selection_key
from workers.storage import Storage

COLUMNS, ROWS = 5, 3
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pictures:
    """Training images in the order they were asked for: (k, H, W, C) uint8 with C = 1 or 3, and k class names each."""

    images: npt.NDArray[np.uint8]
    labels: Sequence[str]  # as trained on
    clean_labels: Sequence[str]  # before corruption


class ImageSource(Protocol):
    """Where the report gets training images from."""

    def __call__(self, spec: TrialSpec, ids: Ids) -> Pictures:
        """The images of these training ids in a trial's data set, with its corruption (a function of its seed)."""
        ...


def contact_sheets(storage: Storage, comparison: Comparison, images: ImageSource, prefix: str) -> Figure | None:
    """The coreset's images with the largest weights beside random's and max-loss's; None without a coreset.

    Of each cell the finished trial with the smallest seed is shown. Raises FileNotFoundError where a finished
    trial's selection is not in storage.
    """
    panels: list[Panel] = []
    with style():
        for size in comparison.sizes:
            coreset = comparison.at("coreset", size)
            if coreset is None or not coreset.results:
                continue
            for strategy in ("coreset", "max_loss", "random"):
                cell = comparison.at(strategy, size)
                if cell is not None and cell.results and cell.results[0].selections:
                    panels.append(_sheet(storage, cell, cell.results[0], images, prefix))
    if not panels:
        return None
    return Figure(
        "Selected images",
        "From the last selection of the trial with the smallest seed: the coreset's largest weights, the largest "
        "losses, and random's evenly over the training set. Below each image stands the label it is trained with; "
        "a frame marks a wrong label, with the right one below it.",
        tuple(panels),
        columns=3,
    )


def _sheet(storage: Storage, cell: Cell, result: TrialResult, images: ImageSource, prefix: str) -> Panel:
    ids = _shown(storage, cell.strategy, result)
    found = images(result.spec, ids)
    rows = -(-len(ids) // COLUMNS)
    figure = canvas(0.36 + 1.16 * rows, 4.2)
    axes = figure.add_subplot()
    wrong = 0
    for place, (image, label, clean) in enumerate(zip(found.images, found.labels, found.clean_labels, strict=True)):
        x, y = place % COLUMNS * 1.14, place // COLUMNS * 1.54
        pixels = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
        axes.imshow(pixels, extent=(x, x + 1, y + 1, y), interpolation="none")
        _write(axes, x + 0.5, y + 1.16, _short(label), 9, INK)
        if label != clean:
            wrong += 1
            colour = LOOKS["max_loss"].colour
            axes.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor=colour, linewidth=2))
            _write(axes, x + 0.5, y + 1.36, f"is {_short(clean)}", 7.5, colour)
    axes.set(xlim=(-0.04, COLUMNS * 1.14 - 0.1), ylim=(rows * 1.54 - 0.06, -0.04), aspect="equal")
    axes.set_title(f"{cell.strategy}, size {cell.size} (seed {result.spec.seed})")
    axes.set_axis_off()
    alt = f"{len(ids)} training images selected by {cell.strategy} at size {cell.size}, {wrong} of them mislabelled."
    return render(figure, f"{prefix}images-{slug(cell.size)}-{cell.strategy}", alt)


def _shown(storage: Storage, strategy: str, result: TrialResult) -> Ids:
    key = selection_key(result.trial_id, result.selections[-1].epoch)
    with np.load(io.BytesIO(storage.read(key)), allow_pickle=False) as stored:
        ids, weights = stored["ids"].astype(np.int64), stored["weights"]
    most = min(COLUMNS * ROWS, len(ids))
    if strategy == "random":  # in id order, and neighbours may all be of one class
        return ids[np.linspace(0, len(ids) - 1, most).round().astype(np.int64)]
    return ids[np.argsort(-weights, kind="stable")[:most]]


def _write(axes: Any, x: float, y: float, name: str, size: float, colour: str) -> None:
    # A class name may hold dollar signs, which would start a formula.
    axes.text(x, y, name, ha="center", va="center", fontsize=size, color=colour, parse_math=False)


def _short(name: str) -> str:
    return name if len(name) <= 10 else f"{name[:9]}…"
