"""Loss-guided copies: candidates by hand, one by one, and the choice among them by brute force."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from augmented import operation, varied
from torch.nn import functional
from torchvision.transforms import v2

from workers.augmentation import Augmenter, LossGuidedCopies, Pool
from workers.augmentation.draws import Draws
from workers.augmentation.grouping import CODES, OPERATIONS
from workers.augmentation.guided import (
    COMPOSABLE,
    CUTOUT,
    MIXUP,
    Compositions,
    highest,
    magnitudes,
    proportional,
)

CLASSES = 4
IDS = np.array([3, 5, 8, 9, 20, 21, 22, 40])  # apart from rows
WEAK = (operation("random_crop", padding=2), operation("random_flip"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # more only get in each other's way on images this small


def pool(channels: int = 3, side: int = 12) -> Pool:
    everything = varied(41, channels, side)
    return Pool(IDS, np.arange(len(IDS)) % CLASSES, CLASSES, lambda ids: everything[torch.from_numpy(ids)])


def score(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of a linear network that is the same for each image, whatever batch it is in."""
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(images[0].numel(), CLASSES, generator=generator, dtype=torch.float64)
    logits = (images.double().flatten(1)[:, :, None] / 255 * weights).sum(1)
    return functional.cross_entropy(logits, targets.double(), reduction="none").float()


def maker(channels: int = 3, side: int = 12, weak: Any = WEAK, **options: Any) -> LossGuidedCopies:
    options = {"cutout": 5, **options}
    return LossGuidedCopies(operation("loss_guided", **options), weak, pool(channels, side), score)


class TestChoice:
    @pytest.mark.parametrize(("candidates", "kept"), [(4, 1), (8, 4), (3, 3)])
    def test_the_highest_losses_are_kept(self, candidates: int, kept: int) -> None:
        """Copy j of each example against all of its candidates, scored one by one and sorted by hand."""
        copies = maker(candidates=candidates, kept=kept)
        ids, numbers = np.repeat(IDS, kept), np.tile(np.arange(1, kept + 1), len(IDS))
        images, targets = copies(ids, numbers, seed=2, epoch=7)
        for row, (example, number) in enumerate(zip(ids, numbers, strict=True)):
            made, labels = copies.candidates(np.array([example]), seed=2, epoch=7)
            losses = [score(made[c : c + 1], labels[c : c + 1]).item() for c in range(candidates)]
            chosen = sorted(range(candidates), key=lambda c: -losses[c])[number - 1]
            assert torch.equal(images[row], made[chosen])
            assert torch.equal(targets[row], labels[chosen])

    @pytest.mark.parametrize("sampling", ["highest", "proportional"])
    def test_a_copy_does_not_depend_on_the_batch(self, sampling: str) -> None:
        copies = maker(candidates=6, kept=3, sampling=sampling)
        ids, numbers = np.repeat(IDS, 3), np.tile([1, 2, 3], len(IDS))
        together = copies(ids, numbers, seed=0, epoch=1)
        order = np.random.default_rng(0).permutation(len(ids))
        for one, other in zip(copies(ids[order], numbers[order], seed=0, epoch=1), together, strict=True):
            assert torch.equal(one, other[order])
        for row in range(len(ids)):
            images, targets = copies(ids[[row]], numbers[[row]], seed=0, epoch=1)
            assert torch.equal(images[0], together[0][row])
            assert torch.equal(targets[0], together[1][row])

    def test_an_example_s_candidates_are_made_and_scored_once(self) -> None:
        scored: list[int] = []

        def counting(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            scored.append(len(images))
            return score(images, targets)

        guided = operation("loss_guided", candidates=8, kept=4, cutout=5)
        LossGuidedCopies(guided, WEAK, pool(), counting)(
            np.repeat(IDS[:3], 4), np.tile([1, 2, 3, 4], 3), seed=0, epoch=0
        )
        assert scored == [24]

    def test_highest_keeps_the_first_of_equals_and_shows_what_is_not_finite(self) -> None:
        losses = torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0], [1.0, float("nan"), 9.0, float("inf")]])
        ranks = [highest(losses, torch.full((3,), rank)).tolist() for rank in range(4)]
        assert [list(row) for row in zip(*ranks, strict=True)] == [[1, 2, 3, 0], [0, 1, 2, 3], [1, 3, 2, 0]]

    def test_proportional_draws_in_proportion(self) -> None:
        losses = np.array([0.5, 0.0, 2.0, 1.5])
        uniform = torch.linspace(0, 1, 4001)[:-1].double()
        picks = proportional(torch.tensor(losses).float().expand(4000, -1), uniform)
        np.testing.assert_allclose(np.bincount(picks, minlength=4) / 4000, losses / losses.sum(), atol=1e-3)
        for edge in (0.0, 1 - 2.0**-53):
            uniform = torch.tensor([edge], dtype=torch.float64)
            assert proportional(torch.tensor([[0.0, 2.0, 0.0]]), uniform).item() == 1

    def test_proportional_to_nothing_is_uniform_and_what_is_not_finite_is_shown(self) -> None:
        uniform = torch.tensor([0.1, 0.4, 0.9]).double()
        assert proportional(torch.zeros(3, 3), uniform).tolist() == [0, 1, 2]
        for strange in (float("nan"), float("inf")):
            assert proportional(torch.tensor([[1.0, strange, 5.0]]).expand(3, -1), uniform).tolist() == [1, 1, 1]

    def test_proportional_copies_are_drawn_with_replacement(self) -> None:
        copies = maker(candidates=3, kept=2, sampling="proportional")
        ids = np.repeat(IDS, 2)
        same = 0
        for epoch in range(40):
            images, _ = copies(ids, np.tile([1, 2], len(IDS)), seed=0, epoch=epoch)
            same += int((images[::2] == images[1::2]).flatten(1).all(1).sum())
        assert 0 < same < 40 * len(IDS)


