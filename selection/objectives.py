"""Facility location over three monotone transforms of the distance in gradient space.

Every objective is a cost phi(d) that a medoid at distance d has for an example, and the cost phi_0 of having
none. With m_i = min over S of phi(d_ij), the value of S is the drop sum_i (phi_0 - m_i): monotone submodular.

    frobenius   phi = d^2               phi_0 = c1^2     Eq. 9 and Algorithm 1, squared
    distance    phi = d                 phi_0 = c1       CRAIG
    rbf         phi = 1 - exp(-d/dim)   phi_0 = 1        the paper's published code; submodlib's `euclidean`

c1 = 2 max ||proxy|| is at least the diameter, so the first pick has a positive gain wherever proxies differ.
Under rbf, float32 cannot tell distances beyond about 17 dim apart: all have cost 1.

Distances are sums of squared differences, never differences of Gram matrices: close points far from the origin keep
their digits. Each is added up in one fixed order without BLAS, whose sums depend on its threads and on the processor.
"""

from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np

from selection.distances import Float64, Points, measured_points
from selection.proxies import Float32

Objective = Literal["frobenius", "distance", "rbf"]
_CODES: dict[Objective, int] = {"frobenius": 0, "distance": 1, "rbf": 2}
_TILE = 128  # rows and columns that one thread fills at a time
_DEPTH = 64  # coordinates whose part of a tile stays in the cache; a multiple of 4
_CANCELLED = 0.02  # an outer product's distance below this share of its terms is computed again in float64


@dataclass(frozen=True)
class Costs:
    """phi(d_ij) for all pairs of one problem, in units of `unit`."""

    matrix: Float32  # (n, n) symmetric, zero on the diagonal, at most `empty`
    empty: float  # phi_0, a float32
    unit: float  # a power of two
    points: Points

    def squares_to(self, row: int) -> Float64:
        """d^2 of every example to one of them, whatever the objective; in the caller's units."""
        points = self.points
        squares = _row_squares(points.first, points.first_norms, points.second, points.second_norms, row)
        return np.asarray(squares.astype(np.float64) * points.scale**2)


def cost_matrix(residuals: Float32, embeddings: Float32 | None, objective: Objective) -> Costs:
    """The costs of residuals (n, C), with embeddings (n, D) or without; proxies of any finite size.

    Cost O(n^2 (C + D)) time and 4 n^2 bytes.
    """
    points = measured_points(residuals, embeddings)
    c1, scale = points.farthest, points.scale
    empty = float(np.float32({"frobenius": c1 * c1, "distance": c1, "rbf": 1.0}[objective]))
    unit = {"frobenius": scale * scale, "distance": scale, "rbf": 1.0}[objective]
    n = len(residuals)
    matrix = np.empty((n, n), np.float32)
    lower, upper = np.tril_indices((n + _TILE - 1) // _TILE)
    _fill(
        matrix,
        points.first,
        points.first_norms,
        points.second,
        points.second_norms,
        lower * _TILE,
        upper * _TILE,
        _CODES[objective],
        scale / points.dimension,
        np.float32(empty),
    )
    return Costs(matrix, empty, unit, points)


@numba.njit(parallel=True, cache=True)
def _fill(matrix, first, first_norms, second, second_norms, tops, lefts, code, rate, empty):  # type: ignore[no-untyped-def]
    n = len(matrix)
    for place in numba.prange(len(tops)):
        top, left = tops[place], lefts[place]
        bottom, right = min(top + _TILE, n), min(left + _TILE, n)
        tile = _squares(first, first_norms, second, second_norms, top, bottom, left, right)
        height, width = tile.shape
        for i in range(height):
            for j in range(width):
                cost = np.float64(tile[i, j])
                if code == 1:
                    cost = np.sqrt(cost)
                elif code == 2:
                    cost = -np.expm1(-np.sqrt(cost) * rate)
                tile[i, j] = min(np.float32(cost), empty)
        matrix[top:bottom, left:right] = tile
        matrix[left:right, top:bottom] = tile.T


@numba.njit(cache=True)
def _row_squares(first, first_norms, second, second_norms, row):  # type: ignore[no-untyped-def]
    return _squares(first, first_norms, second, second_norms, row, row + 1, 0, first.shape[1])[0]


@numba.njit(cache=True)
def _squares(first, first_norms, second, second_norms, top, bottom, left, right):  # type: ignore[no-untyped-def]
    """Squared distances of points top..bottom to points left..right."""
    squares = _differences(first, top, bottom, left, right)
    if second.size == 0:
        return squares
    others = _differences(second, top, bottom, left, right)
    for i in range(bottom - top):
        a_i, b_i = first_norms[top + i], second_norms[top + i]
        for j in range(right - left):
            a_j, b_j = first_norms[left + j], second_norms[left + j]
            da, db = np.float64(squares[i, j]), np.float64(others[i, j])
            # ||Δa ⊗ b̄ + ā ⊗ Δb||^2, with ā and b̄ the means of the two: |ā|^2 = (a_i + a_j)/2 - da/4, and
            # Δa·ā = (a_i - a_j)/2
            terms = 0.5 * (da * (b_i + b_j) + db * (a_i + a_j))
            square = terms - 0.5 * da * db + 0.5 * (a_i - a_j) * (b_i - b_j)
            if square < _CANCELLED * terms:
                square = _outer_square(first, second, top + i, left + j)
            squares[i, j] = square
    return squares


@numba.njit(cache=True)
def _differences(columns, top, bottom, left, right):  # type: ignore[no-untyped-def]
    """sum_c (x_ci - x_cj)^2, four terms at a time: each sum has the same order wherever it stands in a tile."""
    dim = len(columns)
    sums = np.zeros((bottom - top, right - left), np.float32)
    for start in range(0, dim, _DEPTH):
        stop = min(start + _DEPTH, dim)
        fours = start + (stop - start) // 4 * 4
        for i in range(bottom - top):
            row = sums[i]
            point = columns[:, top + i]
            for c in range(start, fours, 4):
                x0, x1, x2, x3 = point[c], point[c + 1], point[c + 2], point[c + 3]
                y0, y1 = columns[c, left:right], columns[c + 1, left:right]
                y2, y3 = columns[c + 2, left:right], columns[c + 3, left:right]
                for j in range(len(row)):
                    d0, d1, d2, d3 = y0[j] - x0, y1[j] - x1, y2[j] - x2, y3[j] - x3
                    row[j] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
            for c in range(fours, stop):
                x0, y0 = point[c], columns[c, left:right]
                for j in range(len(row)):
                    d0 = y0[j] - x0
                    row[j] += d0 * d0
    return sums


@numba.njit(cache=True)
def _outer_square(first, second, i, j):  # type: ignore[no-untyped-def]
    """||a_i ⊗ b_i - a_j ⊗ b_j||^2 entry by entry, in float64: for the few pairs whose terms cancel."""
    total = 0.0
    for c in range(len(first)):
        a_i, a_j = np.float64(first[c, i]), np.float64(first[c, j])
        for d in range(len(second)):
            difference = a_i * np.float64(second[d, i]) - a_j * np.float64(second[d, j])
            total += difference * difference
    return total
