"""Images that are read, decoded and cropped by processes beside the training; batches of one size come out."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from selection.proxies import Int64
from specs import TrialSpec
from specs.augmentation import Augmentation, CenterCrop, Operation, RandomCrop, RandomResizedCrop, Resize
from workers.augmentation import Augmenter, check_augmentation
from workers.augmentation.cropping import ResizedCrop
from workers.augmentation.draws import Draws
from workers.data import DataError, StreamedSet
from workers.data.pictures import Pixels, scaled
from workers.images import at_once

Split = Literal["train", "test"]
Chain = Literal["weak", "evaluation"]


def check_reading(augmentation: Augmentation, *, streamed: bool) -> None:
    """Refuse operations that cannot work on images that are streamed, or on images in memory.

    Raises ValueError with a message that begins with the field: `weak: …`.
    """
    for name in ("weak", "strong", "evaluation"):
        operations: Sequence[Operation] = getattr(augmentation, name)
        if streamed and name != "strong":
            try:
                _, operations = _split(operations)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        if any(isinstance(operation, Resize) for operation in operations):
            remedy = "stand before the crop of weak and of evaluation" if streamed else "be dataset.image_size instead"
            raise ValueError(f"{name}: resize of images that have one size already: should {remedy}")
    if streamed and augmentation.loss_guided() is not None:
        raise ValueError("strong: loss_guided composes images in memory; these are streamed")


def _split(operations: Sequence[Operation]) -> tuple[Sequence[Operation], Sequence[Operation]]:
    """The operations up to the one that makes images equal in size, and those that follow."""
    for place, operation in enumerate(operations):
        match operation:
            case RandomResizedCrop() | CenterCrop() | RandomCrop(size=int()):
                return operations[: place + 1], operations[place + 1 :]
    raise ValueError(
        "images that are streamed differ in size: should hold an operation that makes them equal, center_crop, "
        "random_resized_crop or random_crop with a size"
    )


@dataclass(frozen=True)
class _Asked:
    """A batch that a loader process is asked for. It holds everything that the batch depends on."""

    split: Split
    chain: Chain
    ids: Int64
    copies: Int64
    seed: int = 0
    epoch: int = 0


class _Reader(Dataset[torch.Tensor | DataError]):
    """What a loader process does: read images, apply a chain to each by itself, and put them together."""

    def __init__(self, sets: Mapping[Split, StreamedSet], chains: Mapping[Chain, Sequence[Operation]]):
        self.sets = sets
        self.chains = {name: [_Step(*step) for step in enumerate(chain)] for name, chain in chains.items()}

    def __getitem__(self, asked: _Asked) -> torch.Tensor | DataError:
        """uint8 (b, H, W, C). An error is given back: one that is raised would lose its type on the way."""
        try:
            return torch.from_numpy(np.stack([self._image(asked, row) for row in range(len(asked.ids))]))
        except DataError as error:
            return error

    def _image(self, asked: _Asked, row: int) -> Pixels:
        pixels = self.sets[asked.split].read(int(asked.ids[row]))
        ids, copies = asked.ids[row : row + 1], asked.copies[row : row + 1]
        for step in self.chains[asked.chain]:
            pixels = step(pixels, ids, copies, asked.seed, asked.epoch)
        return pixels


class _Step:
    """An operation on one image (H, W, C), with the draws that it has in a chain on batches.

    Only Resize and RandomResizedCrop are done otherwise than there: by Pillow, which resizes the part that was cut out
    alone, and several times faster. Its grey levels differ from the batch's by up to 2.
    """

    def __init__(self, place: int, operation: Operation):
        self.place, self.operation = place, operation

    def __call__(self, pixels: Pixels, ids: Int64, copies: Int64, seed: int, epoch: int) -> Pixels:
        match self.operation:
            case Resize(size=size):
                return scaled(pixels, size)
            case RandomResizedCrop(size=size):
                draws = Draws(seed, epoch, ids, copies, self.place)
                ((top, left, height, width),) = ResizedCrop(self.operation).boxes(draws, *pixels.shape[:2])
                part = Image.fromarray(pixels[top : top + height, left : left + width])
                return np.asarray(part.resize((size, size), Image.Resampling.BILINEAR))
        batch = torch.from_numpy(np.array(pixels))[None].permute(0, 3, 1, 2)
        chain = Augmenter([self.operation], start=self.place)
        image: Pixels = chain(batch, ids, copies, seed=seed, epoch=epoch)[0].permute(1, 2, 0).numpy()
        return image


class _Batches(Sampler[_Asked]):
    """What the loader processes are to do next."""

    def __init__(self) -> None:
        self.asked: Sequence[_Asked] = ()

    def __iter__(self) -> Iterator[_Asked]:
        return iter(self.asked)


class Loaders:
    """Processes that read batches ahead of their use. What they give does not depend on how many they are.

    They are forked at once, so that none inherits what the training's threads hold, and live until `close`. Each
    keeps two batches ready. `processes` = 0: this process reads, when a batch is used.
    """

    def __init__(
        self,
        sets: Mapping[Split, StreamedSet],
        chains: Mapping[Chain, Sequence[Operation]],
        processes: int,
        device: torch.device,
    ):
        self.device = device
        self._batches = _Batches()
        self._loader: DataLoader[torch.Tensor | DataError] | None = DataLoader(
            _Reader(sets, chains),
            batch_size=None,
            sampler=self._batches,
            num_workers=processes,
            persistent_workers=processes > 0,
            pin_memory=device.type == "cuda",
            multiprocessing_context="fork" if processes and sys.platform == "linux" else None,
            generator=torch.Generator(),  # not the global one, from which dropout draws
        )
        iter(self._loader)

    def read(self, asked: Sequence[_Asked]) -> Iterator[torch.Tensor]:
        """Batches in the order in which they are asked for: uint8 (b, C, H, W), C innermost, on the device.

        Only one sequence can be read at a time. Raises DataError, naming the file, for one that cannot be decoded.
        """
        assert self._loader is not None, "closed"
        self._batches.asked = asked
        for batch in self._loader:
            if isinstance(batch, DataError):
                raise batch
            yield batch.to(self.device, non_blocking=True).permute(0, 3, 1, 2)

    def close(self) -> None:
        """End the processes."""
        self._loader = None


class StreamedImages:
    """One of the sets after the operations for evaluation."""

    def __init__(self, loaders: Loaders, split: Split, tail: Augmenter, together: int):
        self.device, self.at_once = loaders.device, together
        self._loaders, self._split, self._tail = loaders, split, tail

    def batches(self, parts: Sequence[Int64]) -> Iterator[torch.Tensor]:
        """See workers.images.Images."""
        nothing = [np.zeros(len(ids), np.int64) for ids in parts]  # no operation for evaluation draws anything
        asked = [_Asked(self._split, "evaluation", ids, none) for ids, none in zip(parts, nothing, strict=True)]
        for one, batch in zip(asked, self._loaders.read(asked), strict=True):
            yield self._tail(batch, one.ids, one.copies, seed=0, epoch=0)


class StreamedSource:
    """A data set that is read while it is used. See workers.sources.Source.

    The operations up to the one that makes images equal in size are done by the loaders, image by image; those that
    follow on the device, batch by batch.
    """

    def __init__(self, spec: TrialSpec, train: StreamedSet, test: StreamedSet, device: torch.device):
        weak, weak_tail = _split(spec.augmentation.weak)
        evaluation, evaluation_tail = _split(spec.augmentation.evaluation)
        processes = spec.resources.cpus if spec.resources.loaders is None else spec.resources.loaders
        chains: dict[Chain, Sequence[Operation]] = {"weak": weak, "evaluation": evaluation}
        self._loaders = Loaders({"train": train, "test": test}, chains, processes, device)
        self._weak_tail = Augmenter(weak_tail, start=len(weak))
        height, width, _ = check_augmentation(spec.augmentation, (*train.least, 3))
        together, tail = at_once(height, width), Augmenter(evaluation_tail, start=len(evaluation))
        self.train = StreamedImages(self._loaders, "train", tail, together)
        self.test = StreamedImages(self._loaders, "test", tail, together)

    def weak(self, views: Sequence[tuple[Int64, Int64]], *, seed: int, epoch: int) -> Iterator[torch.Tensor]:
        """See Source."""
        asked = [_Asked("train", "weak", ids, copies, seed, epoch) for ids, copies in views]
        for one, batch in zip(asked, self._loaders.read(asked), strict=True):
            yield self._weak_tail(batch, one.ids, one.copies, seed=seed, epoch=epoch)

    def close(self) -> None:
        """See Source."""
        self._loaders.close()
