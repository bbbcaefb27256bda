"""Losses, proxies and test accuracy against autograd and the plainest computation."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from small_trials import trial
from torch.nn import functional

from specs.augmentation import CenterCrop
from specs.dataset import Dataset
from specs.model import Model
from workers.data import ImageData, ImageSet, load_images
from workers.group import Alone, Group, share
from workers.images import DeviceImages, EvaluatedImages, Normalizer
from workers.measuring import accuracy, evaluate, measure_candidates, measure_losses
from workers.models import build_model, last_linear

CPU = torch.device("cpu")
ROWS = np.arange(0, 1400, 2)  # 700 examples: more than one batch, ids apart from rows


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # more only get in each other's way on inputs this small


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_images(Dataset(name="digits"))


@pytest.fixture(params=["mlp", "small_cnn"])
def model(request: pytest.FixtureRequest, data: ImageData) -> torch.nn.Module:
    """In training mode; the batch norm of small_cnn has statistics of its own."""
    module = build_model(Model(name=request.param, width=4), 10, data.image_shape, seed=1)
    with torch.no_grad():
        module(plain_inputs(data, ROWS[:64]) * 2)
    return module.train()


def normalizer(data: ImageData) -> Normalizer:
    return Normalizer(data.mean, data.std, CPU)


def plain_inputs(data: ImageData, ids: np.ndarray, split: str = "train") -> torch.Tensor:
    """The network's inputs by definition: scaled to 0..1, mean taken off, divided by the deviation."""
    images = getattr(data, split).images[ids].astype(np.float64) / 255
    normal = (images - data.mean) / data.std
    return torch.from_numpy(normal.transpose(0, 3, 1, 2).astype(np.float32))


def noisy_labels(data: ImageData) -> np.ndarray:
    labels = data.train.labels[ROWS].copy()
    labels[::3] = (labels[::3] + 1) % 10
    return labels


def measured(model: torch.nn.Module, data: ImageData, embeddings: bool = True, group: Group | None = None) -> Any:
    images = DeviceImages(data.train, CPU)
    labels = noisy_labels(data)
    return measure_candidates(model, images, ROWS, labels, normalizer(data), group or Alone(), embeddings=embeddings)


