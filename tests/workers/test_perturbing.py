"""Perturbation and noise: each value within its bounds, and as often as it should be."""

import numpy as np
import pytest
import torch
from augmented import drawn, draws_for, images, operation, varied
from torchvision.transforms.v2 import functional as tv

from workers.augmentation.perturbing import Perturbation, blur


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # more only get in each other's way on images this small


class TestPerturb:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize(("side", "kernel"), [(32, 3), (32, 5), (32, 31), (3, 5), (224, 5)])
    def test_a_given_blur_is_torchvisions(self, side: int, kernel: int, channels: int) -> None:
        batch = varied(10 if side < 100 else 2, channels, side)
        sigmas = np.random.default_rng(0).uniform(0.1, 4.0, len(batch))
        ours = blur(batch, sigmas, kernel)
        theirs = torch.stack(
            [tv.gaussian_blur(x, [kernel] * 2, [float(s)] * 2) for x, s in zip(batch, sigmas, strict=True)]
        )
        apart = (ours.int() - theirs.int()).abs()
        assert apart.max() <= 1
        assert (apart > 0).float().mean() <= 0.001

    def test_brightness_first_then_blur(self) -> None:
        batch = varied(10)
        chosen = Perturbation(operation("perturb", brightness=0.7))
        factors, sigmas = chosen.drawn(draws_for(10))
        expected = [
            tv.gaussian_blur(tv.adjust_brightness(x, float(f)), [5, 5], [float(s)] * 2)
            for x, f, s in zip(batch, factors, sigmas, strict=True)
        ]
        apart = (chosen(batch, draws_for(10)).int() - torch.stack(expected).int()).abs()
        assert apart.max() <= 1
        assert (apart > 0).float().mean() <= 0.001

    def test_factors_and_widths_are_uniform(self) -> None:
        draws = 5000
        chosen = operation("perturb", brightness=0.4, sigma=[0.5, 1.5])
        factors, sigmas = Perturbation(chosen).drawn(draws_for(draws))
        for values, low, high in ((factors, 0.6, 1.4), (sigmas, 0.5, 1.5)):
            assert low <= values.min() < low + 0.01
            assert high - 0.01 < values.max() <= high
            shares, _ = np.histogram(values, 10, (low, high))
            np.testing.assert_allclose(shares / draws, 0.1, atol=4.5 * np.sqrt(0.1 / draws))
        assert abs(np.corrcoef(factors, sigmas)[0, 1]) < 4.5 / np.sqrt(draws)


class TestNoise:
    @pytest.mark.parametrize("epsilon", [1, 8, 16, 255])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_is_bounded_in_each_value(self, epsilon: int, channels: int) -> None:
        image = images(1, channels, 16)
        noisy = drawn("noise", image, 200, epsilon=epsilon)
        apart = (noisy.int() - image.int()).abs()
        assert apart.max() <= epsilon
        assert apart.max() >= min(epsilon, 240), "the bound is reached"

    @pytest.mark.parametrize("epsilon", [1, 8, 16])
    def test_every_integer_comes_as_often(self, epsilon: int) -> None:
        image = torch.full((1, 3, 5, 5), 128, dtype=torch.uint8)
        steps = (drawn("noise", image, 1000, epsilon=epsilon).int() - 128).reshape(1000, 75)
        values, counts = steps.unique(return_counts=True)
        assert values.tolist() == list(range(-epsilon, epsilon + 1))
        chance = 1 / (2 * epsilon + 1)
        np.testing.assert_allclose(counts / 75_000, chance, atol=4.5 * np.sqrt(chance / 75_000))
        between = np.corrcoef(steps.T)[~np.eye(75, dtype=bool)]
        assert abs(between).max() < 5.5 / np.sqrt(1000), "each value has noise of its own"

    def test_clipping_keeps_the_bound(self) -> None:
        for level in (0, 255):
            noisy = drawn("noise", torch.full((1, 1, 8, 8), level, dtype=torch.uint8), 50, epsilon=16).int()
            assert (noisy - level).abs().max() == 16
            assert abs((noisy == level).float().mean() - 17 / 33) < 0.05
