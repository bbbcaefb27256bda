"""Augmentation: draws that belong to the example alone, and torchvision's distributions."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torchvision.transforms import v2

from specs.augmentation import Operation
from workers.augmentation import Augmenter, check_operations

OPERATIONS = ("random_crop", "random_flip", "cutout", "autoaugment", "randaugment")
_adapter: TypeAdapter[Any] = TypeAdapter(Operation)


def operation(name: str, **options: Any) -> Operation:
    made: Operation = _adapter.validate_python({"name": name, **options})
    return made


def images(count: int, channels: int = 3, side: int = 32) -> torch.Tensor:
    """Random images as the loop hands them over: NCHW views of NHWC memory."""
    pixels = np.random.default_rng(count).integers(1, 256, (count, side, side, channels), np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def augmented(
    names: tuple[str, ...], batch: torch.Tensor, ids: Any, copies: Any = None, seed: int = 0, epoch: int = 1
) -> torch.Tensor:
    ids = np.asarray(ids, np.int64)
    copies = np.zeros_like(ids) if copies is None else np.asarray(copies, np.int64)
    return Augmenter([operation(name) for name in names])(batch, ids, copies, seed=seed, epoch=epoch)


every = pytest.mark.parametrize("names", [*((name,) for name in OPERATIONS), OPERATIONS], ids="+".join)


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


@every
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
    assert after.shape == batch.shape
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


def drawn(name: str, image: torch.Tensor, draws: int, **options: Any) -> torch.Tensor:
    batch = image.expand(draws, -1, -1, -1)
    return Augmenter([operation(name, **options)])(batch, np.arange(draws), np.zeros(draws, np.int64), seed=0, epoch=1)


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


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("autoaugment", {"policy": "cifar10"}, v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)),
        ("autoaugment", {"policy": "svhn"}, v2.AutoAugment(v2.AutoAugmentPolicy.SVHN)),
        ("autoaugment", {"policy": "imagenet"}, v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET)),
        ("randaugment", {"num_ops": 1, "magnitude": 30}, v2.RandAugment(1, 30)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_learned_policies_are_torchvisions(
    name: str, options: dict[str, Any], theirs: v2.Transform, channels: int
) -> None:
    """Mean and spread of what comes out agree with torchvision's transform under its own generator."""
    image, draws = images(1, channels, 16), 200
    ours = drawn(name, image, draws, **options).double().mean((1, 2, 3))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        their = torch.stack([theirs(image[0]) for _ in range(draws)]).double().mean((1, 2, 3))
    error = ((ours.var() + their.var()) / draws).sqrt()
    assert abs(ours.mean() - their.mean()) < 4 * error
    assert 0.5 < ours.std() / their.std() < 2


class TestCheck:
    @pytest.mark.parametrize(
        ("spec", "shape"),
        [
            (operation("random_crop", padding=8), (8, 12, 3)),
            (operation("cutout", size=15), (8, 8, 1)),
            (operation("autoaugment"), (32, 32, 2)),
            (operation("randaugment"), (32, 32, 4)),
        ],
    )
    def test_refused(self, spec: Operation, shape: tuple[int, int, int]) -> None:
        with pytest.raises(ValueError, match=spec.name):
            check_operations([operation("random_flip"), spec], shape)

    def test_the_largest_that_can_work(self) -> None:
        check_operations([operation("random_crop", padding=7), operation("cutout", size=14)], (8, 8, 1))
        assert drawn("random_crop", images(1, 1, 8), 2000, padding=7).amax((1, 2, 3)).min() > 0
        assert drawn("cutout", images(1, 1, 8), 2000, size=14).amax((1, 2, 3)).max() > 0
        assert drawn("cutout", images(1, 1, 8), 2000, size=15).max() == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["random_crop", "random_flip", "cutout"])
def test_a_gpu_gives_the_same_images(name: str) -> None:
    batch = images(16)
    assert torch.equal(augmented((name,), batch.cuda(), range(16)).cpu(), augmented((name,), batch, range(16)))
