"""Images on their way from the node's shared array to the network."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from specs import TrialSpec
from specs.augmentation import CenterCrop
from specs.dataset import LARGEST_IN_MEMORY
from workers.augmentation import Augmenter
from workers.data import DataError, ImageData, ImageSet, StreamedSet


class Images(Protocol):
    """A set of uint8 images that hands out batches on a device."""

    device: torch.device

    def take(self, ids: npt.NDArray[Any]) -> torch.Tensor:
        """The images of some ids: uint8 (b, C, H, W), C innermost in memory."""
        ...


class DeviceImages:
    """A set of uint8 images that hands out batches on a device, in channels_last layout."""

    def __init__(self, images: ImageSet | StreamedSet, device: torch.device):
        if isinstance(images, StreamedSet):
            raise DataError(f"{images.root}: images above {LARGEST_IN_MEMORY} pixels cannot be trained on yet")
        self.device = device
        self._rows: npt.NDArray[np.uint8] | torch.Tensor = images.images
        if device.type == "cuda":  # small sets live on the GPU: no copy a batch
            self._rows = torch.from_numpy(np.array(images.images)).to(device)

    def take(self, ids: npt.NDArray[Any]) -> torch.Tensor:
        """The images of some ids: uint8 (b, C, H, W), C innermost in memory."""
        if isinstance(self._rows, torch.Tensor):
            batch = self._rows[torch.from_numpy(ids).to(self.device)]
        else:
            batch = torch.from_numpy(self._rows[ids])
        return batch.permute(0, 3, 1, 2)


# Of ImageNet's training images, by channel: what torchvision's weights expect of their inputs.
_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


class EvaluatedImages:
    """A set of images as test accuracy, losses and proxies see them: after the operations for evaluation."""

    def __init__(self, images: Images, operations: Sequence[CenterCrop]):
        self.device = images.device
        self._images, self._operations = images, Augmenter(operations)

    def take(self, ids: npt.NDArray[Any]) -> torch.Tensor:
        """The images of some ids: uint8 (b, C, H, W), C innermost in memory."""
        nothing = np.zeros(len(ids), np.int64)  # no operation for evaluation draws anything
        return self._operations(self._images.take(ids), nothing, nothing, seed=0, epoch=0)


class Normalizer:
    """Turns uint8 images into float32 with mean 0 and deviation 1, by channel, over the training set's pixels.

    Or over ImageNet's, where the spec says so.
    """

    @classmethod
    def of(cls, spec: TrialSpec, images: ImageData, device: torch.device) -> "Normalizer":
        """The one that a trial asks for."""
        if spec.normalization() == "imagenet":
            return cls(_IMAGENET_MEAN, _IMAGENET_STD, device)
        return cls(images.mean, images.std, device)

    def __init__(self, mean: npt.NDArray[np.float32], std: npt.NDArray[np.float32], device: torch.device):
        scale = 1.0 / (255.0 * std.astype(np.float64))
        self.scale = torch.tensor(scale, dtype=torch.float32, device=device).view(1, -1, 1, 1)
        self.shift = torch.tensor(-255.0 * mean * scale, dtype=torch.float32, device=device).view(1, -1, 1, 1)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self.shift, images.float(), self.scale)
