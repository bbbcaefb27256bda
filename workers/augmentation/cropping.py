"""Crops and flips: which part of an image is seen, a part of its own for each image."""

import numpy as np
import torch
from torch.nn import functional

from specs.augmentation import CenterCrop, RandomCrop, RandomFlip, RandomResizedCrop
from workers.augmentation.draws import Draws, Float64, Int64, to_device

_TRIES = 10  # as in torchvision


class Crop:
    """A part of fixed size at a random place of the padded image."""

    def __init__(self, operation: RandomCrop):
        self.padding, self.size = operation.padding, operation.size

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        sides = images.shape[2:] if self.size is None else (self.size, self.size)
        tops, lefts = (
            to_device(draws.integers(whole + 2 * self.padding - part + 1, number), images)
            for number, (whole, part) in enumerate(zip(images.shape[2:], sides, strict=True))
        )
        padded = functional.pad(images.permute(0, 2, 3, 1), (0, 0, *[self.padding] * 4))
        crops = padded.unfold(1, sides[0], 1).unfold(2, sides[1], 1)  # a view: (b, tops, lefts, C, H, W)
        return crops[torch.arange(len(images), device=images.device), tops, lefts]


class MiddleCrop:
    """The middle of the image."""

    def __init__(self, operation: CenterCrop):
        self.size = operation.size

    def __call__(self, images: torch.Tensor, draws: Draws | None = None) -> torch.Tensor:
        top, left = (round((side - self.size) / 2) for side in images.shape[2:])
        return images[..., top : top + self.size, left : left + self.size]


class Flip:
    """Some images mirrored left to right."""

    def __init__(self, operation: RandomFlip):
        self.probability = operation.probability

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        mirrored = to_device(draws.uniform(0) < self.probability, images)
        return torch.where(mirrored[:, None, None, None], images.flip(3), images)


class ResizedCrop:
    """A part of random area and shape, resized to a square."""

    def __init__(self, operation: RandomResizedCrop):
        self.size, self.scale, self.ratio = operation.size, operation.scale, operation.ratio

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        return resized(images, self.boxes(draws, *images.shape[2:]), self.size)

    def boxes(self, draws: Draws, height: int, width: int) -> Int64:
        """Top, left, height and width of each image's part (b, 4): torchvision's rejection sampling.

        The first of ten tries that fits into the image; the middle, as far as the ratio allows, where none does.
        """
        tries = np.arange(_TRIES)
        least, most = self.scale
        areas = height * width * (least + (most - least) * draws.uniform(tries))
        least, most = np.log(self.ratio)
        ratios = np.exp(least + (most - least) * draws.uniform(_TRIES + tries))
        sizes = np.round(np.sqrt([areas / ratios, areas * ratios])).astype(np.int64)  # heights and widths
        whole = np.array([height, width])
        fits = np.logical_and.reduce((sizes > 0) & (sizes <= whole[:, None, None]))
        found = np.logical_or.reduce(fits, axis=1)[:, None]
        first = sizes[:, np.arange(len(fits)), np.argmax(fits, axis=1)].T
        parts = np.where(found, first, _middle_part(height, width, *self.ratio))
        places = draws.uniform(2 * _TRIES + np.arange(2))
        corners = np.where(found, (places * (whole - parts + 1)).astype(np.int64), (whole - parts) // 2)
        return np.concatenate([corners, parts], 1)


def _middle_part(height: int, width: int, low: float, high: float) -> tuple[int, int]:
    ratio = width / height
    if ratio < low:
        return round(width / low), width
    if ratio > high:
        return height, round(height * high)
    return height, width


def resized(images: torch.Tensor, boxes: Int64, size: int) -> torch.Tensor:
    """Each image's own part, resized to size x size: bilinear, with PIL's antialiasing.

    images uint8 (b, C, H, W); boxes (b, 4): top, left, height, width. Resizing is linear in rows and in columns, so
    each image has two matrices. torchvision on a CPU rounds to whole grey levels between the two, and weighs in fixed
    point: one grey level in seven is another there, by 1. Cost: O(b C size W (H + size)).
    """
    height, width = images.shape[2:]
    down, across = (
        to_device(_weights(boxes[:, part], boxes[:, 2 + part], side, size).astype(np.float32), images)
        for part, side in enumerate((height, width))
    )
    return (down[:, None] @ images.float() @ across[:, None].mT).round_().clamp_(0, 255).to(torch.uint8)


def _weights(starts: Int64, lengths: Int64, side: int, size: int) -> Float64:
    """What each of a side's pixels gives to each of the resized part's: (b, size, side), rows summing to 1."""
    scale = lengths / size
    centres = scale[:, None] * (np.arange(size) + 0.5)
    pixels = np.arange(side) - starts[:, None]
    apart = np.abs(pixels[:, None, :] + 0.5 - centres[:, :, None]) / np.maximum(scale, 1.0)[:, None, None]
    inside = (pixels >= 0) & (pixels < lengths[:, None])
    weights: Float64 = np.maximum(1.0 - apart, 0.0) * inside[:, None, :]
    return weights / weights.sum(2, keepdims=True)
