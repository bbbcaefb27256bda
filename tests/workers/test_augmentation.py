"""Augmentation: draws that belong to the example alone, and torchvision's distributions."""

from typing import Any

import numpy as np
import pytest
import torch
from augmented import drawn, images, operation
from scipy.stats import kstest
from small_trials import trial
from torchvision.transforms import v2

from specs.augmentation import Augmentation, Operation
from workers.augmentation import Augmenter, check_augmentation, check_operations
from workers.augmentation.draws import Draws
from workers.checks import TrialCheckError, check_model
from workers.data import ImageData

OPERATIONS: dict[str, dict[str, Any]] = {
    "random_crop": {},
    "random_flip": {},
    "random_rotation": {},
    "cutout": {},
    "autoaugment": {},
    "randaugment": {},
    "augmix": {},
    "perturb": {},
    "noise": {},
    "random_resized_crop": {"size": 24},
    "center_crop": {"size": 20},
}
RANDOM = tuple(name for name in OPERATIONS if name != "center_crop")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # more only get in each other's way on images this small


def augmented(
    names: tuple[str, ...], batch: torch.Tensor, ids: Any, copies: Any = None, seed: int = 0, epoch: int = 1
) -> torch.Tensor:
    ids = np.asarray(ids, np.int64)
    copies = np.zeros_like(ids) if copies is None else np.asarray(copies, np.int64)
    chain = [operation(name, **OPERATIONS[name]) for name in names]
    return Augmenter(chain)(batch, ids, copies, seed=seed, epoch=epoch)


every = pytest.mark.parametrize("names", [*((name,) for name in OPERATIONS), tuple(OPERATIONS)], ids="+".join)
every_random = pytest.mark.parametrize("names", [*((name,) for name in RANDOM), RANDOM], ids="+".join)


@every
@pytest.mark.parametrize("channels", [1, 3])
def test_a_draw_does_not_depend_on_the_batch(names: tuple[str, ...], channels: int) -> None:
    batch, ids = images(12, channels), np.arange(100, 112)
    together = augmented(names, batch, ids)
    order = np.random.default_rng(1).permutation(12)
    torch.testing.assert_close(augmented(names, batch[order], ids[order]), together[order], rtol=0, atol=0)
    alone = torch.cat([augmented(names, batch[row : row + 1], ids[row : row + 1]) for row in range(12)])
    torch.testing.assert_close(alone, together, rtol=0, atol=0)


@every
def test_the_global_random_state_has_no_part_in_it(names: tuple[str, ...]) -> None:
    batch = images(8)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = augmented(names, batch, range(8))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(augmented(names, batch, range(8)), first)


@every_random
def test_seed_epoch_id_and_copy_each_change_the_draw(names: tuple[str, ...]) -> None:
    batch, ids = images(1).expand(16, -1, -1, -1), np.arange(16)
    base = augmented(names, batch, ids)
    for other in (
        augmented(names, batch, ids + 16),
        augmented(names, batch, ids, np.ones(16)),
        augmented(names, batch, ids, seed=1),
        augmented(names, batch, ids, epoch=2),
    ):
        assert not torch.equal(other, base)


@every
def test_the_input_stays_as_it_is_and_layout_is_kept(names: tuple[str, ...]) -> None:
    batch = images(6)
    before = batch.clone()
    after = augmented(names, batch, range(6))
    assert torch.equal(batch, before)
    chain = [operation(name, **OPERATIONS[name]) for name in names]
    assert tuple(after.shape) == (6, 3, *check_operations(chain, (32, 32, 3))[:2])
    assert after.dtype == torch.uint8
    assert after.is_contiguous(memory_format=torch.channels_last)


def test_an_operations_place_is_part_of_its_draw() -> None:
    batch, ids, copies = images(16), np.arange(16), np.zeros(16, np.int64)
    crop = operation("random_crop")
    at = [Augmenter([crop], start)(batch, ids, copies, seed=0, epoch=1) for start in (0, 1)]
    assert not torch.equal(*at)
    chained = Augmenter([crop], 1)(at[0], ids, copies, seed=0, epoch=1)
    assert torch.equal(Augmenter([crop, crop])(batch, ids, copies, seed=0, epoch=1), chained)


def test_no_operations_no_change() -> None:
    batch = images(3)
    assert torch.equal(augmented((), batch, range(3)), batch)


