"""CutOut: square holes of zeros."""

import numpy as np
import numpy.typing as npt
import torch

from specs.augmentation import CutOut
from workers.augmentation.draws import Draws, Int64, to_device


class Hole:
    """One hole in each image, of one size."""

    def __init__(self, operation: CutOut):
        self.size = operation.size

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        height, width = images.shape[2:]
        return cut(images, draws.integers(height, 0), draws.integers(width, 1), np.full(len(images), self.size))


def cut(images: torch.Tensor, rows: Int64, columns: Int64, sizes: Int64) -> torch.Tensor:
    """Cut a hole into each image (b, C, H, W): its centre's row and column (b,) are any pixel's, its size (b,) in
    pixels; what sticks out is clipped. Size 0 leaves an image as it is."""
    height, width = images.shape[2:]
    down, across = (
        to_device(_covered(side, centres, sizes), images) for side, centres in ((height, rows), (width, columns))
    )
    hole = down[:, :, None] & across[:, None, :]
    channels_last = images.permute(0, 2, 3, 1)  # else the result would take the mask's layout
    return channels_last.masked_fill(hole[..., None], 0).permute(0, 3, 1, 2)


def _covered(side: int, centres: Int64, sizes: Int64) -> npt.NDArray[np.bool_]:
    """Which of a side's pixels lie in the hole (b, side)."""
    starts = (centres - sizes // 2)[:, None]
    pixels = np.arange(side)
    return (pixels >= starts) & (pixels < starts + sizes[:, None])
