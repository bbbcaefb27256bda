"""The operations of the learned policies for a whole batch at once: each image its own operation and magnitude.

Images are sorted by operation; each operation then works on its group, with a magnitude an image.
"""

from itertools import pairwise

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tv

from workers.augmentation import colours
from workers.augmentation.draws import Float64, Int64, to_device
from workers.augmentation.warping import WARPS, inverse_map, warp

# torchvision's names. Affine maps come first: they are one group.
OPERATIONS = (
    *WARPS,
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
    "Invert",
    "Identity",
)
CODES = {name: code for code, name in enumerate(OPERATIONS)}
IDENTITY = CODES["Identity"]


def apply(images: torch.Tensor, codes: Int64, magnitudes: Float64, interpolation: str = "nearest") -> torch.Tensor:
    """Apply OPERATIONS[codes[i]] with magnitudes[i] to image i.

    images         uint8 (b, C, H, W), C 1 or 3; left as they are
    codes          (b,)
    magnitudes     (b,), as torchvision's AutoAugment passes them on: a shear's slope, a translation's pixels, a
                   rotation's degrees, what is added to the factor 1 of brightness, color, contrast and sharpness,
                   posterize's bits, solarize's threshold over 255; of no meaning for the others
    interpolation  of the affine maps: nearest or bilinear

    Cost: O(b C H W); about 60 calls of small kernels, whatever b, and no wait for the device.
    """
    if (codes == IDENTITY).all():
        return images
    order = np.argsort(codes, kind="stable")
    codes, magnitudes = codes[order], magnitudes[order]
    ordered = images.contiguous().index_select(0, to_device(order, images))
    edges = [0, *np.searchsorted(codes, np.arange(len(WARPS), len(OPERATIONS) + 1))]
    groups = []
    for start, end in pairwise(map(int, edges)):
        if start == end:
            continue
        group, amounts = ordered[start:end], magnitudes[start:end]
        if codes[start] < len(WARPS):
            groups.append(warp(group, _maps(codes[start:end], amounts, group), interpolation))
        else:
            groups.append(_adjusted(OPERATIONS[codes[start]], group, amounts))
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return torch.cat(groups).index_select(0, to_device(places, images))


def apply_in_turn(
    images: torch.Tensor, codes: Int64, magnitudes: Float64, interpolation: str = "nearest"
) -> torch.Tensor:
    """Apply several operations to each image, one after another: codes and magnitudes (b, turns)."""
    for turn in range(codes.shape[1]):
        images = apply(images, codes[:, turn], magnitudes[:, turn], interpolation)
    return images


def _maps(codes: Int64, amounts: Float64, images: torch.Tensor) -> Float64:
    maps = np.empty((len(codes), 2, 3))
    for code in np.unique(codes):
        rows = codes == code
        maps[rows] = inverse_map(OPERATIONS[code], amounts[rows], *images.shape[2:])
    return maps


def _adjusted(name: str, images: torch.Tensor, amounts: Float64) -> torch.Tensor:
    match name:
        case "Brightness":
            return colours.adjust_brightness(images, 1.0 + amounts)
        case "Color":
            return colours.adjust_color(images, 1.0 + amounts)
        case "Contrast":
            return colours.adjust_contrast(images, 1.0 + amounts)
        case "Sharpness":
            return colours.adjust_sharpness(images, 1.0 + amounts)
        case "Posterize":
            return colours.posterize(images, amounts)
        case "Solarize":
            return colours.solarize(images, 255.0 * amounts)
        case "AutoContrast":
            return tv.autocontrast(images)
        case "Equalize":
            return tv.equalize(images)
        case "Invert":
            return tv.invert(images)
        case _:
            return images
