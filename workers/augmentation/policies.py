"""AutoAugment and RandAugment: draws as torchvision makes them, an own set for each image."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms import v2

from specs.augmentation import AutoAugment, RandAugment
from workers.augmentation.draws import Draws, Float64, Int64
from workers.augmentation.grouping import CODES, IDENTITY, OPERATIONS, apply_in_turn

POLICIES = {
    "cifar10": v2.AutoAugmentPolicy.CIFAR10,
    "svhn": v2.AutoAugmentPolicy.SVHN,
    "imagenet": v2.AutoAugmentPolicy.IMAGENET,
}


@cache
def magnitude_table(transform: type[Any], steps: int, height: int, width: int) -> tuple[Float64, npt.NDArray[np.bool_]]:
    """torchvision's magnitudes for images of a size: (operations, steps), and which come with either sign.

    Read from torchvision itself (its tables are not public, and a copy could fall behind): operations it does not
    name for this transform, and those without a magnitude, have 0.
    """
    table, signed = np.zeros((len(OPERATIONS), steps)), np.zeros(len(OPERATIONS), bool)
    for name, (magnitudes, either) in transform._AUGMENTATION_SPACE.items():
        values = magnitudes(steps, height, width)
        if values is not None:
            table[CODES[name]], signed[CODES[name]] = values.double().numpy(), either
    return table, signed


class AutoAugmentation:
    """One of 25 sub-policies for each image: two operations, each with its probability and magnitude."""

    def __init__(self, operation: AutoAugment):
        policies = v2.AutoAugment(POLICIES[operation.policy])._policies
        self.codes = np.array([[CODES[name] for name, _, _ in policy] for policy in policies])
        self.probabilities = np.array([[chance for _, chance, _ in policy] for policy in policies])
        self.steps = np.array([[step or 0 for _, _, step in policy] for policy in policies])

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        return apply_in_turn(images, *self.drawn(draws, *images.shape[2:]))

    def drawn(self, draws: Draws, height: int, width: int) -> tuple[Int64, Float64]:
        """Each image's operations and magnitudes (b, 2), for images of a size."""
        table, signed = magnitude_table(v2.AutoAugment, 10, height, width)
        policy = draws.integers(len(self.codes), 0)
        coins, signs = draws.uniform(np.array([1, 2])), draws.uniform(np.array([3, 4]))
        codes = self.codes[policy]
        magnitudes = with_signs(table[codes, self.steps[policy]], signed[codes], signs)
        return np.where(coins < self.probabilities[policy], codes, IDENTITY), magnitudes


class RandAugmentation:
    """Some operations of one magnitude, drawn with replacement for each image."""

    def __init__(self, operation: RandAugment):
        self.turns, self.magnitude = operation.num_ops, operation.magnitude

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        return apply_in_turn(images, *self.drawn(draws, *images.shape[2:]))

    def drawn(self, draws: Draws, height: int, width: int) -> tuple[Int64, Float64]:
        """Each image's operations and magnitudes (b, turns), for images of a size."""
        table, signed = magnitude_table(v2.RandAugment, 31, height, width)
        choices = np.array([CODES[name] for name in v2.RandAugment._AUGMENTATION_SPACE])
        turns = np.arange(self.turns)
        codes = choices[draws.integers(len(choices), turns)]
        signs = draws.uniform(self.turns + turns)
        return codes, with_signs(table[codes, self.magnitude], signed[codes], signs)


def with_signs(magnitudes: Float64, signed: npt.NDArray[np.bool_], signs: Float64) -> Float64:
    """Turn the sign of half of the magnitudes that come with either."""
    return np.where(signed & (signs < 0.5), -magnitudes, magnitudes)
