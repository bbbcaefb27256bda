"""Augmentation as a chain of operations, every example with draws of its own."""

from collections.abc import Callable, Sequence

import torch

from specs.augmentation import (
    AugMix,
    AutoAugment,
    CenterCrop,
    CutOut,
    LossGuided,
    Noise,
    Operation,
    Perturb,
    RandAugment,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    RandomRotation,
    Resize,
)
from workers.augmentation.cropping import Crop, Flip, MiddleCrop, ResizedCrop
from workers.augmentation.draws import Draws, Int64
from workers.augmentation.holes import Hole
from workers.augmentation.mixing import ChainMix
from workers.augmentation.perturbing import BoundedNoise, Perturbation
from workers.augmentation.policies import AutoAugmentation, RandAugmentation
from workers.augmentation.warping import Rotation

Step = Callable[[torch.Tensor, Draws], torch.Tensor]


class Augmenter:
    """A chain of operations.

    `start` is the place of the first one among all that an image goes through: two chains applied one after the
    other need places, and thereby draws, of their own. `loss_guided` needs the network: see LossGuidedCopies.
    """

    def __init__(self, operations: Sequence[Operation], start: int = 0):
        self._steps = [(place, _prepared(operation)) for place, operation in enumerate(operations, start)]

    def __call__(self, images: torch.Tensor, ids: Int64, copies: Int64, *, seed: int, epoch: int) -> torch.Tensor:
        """Augmented images, uint8 (b, C, H', W') in channels_last layout, on the device they came from.

        images  uint8 (b, C, H, W), C 1 or 3; left as they are
        ids     int64 (b,), with copies int64 (b,): which view of which example each image is

        Nothing is read back from a GPU, and no global generator is used.
        """
        for place, step in self._steps:
            images = step(images, Draws(seed, epoch, ids, copies, place))
        return images.contiguous(memory_format=torch.channels_last)


def _prepared(operation: Operation) -> Step:
    match operation:
        case RandomCrop():
            return Crop(operation)
        case RandomResizedCrop():
            return ResizedCrop(operation)
        case CenterCrop():
            return MiddleCrop(operation)
        case RandomFlip():
            return Flip(operation)
        case RandomRotation():
            return Rotation(operation)
        case CutOut():
            return Hole(operation)
        case AutoAugment():
            return AutoAugmentation(operation)
        case RandAugment():
            return RandAugmentation(operation)
        case AugMix():
            return ChainMix(operation)
        case Perturb():
            return Perturbation(operation)
        case Noise():
            return BoundedNoise(operation)
        case Resize():
            raise ValueError("resize is for streamed images, one by one: see workers.streaming")
        case LossGuided():
            raise ValueError("loss_guided is no step of a chain: it scores candidates with the network")
