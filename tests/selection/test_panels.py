"""Squared distances by panels have the bits of a plain loop, whatever the shape and wherever the tile lies."""

import numba
import numpy as np
import pytest

from selection.costs import fill
from selection.distances import Points, measured_points
from selection.objectives import cost_matrix, metric
from selection.threads import Crew
from selection.tiles import FROBENIUS, _fma

UNBOUNDED = FROBENIUS, np.float32(0), np.float32(np.inf)


@numba.njit
def plain(columns: np.ndarray) -> np.ndarray:
    dim, n = columns.shape
    found = np.empty((n, n), np.float32)
    for i in range(n):
        for j in range(n):
            total = np.float32(0.0)
            for c in range(dim):
                difference = columns[c, j] - columns[c, i]
                total = _fma(difference, difference, total)
            found[i, j] = total
    return found


def points(n: int, dim: int) -> Points:
    return measured_points(np.random.default_rng(n + dim).standard_normal((n, dim), np.float32), None)


@pytest.mark.parametrize("dim", [1, 4, 64, 256, 257, 600])
@pytest.mark.parametrize("n", [1, 15, 16, 17, 33, 140])
def test_of_all_pairs(n: int, dim: int) -> None:
    some = points(n, dim)
    transform = metric(some, "frobenius")
    with Crew() as crew:
        found = cost_matrix(some, transform, crew).copy()
    np.testing.assert_array_equal(found, np.minimum(plain(some.first), transform.empty))


@pytest.mark.parametrize("dim", [3, 260, 600])
@pytest.mark.parametrize("square", [(0, 1, 0, 700), (3, 8, 5, 9), (1, 20, 2, 19), (0, 65, 7, 600), (100, 333, 0, 700)])
def test_of_a_tile(square: tuple[int, int, int, int], dim: int) -> None:
    """Wider than what is filled at a time, so that parts begin within it; what lies beside it stays as it was."""
    some = points(700, dim)
    top, bottom, left, right = square
    out = np.full((bottom - top + 1, right - left + 3), -1, np.float32)
    fill(some.arrays, some.arrays, UNBOUNDED, square, out, np.empty((64, 512), np.float32))
    np.testing.assert_array_equal(out[:-1, :-3], plain(some.first)[top:bottom, left:right])
    assert (out[-1] == -1).all()
    assert (out[:, -3:] == -1).all()
