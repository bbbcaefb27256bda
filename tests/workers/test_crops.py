"""Crops that change the size: where they lie, and how they are resized."""

import numpy as np
import pytest
import torch
from augmented import drawn, draws_for, images, operation, varied
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from workers.augmentation.cropping import ResizedCrop, resized


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # more only get in each other's way on images this small


@pytest.mark.parametrize(("size", "padding"), [(3, 0), (5, 0), (4, 1), (7, 1)])
def test_a_crop_to_a_size_has_torchvisions_distribution(size: int, padding: int) -> None:
    image, draws = images(1, 3, 5), 6000
    theirs = v2.RandomCrop(size, padding=padding or None)
    with torch.random.fork_rng():
        possible = sorted({theirs(image[0]).numpy().tobytes() for _ in range(500)})
    assert len(possible) == (5 + 2 * padding - size + 1) ** 2
    crops = drawn("random_crop", image, draws, size=size, padding=padding)
    assert crops.shape == (draws, 3, size, size)
    ours = [crop.numpy().tobytes() for crop in crops]
    for crop in possible:
        assert abs(ours.count(crop) / draws - 1 / len(possible)) <= 4.5 * np.sqrt(1 / len(possible) / draws)


@pytest.mark.parametrize(("height", "width", "size"), [(64, 64, 56), (8, 8, 8), (9, 12, 6), (10, 7, 5)])
def test_the_centre_is_torchvisions(height: int, width: int, size: int) -> None:
    batch = images(2, 3, height, width)
    crops = drawn("center_crop", batch[:1], 3, size=size)
    assert torch.equal(crops, tv.center_crop(batch[:1], [size, size]).expand(3, -1, -1, -1))


@pytest.mark.parametrize(
    ("height", "width", "options"),
    [
        (32, 32, {}),
        (64, 40, {"scale": [0.5, 1.0]}),
        (40, 64, {"scale": [0.3, 0.3], "ratio": [1.0, 1.0]}),
        (20, 20, {"scale": [0.9, 1.0], "ratio": [0.5, 2.0]}),
        (8, 60, {"scale": [0.9, 1.0]}),  # too wide: the middle
        (60, 8, {"scale": [0.9, 1.0]}),  # too high
    ],
)
def test_parts_have_torchvisions_distribution(height: int, width: int, options: dict[str, list[float]]) -> None:
    """Mean and spread of top, left, height and width."""
    theirs = v2.RandomResizedCrop(8, antialias=True, **options)
    draws = 1500
    with torch.random.fork_rng():
        torch.manual_seed(3)
        image = torch.zeros(3, height, width)
        found = [theirs.make_params([image]) for _ in range(draws)]
    their = np.array([[part[name] for name in ("top", "left", "height", "width")] for part in found])
    ours = ResizedCrop(operation("random_resized_crop", size=8, **options)).boxes(draws_for(draws), height, width)
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 2:] >= 1).all()
    assert (ours[:, :2] + ours[:, 2:] <= (height, width)).all()
    for one, other in zip(ours.T, their.T, strict=True):
        error = np.sqrt((one.var() + other.var()) / draws)
        assert abs(one.mean() - other.mean()) <= 4.5 * error
        assert one.std() == pytest.approx(other.std(), rel=0.15)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "size", "count"), [(32, 24, 20), (32, 56, 20), (250, 224, 2)])
def test_a_given_part_is_resized_as_torchvision_does(side: int, size: int, count: int, channels: int) -> None:
    """torchvision's float32, rounded to whole grey levels; its fixed point on uint8 rounds twice: by one apart."""
    stream = np.random.default_rng(1)
    corners = stream.integers(0, side // 2, (count, 2))
    boxes = np.concatenate([corners, [stream.integers(1, side - corner + 1) for corner in corners]], 1)
    boxes[0] = 0, 0, side, side
    batch = varied(count, channels, side)
    ours = resized(batch, boxes, size).int()
    parts = [(image, *map(int, box)) for image, box in zip(batch, boxes, strict=True)]
    exact = torch.stack([tv.resized_crop(x.float(), *box, [size, size], antialias=True) for x, *box in parts])
    assert (ours - exact).abs().max() <= 0.51
    theirs = torch.stack([tv.resized_crop(x, *box, [size, size], antialias=True) for x, *box in parts])
    assert (ours - theirs.int()).abs().max() <= 1
