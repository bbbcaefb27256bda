"""Costs, and gains straight from the points, in Triton: sums of squared differences, a tile in registers at a time."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from selection.device.points import DevicePoints
from selection.problem import Objective

_CODES: dict[Objective, int] = {"frobenius": 0, "distance": 1, "rbf": 2}
_PADDING = 128  # columns come in multiples of it: no load needs a mask, and addresses are constants apart
_CANCELLED = tl.constexpr(0.02)  # an outer product's distance below this share of its terms is computed in float64


class Tiles:
    """The costs of one problem's points, computed tile by tile."""

    def __init__(self, points: DevicePoints, objective: Objective):
        self.size = points.size
        outer = points.second is not None
        second = points.first if points.second is None else points.second
        second_norms = points.first_norms if points.second_norms is None else points.second_norms
        self.points = [_padded(x) for x in (points.first, points.first_norms, second, second_norms)]
        self.constants = (points.scale / points.dimension, points.empty(objective), len(points.first), len(second))
        # What the registers hold: 64 sums a thread, 32 where exp is taken in float64, 8 where all may be in float64.
        self.tile = {"BM": 32, "BN": 32} if outer else {"BM": 64, "BN": 64 if objective == "rbf" else 128}
        self.kind = {"OUTER": outer, "CODE": _CODES[objective], **self.tile}

    def fill(self, out: Tensor) -> None:
        """phi(d) of all pairs into out[:n, :n], float32 with contiguous rows. O(n^2 (C + D))."""
        self._costs(self.points, self.size, out)

    def costs(self, rows: Tensor) -> Tensor:
        """phi(d) of all points to some of them, (rows, n) float32."""
        out = torch.empty((len(rows), self.size), device=rows.device)
        self._costs(self._rows(rows), len(rows), out)
        return out

    def gains(self, rows: Tensor, nearest_cost: Tensor, weights: Tensor, scale: Tensor) -> Tensor:
        """sum_i floor(w_i max(0, m_i - phi_ij) scale) of some candidates, (rows,) int64; no cost is ever stored.

        Programs add their parts atomically: whole numbers, whose sum is the same in any order.
        """
        gains = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        taken = self._rows(rows)
        _gains[self._grid(len(rows))](
            *taken, *self.points, *self.constants, taken[0].shape[1], self.points[0].shape[1], len(rows), self.size,
            nearest_cost, weights, scale, gains, **self.kind,
        )  # fmt: skip
        return gains

    def _costs(self, taken: list[Tensor], count: int, out: Tensor) -> None:
        _costs[self._grid(count)](
            *taken, *self.points, *self.constants, taken[0].shape[1], self.points[0].shape[1], count, self.size,
            out, out.stride(0), **self.kind,
        )  # fmt: skip

    def _rows(self, rows: Tensor) -> list[Tensor]:
        return [_padded(x.index_select(-1, rows)) for x in self.points]

    def _grid(self, count: int) -> tuple[int, int]:
        return triton.cdiv(self.size, self.tile["BN"]), triton.cdiv(count, self.tile["BM"])


def _padded(columns: Tensor) -> Tensor:
    return torch.nn.functional.pad(columns, (0, -columns.shape[-1] % _PADDING)).contiguous()


@triton.jit
def _differences(xs, ys, dim, X, Y, i, j, DOUBLE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):  # type: ignore[no-untyped-def]
    """sum_c (x_ci - y_cj)^2, in the order of c."""
    kind: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    sums = tl.zeros([BM, BN], kind)
    for _ in range(dim):
        x = tl.load(xs + i).to(kind)
        y = tl.load(ys + j).to(kind)
        d = x[:, None] - y[None, :]
        sums += d * d
        xs += X
        ys += Y
    return sums


@triton.jit
def _outer(da, db, a_i, a_j, b_i, b_j):  # type: ignore[no-untyped-def]
    """||a_i ⊗ b_i - a_j ⊗ b_j||^2 from squared differences and norms, and the sum of those terms that are positive."""
    terms = 0.5 * (da * (b_i + b_j) + db * (a_i + a_j))
    cross = 0.5 * (a_i - a_j) * (b_i - b_j)
    square = tl.maximum(terms - 0.5 * da * db + cross, 0.0)
    return tl.where(terms == 0.0, 0.0, square), terms


@triton.jit
def _tile(  # type: ignore[no-untyped-def]
    xa, xa_norms, xb, xb_norms, ya, ya_norms, yb, yb_norms, rate, empty, C, D, X, Y, i, j,
    BM: tl.constexpr, BN: tl.constexpr, OUTER: tl.constexpr, CODE: tl.constexpr,
):  # fmt: skip
    """phi(d) of points i of x to points j of y, (BM, BN) float32."""
    square = _differences(xa, ya, C, X, Y, i, j, False, BM, BN)
    if OUTER:
        a_i, a_j = tl.load(xa_norms + i[:, None]), tl.load(ya_norms + j[None, :])
        b_i, b_j = tl.load(xb_norms + i[:, None]), tl.load(yb_norms + j[None, :])
        others = _differences(xb, yb, D, X, Y, i, j, False, BM, BN)
        exact, terms = _outer(square.to(tl.float64), others.to(tl.float64), a_i, a_j, b_i, b_j)
        if tl.max((exact < _CANCELLED * terms).to(tl.int32)) > 0:
            squares = _differences(xa, ya, C, X, Y, i, j, True, BM, BN)
            others_exact = _differences(xb, yb, D, X, Y, i, j, True, BM, BN)
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
    xa, xa_norms, xb, xb_norms, ya, ya_norms, yb, yb_norms, rate, empty, C, D, X, Y, count, n, out, stride,
    BM: tl.constexpr, BN: tl.constexpr, OUTER: tl.constexpr, CODE: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(1) * BM + tl.arange(0, BM)
    j = tl.program_id(0) * BN + tl.arange(0, BN)
    tile = _tile(
        xa, xa_norms, xb, xb_norms, ya, ya_norms, yb, yb_norms, rate, empty, C, D, X, Y, i, j, BM, BN, OUTER, CODE
    )
    inside = (i < count)[:, None] & (j < n)[None, :]
    tl.store(out + i[:, None].to(tl.int64) * stride + j[None, :], tile, mask=inside)


@triton.jit
def _gains(  # type: ignore[no-untyped-def]
    xa, xa_norms, xb, xb_norms, ya, ya_norms, yb, yb_norms, rate, empty, C, D, X, Y, count, n,
    nearest_cost, weights, scale, gains,
    BM: tl.constexpr, BN: tl.constexpr, OUTER: tl.constexpr, CODE: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(1) * BM + tl.arange(0, BM)
    j = tl.program_id(0) * BN + tl.arange(0, BN)
    tile = _tile(
        xa, xa_norms, xb, xb_norms, ya, ya_norms, yb, yb_norms, rate, empty, C, D, X, Y, i, j, BM, BN, OUTER, CODE
    )
    column = j[None, :]
    least = tl.load(nearest_cost + column, mask=column < n, other=0.0).to(tl.float64)
    weight = tl.load(weights + column, mask=column < n, other=0.0) * tl.load(scale)
    terms = tl.maximum(least - tile.to(tl.float64), 0.0) * weight
    tl.atomic_add(gains + i, tl.sum(terms.to(tl.int64), axis=1), mask=i < count)
