"""The units that gains are counted in: 2^-shift, so that the largest stays below 2^61 and is not below 2^40."""

import torch
from torch import Tensor

COARSE = 1 << 40  # a largest gain below it wants finer units: floors cost up to n units
BITS = 61
_LEAST_EXPONENT = 149  # no float32 is below 2^-149, nor is a difference of two
_LIMIT = 900  # of shifts: 2^shift stays a float64


def exponents(values: Tensor) -> Tensor:
    """The smallest e with value < 2^e, of values >= 0."""
    return torch.frexp(values.double()).exponent.long()


def first_shift(weights: Tensor, empty: Tensor) -> tuple[Tensor, Tensor]:
    """Units for the gains of the first pick, at most sum(weights) * empty; and those in which none rounds to 0."""
    shift = BITS - exponents(weights.sum() * empty.double())
    lightest = torch.where(weights > 0, weights, torch.inf).amin().clamp(max=1.0)
    last = _LEAST_EXPONENT + 1 - exponents(lightest)
    return shift.clamp(-_LIMIT, _LIMIT), last.clamp(-_LIMIT, _LIMIT).maximum(shift)


def next_shift(shift: Tensor, last: Tensor, top: Tensor, terms: Tensor) -> Tensor:
    """Finer units, for gains of at most `top` units so far, each a sum of so many terms rounded down."""
    finer = shift + BITS - exponents(top.clamp(min=0) + terms)
    return finer.minimum(last).to(shift.dtype)
