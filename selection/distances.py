"""Gradient proxies made ready for measuring: brought to unit size, and laid out column by column.

Scaling by powers of two is exact, so it leaves every comparison of distances as it was, and it keeps float32 from
overflowing or underflowing whatever units the proxies come in.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from selection.compiling import kernel
from selection.proxies import Float32
from selection.tiles import FOURS

Float64 = npt.NDArray[np.float64]
_PIECE = 65_536  # rows gone through at a time


@dataclass(frozen=True)
class Points:
    """The points g, or g ⊗ [h, 1] where there are embeddings, of one selection problem; distances times `scale`."""

    first: Float32  # (C, n) columns of g, the largest number in [0.5, 1); C filled up with zeros to a multiple of 4
    first_norms: Float64  # (n,) squared
    second: Float32  # (D + 1, n) columns of [h, 1], likewise; (0, 0) where the proxies are g alone
    second_norms: Float64
    scale: float  # a power of two: a distance measured here, times this, is one in the caller's units
    dimension: int  # of the proxies: C, or C * (D + 1)

    @property
    def count(self) -> int:
        """n."""
        return self.first.shape[1]

    @property
    def depth(self) -> int:
        """Coordinates that a pair's distance goes through."""
        return len(self.first) + len(self.second)

    @property
    def arrays(self) -> tuple[Float32, Float64, Float32 | None, Float64 | None]:
        """As the kernels take them."""
        if not self.second.size:
            return self.first, self.first_norms, None, None
        return self.first, self.first_norms, self.second, self.second_norms

    def some(self, rows: npt.NDArray[Any] | slice) -> "Points":
        """The points of some rows."""
        embedded = len(self.second) > 0
        return replace(
            self,
            first=np.ascontiguousarray(self.first[:, rows]),
            first_norms=self.first_norms[rows],
            second=np.ascontiguousarray(self.second[:, rows]) if embedded else self.second,
            second_norms=self.second_norms[rows] if embedded else self.second_norms,
        )

    @property
    def farthest(self) -> float:
        """c1 = 2 max ||proxy||, at least the diameter; not yet times `scale`."""
        norms = self.first_norms * self.second_norms if self.second.size else self.first_norms
        return 2.0 * math.sqrt(float(norms.max()))


def largest_norm(residuals: Float32, embeddings: Float32 | None, rows: npt.NDArray[np.int64] | None = None) -> float:
    """max ||proxy||, in the caller's units, of some rows or all."""
    n, largest = len(residuals) if rows is None else len(rows), 0.0
    for start in range(0, n, _PIECE):
        some: Any = slice(start, start + _PIECE) if rows is None else rows[start : start + _PIECE]
        points = measured_points(residuals[some], None if embeddings is None else embeddings[some])
        largest = max(largest, 0.5 * points.farthest * points.scale)
    return largest


def measured_points(residuals: Float32, embeddings: Float32 | None) -> Points:
    """Points of residuals (n, C), and embeddings (n, D) or None."""
    first, norms, exponent = _unit_columns(residuals)
    second, second_norms, second_exponent = np.empty((0, 0), np.float32), np.zeros(0), 0
    if embeddings is not None:
        bias = np.ones((len(embeddings), 1), np.float32)
        second, second_norms, second_exponent = _unit_columns(np.concatenate([embeddings, bias], axis=1))
    return Points(
        first=first,
        first_norms=norms,
        second=second,
        second_norms=second_norms,
        scale=math.ldexp(1.0, exponent + second_exponent),
        dimension=residuals.shape[1] * (1 if embeddings is None else embeddings.shape[1] + 1),
    )


def _unit_columns(rows: Float32) -> tuple[Float32, Float64, int]:
    largest = max(float(rows.max()), -float(rows.min()))
    exponent = math.frexp(largest)[1]
    columns = np.empty((-(-rows.shape[1] // FOURS) * FOURS, len(rows)), np.float32)
    norms = np.zeros(len(rows))
    if -126 <= exponent <= 126:
        _turn(np.ascontiguousarray(rows), np.float32(math.ldexp(1.0, -exponent)), columns, norms)
    else:  # beyond what one float32 factor reaches
        _turn(np.ldexp(rows.astype(np.float64), -exponent).astype(np.float32), np.float32(1.0), columns, norms)
    return columns, norms, exponent


@kernel
def _turn(rows, factor, columns, norms):  # type: ignore[no-untyped-def]
    """columns = factor * rows, turned, zeros below; norms += their squared norms. By blocks that stay in the cache."""
    n, dim = rows.shape
    for top in range(0, n, 64):
        bottom = min(top + 64, n)
        for left in range(0, dim, 16):
            for c in range(left, min(left + 16, dim)):
                column = columns[c]
                for i in range(top, bottom):
                    column[i] = rows[i, c] * factor
                for i in range(top, bottom):
                    norms[i] += np.float64(column[i]) * np.float64(column[i])
    columns[dim:] = np.float32(0.0)


@kernel
def inner_products_with_sum(columns, weights, others, products):  # type: ignore[no-untyped-def]
    """products[j] += y_j · sum_i w_i x_i, for points x, y in columns; in float64, sixteen terms at a time."""
    lanes = np.empty(16)
    whole = len(weights) // 16 * 16
    for c in range(len(columns)):
        column, other = columns[c], others[c]
        lanes[:] = 0.0
        for i in range(0, whole, 16):
            for lane in range(16):
                lanes[lane] += weights[i + lane] * np.float64(column[i + lane])
        total = 0.0
        for lane in range(16):
            total += lanes[lane]
        for i in range(whole, len(weights)):
            total += weights[i] * np.float64(column[i])
        for j in range(len(products)):
            products[j] += total * np.float64(other[j])
