"""Mixing images: AugMix's chains, and the random shares of a mix."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import gammaincinv
from torchvision.transforms import v2

from specs.augmentation import AugMix
from workers.augmentation.draws import Draws, Float64, Int64, per_image
from workers.augmentation.grouping import CODES, IDENTITY, apply_in_turn
from workers.augmentation.policies import magnitude_table, with_signs

_LONGEST = 3  # operations in a chain of random depth


@dataclass(frozen=True)
class Chains:
    """What AugMix does with b images: w chains of up to d operations for each.

    own         (b,): the image's own share of the mix
    shares      (b, w): the chains'
    codes       (b, w, d): operations, Identity from a chain's end on
    magnitudes  (b, w, d)
    """

    own: Float64
    shares: Float64
    codes: Int64
    magnitudes: Float64


class ChainMix:
    """AugMix (Hendrycks et al., 2020) as torchvision draws it."""

    def __init__(self, operation: AugMix):
        self.operation = operation
        space = v2.AugMix._AUGMENTATION_SPACE if operation.all_ops else v2.AugMix._PARTIAL_AUGMENTATION_SPACE
        self.choices = np.array([CODES[name] for name in space])

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        return mix_chains(images, self.chains(draws, *images.shape[2:]))

    def chains(self, draws: Draws, height: int, width: int) -> Chains:
        """Draw for images of a size."""
        operation, count = self.operation, len(draws)
        chains, longest = operation.width, operation.depth if operation.depth > 0 else _LONGEST
        gammas = _gamma(operation.alpha, draws.uniform(np.arange(chains + 2)))
        own, others = gammas[:, 0], gammas[:, 1]
        shares = gammas[:, 2:] / gammas[:, 2:].sum(1, keepdims=True)
        depths = np.full((count, chains), longest)
        if operation.depth < 0:
            depths = 1 + draws.integers(_LONGEST, chains + 2 + np.arange(chains))
        shape, start = (count, chains, longest), 2 * chains + 2
        numbers = np.arange(chains * longest) + start
        codes = self.choices[draws.integers(len(self.choices), numbers)].reshape(shape)
        steps = draws.integers(operation.severity, numbers + numbers.size).reshape(shape)
        signs = draws.uniform(numbers + 2 * numbers.size).reshape(shape)
        table, signed = magnitude_table(v2.AugMix, 10, height, width)
        magnitudes = with_signs(table[codes, steps], signed[codes], signs)
        codes = np.where(np.arange(longest) < depths[:, :, None], codes, IDENTITY)
        return Chains(own / (own + others), shares * (others / (own + others))[:, None], codes, magnitudes)


def mix_chains(images: torch.Tensor, chains: Chains) -> torch.Tensor:
    """Mix uint8 images (b, C, H, W) with their chains, in float32, rounded down to whole grey levels.

    Cost: that of d times `apply` on b w images.
    """
    count, width, depth = chains.codes.shape
    each = images.contiguous().repeat_interleave(width, 0, output_size=count * width)
    changed = apply_in_turn(each, chains.codes.reshape(-1, depth), chains.magnitudes.reshape(-1, depth), "bilinear")
    views = changed.view(count, width, *images.shape[1:])
    mixed = images * per_image(chains.own, images)
    for chain in range(width):
        mixed += views[:, chain] * per_image(chains.shares[:, chain], images)
    return mixed.to(torch.uint8)


def beta(alpha: float, first: Float64, second: Float64) -> Float64:
    """Draws from Beta(alpha, alpha), from two uniform ones in [0, 1) each."""
    one, other = _gamma(alpha, first), _gamma(alpha, second)
    return one / (one + other)


def _gamma(alpha: float, uniform: Float64) -> Float64:
    """Draws from Gamma(alpha, 1) by its inverse distribution, from uniform ones; divided by their sum, Dirichlet's."""
    drawn: Float64 = gammaincinv(alpha, uniform + 2.0**-54)  # never 0, even for small alpha
    return drawn
