"""Weak and strong augmentation, every example with a draw of its own.

An example's draw is a function of (seed, epoch, id, copy, place of the operation) and of nothing else: not of its
batch, its place there, the rank, or the global random state. torchvision's batched transforms give one draw to a
whole batch, and calling them image by image costs more than the step of a small network. So crop, flip and CutOut
are done here for a whole batch at once, one draw an example. AutoAugment and RandAugment are torchvision's own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from torchvision.transforms import v2

from selection.randomness import draw_integers, draw_uniform, draw_words
from specs.augmentation import AutoAugment, CutOut, Operation, RandAugment, RandomCrop, RandomFlip

Int64 = npt.NDArray[np.int64]


class Augmenter:
    """A chain of operations.

    `start` is the place of the first one among all that an image goes through: two chains applied one after the
    other need places, and thereby draws, of their own.
    """

    def __init__(self, operations: Sequence[Operation], start: int = 0):
        self._steps = [(place, _prepared(operation)) for place, operation in enumerate(operations, start)]

    def __call__(self, images: torch.Tensor, ids: Int64, copies: Int64, *, seed: int, epoch: int) -> torch.Tensor:
        """Augmented images, uint8 (b, C, H, W), on the device they came from; channels_last stays channels_last.

        images  uint8 (b, C, H, W), C 1 or 3; left as they are
        ids     int64 (b,), with copies int64 (b,): which view of which example each image is

        AutoAugment and RandAugment draw from torch's global CPU generator, which is put back as it was: other
        threads must not draw from it meanwhile.
        """
        for place, step in self._steps:
            images = step(images, _Draws(seed, epoch, ids, copies, place))
        return images


def check_operations(operations: Sequence[Operation], image_shape: tuple[int, int, int]) -> None:
    """Refuse operations that cannot work on images of this shape (height, width, channels), with ValueError."""
    height, width, channels = image_shape
    for operation in operations:
        if isinstance(operation, RandomCrop) and operation.padding >= min(height, width):
            raise ValueError(
                f"random_crop padding = {operation.padding}: some crops of {width}x{height} images would hold nothing "
                f"but padding; allowed: 1 to {min(height, width) - 1}"
            )
        # From this size on the hole covers the image wherever its centre falls.
        if isinstance(operation, CutOut) and operation.size >= (whole := 2 * max(height, width) - 1):
            raise ValueError(
                f"cutout size = {operation.size}: the hole would cover {width}x{height} images wholly; "
                f"allowed: 1 to {whole - 1}"
            )
        if isinstance(operation, AutoAugment | RandAugment) and channels not in (1, 3):
            raise ValueError(f"{operation.name}: needs images of 1 or 3 channels; these have {channels}")


@dataclass(frozen=True)
class _Draws:
    """The random numbers of one operation: one for each image, told apart by a draw number."""

    seed: int
    epoch: int
    ids: Int64
    copies: Int64
    place: int

    def integers(self, below: int, number: int) -> Int64:
        return draw_integers(self.seed, "augmentation", below, self.epoch, self.ids, self.copies, self.place, number)

    def uniform(self, number: int) -> npt.NDArray[np.float64]:
        return draw_uniform(self.seed, "augmentation", self.epoch, self.ids, self.copies, self.place, number)

    def words(self, number: int) -> npt.NDArray[np.uint64]:
        return draw_words(self.seed, "augmentation", self.epoch, self.ids, self.copies, self.place, number)


class _Crop:
    def __init__(self, operation: RandomCrop):
        self.padding = operation.padding

    def __call__(self, images: torch.Tensor, draws: _Draws) -> torch.Tensor:
        height, width = images.shape[2:]
        batch = torch.arange(len(images), device=images.device)
        tops, lefts = (
            torch.from_numpy(draws.integers(2 * self.padding + 1, number)).to(images.device) for number in (0, 1)
        )
        padded = functional.pad(images.permute(0, 2, 3, 1), (0, 0, *[self.padding] * 4))
        crops = padded.unfold(1, height, 1).unfold(2, width, 1)  # a view: (b, tops, lefts, C, H, W)
        return crops[batch, tops, lefts]


class _Flip:
    def __init__(self, operation: RandomFlip):
        self.probability = operation.probability

    def __call__(self, images: torch.Tensor, draws: _Draws) -> torch.Tensor:
        mirrored = torch.from_numpy(draws.uniform(0) < self.probability).to(images.device)
        return torch.where(mirrored[:, None, None, None], images.flip(3), images)


class _CutOut:
    def __init__(self, operation: CutOut):
        self.size = operation.size

    def __call__(self, images: torch.Tensor, draws: _Draws) -> torch.Tensor:
        height, width = images.shape[2:]
        rows, columns = self._cut(height, draws, 0), self._cut(width, draws, 1)
        hole = torch.from_numpy(rows[:, :, None] & columns[:, None, :]).to(images.device)
        channels_last = images.permute(0, 2, 3, 1)  # else the result would take the mask's layout
        return channels_last.masked_fill(hole[..., None], 0).permute(0, 3, 1, 2)

    def _cut(self, side: int, draws: _Draws, number: int) -> npt.NDArray[np.bool_]:
        """Which of a side's pixels lie in the hole (b, side): its centre is any pixel, what sticks out is clipped."""
        start = draws.integers(side, number)[:, None] - self.size // 2
        pixels = np.arange(side)
        return (pixels >= start) & (pixels < start + self.size)


class _ImageByImage:
    """A transform of torchvision's, each image under a generator of its own."""

    def __init__(self, transform: v2.Transform):
        self.transform = transform

    def __call__(self, images: torch.Tensor, draws: _Draws) -> torch.Tensor:
        augmented = torch.empty_like(images)
        seeds = (draws.words(0) >> np.uint64(1)).tolist()
        with _global_generator() as generator:
            for row, image in enumerate(images):
                generator.manual_seed(seeds[row])
                augmented[row] = self.transform(image)
        return augmented


@contextmanager
def _global_generator() -> Iterator[torch.Generator]:
    # Not torch.manual_seed or fork_rng: they reach for the CUDA generators too.
    generator = torch.default_generator
    state = generator.get_state()
    try:
        yield generator
    finally:
        generator.set_state(state)


_POLICIES = {
    "cifar10": v2.AutoAugmentPolicy.CIFAR10,
    "svhn": v2.AutoAugmentPolicy.SVHN,
    "imagenet": v2.AutoAugmentPolicy.IMAGENET,
}


def _prepared(operation: Operation) -> _Crop | _Flip | _CutOut | _ImageByImage:
    match operation:
        case RandomCrop():
            return _Crop(operation)
        case RandomFlip():
            return _Flip(operation)
        case CutOut():
            return _CutOut(operation)
        case AutoAugment():
            return _ImageByImage(v2.AutoAugment(_POLICIES[operation.policy]))
        case RandAugment():
            return _ImageByImage(v2.RandAugment(operation.num_ops, operation.magnitude))
        case _:
            raise NotImplementedError(f"{operation.name} is specified, but not built yet")
