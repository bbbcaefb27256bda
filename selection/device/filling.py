"""Costs, and gains straight from the points, in Triton: sums of squared differences, a tile in registers at a time."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from selection.device.points import DevicePoints
from selection.problem import Objective

_CODES: dict[Objective, int] = {"frobenius": 0, "distance": 1, "rbf": 2}
_PROGRAMS = 2048  # enough to fill a large GPU several times over
_CANCELLED = tl.constexpr(0.02)  # an outer product's distance below this share of its terms is computed in float64


def fill_costs(points: DevicePoints, objective: Objective, out: Tensor) -> None:
    """phi(d) of all pairs into out[:n, :n], float32 with contiguous rows. O(n^2 (C + D))."""
    rows = torch.arange(points.size, device=out.device)
    grid = (triton.cdiv(points.size, _shape(points)["BN"]), triton.cdiv(points.size, _shape(points)["BM"]))
    _costs[grid](*_arguments(points, objective), rows, len(rows), out, out.stride(0), **_shape(points, objective))


def costs_of_rows(points: DevicePoints, objective: Objective, rows: Tensor) -> Tensor:
    """phi(d) of all points to some of them, (rows, n) float32."""
    out = torch.empty((len(rows), points.size), device=rows.device)
    grid = (triton.cdiv(points.size, _shape(points)["BN"]), triton.cdiv(len(rows), _shape(points)["BM"]))
    _costs[grid](*_arguments(points, objective), rows, len(rows), out, out.stride(0), **_shape(points, objective))
    return out


def gains_of_rows(
    points: DevicePoints, objective: Objective, rows: Tensor, nearest_cost: Tensor, weights: Tensor, scale: Tensor
) -> Tensor:
    """sum_i floor(w_i max(0, m_i - phi_ij) scale) of some candidates, (rows,) int64; no cost is ever stored.

    Programs add their parts atomically: whole numbers, whose sum is the same in any order.
    """
    gains = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    shape = _shape(points, objective)
    tall, wide = triton.cdiv(len(rows), shape["BM"]), triton.cdiv(points.size, shape["BN"])
    tiles = max(1, tall * wide // _PROGRAMS)  # that one program looks at, in a row
    grid = (triton.cdiv(wide, tiles), tall)
    _gains[grid](
        *_arguments(points, objective), rows, len(rows), nearest_cost, weights, scale, gains, tiles, **shape
    )
    return gains


def _shape(points: DevicePoints, objective: Objective = "frobenius") -> dict[str, int]:
    outer = points.second is not None
    # Each thread keeps 64 sums, or 16 of both factors: what its registers hold, float64 included.
    return {"BM": 32 if outer else 64, "BN": 64 if outer else 128, "OUTER": outer, "CODE": _CODES[objective]}


def _arguments(points: DevicePoints, objective: Objective) -> tuple[Tensor | int, ...]:
    second = points.first if points.second is None else points.second
    second_norms = points.first_norms if points.second_norms is None else points.second_norms
    rate = points.scale / points.dimension
    parts = (points.first, points.first_norms, second, second_norms, rate, points.empty(objective))
    return (*parts, points.size, len(points.first), len(second))


@triton.jit
def _differences(columns, n, dim, rows, cols, DOUBLE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):  # type: ignore[no-untyped-def]
    """sum_c (x_ci - x_cj)^2, in the order of c."""
    kind: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    sums = tl.zeros([BM, BN], kind)
    for c in range(dim):
        column = columns + tl.cast(c, tl.int64) * n
        x = tl.load(column + rows).to(kind)
        y = tl.load(column + cols).to(kind)
        d = x[:, None] - y[None, :]
        sums += d * d
    return sums


@triton.jit
def _outer(da, db, a_i, a_j, b_i, b_j):  # type: ignore[no-untyped-def]
    """||a_i ⊗ b_i - a_j ⊗ b_j||^2 from squared differences and norms, and the sum of those terms that are positive."""
    terms = 0.5 * (da * (b_i[:, None] + b_j[None, :]) + db * (a_i[:, None] + a_j[None, :]))
    cross = 0.5 * (a_i[:, None] - a_j[None, :]) * (b_i[:, None] - b_j[None, :])
    square = tl.maximum(terms - 0.5 * da * db + cross, 0.0)
    return tl.where(terms == 0.0, 0.0, square), terms


@triton.jit
def _tile(  # type: ignore[no-untyped-def]
    first, first_norms, second, second_norms, rate, empty, n, dim, second_dim, rows, cols,
    BM: tl.constexpr, BN: tl.constexpr, OUTER: tl.constexpr, CODE: tl.constexpr,
):  # fmt: skip
    """phi(d) of points rows to points cols, (BM, BN) float32."""
    square = _differences(first, n, dim, rows, cols, False, BM, BN)
    if OUTER:
        a_i, a_j = tl.load(first_norms + rows), tl.load(first_norms + cols)
        b_i, b_j = tl.load(second_norms + rows), tl.load(second_norms + cols)
        others = _differences(second, n, second_dim, rows, cols, False, BM, BN)
        exact, terms = _outer(square.to(tl.float64), others.to(tl.float64), a_i, a_j, b_i, b_j)
        if tl.max((exact < _CANCELLED * terms).to(tl.int32)) > 0:
            squares = _differences(first, n, dim, rows, cols, True, BM, BN)
            others_exact = _differences(second, n, second_dim, rows, cols, True, BM, BN)
            exact, terms = _outer(squares, others_exact, a_i, a_j, b_i, b_j)
        square = exact.to(tl.float32)
        if CODE == 1:
            square = tl.sqrt(exact).to(tl.float32)
        elif CODE == 2:
            square = _saturated(tl.sqrt(exact) * tl.load(rate))
    elif CODE == 1:
        square = tl.sqrt(square.to(tl.float64)).to(tl.float32)
    elif CODE == 2:
        square = _saturated(tl.sqrt(square.to(tl.float64)) * tl.load(rate))
    return tl.minimum(square, tl.load(empty))


@triton.jit
def _saturated(x):  # type: ignore[no-untyped-def]
    """1 - exp(-x) of x >= 0 to the last digit of float32: by its series where the difference would lose digits."""
    return tl.where(x < 1e-4, x * (1.0 - x * (0.5 - x / 6.0)), 1.0 - tl.exp(-x)).to(tl.float32)


@triton.jit
def _costs(  # type: ignore[no-untyped-def]
    first, first_norms, second, second_norms, rate, empty, n, dim, second_dim, places, count, out, stride,
    BM: tl.constexpr, BN: tl.constexpr, OUTER: tl.constexpr, CODE: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(1) * BM + tl.arange(0, BM)
    col = tl.program_id(0) * BN + tl.arange(0, BN)
    rows = tl.load(places + tl.minimum(place, count - 1))
    cols = tl.minimum(col, n - 1)
    tile = _tile(
        first, first_norms, second, second_norms, rate, empty, n, dim, second_dim, rows, cols, BM, BN, OUTER, CODE
    )
    inside = (place < count)[:, None] & (col < n)[None, :]
    tl.store(out + place[:, None].to(tl.int64) * stride + col[None, :], tile, mask=inside)


@triton.jit
def _gains(  # type: ignore[no-untyped-def]
    first, first_norms, second, second_norms, rate, empty, n, dim, second_dim, places, count,
    nearest_cost, weights, scale, gains, tiles,
    BM: tl.constexpr, BN: tl.constexpr, OUTER: tl.constexpr, CODE: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(1) * BM + tl.arange(0, BM)
    rows = tl.load(places + tl.minimum(place, count - 1))
    factor = tl.load(scale)
    total = tl.zeros([BM], tl.int64)
    for turn in range(tiles):
        col = (tl.program_id(0) * tiles + turn) * BN + tl.arange(0, BN)
        cols = tl.minimum(col, n - 1)
        tile = _tile(
            first, first_norms, second, second_norms, rate, empty, n, dim, second_dim, rows, cols, BM, BN, OUTER, CODE
        )
        least = tl.load(nearest_cost + cols).to(tl.float64)
        weight = tl.load(weights + col, mask=col < n, other=0.0) * factor
        terms = tl.maximum(least[None, :] - tile.to(tl.float64), 0.0) * weight[None, :]
        total += tl.sum(terms.to(tl.int64), axis=1)
    tl.atomic_add(gains + place, total, mask=place < count)
