"""The random numbers of one operation: each image has its own, whatever batch it is in."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from selection.randomness import draw_integers, draw_uniform, draw_words
from workers.uploads import upload

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Number = int | Int64


@dataclass(frozen=True)
class Draws:
    """Draws for some views: functions of (seed, epoch, id, copy, place of the operation, number of the draw).

    Every method takes the number of a draw and gives (b,), or several numbers (k,) and gives (b, k).
    """

    seed: int
    epoch: int
    ids: Int64
    copies: Int64
    place: int

    def __len__(self) -> int:
        return len(self.ids)

    def integers(self, below: int, number: Number) -> Int64:
        """Uniform integers in [0, below)."""
        return draw_integers(self.seed, "augmentation", below, *self._counters(number))

    def uniform(self, number: Number) -> Float64:
        """Uniform in [0, 1)."""
        return draw_uniform(self.seed, "augmentation", *self._counters(number))

    def words(self, number: Number) -> npt.NDArray[np.uint64]:
        """64 random bits each."""
        return draw_words(self.seed, "augmentation", *self._counters(number))

    def _counters(self, number: Number) -> tuple[int | Int64, ...]:
        if isinstance(number, int):
            return self.epoch, self.ids, self.copies, self.place, number
        return self.epoch, self.ids[:, None], self.copies[:, None], self.place, number


def to_device(values: npt.NDArray[np.generic], images: torch.Tensor) -> torch.Tensor:
    """What was drawn, where the images are."""
    return upload(values, images.device)


def per_image(values: npt.NDArray[np.generic], images: torch.Tensor) -> torch.Tensor:
    """One number an image (b,), as float32 (b, 1, 1, 1) where the images are."""
    return to_device(values.astype(np.float32), images)[:, None, None, None]
