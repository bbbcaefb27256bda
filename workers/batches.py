"""The batches of an epoch as the network is given them: augmented on the device, with labels and loss weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from selection.proxies import Int64
from workers.augmentation import Augmenter, LossGuidedCopies
from workers.images import Normalizer
from workers.sources import MemorySource, Source
from workers.uploads import upload
from workers.views import Views

_AHEAD = 2048  # images that are augmented at once on a GPU


@dataclass(frozen=True)
class Step:
    """One optimizer step over an epoch's views.

    count  views in the batch, of all processes
    rows   this process's part of them (b,)
    idle   whether its part is to have no weight: a last batch smaller than the group gives everybody a view
    """

    count: int
    rows: Int64
    idle: bool


@dataclass(frozen=True)
class Batch:
    """inputs (b, C, H, W), of torch's default dtype; target (b,), or (b, classes) with soft labels; weights (b,)."""

    inputs: torch.Tensor
    target: torch.Tensor
    weights: torch.Tensor

    def twice(self) -> "Batch":
        """Its views, and the same again, each with half its weight."""
        inputs, target = (torch.cat([tensor, tensor]) for tensor in (self.inputs, self.target))
        return Batch(inputs, target, torch.cat([self.weights, self.weights]) / 2)


class Batches:
    """Makes them.

    labels    (largest id + 1,): the label of each id that is in the training set
    strong    what makes copies of weakly augmented images, where `guided` does not make them from the originals
    guided    decides by the network's losses: by what it is when the batch is taken
    together  steps whose images are augmented at once. A GPU is given a hundred small kernels for it, which cost the
              same for 128 images and for 2,048; what comes out is the same for any number
    """

    def __init__(
        self,
        source: Source,
        labels: Int64,
        strong: Augmenter,
        guided: LossGuidedCopies | None,
        normalize: Normalizer,
        together: int = 1,
    ):
        self.source, self.labels = source, labels
        self.strong, self.guided, self.normalize = strong, guided, normalize
        self.together = together

    def of(self, views: Views, steps: Sequence[Step], *, seed: int, epoch: int) -> Iterator[Batch]:
        """One batch for each step; nothing is read back from a GPU."""
        blocks = [steps[start : start + self.together] for start in range(0, len(steps), self.together)]
        rows = [np.concatenate([step.rows for step in block]) for block in blocks]
        weak = self.source.weak([(views.ids[own], views.copies[own]) for own in rows], seed=seed, epoch=epoch)
        for block, own, images in zip(blocks, rows, weak, strict=True):
            idle = np.repeat([step.idle for step in block], [len(step.rows) for step in block])
            weights = upload(np.where(idle, np.float32(0), views.weights[own]), images.device)
            starts = np.cumsum([0, *(len(step.rows) for step in block)])
            parts = [slice(start, end) for start, end in pairwise(map(int, starts))]
            make = self._guided if self.guided else self._augmented
            made = make(images, views.ids[own], views.copies[own], parts, seed, epoch)
            for part, (inputs, target) in zip(parts, made, strict=True):
                yield Batch(inputs, target, weights[part])

    def _augmented(
        self, images: torch.Tensor, ids: Int64, copies: Int64, parts: list[slice], seed: int, epoch: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        strong = np.flatnonzero(copies)
        if len(strong):
            index = upload(strong, images.device)
            images[index] = self.strong(images[index], ids[strong], copies[strong], seed=seed, epoch=epoch)
        target = upload(self.labels[ids], images.device)
        for part in parts:
            yield self.normalize(images[part]), target[part]

    def _guided(
        self, images: torch.Tensor, ids: Int64, copies: Int64, parts: list[slice], seed: int, epoch: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Candidates are made for the block, and scored step by step."""
        assert self.guided is not None
        target = self.guided.pool.targets(ids, images.device)
        made = self.guided.make(ids[copies > 0], seed=seed, epoch=epoch) if copies.any() else None
        for part in parts:
            own, soft = images[part], target[part]
            strong = np.flatnonzero(copies[part])
            if made is not None and len(strong):
                index = upload(strong, images.device)
                chosen = ids[part][strong], copies[part][strong]
                own[index], soft[index] = self.guided.choose(made, *chosen, seed=seed, epoch=epoch)
            yield self.normalize(own), soft


def steps_together(source: Source, device: torch.device, batch_size: int) -> int:
    """How many steps to augment at once: several on a GPU, where images lie in its memory; else one."""
    if device.type != "cuda" or not isinstance(source, MemorySource):
        return 1
    return max(1, _AHEAD // batch_size)
