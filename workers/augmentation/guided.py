"""Loss-guided copies: random compositions of operations, of which those are kept that the network finds hard.

The method of Wu et al. (2020), reference 40 of the coreset paper. Operations, magnitudes and their order are those of
its published code, but for holes, which are black here as everywhere, and for translations, which are in proportion
to the image's sides (there: 10 pixels, of 32).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from specs.augmentation import LossGuided, Operation
from workers.augmentation.chain import Augmenter
from workers.augmentation.draws import Draws, Float64, Int64, per_image, to_device
from workers.augmentation.grouping import CODES, IDENTITY, OPERATIONS, apply
from workers.augmentation.holes import cut
from workers.augmentation.mixing import beta
from workers.uploads import upload

CUTOUT, MIXUP = len(OPERATIONS), len(OPERATIONS) + 1
COMPOSABLE = np.array([*(code for code in CODES.values() if code != IDENTITY), CUTOUT, MIXUP])
# operation: the magnitude at level 0 and at level 1; of the others, which have none, 0
_RANGES = {
    **dict.fromkeys(("ShearX", "ShearY"), (0.0, 0.3)),
    **dict.fromkeys(("TranslateX", "TranslateY"), (0.0, 10 / 32)),  # of the side
    "Rotate": (0.0, 30.0),
    **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), (-0.9, 0.9)),
    "Posterize": (0.0, 4.0),
    "Solarize": (0.0, 256 / 255),
}
_LOW, _HIGH = np.array([_RANGES.get(name, (0.0, 0.0)) for name in OPERATIONS] + [(0.0, 0.0), (0.0, 0.0)]).T
_SIGNED = np.isin(
    np.arange(len(_LOW)), [CODES[name] for name in ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")]
)
_LANE = 1 << 16  # above the number of any candidate

# (images uint8 (m, C, H, W), soft labels float32 (m, classes)) -> losses float32 (m,), without gradients
Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class _Draw(IntEnum):
    """What is drawn for a candidate, sixteen numbers each: one for every turn, and one for the end."""

    OPERATION = 0
    LEVEL = 16
    COIN = 32
    SIGN = 48
    ROW = 64
    COLUMN = 80
    PARTNER = 96
    SHARE = 112
    OTHER_SHARE = 128
    PICK = 144


@dataclass(frozen=True)
class Pool:
    """The training set, of which candidates are made, and with which they are mixed.

    ids     int64 (n,), ascending
    labels  int64 (n,), in 0..classes-1
    take    the images of some ids (m,): uint8 (m, C, H, W)
    """

    ids: Int64
    labels: Int64
    classes: int
    take: Callable[[Int64], torch.Tensor]

    def targets(self, ids: Int64, device: torch.device) -> torch.Tensor:
        """Labels of some ids as probabilities, float32 (m, classes)."""
        labels = upload(self.labels[np.searchsorted(self.ids, ids)], device)
        return functional.one_hot(labels, self.classes).float()


@dataclass(frozen=True)
class Compositions:
    """The operations of m candidates: codes (m, L), and levels (m, L) in [0, 1), from which magnitudes follow."""

    codes: Int64
    levels: Float64


@dataclass(frozen=True)
class Made:
    """Candidates: ids (u,), ascending; images (u * C, …) and soft labels, one example's side by side."""

    ids: Int64
    images: torch.Tensor
    targets: torch.Tensor

    def of(self, ids: Int64) -> tuple[torch.Tensor, torch.Tensor]:
        """Those of some of the ids, ascending."""
        if len(ids) == len(self.ids):
            return self.images, self.targets
        count = len(self.images) // len(self.ids)
        rows = np.searchsorted(self.ids, ids)[:, None] * count + np.arange(count)
        index = to_device(rows.ravel(), self.images)
        images = self.images.permute(0, 2, 3, 1)[index].permute(0, 3, 1, 2)  # C stays innermost
        return images, self.targets[index]