def by_hand(copies: LossGuidedCopies, draws: Draws, compositions: Compositions, row: int) -> Any:
    """One candidate, with torchvision's operations on one image at a time."""
    turns = compositions.codes.shape[1]
    own = draws.take(np.array([row]))
    image = copies.pool.take(own.ids)[0]
    label = np.eye(CLASSES)[copies.pool.labels[np.searchsorted(IDS, own.ids[0])]]
    for turn in range(turns):
        image = turned(image, own, compositions, row, turn)
        if compositions.codes[row, turn] == MIXUP and heads(own, turn):
            image, label = mixed(copies, image, label, own, compositions, row, turn)
    image = ended(copies, image, own, turns)
    if own.uniform(32 + turns)[0] < copies.operation.mixup.probability:
        image, label = mixed(copies, image, label, own, compositions, row, turns)
    return image, label


def heads(draws: Draws, turn: int) -> bool:
    return bool(draws.uniform(32 + turn)[0] < 0.5)


def turned(image: torch.Tensor, draws: Draws, compositions: Compositions, row: int, turn: int) -> torch.Tensor:
    code, level = compositions.codes[row, turn], compositions.levels[row, turn]
    if code == MIXUP or not heads(draws, turn):
        return image
    if code == CUTOUT:
        return holed(image, draws, turn, int(level * (min(image.shape[1:]) // 2)))
    sign = -1 if draws.uniform(48 + turn)[0] < 0.5 else 1
    height, width = image.shape[1:]
    magnitude = {
        "ShearX": sign * 0.3 * level,
        "ShearY": sign * 0.3 * level,
        "TranslateX": sign * round(level * 10 / 32 * width),
        "TranslateY": sign * round(level * 10 / 32 * height),
        "Rotate": sign * 30 * level,
        "Posterize": int(4 * level),
        "Solarize": 256 * level / 255,
    }.get(OPERATIONS[code], 1.8 * level - 0.9)
    if OPERATIONS[code] == "Solarize" and magnitude > 1:  # torchvision refuses a threshold that leaves all as it is
        return image
    policy = v2.AutoAugment()
    changed: torch.Tensor = policy._apply_image_or_video_transform(
        image, OPERATIONS[code], float(magnitude), policy.interpolation, policy._fill
    )
    return changed


def holed(image: torch.Tensor, draws: Draws, turn: int, size: int) -> torch.Tensor:
    _, height, width = image.shape
    top = int(draws.integers(height, 64 + turn)[0]) - size // 2
    left = int(draws.integers(width, 80 + turn)[0]) - size // 2
    image = image.clone()
    image[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
    return image


def ended(copies: LossGuidedCopies, image: torch.Tensor, draws: Draws, turns: int) -> torch.Tensor:
    """Crop, flip and hole."""
    where = {"seed": draws.seed, "epoch": draws.epoch}
    weak = Augmenter(WEAK)(image[None], draws.ids, draws.copies, **where)[0]
    return holed(weak, draws, turns, copies.operation.cutout) if copies.operation.cutout else weak


def mixed(
    copies: LossGuidedCopies,
    image: torch.Tensor,
    label: np.ndarray,
    draws: Draws,
    compositions: Compositions,
    row: int,
    turn: int,
) -> tuple[torch.Tensor, np.ndarray]:
    """With another training image that has gone the same way, by coins of its own; alpha is 1."""
    partner = IDS[draws.integers(len(IDS), 96 + turn)]
    one, other = (-np.log1p(-(draws.uniform(kind + turn)[0] + 2.0**-54)) for kind in (112, 128))
    share = one / (one + other)
    own = Draws(draws.seed, draws.epoch, draws.ids, draws.copies + 65536 * (turn + 1), draws.place)
    second = copies.pool.take(partner)[0]
    for before in range(turn):
        second = turned(second, own, compositions, row, before)
    if turn == compositions.codes.shape[1]:
        second = ended(copies, second, own, turn)
    blended = (share * image.double() + (1 - share) * second.double()).round().to(torch.uint8)
    labels = np.eye(CLASSES)[copies.pool.labels[np.searchsorted(IDS, partner[0])]]
    return blended, share * label + (1 - share) * labels


class TestCandidates:
    @pytest.mark.parametrize(
        ("channels", "turns", "options"),
        [(3, 2, {}), (1, 2, {}), (3, 4, {"mixup": {"probability": 1.0}}), (3, 1, {"cutout": 0})],
    )
    def test_are_what_is_composed_by_hand(self, channels: int, turns: int, options: dict[str, Any]) -> None:
        copies = maker(channels, operations=turns, candidates=25, **options)
        count = 25 * len(IDS)
        draws = Draws(1, 3, np.repeat(IDS, 25), np.tile(np.arange(1, 26), len(IDS)), len(WEAK))
        codes = np.random.default_rng(1).choice(COMPOSABLE, (count, turns))
        codes[:60] = MIXUP  # which is rare, and has most to go wrong
        compositions = Compositions(codes, np.random.default_rng(2).random((count, turns)))
        images, targets = copies.composed(draws, compositions)
        assert images.is_contiguous(memory_format=torch.channels_last)
        wrong = 0
        for row in range(count):
            image, label = by_hand(copies, draws, compositions, row)
            np.testing.assert_allclose(targets[row], label, atol=1e-6)
            wrong += int((images[row].int() - image.int()).abs().max() > 1)  # mixed, rounded the other way
        assert wrong <= 2, "an affine map can take either of two pixels, or Equalize see one of them"

    def test_are_composed_as_drawn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each of the sixteen operations as often in each turn, with levels spread evenly."""
        copies = maker(operations=2, candidates=64)
        seen: list[Compositions] = []

        def keep(draws: Draws, compositions: Compositions) -> tuple[torch.Tensor, torch.Tensor]:
            seen.append(compositions)
            return torch.zeros(0), torch.zeros(0)

        monkeypatch.setattr(copies, "composed", keep)
        for epoch in range(20):
            copies.candidates(IDS, seed=0, epoch=epoch)
        codes, levels = (np.concatenate([getattr(part, name) for part in seen]) for name in ("codes", "levels"))
        assert codes.shape == (20 * 64 * len(IDS), 2)
        assert len(COMPOSABLE) == len(set(COMPOSABLE)) == 16
        tolerance = 4.5 * np.sqrt(1 / 16 / len(codes))
        for turn in range(2):
            for code in COMPOSABLE:
                assert abs((codes[:, turn] == code).mean() - 1 / 16) < tolerance
            shares, _ = np.histogram(levels[:, turn], 10, (0, 1))
            np.testing.assert_allclose(shares / len(codes), 0.1, atol=4.5 * np.sqrt(0.1 / len(codes)))
        assert abs(np.corrcoef(codes[:, 0], codes[:, 1])[0, 1]) < 4.5 / np.sqrt(len(codes))

    def test_magnitudes_span_the_published_ranges(self) -> None:
        spans = {
            "ShearX": (-0.3, 0.3),
            "TranslateX": (-20, 20),
            "TranslateY": (-10, 10),
            "Rotate": (-30, 30),
            "Brightness": (-0.9, 0.9),
            "Sharpness": (-0.9, 0.9),
            "Posterize": (0, 4),
            "Solarize": (0, 256 / 255),
            "Equalize": (0, 0),
        }
        levels = np.tile(np.linspace(0, 1, 1000), 2)
        for name, (low, high) in spans.items():
            found = magnitudes(np.full(2000, CODES[name]), levels, np.repeat([0.2, 0.7], 1000), 32, 64)
            assert (found.min(), found.max()) == pytest.approx((low, high))
            if name.startswith("Translate"):
                assert set(found) == set(range(low, high + 1))

    def test_are_functions_of_seed_epoch_id_and_number(self) -> None:
        copies = maker(candidates=5)
        images, targets = copies.candidates(IDS, seed=0, epoch=1)
        for rows, other in (
            (slice(None), copies.candidates(IDS, seed=1, epoch=1)),
            (slice(None), copies.candidates(IDS, seed=0, epoch=2)),
            (slice(0, 5), copies.candidates(IDS[1:2], seed=0, epoch=1)),
        ):
            assert not torch.equal(other[0], images[rows])
            assert not torch.equal(other[1], targets[rows])
        assert len({image.numpy().tobytes() for image in images}) == len(images)
        torch.manual_seed(3)
        again = copies.candidates(IDS[[6, 2]], seed=0, epoch=1)
        assert torch.equal(again[0], torch.cat([images[30:35], images[10:15]]))
        assert torch.equal(again[1], torch.cat([targets[30:35], targets[10:15]]))

    def test_labels_are_soft_where_mixed_and_hard_where_not(self) -> None:
        for probability in (0.0, 0.3, 1.0):
            copies = maker(operations=1, candidates=64, mixup={"probability": probability})
            targets = torch.cat([copies.candidates(IDS, seed=0, epoch=epoch)[1] for epoch in range(10)])
            torch.testing.assert_close(targets.sum(1), torch.ones(len(targets)))
            labels = torch.from_numpy(np.tile(np.repeat(copies.pool.labels, 64), 10))
            own = functional.one_hot(labels, CLASSES)
            soft = (targets != own).any(1).float().mean().item()
            # mixed at the end, or by Mixup among the operations, with an image of another class: 6 of 8
            expected = (1 - (1 - probability) * (1 - 1 / 32)) * 3 / 4
            assert abs(soft - expected) < 4.5 * np.sqrt(expected / len(targets)) + 0.01

    def test_partners_come_from_all_of_the_training_set(self) -> None:
        """Of every class, and never an image that was taken out of it."""
        taken: list[int] = []
        inner = pool()

        def watched(ids: np.ndarray) -> torch.Tensor:
            taken.extend(ids.tolist())
            return inner.take(ids)

        guided = operation("loss_guided", candidates=64, cutout=0, mixup={"probability": 1.0})
        watching = Pool(inner.ids, inner.labels, CLASSES, watched)
        LossGuidedCopies(guided, (), watching, score).candidates(IDS[:1], seed=0, epoch=0)
        assert set(taken) == set(IDS.tolist())

    @pytest.mark.parametrize("make", [lambda: maker(weak=(operation("random_crop", size=8),)), lambda: maker(1, 9)])
    def test_the_weak_operations_may_change_the_size(self, make: Callable[[], LossGuidedCopies]) -> None:
        copies = make()
        images, _ = copies.candidates(IDS, seed=0, epoch=0)
        side = 8 if copies.place == 1 else 9
        assert images.shape[2:] == (side, side)


def test_it_is_no_step_of_a_chain() -> None:
    with pytest.raises(ValueError, match="loss_guided is no step of a chain"):
        Augmenter([operation("loss_guided")])