def frequencies(outcomes: list[bytes], of: list[bytes]) -> np.ndarray:
    return np.array([outcomes.count(outcome) for outcome in of]) / len(outcomes)


def test_crop_has_torchvisions_distribution() -> None:
    image, padding, draws = images(1, 3, 5), 2, 5000
    theirs = v2.RandomCrop(5, padding=padding)
    possible = sorted({theirs(image[0]).numpy().tobytes() for _ in range(1000)})
    assert len(possible) == 25
    ours = [crop.numpy().tobytes() for crop in drawn("random_crop", image, draws, padding=padding)]
    # Each of the 25 crops: share 0.04, deviation 0.0028.
    np.testing.assert_allclose(frequencies(ours, possible), 1 / 25, atol=4.5 * 0.0028)


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 1.0])
def test_flip_has_torchvisions_distribution(probability: float) -> None:
    image, draws = images(1), 4000
    possible = [image[0].numpy().tobytes(), v2.functional.horizontal_flip(image[0]).numpy().tobytes()]
    ours = [flip.numpy().tobytes() for flip in drawn("random_flip", image, draws, probability=probability)]
    np.testing.assert_allclose(frequencies(ours, possible), [1 - probability, probability], atol=4.5 * 0.008)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 9, 14)])
def test_a_rotation_is_torchvisions_by_an_angle_of_its_own(shape: tuple[int, int, int]) -> None:
    """Every image is found among torchvision's rotations by the angle that was drawn for it; these are uniform."""
    channels, height, width = shape
    batch = torch.randint(0, 256, (64, channels, height, width), dtype=torch.uint8, generator=torch.Generator())
    ids, none = np.arange(64), np.zeros(64, np.int64)
    spec = operation("random_rotation", degrees=40.0)
    ours = Augmenter([spec])(batch, ids, none, seed=3, epoch=2)
    angles = 80.0 * Draws(3, 2, ids, none, 0).uniform(0) - 40.0
    for image, angle, found in zip(batch, angles.tolist(), ours, strict=True):
        assert torch.equal(v2.functional.rotate(image, angle), found)
    many = 80.0 * Draws(3, 2, np.arange(4000), np.zeros(4000, np.int64), 0).uniform(0) - 40.0
    assert kstest(many, "uniform", (-40, 80)).pvalue > 1e-4


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_cutout_has_the_published_distribution(size: int) -> None:
    """Against DeVries and Taylor's: every pixel is a centre equally often, the hole is clipped at the borders."""
    image, side, draws = images(1, 1, 7), 7, 9800
    possible = []
    for row in range(side):
        for column in range(side):
            holed = image[0].clone()
            top, left = row - size // 2, column - size // 2
            holed[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
            possible.append(holed.numpy().tobytes())
    ours = [holed.numpy().tobytes() for holed in drawn("cutout", image, draws, size=size)]
    outcomes = sorted(set(possible))
    expected = frequencies(possible, outcomes)
    np.testing.assert_allclose(frequencies(ours, outcomes), expected, atol=4.5 * np.sqrt(expected.max() / draws))


class TestCheck:
    @pytest.mark.parametrize(
        ("spec", "shape", "words"),
        [
            (operation("random_crop", padding=8), (8, 12, 3), ["padding = 8", "12x8", "1 to 7"]),
            (operation("random_crop", padding=3, size=3), (8, 8, 3), ["padding = 3", "8x8", "0 to 2"]),
            (operation("random_crop", padding=2, size=13), (8, 10, 3), ["size = 13", "10x8", "1 to 12"]),
            (operation("center_crop", size=9), (8, 10, 3), ["size = 9", "10x8", "1 to 8"]),
            (operation("cutout", size=15), (8, 8, 1), ["size = 15", "8x8", "1 to 14"]),
            (operation("loss_guided", cutout=15), (8, 8, 1), ["cutout = 15", "8x8", "1 to 14"]),
            (operation("perturb", kernel=17), (8, 9, 1), ["kernel = 17", "9x8", "3 to 15"]),
            (operation("autoaugment"), (32, 32, 2), ["1 or 3 channels", "have 2"]),
            (operation("randaugment"), (32, 32, 4), ["1 or 3 channels", "have 4"]),
            (operation("augmix"), (32, 32, 4), ["1 or 3 channels", "have 4"]),
            (operation("loss_guided"), (32, 32, 4), ["1 or 3 channels", "have 4"]),
        ],
    )
    def test_refused(self, spec: Operation, shape: tuple[int, int, int], words: list[str]) -> None:
        with pytest.raises(ValueError, match=spec.name) as caught:
            check_operations([operation("random_flip"), spec], shape)
        assert all(word in str(caught.value) for word in words), caught.value

    def test_the_largest_that_can_work(self) -> None:
        check_operations([operation("random_crop", padding=7), operation("cutout", size=14)], (8, 8, 1))
        assert drawn("random_crop", images(1, 1, 8), 2000, padding=7).amax((1, 2, 3)).min() > 0
        assert drawn("random_crop", images(1, 1, 8), 2000, padding=3, size=4).amax((1, 2, 3)).min() > 0
        assert drawn("random_crop", images(1, 1, 8), 10, padding=3, size=14).shape[2:] == (14, 14)
        assert drawn("center_crop", images(1, 1, 8), 10, size=8).shape[2:] == (8, 8)
        assert drawn("cutout", images(1, 1, 8), 2000, size=14).amax((1, 2, 3)).max() > 0
        assert drawn("cutout", images(1, 1, 8), 2000, size=15).max() == 0
        assert drawn("perturb", images(1, 1, 8), 10, kernel=15).max() > 0

    def test_each_operation_is_checked_on_what_the_one_before_makes(self) -> None:
        crop, hole = operation("random_crop", size=4, padding=0), operation("cutout", size=10)
        assert check_operations([hole, crop], (8, 8, 3)) == (4, 4, 3)
        with pytest.raises(ValueError, match="cutout size = 10"):
            check_operations([crop, hole], (8, 8, 3))

    def test_sizes_that_fit_together(self) -> None:
        crop, middle = operation("random_crop", size=6, padding=0), operation("center_crop", size=6)
        assert check_augmentation(Augmentation(weak=(crop,), evaluation=(middle,)), (8, 8, 3)) == (6, 6, 3)
        assert check_augmentation(Augmentation(weak=(middle,), evaluation=(middle,)), (6, 8, 1)) == (6, 6, 1)
        assert check_augmentation(Augmentation(), (6, 8, 1)) == (6, 8, 1)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (
                {"weak": (operation("random_crop", size=6),)},
                "evaluation: the weak operations make training images of 6x6 pixels, and test images would be 8x8: "
                "should hold only {name: center_crop, size: 6}",
            ),
            (
                {"weak": (operation("random_crop", size=6),), "evaluation": (operation("center_crop", size=5),)},
                "evaluation: the weak operations make training images of 6x6 pixels, and test images would be 5x5: "
                "should hold only {name: center_crop, size: 6}",
            ),
            (
                {"evaluation": (operation("center_crop", size=5),)},
                "evaluation: the weak operations make training images of 8x8 pixels, and test images would be 5x5: "
                "should hold no operation",
            ),
            (
                {"strong": (operation("random_resized_crop", size=6),)},
                "strong: makes copies of 6x6 pixels of originals of 8x8, and they share batches: crop both, under weak",
            ),
            (
                {"weak": (operation("center_crop", size=9),)},
                "weak: center_crop size = 9: larger than 8x8 images; allowed: 1 to 8",
            ),
            (
                {"strong": (operation("cutout", size=15),)},
                "strong: cutout size = 15: the hole would cover 8x8 images wholly; allowed: 1 to 14",
            ),
        ],
    )
    def test_sizes_that_do_not(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=r"^(weak|strong|evaluation): ") as caught:
            check_augmentation(Augmentation(**fields), (8, 8, 3))
        assert str(caught.value) == message

    def test_a_trial_says_which_field_it_is(self, images: ImageData) -> None:
        spec = trial(augmentation={"weak": [{"name": "random_crop", "size": 6}]})
        with pytest.raises(TrialCheckError, match=r"^augmentation\.evaluation: .* \{name: center_crop, size: 6\}$"):
            check_model(spec, images)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_gpu_gives_the_same_images(name: str) -> None:
    """Up to a rounding of float32 on the way to whole grey levels, or to the nearest pixel."""
    batch = images(16)
    there, here = (augmented((name,), x, range(16)).cpu().int() for x in (batch.cuda(), batch))
    assert (there != here).float().mean() < 0.002
