"""Affine maps, another one for each image of a batch."""

import numpy as np
import torch
from torch.nn import functional

from specs.augmentation import RandomRotation
from workers.augmentation.draws import Draws, Float64, to_device

WARPS = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")


def inverse_map(name: str, amounts: Float64, height: int, width: int) -> Float64:
    """Where each pixel of a result comes from: matrices (b, 2, 3) over coordinates from the image's centre.

    name     one of WARPS
    amounts  (b,): a shear's slope (about the upper left corner), a translation's pixels (rounded towards 0), a
             rotation's degrees (about the centre, counter-clockwise), as torchvision's AutoAugment has them
    """
    maps = np.zeros((len(amounts), 2, 3))
    maps[:, 0, 0] = maps[:, 1, 1] = 1.0
    match name:
        case "ShearX":
            maps[:, 0, 1], maps[:, 0, 2] = amounts, amounts * (height * 0.5)
        case "ShearY":
            maps[:, 1, 0], maps[:, 1, 2] = amounts, amounts * (width * 0.5)
        case "TranslateX":
            maps[:, 0, 2] = -np.trunc(amounts)
        case "TranslateY":
            maps[:, 1, 2] = -np.trunc(amounts)
        case "Rotate":
            angles = np.radians(-amounts)
            maps[:, 0, 0] = maps[:, 1, 1] = np.cos(angles)
            maps[:, 0, 1], maps[:, 1, 0] = np.sin(angles), -np.sin(angles)
        case _:
            raise ValueError(f"{name} is no affine map; allowed: {', '.join(WARPS)}")
    return maps


def warp(images: torch.Tensor, maps: Float64, interpolation: str) -> torch.Tensor:
    """Map each image by its own matrix; what comes from outside the image is 0.

    images         uint8 (b, C, H, W)
    maps           (b, 2, 3), as `inverse_map` gives them
    interpolation  nearest or bilinear (then rounded to whole grey levels)

    The grid is reckoned as torchvision reckons one image's, in float32 and divided by half the sides at last, so that
    both round the same way.
    """
    height, width = images.shape[2:]
    half = np.array([0.5 * width, 0.5 * height], np.float32)
    across, down, shift = to_device(maps.astype(np.float32) / half[:, None], images)[:, :, None, None, :].unbind(4)
    rows, columns = (
        torch.linspace(0.5 * (1 - side), 0.5 * (side - 1), side, dtype=torch.float32, device=images.device)
        for side in (height, width)
    )
    grid = (across * columns + down * rows[:, None]).add_(shift).permute(0, 2, 3, 1)
    moved = functional.grid_sample(images.float(), grid, interpolation, "zeros", align_corners=False)
    return (moved if interpolation == "nearest" else moved.round_()).to(torch.uint8)


class Rotation:
    """Each image about its centre, by an angle of its own."""

    def __init__(self, operation: RandomRotation):
        self.degrees = operation.degrees

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        angles = self.degrees * (2.0 * draws.uniform(0) - 1.0)
        return warp(images, inverse_map("Rotate", angles, *images.shape[2:]), "nearest")
