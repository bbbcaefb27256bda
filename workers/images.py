"""Images on their way from the node's shared array to the network."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from selection.proxies import Int64
from specs import TrialSpec
from specs.augmentation import Operation
from workers.augmentation import Augmenter
from workers.data import ImageData, ImageSet
from workers.uploads import upload

MOST = 512  # images that are looked at together, where nothing is learned
_PIXELS = MOST << 14  # and pixels: 128x128 each


class Images(Protocol):
    """A set of images as accuracy, losses and proxies are measured on them: uint8 batches of one size, on a device."""

    @property
    def device(self) -> torch.device:
        """Where the batches are."""
        ...

    @property
    def at_once(self) -> int:
        """How many images to take together, by their size."""
        ...

    def batches(self, parts: Sequence[Int64]) -> Iterator[torch.Tensor]:
        """The images of each part's ids in turn: uint8 (b, C, H, W), C innermost in memory."""
        ...


class DeviceImages:
    """A set of uint8 images in memory that hands out batches on a device, in channels_last layout."""

    def __init__(self, images: ImageSet, device: torch.device):
        self.device = device
        self.at_once = at_once(*images.images.shape[1:3])
        self._rows: npt.NDArray[np.uint8] | torch.Tensor = images.images
        if device.type == "cuda":  # small sets live on the GPU: no copy a batch
            self._rows = torch.from_numpy(np.array(images.images)).to(device)

    def take(self, ids: Int64) -> torch.Tensor:
        """The images of some ids: uint8 (b, C, H, W), C innermost in memory."""
        if isinstance(self._rows, torch.Tensor):
            batch = self._rows[upload(ids, self.device)]
        else:
            batch = torch.from_numpy(self._rows[ids])
        return batch.permute(0, 3, 1, 2)

    def batches(self, parts: Sequence[Int64]) -> Iterator[torch.Tensor]:
        """See Images."""
        return map(self.take, parts)


class EvaluatedImages:
    """Images in memory after the operations for evaluation."""

    def __init__(self, images: DeviceImages, operations: Sequence[Operation]):
        self.device, self.at_once = images.device, images.at_once
        self._images, self._operations = images, Augmenter(operations)

    def take(self, ids: Int64) -> torch.Tensor:
        """The images of some ids: uint8 (b, C, H, W), C innermost in memory."""
        nothing = np.zeros(len(ids), np.int64)  # no operation for evaluation draws anything
        return self._operations(self._images.take(ids), nothing, nothing, seed=0, epoch=0)

    def batches(self, parts: Sequence[Int64]) -> Iterator[torch.Tensor]:
        """See Images."""
        return map(self.take, parts)


def at_once(height: int, width: int) -> int:
    """How many images of a size to take together: 512, or fewer of more than 128x128 pixels."""
    return max(1, min(MOST, _PIXELS // (height * width)))


# Of ImageNet's training images, by channel: what torchvision's weights expect of their inputs.
_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


class Normalizer:
    """Turns uint8 images into numbers with mean 0 and deviation 1, by channel, over the training set's pixels.

    Or over ImageNet's, where the spec says so. They are of torch's default dtype when it is made.
    """

    @classmethod
    def of(cls, spec: TrialSpec, images: ImageData, device: torch.device) -> "Normalizer":
        """The one that a trial asks for."""
        if spec.normalization() == "imagenet":
            return cls(_IMAGENET_MEAN, _IMAGENET_STD, device)
        return cls(images.mean, images.std, device)

    def __init__(self, mean: npt.NDArray[np.float32], std: npt.NDArray[np.float32], device: torch.device):
        scale = 1.0 / (255.0 * std.astype(np.float64))
        dtype = torch.get_default_dtype()
        self.scale = torch.tensor(scale, dtype=dtype, device=device).view(1, -1, 1, 1)
        self.shift = torch.tensor(-255.0 * mean * scale, dtype=dtype, device=device).view(1, -1, 1, 1)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self.shift, images.to(self.scale.dtype), self.scale)
