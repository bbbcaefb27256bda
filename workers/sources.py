"""A data set on its way to the network, from memory or streamed."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from selection.proxies import Int64
from specs import TrialSpec
from workers.augmentation import Augmenter
from workers.data import ImageData, ImageSet, StreamedSet
from workers.images import DeviceImages, EvaluatedImages, Images
from workers.streaming import StreamedSource


class Source(Protocol):
    """What the loop asks of a data set."""

    @property
    def train(self) -> Images:
        """The training set after the operations for evaluation."""
        ...

    @property
    def test(self) -> Images:
        """The test set after them."""
        ...

    def weak(self, views: Sequence[tuple[Int64, Int64]], *, seed: int, epoch: int) -> Iterator[torch.Tensor]:
        """Weakly augmented training images, one batch for each of the ids and copies (b,) given: uint8 (b, C, H, W).

        A batch is a function of (seed, epoch, ids, copies) alone, and is its taker's to write on.
        """
        ...

    def close(self) -> None:
        """Let go of what reads the images."""
        ...


class MemorySource:
    """A data set that lies decoded in memory."""

    def __init__(self, spec: TrialSpec, train: ImageSet, test: ImageSet, device: torch.device):
        operations = spec.augmentation
        self.images = DeviceImages(train, device)
        self.train = EvaluatedImages(self.images, operations.evaluation)
        self.test = EvaluatedImages(DeviceImages(test, device), operations.evaluation)
        self._weak = Augmenter(operations.weak)

    def weak(self, views: Sequence[tuple[Int64, Int64]], *, seed: int, epoch: int) -> Iterator[torch.Tensor]:
        """See Source."""
        for ids, copies in views:
            yield self._weak(self.images.take(ids), ids, copies, seed=seed, epoch=epoch)

    def close(self) -> None:
        """See Source."""


def open_source(spec: TrialSpec, images: ImageData, device: torch.device) -> Source:
    """The images of a trial. Streamed ones are read by processes that end when the source is closed."""
    train, test = images.train, images.test
    if isinstance(train, StreamedSet) or isinstance(test, StreamedSet):
        assert isinstance(train, StreamedSet)
        assert isinstance(test, StreamedSet)
        return StreamedSource(spec, train, test, device)
    return MemorySource(spec, train, test, device)
