"""What is done to the images: bounded additive noise, as in the paper's theory, and the operations of a spec."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from orchestrator.errors import UserError
from selection.proxies import Int64
from selection.randomness import draw_uniform
from specs.augmentation import Augmentation, LossGuided, Operation
from workers.augmentation import Augmenter, check_augmentation, check_operations
from workers.augmentation.checking import Shape


class Perturbation(Protocol):
    """One augmentation of a set of images, drawn anew for every copy number."""

    @property
    def name(self) -> str:
        """As the command line names it."""
        ...

    @property
    def title(self) -> str:
        """In words."""
        ...

    @property
    def of_stored(self) -> bool:
        """Whether it augments the images as they are stored, and not as the network is evaluated on them."""
        ...

    def __call__(self, images: torch.Tensor, ids: Int64, copy: int) -> torch.Tensor:
        """Augmented images (b, C, H, W) in 0..255, of images uint8 (b, C, H, W) and their ids; copies count from 1."""
        ...


@dataclass(frozen=True)
class Noise:
    """The additive model (Eq. 1): every pixel and channel moves by an amount drawn evenly from [-bound, bound].

    In 0..255 units, neither rounded nor clipped, so that E is what the theory perturbs by. Draws are functions of
    (seed, id, copy, pixel), and those of two bounds are multiples of each other.
    """

    bound: float
    seed: int
    of_stored: bool = False

    @property
    def name(self) -> str:
        return f"noise:{self.bound:g}"

    @property
    def title(self) -> str:
        return f"noise, ε₀ = {self.bound:g}"

    def __call__(self, images: torch.Tensor, ids: Int64, copy: int) -> torch.Tensor:
        pixels = np.arange(images[0].numel())
        moves = draw_uniform(self.seed, "augmentation", 0, ids[:, None], copy, 0, pixels) * 2 - 1
        scaled = torch.from_numpy(moves.astype(np.float32) * np.float32(self.bound))
        return images.float() + scaled.view(images.shape).to(images.device)


@dataclass(frozen=True)
class Operations:
    """A spec's own operations, with the draws that training makes with this seed after so many epochs."""

    name: str
    title: str
    augmenter: Augmenter
    seed: int
    epoch: int
    of_stored: bool  # where a crop makes them the size that the network sees

    def __call__(self, images: torch.Tensor, ids: Int64, copy: int) -> torch.Tensor:
        return self.augmenter(images, ids, np.full(len(ids), copy), seed=self.seed, epoch=self.epoch)


def perturbations(
    asked: Sequence[str], spec: Augmentation, image_shape: Shape, seed: int, epoch: int
) -> tuple[Perturbation, ...]:
    """The augmentations asked for: `noise:BOUND`, `weak`, `strong`, `copy` (strong after weak, as training makes its
    copies), or one of the spec's operations alone, the first of its name.

    Where none are: noise of 8 and of 16, as in the paper's Figure 1, and of weak and strong those that the spec has;
    strong not where it chooses by losses. image_shape: height, width, channels of the images as they are stored.
    Raises UserError for what is not there, or makes images of another size than the network sees.
    """
    if not asked:
        strong = spec.strong and not spec.loss_guided()
        asked = ["noise:8", "noise:16", *(["weak"] if spec.weak else []), *(["strong"] if strong else [])]
    repeated = sorted({name for name in asked if list(asked).count(name) > 1})
    if repeated:
        raise UserError(f"--augmentations: {repeated[0]} is named twice")
    return tuple(_perturbation(name, spec, image_shape, seed, epoch) for name in asked)


def _perturbation(name: str, spec: Augmentation, image_shape: Shape, seed: int, epoch: int) -> Perturbation:
    if name.startswith("noise:"):
        return Noise(_bound(name), seed)
    every = (*spec.weak, *spec.strong)
    chains = {"weak": (spec.weak, 0), "strong": (spec.strong, len(spec.weak)), "copy": (every, 0)}
    alone: dict[str, tuple[tuple[Operation, ...], int]] = {
        operation.name: ((operation,), place) for place, operation in reversed(list(enumerate(every)))
    }
    if name not in chains and name not in alone:
        allowed = ", ".join(["noise:BOUND (such as noise:8)", *chains, *reversed(alone)])
        raise UserError(f"--augmentations: {name!r} is no augmentation of this spec; allowed: {allowed}")
    operations, start = chains.get(name) or alone[name]
    if not operations:
        raise UserError(f"--augmentations: {name}: the spec's augmentation has no such operations")
    if any(isinstance(operation, LossGuided) for operation in operations):
        raise UserError(f"--augmentations: {name}: loss_guided chooses among its draws by losses, and has no spectrum")
    listed = ", ".join(operation.name for operation in operations)
    return Operations(
        name,
        listed if name in alone else f"{name}: {listed}",
        Augmenter(operations, start),
        seed,
        epoch,
        _of_stored(name, operations, spec, image_shape),
    )


def _of_stored(name: str, operations: Sequence[Operation], spec: Augmentation, image_shape: Shape) -> bool:
    seen = check_augmentation(spec, image_shape)
    for stored, shape in ((True, image_shape), (False, seen)):
        try:
            after = check_operations(operations, shape)
        except ValueError:  # such as a crop of images that are smaller
            continue
        if after == seen:
            return stored
    size = f"{seen[1]}x{seen[0]}"
    raise UserError(f"--augmentations: {name}: makes images of another size than the {size} that the network sees")


def _bound(name: str) -> float:
    text = name.removeprefix("noise:")
    try:
        bound = float(text)
    except ValueError:
        bound = math.nan
    if not 0 < bound <= 255:
        raise UserError(f"--augmentations: {name}: the bound of the noise should be above 0 and at most 255")
    return bound
