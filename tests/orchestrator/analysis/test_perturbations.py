"""The additive noise, and a spec's operations as training draws them."""

import numpy as np
import pytest
import torch

from orchestrator.analysis.perturbations import Noise, perturbations
from orchestrator.errors import UserError
from specs.augmentation import Augmentation
from workers.augmentation import Augmenter

IDS = np.array([3, 11, 40, 41])
SHAPE = (8, 8, 3)
IMAGES = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SPEC = Augmentation.model_validate(
    {"weak": [{"name": "random_crop", "padding": 2}, "random_flip"], "strong": [{"name": "cutout", "size": 4}]}
)


def moves(bound: float, seed: int = 0, copy: int = 1) -> torch.Tensor:
    return Noise(bound, seed)(IMAGES, IDS, copy) - IMAGES.float()


def test_noise_is_even_within_its_bound() -> None:
    found = torch.stack([moves(8, copy=copy) for copy in range(1, 40)]).double()
    assert found.abs().max() <= 8.001  # pixels are float32
    assert found.abs().max() > 7.99
    count = found.numel()
    assert abs(found.mean()) < 5 * 8 / np.sqrt(3 * count)
    assert found.var() == pytest.approx(64 / 3, rel=0.02)
    assert (found.abs() < 2).double().mean() == pytest.approx(0.25, abs=5 * np.sqrt(0.1875 / count))


def test_noise_of_two_bounds_differs_in_size_alone() -> None:
    torch.testing.assert_close(moves(16), 2 * moves(8), rtol=0, atol=1e-4)


def test_noise_is_a_function_of_seed_id_copy_and_pixel() -> None:
    found = moves(8)
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found, moves(8, copy=2))
    assert not torch.equal(found, moves(8, seed=1))
    alone = Noise(8, 0)(IMAGES[2:3], IDS[2:3], 1) - IMAGES[2:3].float()
    assert torch.equal(alone[0], found[2])


def test_operations_draw_as_training_does() -> None:
    weak, strong, both, flip = perturbations(["weak", "strong", "copy", "random_flip"], SPEC, SHAPE, seed=6, epoch=15)
    copies = np.full(4, 2)

    def trained(operations: tuple, start: int, images: torch.Tensor) -> torch.Tensor:
        return Augmenter(operations, start)(images, IDS, copies, seed=6, epoch=15)

    cropped = trained(SPEC.weak, 0, IMAGES)
    assert torch.equal(weak(IMAGES, IDS, 2), cropped)
    assert torch.equal(strong(IMAGES, IDS, 2), trained(SPEC.strong, 2, IMAGES))
    assert torch.equal(both(IMAGES, IDS, 2), trained(SPEC.strong, 2, cropped))
    assert torch.equal(flip(IMAGES, IDS, 2), trained(SPEC.weak[1:], 1, IMAGES))
    assert not torch.equal(weak(IMAGES, IDS, 2), IMAGES)


def test_the_default_is_the_papers_noise_and_what_the_spec_has() -> None:
    assert [one.name for one in perturbations([], SPEC, SHAPE, 0, 1)] == ["noise:8", "noise:16", "weak", "strong"]
    assert [one.name for one in perturbations([], Augmentation(), SHAPE, 0, 1)] == ["noise:8", "noise:16"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            ["autoaugment"],
            r"'autoaugment' is no augmentation of this spec; allowed: noise:BOUND .*weak, strong, copy, ",
        ),
        (["noise:0"], "noise:0: the bound of the noise should be above 0 and at most 255"),
        (["noise:much"], "noise:much: the bound"),
        (["noise:256"], "noise:256: the bound"),
        (["noise:nan"], "noise:nan: the bound"),
        (["weak", "noise:8", "weak"], "weak is named twice"),
    ],
)
def test_others_are_refused(asked: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        perturbations(asked, SPEC, SHAPE, 0, 1)


def test_chains_without_operations_are_refused() -> None:
    with pytest.raises(UserError, match="strong: the spec's augmentation has no such operations"):
        perturbations(["strong"], Augmentation(), SHAPE, 0, 1)


def test_what_is_cropped_is_cropped_out_of_the_stored_images() -> None:
    """As for TinyImageNet: 56 of 64 pixels, training at random and evaluation in the middle."""
    weak = [{"name": "random_crop", "size": 6}, "random_flip"]
    cut, evaluation = {"name": "cutout", "size": 4}, [{"name": "center_crop", "size": 6}]
    spec = Augmentation.model_validate({"weak": weak, "strong": [cut], "evaluation": evaluation})
    names = ["weak", "strong", "copy", "random_crop", "random_flip", "noise:8"]
    found = perturbations(names, spec, SHAPE, 0, 1)
    assert [one.of_stored for one in found] == [True, False, True, True, False, False]
    assert [one(IMAGES if one.of_stored else IMAGES[..., 1:7, 1:7], IDS, 1).shape[2:] for one in found] == [(6, 6)] * 6


def test_what_chooses_by_losses_has_no_spectrum() -> None:
    spec = Augmentation.model_validate({"weak": ["random_flip"], "strong": [{"name": "loss_guided", "cutout": 3}]})
    assert [one.name for one in perturbations([], spec, SHAPE, 0, 1)] == ["noise:8", "noise:16", "weak"]
    for name in ("strong", "copy", "loss_guided"):
        with pytest.raises(UserError, match=rf"{name}: loss_guided chooses among its draws by losses"):
            perturbations([name], spec, SHAPE, 0, 1)
