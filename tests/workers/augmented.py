"""Small batches of images, and what operations make of them."""

from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from specs.augmentation import Operation
from workers.augmentation import Augmenter
from workers.augmentation.draws import Draws

_adapter: TypeAdapter[Any] = TypeAdapter(Operation)


def operation(name: str, **options: Any) -> Any:
    return _adapter.validate_python({"name": name, **options})


def images(count: int, channels: int = 3, height: int = 32, width: int | None = None) -> torch.Tensor:
    """Random images as the loop hands them over: NCHW views of NHWC memory."""
    shape = (count, height, width or height, channels)
    pixels = np.random.default_rng(count).integers(1, 256, shape, np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def varied(count: int, channels: int = 3, height: int = 32, width: int | None = None) -> torch.Tensor:
    """Images of many kinds: noise, smooth ones, of low contrast, grey in colour, and of one value."""
    batch = images(count, channels, height, width).clone()
    rows = torch.arange(batch.shape[2])[:, None] * 5 + torch.arange(batch.shape[3])
    batch[1::5] = (rows + torch.arange(channels)[:, None, None] * 40).clamp(max=255).to(torch.uint8)
    batch[2::5] = batch[2::5] // 10 + 90
    batch[3::5] = batch[3::5, :1]
    batch[4::5] = 77
    return batch


def drawn(name: str, image: torch.Tensor, draws: int, **options: Any) -> torch.Tensor:
    """One image (1, C, H, W), augmented as so many examples."""
    batch = image.expand(draws, -1, -1, -1)
    return Augmenter([operation(name, **options)])(batch, np.arange(draws), np.zeros(draws, np.int64), seed=0, epoch=1)


def draws_for(count: int, place: int = 0) -> Draws:
    return Draws(seed=0, epoch=1, ids=np.arange(count), copies=np.zeros(count, np.int64), place=place)
