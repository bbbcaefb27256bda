"""Operations on grey levels, with a magnitude of its own for each image of a batch.

Each is torchvision's operation of the same name for one image, magnitude for magnitude, up to rounding of float32.
"""

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tv

from workers.augmentation.draws import Float64, per_image, to_device


def blend(images: torch.Tensor, degenerate: torch.Tensor | None, factors: Float64) -> torch.Tensor:
    """degenerate + factor * (image - degenerate), clipped and rounded down, as PIL's ImageEnhance does it.

    images uint8 (b, C, H, W); degenerate float32, broadcastable to them, None for black; factors (b,), 1 leaves an
    image as it is. The products are added in torchvision's order.
    """
    blended = images * per_image(factors, images)
    if degenerate is not None:
        blended = torch.addcmul(blended, degenerate, per_image(1.0 - factors, images))
    return blended.clamp_(0, 255).to(torch.uint8)


def adjust_brightness(images: torch.Tensor, factors: Float64) -> torch.Tensor:
    """Towards black (0) or away from it (above 1)."""
    return blend(images, None, factors)


def adjust_contrast(images: torch.Tensor, factors: Float64) -> torch.Tensor:
    """Towards the image's mean grey (0) or away from it (above 1)."""
    return blend(images, tv.rgb_to_grayscale(images).float().mean((1, 2, 3), keepdim=True), factors)


def adjust_color(images: torch.Tensor, factors: Float64) -> torch.Tensor:
    """Towards grey (0) or away from it (above 1). Grey images stay as they are."""
    if images.shape[1] == 1:
        return images
    return blend(images, tv.rgb_to_grayscale(images).float(), factors)


def adjust_sharpness(images: torch.Tensor, factors: Float64) -> torch.Tensor:
    """Towards a smoothed image (0) or away from it (above 1); border pixels stay as they are.

    Smoothed is the mean over 3x3 pixels of which the middle one counts five times. Thirteenths never lie half way
    between two whole numbers, so that they are rounded in float32 as they would be exactly.
    """
    if min(images.shape[2:]) < 3:
        return images
    sharpened = images.float()
    inner = sharpened[:, :, 1:-1, 1:-1]
    rows = sharpened[:, :, :-2] + sharpened[:, :, 1:-1] + sharpened[:, :, 2:]
    smoothed = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smoothed = smoothed.add_(inner, alpha=4).div_(13).round_()
    inner.addcmul_(smoothed.sub_(inner), per_image(1.0 - factors, images))
    return sharpened.clamp_(0, 255).to(torch.uint8)


def posterize(images: torch.Tensor, bits: Float64) -> torch.Tensor:
    """Keep the highest bits of each grey level; bits (b,), rounded down to 0 to 8."""
    masks = (256 - 2 ** (8 - np.trunc(bits).astype(np.int64))).astype(np.uint8)
    return images & to_device(masks, images)[:, None, None, None]


def solarize(images: torch.Tensor, thresholds: Float64) -> torch.Tensor:
    """Invert grey levels from the threshold on; thresholds (b,), in 0 to 255."""
    return torch.where(images >= per_image(thresholds, images), ~images, images)
