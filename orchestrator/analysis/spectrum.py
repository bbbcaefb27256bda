"""The spectrum of one trained network's Jacobian, on original and on augmented images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn

from orchestrator.analysis.comparison import Comparison, Floats, Range, compare, decompose
from orchestrator.analysis.factoring import lower_factor
from orchestrator.analysis.jacobian import Jacobian
from orchestrator.analysis.lemma import LemmaSides, lemma_sides
from orchestrator.analysis.perturbations import Perturbation
from orchestrator.errors import UserError
from selection.proxies import Int64
from specs import TrialSpec
from workers.data import ImageData, ImageSet
from workers.images import DeviceImages, EvaluatedImages, Normalizer


@dataclass(frozen=True)
class Draws:
    """One network under one augmentation: J of the original images, and all draws of J~ beside it.

    singular  (r,) singular values of J that are not zero; indices, and ranges, are of these
    """

    perturbation: Perturbation
    singular: Floats
    ranges: tuple[Range, ...]
    comparisons: tuple[Comparison, ...]

    @cached_property
    def augmented(self) -> Floats:
        """(draws, r) singular values of J~."""
        return np.array([one.singular[: len(self.singular)] for one in self.comparisons])

    @property
    def norms(self) -> Floats:
        """(draws,) ||E||."""
        return np.array([one.norm for one in self.comparisons])

    @cached_property
    def relative(self) -> Floats:
        """(draws, ranges) mean over a range of sigma~_i / sigma_i - 1."""
        return self._by_range(self.augmented / self.singular - 1)

    @cached_property
    def difference(self) -> Floats:
        """(draws, ranges) mean over a range of sigma~_i - sigma_i."""
        return self._by_range(self.augmented - self.singular)

    @cached_property
    def along(self) -> Floats:
        """(draws, ranges) mean over a range of ||u_i^T E||."""
        return self._by_range(np.array([one.along for one in self.comparisons]))

    def _by_range(self, values: Floats) -> Floats:
        return np.stack([values[:, a:b].mean(axis=1) for a, b in self.ranges], axis=1)

    @property
    def left(self) -> Floats:
        """(draws, ranges, 2) mean and largest angle between left singular subspaces, in degrees."""
        return np.array([one.left for one in self.comparisons])

    @property
    def right(self) -> Floats:
        """(draws, ranges, 2) mean and largest angle between right singular subspaces, in degrees."""
        return np.array([one.right for one in self.comparisons])

    @cached_property
    def lemma(self) -> LemmaSides:
        """Both sides of Lemma 4.1."""
        return lemma_sides(self.singular, self.augmented, self.norms)


class Spectrum:
    """A network's Jacobian on some training images, and how it moves when these are augmented.

    rows, columns  of J
    """

    def __init__(
        self, module: nn.Module, spec: TrialSpec, images: ImageData, ids: Int64, device: torch.device, memory: int
    ):
        """Decompose J, at the images as the trial's network is evaluated on them: cropped and normalised as there.

        spec    of the trial that trained the network
        ids     of training images
        memory  in bytes, beyond network and data

        Cost: J, and 2 * rows^2 * columns operations. Raises MemoryBudgetError.
        """
        self._jacobian = Jacobian(module.to(device=device, dtype=torch.float64).eval())
        self._normalize = Normalizer.of(spec, images, device)
        self._ids = ids
        if not isinstance(images.train, ImageSet):
            raise UserError("analyze spectrum: needs images in memory; those above 64 pixels are streamed from files")
        stored = DeviceImages(images.train, device)
        self._stored = stored.take(ids)
        self._pixels = EvaluatedImages(stored, spec.augmentation.evaluation).take(ids)
        self._original = self._inputs(self._pixels)
        self.rows, self.columns = len(ids) * len(images.classes), self._jacobian.columns
        self._plan = self._jacobian.plan(self._original[:1], 2 * self.rows, memory)
        lower = lower_factor(self._jacobian.slabs(self._original, self._plan))
        self._decomposed = decompose(lower, self.columns)

    @property
    def singular(self) -> Floats:
        """(r,) singular values of J that are not zero (`comparison.rank`), descending."""
        return self._decomposed.singular

    def _inputs(self, pixels: torch.Tensor) -> torch.Tensor:
        # As the network was trained: normalised in float32. All that follows is float64.
        return self._normalize(pixels).double()

    def draws(
        self, perturbation: Perturbation, count: int, ranges: tuple[Range, ...], done: Callable[[], None]
    ) -> Draws:
        """Compare J with `count` draws of J~, telling `done` after each.

        ranges  of indices of singular values (`comparison.split`)

        Cost of a draw: both Jacobians, and 8 * rows^2 * columns operations.
        """
        comparisons = []
        for copy in range(1, count + 1):
            pixels = self._stored if perturbation.of_stored else self._pixels
            augmented = self._inputs(perturbation(pixels, self._ids, copy))
            both = torch.cat([self._original, augmented])
            lower = lower_factor(self._jacobian.slabs(both, self._plan))
            comparisons.append(compare(self._decomposed, lower, ranges))
            done()
        return Draws(perturbation, self.singular, ranges, tuple(comparisons))
