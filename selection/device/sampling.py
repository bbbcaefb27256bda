"""The stochastic solver's samples: `selection.randomness.draw_words` in torch, bit for bit."""

import numpy as np
import torch
from torch import Tensor

from selection.randomness import draw_words

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # torch has signed words only; multiplication and addition wrap alike
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
_SIGN = -(1 << 63)  # flipping it makes signed order unsigned order
_LAST = (1 << 63) - 1


def stream_word(seed: int) -> int:
    """The state of stream `selection` before its counters, as a signed word."""
    return int(draw_words(seed, "selection").astype(np.int64))


def draw_keys(start: Tensor, step: Tensor, rows: int) -> Tensor:
    """Words of (seed, step, row), as integers in the words' unsigned order: (problems, rows), of (problems,) each."""
    word = _mix((start ^ step.long()) + _GOLDEN)
    return _mix((word[:, None] ^ torch.arange(rows, device=start.device)) + _GOLDEN) ^ _SIGN


def sample(start: Tensor, step: Tensor, live: Tensor, size: Tensor) -> Tensor:
    """The `size` live rows with the smallest words: (problems, rows) bool, of live (problems, rows)."""
    keys = torch.where(live, draw_keys(start, step, live.shape[1]), _LAST)
    last = keys.sort(dim=1).values.gather(1, size[:, None] - 1)
    return live & (keys <= last)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)
