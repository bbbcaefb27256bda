"""Operations on grey levels, with a magnitude of its own for each image of a batch.

Each is torchvision's operation of the same name for one image, up to rounding of float32.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tv

from workers.augmentation.draws import Float64, per_image, to_device

ENHANCEMENTS = ("Brightness", "Color", "Contrast", "Sharpness")


def enhance(images: torch.Tensor, counts: Sequence[int], factors: Float64) -> torch.Tensor:
    """Towards (factors below 1) or away from (above 1) what PIL's ImageEnhance calls an image's degenerate version.

    images   uint8 (b, C, H, W), C 1 or 3: first those to be changed in brightness, whose degenerate version is black,
             then in color (the image in grey), in contrast (its mean grey), and in sharpness (the image smoothed)
    counts   how many of each
    factors  (b,): degenerate + factor * (image - degenerate) is clipped to 0 to 255, and rounded down

    Grey images have no color to change, and those of fewer than 3 pixels a side no sharpness.
    """
    color, contrast, sharpness, _ = map(int, np.cumsum(counts))
    if images.shape[1] == 1:
        factors = factors.copy()
        factors[color:contrast] = 1.0
    ratios, rest = per_image(factors, images), per_image(1.0 - factors, images)
    enhanced = images.float()
    enhanced[:sharpness].mul_(ratios[:sharpness])
    if color < sharpness:
        greys = tv.rgb_to_grayscale(images[color:sharpness]).float()
        enhanced[color:contrast].addcmul_(greys[: contrast - color], rest[color:contrast])
        means = greys[contrast - color :].mean((1, 2, 3), keepdim=True)
        enhanced[contrast:sharpness].addcmul_(means, rest[contrast:sharpness])
    if sharpness < len(images):
        _sharpen(enhanced[sharpness:], rest[sharpness:])
    return enhanced.clamp_(0, 255).to(torch.uint8)


def _sharpen(images: torch.Tensor, rest: torch.Tensor) -> None:
    """image + rest * (smoothed - image), in place, but for the border pixels.

    Smoothed is the mean over 3x3 pixels of which the middle one counts five times, rounded. Thirteenths never lie
    half way between two whole numbers: they round in float32 as they do exactly.
    """
    if min(images.shape[2:]) < 3:
        return
    inner = images[:, :, 1:-1, 1:-1]
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    smoothed = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smoothed = smoothed.add_(inner, alpha=4).div_(13).round_()
    inner.addcmul_(smoothed.sub_(inner), rest)


def posterize(images: torch.Tensor, bits: Float64) -> torch.Tensor:
    """Keep the highest bits of each grey level; bits (b,), rounded down to 0 to 8."""
    masks = (256 - 2 ** (8 - np.trunc(bits).astype(np.int64))).astype(np.uint8)
    return images & to_device(masks, images)[:, None, None, None]


def solarize(images: torch.Tensor, thresholds: Float64) -> torch.Tensor:
    """Invert grey levels from the threshold on; thresholds (b,), 0 or more: 0 inverts all, above 255 nothing."""
    lowest = to_device(np.ceil(thresholds.astype(np.float32)).astype(np.int16), images)[:, None, None, None]
    return torch.where(images >= lowest, ~images, images)