class LossGuidedCopies:
    """Makes the copies of examples: of each one's candidates those that the network's loss decides for.

    weak   operations that follow the composed ones in every candidate, places 0 to len(weak)-1 (crop and flip)
    pool   where images and Mixup's partners come from
    score  the losses of the network as it is when called
    """

    def __init__(self, operation: LossGuided, weak: Sequence[Operation], pool: Pool, score: Score):
        self.operation, self.pool, self.score = operation, pool, score
        self.weak, self.place = Augmenter(weak), len(weak)

    def __call__(self, ids: Int64, copies: Int64, *, seed: int, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The images, uint8 (b, C, H, W), and soft labels, float32 (b, classes), of some copies.

        ids     int64 (b,), with copies int64 (b,) from 1 to S: copy j is the candidate of the j-th largest loss
                (sampling: highest; the earlier one of equals), or the j-th one drawn in proportion to the losses

        All copies of an example are chosen among the same C candidates, which are made and scored once in a call,
        however many of the copies it asks for. Cost: C forward passes for each example.
        """
        return self.choose(self.make(ids, seed=seed, epoch=epoch), ids, copies, seed=seed, epoch=epoch)

    def make(self, ids: Int64, *, seed: int, epoch: int) -> "Made":
        """The candidates of some examples, to choose from later: they do not depend on the network."""
        unique = np.unique(ids)
        return Made(unique, *self.candidates(unique, seed=seed, epoch=epoch))

    def choose(
        self, made: "Made", ids: Int64, copies: Int64, *, seed: int, epoch: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What a call gives, from candidates that were made, for these ids and others, in the same epoch."""
        unique, rows = np.unique(ids, return_inverse=True)
        images, targets = made.of(unique)
        losses = self.score(images, targets).view(len(unique), self.operation.candidates)
        where = to_device(rows, images)
        if self.operation.sampling == "highest":
            picks = highest(losses[where], to_device(copies - 1, images))
        else:
            drawn = Draws(seed, epoch, ids, copies, self.place).uniform(_Draw.PICK)
            picks = proportional(losses[where], to_device(drawn, images))
        kept = where * self.operation.candidates + picks
        return images[kept], targets[kept]

    def candidates(self, ids: Int64, *, seed: int, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """All candidates of some examples (u,), one example's side by side: images and soft labels, (u * C, …).

        What candidate c of an example is, its Mixup partners included, is a function of (seed, epoch, id, c).
        """
        count = self.operation.candidates
        numbers = np.tile(np.arange(1, count + 1), len(ids))
        draws = Draws(seed, epoch, np.repeat(ids, count), numbers, self.place)
        turns = np.arange(self.operation.operations)
        codes = COMPOSABLE[draws.integers(len(COMPOSABLE), _Draw.OPERATION + turns)]
        return self.composed(draws, Compositions(codes, draws.uniform(_Draw.LEVEL + turns)))

    def composed(self, draws: Draws, compositions: Compositions) -> tuple[torch.Tensor, torch.Tensor]:
        """Candidates of given compositions: images and soft labels.

        A Mixup's partner goes the same way as its candidate as far as that Mixup, under the same operations and levels,
        with coins, signs and places of its own; it is mixed with nothing itself. Both are rows of one batch.
        """
        count, turns = compositions.codes.shape
        mixes = self._mixes(draws, compositions)
        rows = np.concatenate([np.arange(count), mixes.rows])
        lanes = np.concatenate([np.zeros(count, np.int64), mixes.slots + 1])
        everyone = replace(draws, ids=draws.ids[rows], copies=draws.copies[rows] + _LANE * lanes)
        same = Compositions(compositions.codes[rows], compositions.levels[rows])
        sources = np.concatenate([draws.ids, mixes.partners])
        images = self.pool.take(sources)
        targets = self.pool.targets(sources, images.device)
        for turn in range(turns):
            images, targets = mixes.mixed(images, targets, turn)
            images = _turned(images, everyone, same, turn)
        images = self.weak(images, everyone.ids, everyone.copies, seed=draws.seed, epoch=draws.epoch)
        if self.operation.cutout:
            images = _cut(images, everyone, turns, np.full(len(rows), self.operation.cutout))
        images, targets = mixes.mixed(images, targets, turns)
        return images[:count].contiguous(memory_format=torch.channels_last), targets[:count]

    def _mixes(self, draws: Draws, compositions: Compositions) -> "_Mixes":
        """When which candidates are mixed: where Mixup is the operation and its coin falls so, and at the end."""
        count, turns = compositions.codes.shape
        slots = np.arange(turns + 1)
        coins = draws.uniform(_Draw.COIN + slots)
        happens = coins < np.append(np.full(turns, 0.5), self.operation.mixup.probability)
        happens[:, :turns] &= compositions.codes == MIXUP
        rows, when = np.nonzero(happens)
        partners = draws.integers(len(self.pool.ids), _Draw.PARTNER + slots)[rows, when]
        one, other = (draws.uniform(kind + slots)[rows, when] for kind in (_Draw.SHARE, _Draw.OTHER_SHARE))
        return _Mixes(count, rows, when, self.pool.ids[partners], beta(self.operation.mixup.alpha, one, other))


@dataclass(frozen=True)
class _Mixes:
    """p mixes of candidates with partners; partner i is row `count` + i of the batch.

    rows (p,): the candidates; slots (p,): before which turn, or at the end; partners (p,): ids; shares (p,): the
    candidates' own.
    """

    count: int
    rows: Int64
    slots: Int64
    partners: Int64
    shares: Float64

    def mixed(self, images: torch.Tensor, targets: torch.Tensor, slot: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch after the mixes of a slot: images rounded to whole grey levels, labels in the same shares."""
        chosen = np.flatnonzero(self.slots == slot)
        if not len(chosen):
            return images, targets
        own, other = (to_device(rows, images) for rows in (self.rows[chosen], self.count + chosen))
        shares = per_image(self.shares[chosen], images)
        blended = (images[own] * shares + images[other] * (1.0 - shares)).round_().to(torch.uint8)
        parts = shares.view(-1, 1)
        labels = targets[own] * parts + targets[other] * (1.0 - parts)
        return images.index_copy(0, own, blended), targets.index_copy(0, own, labels)


def _turned(images: torch.Tensor, draws: Draws, compositions: Compositions, turn: int) -> torch.Tensor:
    """One turn's operations, but for Mixup."""
    codes, levels = compositions.codes[:, turn], compositions.levels[:, turn]
    done = _heads(draws, turn)
    sides = images.shape[2:]
    holes = done & (codes == CUTOUT)
    if holes.any():
        images = _cut(images, draws, turn, np.where(holes, levels * (min(sides) // 2), 0).astype(np.int64))
    signs = draws.uniform(_Draw.SIGN + turn)
    chosen = np.where(done & (codes < len(OPERATIONS)), codes, IDENTITY)
    return apply(images, chosen, magnitudes(chosen, levels, signs, *sides))


def magnitudes(codes: Int64, levels: Float64, signs: Float64, height: int, width: int) -> Float64:
    """The operations' magnitudes, as `apply` takes them, at levels in [0, 1); with a sign below 0.5 they are negative
    where an operation has directions."""
    found = _LOW[codes] + levels * (_HIGH[codes] - _LOW[codes])
    for name, side in (("TranslateX", width), ("TranslateY", height)):
        found = np.where(codes == CODES[name], np.round(found * side), found)
    return np.where(_SIGNED[codes] & (signs < 0.5), -found, found)


def _heads(draws: Draws, turn: int) -> npt.NDArray[np.bool_]:
    # an operation's probability is drawn uniformly, then a coin with it: together, a fair coin
    return draws.uniform(_Draw.COIN + turn) < 0.5


def _cut(images: torch.Tensor, draws: Draws, turn: int, sizes: Int64) -> torch.Tensor:
    height, width = images.shape[2:]
    return cut(images, draws.integers(height, _Draw.ROW + turn), draws.integers(width, _Draw.COLUMN + turn), sizes)


def highest(losses: torch.Tensor, ranks: torch.Tensor) -> torch.Tensor:
    """Which candidate has the ranks[i]-th largest loss (from 0) of losses[i]; losses (b, C), ranks (b,).

    The earlier one of equals first. NaN counts as the largest, so that training on it shows it.
    """
    return losses.argsort(dim=1, descending=True, stable=True).gather(1, ranks[:, None])[:, 0]


def proportional(losses: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """A candidate for each row of losses (b, C), with probability in proportion to its loss; uniform (b,) in [0, 1).

    Any of them where all losses are 0. One whose loss is not finite is taken, so that training on it shows it.
    """
    weights = losses.double().clamp(min=0)
    weights = torch.where(weights.sum(1, keepdim=True) > 0, weights, torch.ones_like(weights))
    strange = ~losses.isfinite()
    weights = torch.where(strange.any(1, keepdim=True), strange.double(), weights)
    bounds = weights.cumsum(1)
    return (bounds <= uniform[:, None] * bounds[:, -1:]).sum(1).clamp(max=losses.shape[1] - 1)
