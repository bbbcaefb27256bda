"""The operations of the learned policies for a whole batch at once: each image its own operation and magnitude.

Images are sorted by operation; each operation then works on its group, with a magnitude an image.
"""

from itertools import pairwise

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tv

from workers.augmentation import colours
from workers.augmentation.colours import ENHANCEMENTS
from workers.augmentation.draws import Float64, Int64, to_device
from workers.augmentation.warping import WARPS, inverse_map, warp

# torchvision's names, in families that one kernel works on together
OPERATIONS = (*WARPS, *ENHANCEMENTS, "Posterize", "Solarize", "Invert", "AutoContrast", "Equalize", "Identity")
CODES = {name: code for code, name in enumerate(OPERATIONS)}
IDENTITY = CODES["Identity"]
_FIRST = ("ShearX", "Brightness", "Posterize", "Solarize", "AutoContrast", "Equalize", "Identity")  # of each family
_FAMILIES = [*(CODES[name] for name in _FIRST), len(OPERATIONS)]


def apply(images: torch.Tensor, codes: Int64, magnitudes: Float64, interpolation: str = "nearest") -> torch.Tensor:
    """Apply OPERATIONS[codes[i]] with magnitudes[i] to image i.

    images         uint8 (b, C, H, W), C 1 or 3; left as they are
    codes          (b,)
    magnitudes     (b,), as torchvision's AutoAugment passes them on: a shear's slope, a translation's pixels, a
                   rotation's degrees, what is added to the factor 1 of brightness, color, contrast and sharpness,
                   posterize's bits, solarize's threshold over 255; of no meaning for the others
    interpolation  of the affine maps: nearest or bilinear

    Cost: O(b C H W); about 80 small kernels, whatever b, and no wait for the device.
    """
    if (codes == IDENTITY).all():
        return images
    order = np.argsort(codes, kind="stable")
    codes, magnitudes = codes[order], magnitudes[order]
    ordered = images.contiguous().index_select(0, to_device(order, images))
    groups = []
    for start, end in pairwise(map(int, np.searchsorted(codes, _FAMILIES))):
        if start < end:
            groups.append(_changed(ordered[start:end], codes[start:end], magnitudes[start:end], interpolation))
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


def _changed(images: torch.Tensor, codes: Int64, magnitudes: Float64, interpolation: str) -> torch.Tensor:
    """The images of one family, ordered by operation."""
    name = OPERATIONS[codes[0]]
    if name in WARPS:
        maps = np.empty((len(codes), 2, 3))
        for code in np.unique(codes):
            rows = codes == code
            maps[rows] = inverse_map(OPERATIONS[code], magnitudes[rows], *images.shape[2:])
        return warp(images, maps, interpolation)
    if name in ENHANCEMENTS:
        counts = np.bincount(codes - CODES[ENHANCEMENTS[0]], minlength=len(ENHANCEMENTS))
        return colours.enhance(images, counts.tolist(), 1.0 + magnitudes)
    match name:
        case "Posterize":
            return colours.posterize(images, magnitudes)
        case "Solarize" | "Invert":
            return colours.solarize(images, np.where(codes == CODES["Invert"], 0.0, 255.0 * magnitudes))
        case "AutoContrast":
            return tv.autocontrast(images)
        case "Equalize":
            return tv.equalize(images)
        case _:
            return images
