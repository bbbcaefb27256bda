"""All of one network's draws against NumPy's decompositions of the whole matrices."""

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles

from orchestrator.analysis.comparison import split
from orchestrator.analysis.jacobian import Jacobian, Plan
from orchestrator.analysis.perturbations import Noise
from orchestrator.analysis.spectrum import Draws, Spectrum
from specs import TrialSpec
from specs.dataset import Dataset
from specs.model import Model
from workers.data import ImageData, ImageSet, load_images
from workers.models import build_model

IDS = np.array([2, 30, 77, 410])
NOISE = Noise(16, seed=3)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> ImageData:
    return load_images(Dataset(name="digits"))


def trial(**sections: object) -> TrialSpec:
    training = {"regime": "full+augmented", "epochs": 1}
    data = {"dataset": {"name": "digits"}, "model": {"name": "mlp"}, "training": training, "seed": 0}
    return TrialSpec.model_validate({**data, "selection": {"fraction": 0.1}, **sections})


def spectrum(images: ImageData, memory: int = 10**9) -> Spectrum:
    network = build_model(Model(name="mlp", width=16), 10, images.image_shape, seed=0)
    return Spectrum(network, trial(), images, IDS, CPU, memory)


@pytest.fixture(scope="module")
def draws(images: ImageData) -> Draws:
    found = spectrum(images)
    return found.draws(NOISE, 3, split(len(found.singular), 4), lambda: None)


@pytest.fixture(scope="module")
def matrices(images: ImageData) -> list[np.ndarray]:
    """J of the originals, then of each draw, by what training feeds the network with."""
    network = build_model(Model(name="mlp", width=16), 10, images.image_shape, seed=0).double().eval()
    pixels = torch.from_numpy(images.train.images[IDS]).permute(0, 3, 1, 2)
    views = [pixels.float(), *(NOISE(pixels, IDS, copy) for copy in (1, 2, 3))]
    found = []
    for view in views:
        inputs = ((view / 255 - images.mean[0]) / images.std[0]).double()
        slabs = Jacobian(network).slabs(inputs, Plan(10**6, 10**6))
        found.append(torch.cat(list(slabs), dim=1).numpy())
    return found


def test_singular_values_and_norms(draws: Draws, matrices: list[np.ndarray]) -> None:
    plain, *moved = matrices
    rank = np.linalg.matrix_rank(plain)
    assert draws.singular.shape == (rank,)
    np.testing.assert_allclose(draws.singular, np.linalg.svd(plain)[1][:rank], rtol=1e-6)
    for number, matrix in enumerate(moved):
        np.testing.assert_allclose(draws.augmented[number], np.linalg.svd(matrix)[1][:rank], rtol=1e-5)
        assert draws.norms[number] == pytest.approx(np.linalg.norm(matrix - plain, 2), rel=1e-5)


def test_numbers_by_range(draws: Draws, matrices: list[np.ndarray]) -> None:
    left, values, right = np.linalg.svd(matrices[0], full_matrices=False)
    for number, matrix in enumerate(matrices[1:]):
        left_moved, values_moved, right_moved = np.linalg.svd(matrix, full_matrices=False)
        for place, (a, b) in enumerate(draws.ranges):
            change = values_moved[a:b] - values[a:b]
            assert draws.difference[number, place] == pytest.approx(change.mean(), rel=1e-4)
            assert draws.relative[number, place] == pytest.approx((change / values[a:b]).mean(), rel=1e-4)
            angles = np.degrees(subspace_angles(left[:, a:b], left_moved[:, a:b]))
            np.testing.assert_allclose(draws.left[number, place], [angles.mean(), angles.max()], rtol=1e-3)
            angles = np.degrees(subspace_angles(right[a:b].T, right_moved[a:b].T))
            np.testing.assert_allclose(draws.right[number, place], [angles.mean(), angles.max()], rtol=1e-3)


def test_the_memory_budget_has_no_effect(draws: Draws, images: ImageData) -> None:
    found = spectrum(images, memory=560_000)
    assert found._plan.columns < found.columns // 3
    tight = found.draws(NOISE, 3, draws.ranges, lambda: None)
    np.testing.assert_allclose(tight.singular, draws.singular, rtol=1e-12)
    np.testing.assert_allclose(tight.augmented, draws.augmented, rtol=1e-12)
    np.testing.assert_allclose(tight.left, draws.left, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(tight.right, draws.right, rtol=1e-9, atol=1e-9)


def test_done_is_told_after_every_draw(images: ImageData) -> None:
    told: list[int] = []
    found = spectrum(images)
    found.draws(NOISE, 2, split(len(found.singular), 2), lambda: told.append(1))
    assert len(told) == 2


def test_the_network_sees_what_it_sees_in_its_trial() -> None:
    """Crops for evaluation, and ImageNet's mean and deviation where the spec has them."""
    pixels = np.random.default_rng(0).integers(0, 256, (500, 8, 8, 3), dtype=np.uint8)
    some = ImageSet(pixels, np.arange(500) % 10)
    mean = pixels.reshape(-1, 3).mean(axis=0) / 255
    images = ImageData(some, some, tuple("abcdefghij"), "0", mean.astype(np.float32), np.full(3, 0.3, np.float32))
    spec = trial(
        dataset={"name": "digits", "normalization": "imagenet"},
        augmentation={
            "weak": [{"name": "random_crop", "size": 6}],
            "evaluation": [{"name": "center_crop", "size": 6}],
        },
    )
    network = build_model(Model(name="mlp", width=16), 10, (6, 6, 3), seed=0)
    found = Spectrum(network, spec, images, IDS, CPU, 10**9)
    seen = torch.from_numpy(pixels[IDS, 1:7, 1:7]).permute(0, 3, 1, 2).double() / 255
    means, deviations = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    seen = (seen - means) / deviations
    slabs = Jacobian(network.double().eval()).slabs(seen, Plan(10**6, 10**6))
    values = np.linalg.svd(torch.cat(list(slabs), dim=1).numpy())[1]
    np.testing.assert_allclose(found.singular, values[: len(found.singular)], rtol=1e-5)