def test_inputs_are_normalised_and_channels_last() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 6, 7, 3), np.uint8)
    mean, std = np.array([0.4, 0.5, 0.6], np.float32), np.array([0.2, 0.25, 0.3], np.float32)
    ids = np.array([3, 0, 3])
    batch = Normalizer(mean, std, CPU)(DeviceImages(ImageSet(images, np.zeros(5, np.int64)), CPU).take(ids))
    expected = ((images[ids] / 255 - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(batch.numpy(), expected, atol=1e-5)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("sections", "mean", "std"),
    [
        ({}, [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]),
        ({"dataset": {"normalization": "imagenet"}}, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        (
            {"model": {"name": "resnet18", "width": None, "pretrained": "a.pth"}},
            [0.485, 0.456, 0.406],
            [0.229, 0.224, 0.225],
        ),
    ],
)
def test_pretrained_networks_see_inputs_as_they_expect_them(sections: Any, mean: Any, std: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    part = ImageSet(images, np.zeros(2, np.int64))
    own = (np.array([0.4, 0.5, 0.6], np.float32), np.array([0.2, 0.25, 0.3], np.float32))
    normalize = Normalizer.of(trial(**sections), ImageData(part, part, ("a", "b"), "", *own), CPU)
    expected = ((images / 255 - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(normalize(DeviceImages(part, CPU).take(np.arange(2))).numpy(), expected, atol=1e-5)


def test_losses_are_cross_entropies(model: torch.nn.Module, data: ImageData) -> None:
    found = measured(model, data)
    with torch.no_grad():
        logits = model.eval()(plain_inputs(data, ROWS))
    expected = functional.cross_entropy(logits, torch.from_numpy(noisy_labels(data)), reduction="none")
    np.testing.assert_allclose(found.losses, expected.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.ids, ROWS)
    np.testing.assert_array_equal(found.labels, noisy_labels(data))


def test_residuals_are_gradients_of_each_loss_by_the_logits(model: torch.nn.Module, data: ImageData) -> None:
    found = measured(model, data)
    with torch.no_grad():
        logits = model.eval()(plain_inputs(data, ROWS))
    logits.requires_grad_()
    functional.cross_entropy(logits, torch.from_numpy(noisy_labels(data)), reduction="sum").backward()
    assert logits.grad is not None
    np.testing.assert_allclose(found.residuals, logits.grad.numpy(), atol=1e-5)


def test_residuals_and_embeddings_make_the_gradient_of_the_last_layer(model: torch.nn.Module, data: ImageData) -> None:
    found = measured(model, data)
    last = last_linear(model)
    model.eval()
    for row in (0, 333, 699):
        model.zero_grad()
        label = torch.tensor([noisy_labels(data)[row]])
        functional.cross_entropy(model(plain_inputs(data, ROWS[[row]])), label).backward()
        assert last.weight.grad is not None
        assert last.bias.grad is not None
        outer = np.outer(found.residuals[row], found.embeddings[row])
        np.testing.assert_allclose(outer, last.weight.grad.numpy(), atol=2e-5)
        np.testing.assert_allclose(found.residuals[row], last.bias.grad.numpy(), atol=2e-5)


def test_embeddings_only_where_asked(model: torch.nn.Module, data: ImageData) -> None:
    assert measured(model, data, embeddings=False).embeddings is None
    assert not last_linear(model)._forward_pre_hooks


def test_balanced_accuracy_is_the_mean_of_each_classs() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [3] * 1)  # none of class 2
    right = np.array([3, 1, 0, 1])
    assert accuracy(right, labels, "accuracy") == 5 / 10
    assert accuracy(right, labels, "balanced_accuracy") == pytest.approx((3 / 6 + 1 / 3 + 1) / 3)


def test_evaluate_by_balanced_accuracy(model: torch.nn.Module, data: ImageData) -> None:
    rows = np.flatnonzero(data.test.labels * data.test.labels < np.arange(len(data.test)))  # few of the high digits
    assert isinstance(data.test, ImageSet)
    part, labels = ImageSet(data.test.images[rows], data.test.labels[rows]), data.test.labels[rows]
    found, _ = evaluate(model, DeviceImages(part, CPU), labels, normalizer(data), Alone(), "balanced_accuracy")
    with torch.no_grad():
        predicted = model.eval()(plain_inputs(data, rows, "test")).argmax(dim=1).numpy()
    assert found == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_evaluate(model: torch.nn.Module, data: ImageData) -> None:
    labels = data.test.labels
    accuracy, loss = evaluate(model, DeviceImages(data.test, CPU), labels, normalizer(data), Alone())
    right, total = 0, 0.0
    model.eval()
    for row in range(len(labels)):
        with torch.no_grad():
            logits = model(plain_inputs(data, np.array([row]), "test"))[0].double()
        right += int(logits.argmax()) == labels[row]
        total += float(torch.logsumexp(logits, 0) - logits[labels[row]])
    assert accuracy == right / len(labels)
    assert loss == pytest.approx(total / len(labels), rel=1e-5)


def test_losses_of_soft_labels(model: torch.nn.Module, data: ImageData) -> None:
    targets = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(10), len(ROWS)).astype(np.float32))
    found = measure_losses(model, DeviceImages(data.train, CPU).take(ROWS), targets, normalizer(data))
    assert all(module.training for module in model.modules())
    assert not found.requires_grad
    model.eval()
    with torch.no_grad():
        logits = model(plain_inputs(data, ROWS)).double()
    expected = torch.logsumexp(logits, 1) - (targets.double() * logits).sum(1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_what_is_evaluated_can_be_cropped(data: ImageData) -> None:
    whole = DeviceImages(data.test, CPU)
    middle = EvaluatedImages(whole, [CenterCrop(name="center_crop", size=4)])
    ids = np.array([3, 1, 7])
    assert torch.equal(middle.take(ids), whole.take(ids)[:, :, 2:6, 2:6])
    assert torch.equal(EvaluatedImages(whole, ()).take(ids), whole.take(ids))
    assert middle.device == whole.device


def test_leaves_the_model_as_it_was(model: torch.nn.Module, data: ImageData) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measured(model, data)
    evaluate(model, DeviceImages(data.test, CPU), data.test.labels, normalizer(data), Alone())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()


def test_is_back_in_training_mode_after_an_error(model: torch.nn.Module, data: ImageData) -> None:
    images = DeviceImages(data.train, CPU)
    with pytest.raises(IndexError):
        measure_candidates(
            model, images, np.array([10**6]), np.zeros(1, np.int64), normalizer(data), Alone(), embeddings=True
        )
    assert model.training
    assert not last_linear(model)._forward_pre_hooks


def test_tracks_no_gradients(data: ImageData) -> None:
    seen: list[bool] = []

    class Watched(torch.nn.Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = super().forward(images.flatten(1))
            seen.append(logits.requires_grad)
            return logits

    model = Watched(64, 10)
    measured(model, data)
    evaluate(model, DeviceImages(data.test, CPU), data.test.labels, normalizer(data), Alone())
    assert seen
    assert not any(seen)


class Arrived(Exception):
    """A process has come to where the group gathers, with this value."""


class Split:
    """One of several processes; without the others' parts it stops where they are gathered."""

    def __init__(self, rank: int, size: int, parts: list[Any] | None = None):
        self.rank, self.size, self.parts = rank, size, parts

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        return model

    def align(self, model: torch.nn.Module) -> None:
        pass

    def gather(self, value: Any) -> list[Any]:
        if self.parts is None:
            raise Arrived(value)
        return self.parts


def in_parts(size: int, measure: Any) -> list[Any]:
    """What each of a group of `size` processes gets, computed one process after another."""
    parts = []
    for rank in range(size):
        with pytest.raises(Arrived) as arrived:
            measure(Split(rank, size))
        parts.append(arrived.value.args[0])
    return [measure(Split(rank, size, parts)) for rank in range(size)]


def test_several_processes_measure_the_same(data: ImageData) -> None:
    model = build_model(Model(name="mlp", width=4), 10, data.image_shape, seed=1)
    alone = measured(model, data)
    together = in_parts(3, lambda group: measured(model, data, group=group))
    assert alone.rows is None
    assert np.concatenate([part.rows for part in together]).tolist() == list(range(len(alone.ids)))
    for part in together:
        np.testing.assert_allclose(part.losses, alone.losses, atol=1e-5)
        for name in ("residuals", "embeddings"):
            np.testing.assert_allclose(getattr(part, name), getattr(alone, name)[part.rows], atol=1e-5)
    test = DeviceImages(data.test, CPU)
    labels = data.test.labels

    def evaluated(group: Group) -> tuple[float, float]:
        return evaluate(model, test, labels, normalizer(data), group)

    for found in in_parts(3, evaluated):
        assert found == pytest.approx(evaluated(Alone()), rel=1e-6)


def test_more_processes_than_examples(data: ImageData) -> None:
    model = build_model(Model(name="mlp", width=4), 10, data.image_shape, seed=1)
    images, ids = DeviceImages(data.train, CPU), np.array([4, 9])

    def measure(group: Group) -> Any:
        labels = data.train.labels[ids]
        return measure_candidates(model, images, ids, labels, normalizer(data), group, embeddings=True)

    together = in_parts(3, measure)
    for part, held in zip(together, (1, 1, 0), strict=True):
        assert part.losses.shape == (2,)
        assert len(part.residuals) == len(part.embeddings) == held
        assert (part.proxies() is None) == (held == 0)


@pytest.mark.parametrize(("count", "size"), [(0, 3), (1, 3), (2, 3), (7, 3), (9, 3), (5, 1)])
def test_shares_are_contiguous_even_and_whole(count: int, size: int) -> None:
    shares = [share(count, cast(Group, Split(rank, size))) for rank in range(size)]
    assert [row for part in shares for row in range(part.start, part.stop)] == list(range(count))
    sizes = [part.stop - part.start for part in shares]
    assert max(sizes) - min(sizes) <= 1
