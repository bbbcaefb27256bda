"""Small changes of grey levels: brightness jitter with blur, and bounded noise."""

import numpy as np
import torch
from torch.nn import functional

from specs.augmentation import Noise, Perturb
from workers.augmentation.colours import adjust_brightness
from workers.augmentation.draws import Draws, Float64, to_device

_PIECES = 4  # 16-bit pieces in a word of 64 bits


class Perturbation:
    """Brightness times a random factor, then Gaussian blur of random width."""

    def __init__(self, operation: Perturb):
        self.brightness, self.sigma, self.kernel = operation.brightness, operation.sigma, operation.kernel

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        factors, sigmas = self.drawn(draws)
        return blur(adjust_brightness(images, factors), sigmas, self.kernel)

    def drawn(self, draws: Draws) -> tuple[Float64, Float64]:
        """Each image's factor of brightness and standard deviation of the blur."""
        low, high = self.sigma
        factors = 1.0 + self.brightness * (2.0 * draws.uniform(0) - 1.0)
        return factors, low + (high - low) * draws.uniform(1)


def blur(images: torch.Tensor, sigmas: Float64, kernel: int) -> torch.Tensor:
    """Gaussian blur, reflecting at the borders, rounded to whole grey levels.

    images uint8 (b, C, H, W); sigmas (b,), in pixels; kernel: its side in pixels, odd. Done along columns, then along
    rows, in float32: torchvision's single pass adds in another order, so that a few values in 100,000 are rounded
    the other way.
    """
    reach = kernel // 2
    offsets = np.arange(-reach, reach + 1)
    bell = np.exp(-0.5 * (offsets / sigmas[:, None]) ** 2)
    weights = to_device((bell / bell.sum(1, keepdims=True)).astype(np.float32), images)
    blurred = functional.pad(images.float(), (reach,) * 4, mode="reflect")
    for dim in (2, 3):
        side = images.shape[dim]
        padded, blurred = blurred, torch.zeros_like(blurred.narrow(dim, 0, side))
        for tap in range(kernel):
            blurred.addcmul_(padded.narrow(dim, tap, side), weights[:, tap, None, None, None])
    return blurred.round_().clamp_(0, 255).to(torch.uint8)


class BoundedNoise:
    """An integer between -epsilon and epsilon added to each value of each pixel."""

    def __init__(self, operation: Noise):
        self.epsilon = operation.epsilon

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        count, values = len(images), images[0].numel()
        words = draws.words(np.arange(-(-values // _PIECES)))
        pieces = words.view(np.uint16)[:, :values].astype(np.uint32)
        # Each of the 2 epsilon + 1 integers as often as the others, but for 2^-16.
        steps = (pieces * np.uint32(2 * self.epsilon + 1) >> np.uint32(16)).astype(np.int16) - np.int16(self.epsilon)
        noise = to_device(steps, images).view(count, *images.shape[1:])
        return (images + noise).clamp_(0, 255).to(torch.uint8)
