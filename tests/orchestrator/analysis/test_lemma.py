"""Lemma 4.1 where it holds exactly, by hand, and through a matrix whose perturbation is known."""

import numpy as np
import pytest
import torch

from orchestrator.analysis.comparison import compare, decompose, split
from orchestrator.analysis.factoring import lower_factor
from orchestrator.analysis.lemma import lemma_sides


def test_by_hand() -> None:
    sides = lemma_sides(np.array([3.0, 1.0]), np.array([[2.0, 2.0], [4.0, 1.5]]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(sides.shrunk, [0.5, 0])
    np.testing.assert_allclose(sides.left, [10, 3.125])
    np.testing.assert_allclose(sides.error, [6, 0.875])  # |16 - 4| / 2, |4 - 2.25| / 2: deviation over root 2
    norm, square = 1.5, 2.5
    np.testing.assert_allclose(sides.right, [9 + square / 3, 1 + norm + square / 3])


@pytest.mark.parametrize("shrinking", [0.5, 0.2])
def test_both_sides_agree_for_moves_spread_evenly_over_what_weyl_leaves(shrinking: float) -> None:
    """J is diagonal, and each draw moves its values by amounts in ±e of which the last is always ±e: ||E|| = e."""
    stream, draws, size, e = np.random.default_rng(0), 200, 8, 0.4
    values = np.arange(size, 0, -1.0) + 1
    original = torch.diag(torch.from_numpy(values))
    decomposed, comparisons = decompose(lower_factor([original]), size), []
    for _ in range(draws):
        moves = stream.uniform(0, e, size) * np.where(stream.uniform(size=size) < shrinking, -1, 1)
        moves[-1] = e
        augmented = torch.diag(torch.from_numpy(values + moves))
        lower = lower_factor(torch.cat([original, augmented]).split(5, dim=1))
        comparisons.append(compare(decomposed, lower, split(size, 3)))
    singular = np.array([one.singular for one in comparisons])
    norms = np.array([one.norm for one in comparisons])
    np.testing.assert_allclose(norms, e, rtol=1e-12)
    sides = lemma_sides(values, singular, norms)
    np.testing.assert_allclose(sides.shrunk[:-1], shrinking, atol=5 * 0.5 / np.sqrt(draws))
    assert (np.abs(sides.left - sides.right)[:-1] < 5 * sides.error[:-1]).all()
    assert sides.left[-1] == pytest.approx((values[-1] + e) ** 2)  # and not where the moves are of another kind
    assert sides.left[-1] - sides.right[-1] == pytest.approx(values[-1] * e + e**2 * 2 / 3)


def test_one_draw_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least 2 draws, got 1"):
        lemma_sides(np.ones(3), np.ones((1, 3)), np.ones(1))
