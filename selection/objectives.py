"""Facility location over three monotone transforms of the distance in gradient space.

Every objective is a cost phi(d) that a medoid at distance d has for an example, and the cost phi_0 of having
none. With m_i = min over S of phi(d_ij), the value of S is the drop sum_i (phi_0 - m_i): monotone submodular.

    frobenius   phi = d^2               phi_0 = c1^2     Eq. 9 and Algorithm 1, squared
    distance    phi = d                 phi_0 = c1       CRAIG
    rbf         phi = 1 - exp(-d/dim)   phi_0 = 1        the paper's published code; submodlib's `euclidean`

c1 = 2 max ||proxy|| is at least the diameter, so the first pick has a positive gain wherever proxies differ.
"""

import math
from typing import Literal

import numba
import numpy as np
import numpy.typing as npt

from selection.proxies import Float32

Objective = Literal["frobenius", "distance", "rbf"]
_CODES: dict[Objective, int] = {"frobenius": 0, "distance": 1, "rbf": 2}
# From a Gram matrix, ||a-b||^2 = |a|^2 + |b|^2 - 2ab loses digits when it is small beside |a|^2 + |b|^2;
# below this share of the sum it is computed again from differences.
_CANCELLED = 0.02
_DIRECT_DIMENSIONS = 32  # up to here differences cost no more than a matrix product


def cost_matrix(residuals: Float32, embeddings: Float32 | None, objective: Objective) -> tuple[Float32, float, int]:
    """phi(d_ij) for all pairs, in float32, phi_0, and the dimension of the proxies.

    residuals (n, C); embeddings (n, D) or None. Returns an (n, n) matrix: symmetric, zero on the diagonal, at most
    phi_0. Cost O(n^2 (C + D)) time and 4 n^2 bytes.
    """
    if embeddings is None:
        dim = residuals.shape[1]
        c1 = 2.0 * math.sqrt(float(np.max(np.sum(np.square(residuals, dtype=np.float64), axis=1))))
        if dim <= _DIRECT_DIMENSIONS:
            squares = _squares_by_difference(np.ascontiguousarray(residuals.T))
        else:
            centred = residuals - residuals.mean(axis=0, dtype=np.float64).astype(np.float32)
            squares = _squares_by_product(centred, np.empty((0, 0), np.float32))
    else:
        bias = np.ones((len(embeddings), 1), np.float32)
        inputs = np.ascontiguousarray(np.concatenate([embeddings, bias], axis=1))
        dim = residuals.shape[1] * inputs.shape[1]
        norms = np.sum(np.square(residuals, dtype=np.float64), axis=1) * np.sum(
            np.square(inputs, dtype=np.float64), axis=1
        )
        c1 = 2.0 * math.sqrt(float(np.max(norms)))
        squares = _squares_by_product(residuals, inputs)
    empty = {"frobenius": c1 * c1, "distance": c1, "rbf": 1.0}[objective]
    empty = float(np.float32(empty))
    if not math.isfinite(empty):
        raise ValueError(f"proxies are too large for objective {objective}: c1 = {c1:g}, and phi_0 overflows float32")
    _transform(squares, _CODES[objective], float(dim), empty)
    return squares, empty, dim


def frobenius_norm(costs: npt.NDArray[np.float32], objective: Objective, dim: int, c1: float) -> float:
    """||G_S||_F = sqrt(sum_i min_j d_ij^2), from the costs m_i of any objective; the empty set counts c1 each."""
    values = costs.astype(np.float64)
    if objective == "frobenius":
        return math.sqrt(values.sum())
    if objective == "rbf":
        values = np.minimum(-dim * np.log1p(-np.minimum(values, 1 - 1e-16)), c1)
    return math.sqrt(np.square(values).sum())


@numba.njit(parallel=True, cache=True)
def _squares_by_difference(columns: Float32) -> Float32:
    dim, n = columns.shape
    squares = np.zeros((n, n), np.float32)
    for i in numba.prange(n):
        row = squares[i]
        for c in range(dim):
            x = columns[c, i]
            column = columns[c]
            for j in range(n):
                step = column[j] - x
                row[j] += step * step
    return squares


def _squares_by_product(first: Float32, second: Float32) -> Float32:
    """Squared distances of rows of `first`, or of first ⊗ second where `second` is not empty, from Gram matrices."""
    squares = first @ first.T
    norms = np.sum(np.square(first, dtype=np.float64), axis=1)
    if second.size:
        squares *= second @ second.T
        norms *= np.sum(np.square(second, dtype=np.float64), axis=1)
    _finish_product(squares, norms, first, second, np.float32(_CANCELLED))
    return squares


@numba.njit(parallel=True, cache=True)
def _finish_product(squares, norms, first, second, cancelled):  # type: ignore[no-untyped-def]
    n = len(norms)
    for i in numba.prange(n):
        squares[i, i] = 0.0
        for j in range(n):
            if i == j:
                continue
            total = norms[i] + norms[j]
            square = total - 2.0 * squares[i, j]
            if square < cancelled * total:
                square = _difference(first, second, i, j)
            squares[i, j] = square


@numba.njit(cache=True)
def _difference(first, second, i, j):  # type: ignore[no-untyped-def]
    """||a_i - a_j||^2, or ||a_i ⊗ b_i - a_j ⊗ b_j||^2 as ||Δa ⊗ b̄ + ā ⊗ Δb||^2, without cancellation."""
    da2, aa, da_a = 0.0, 0.0, 0.0
    for c in range(first.shape[1]):
        difference = float(first[i, c]) - float(first[j, c])
        mean = 0.5 * (float(first[i, c]) + float(first[j, c]))
        da2 += difference * difference
        aa += mean * mean
        da_a += difference * mean
    if second.size == 0:
        return da2
    db2, bb, db_b = 0.0, 0.0, 0.0
    for c in range(second.shape[1]):
        difference = float(second[i, c]) - float(second[j, c])
        mean = 0.5 * (float(second[i, c]) + float(second[j, c]))
        db2 += difference * difference
        bb += mean * mean
        db_b += difference * mean
    return max(da2 * bb + aa * db2 + 2.0 * da_a * db_b, 0.0)


@numba.njit(parallel=True, cache=True)
def _transform(squares, code, dim, empty):  # type: ignore[no-untyped-def]
    n = squares.shape[0]
    for i in numba.prange(n):
        for j in range(n):
            if code == 0:
                cost = float(squares[i, j])
            elif code == 1:
                cost = math.sqrt(squares[i, j])
            else:
                cost = -math.expm1(-math.sqrt(squares[i, j]) / dim)
            squares[i, j] = min(cost, empty)
