"""phi(d_ij) between the examples to cover and the candidates: kept as a matrix, or computed again where needed."""

from dataclasses import dataclass

import numpy as np

from selection.compiling import inner, kernel
from selection.distances import Points
from selection.objectives import Metric
from selection.problem import Float64
from selection.proxies import Float32, Int64
from selection.threads import Crew
from selection.tiles import FROBENIUS, tile_costs, tile_squares

_TALL, _WIDE = 64, 512  # of a tile
_AT_ONCE = 512  # candidates whose gains one thread computes


@dataclass(frozen=True)
class Costs:
    """The costs of one problem. A pair's cost has the same bits whether it is stored or computed."""

    ground: Points  # the examples to cover
    candidates: Points  # those that may be picked
    metric: Metric
    matrix: Float32 | None  # (ground, candidates), the same points; None: computed where needed

    @property
    def symmetric(self) -> bool:
        """Whether the examples to cover are those that may be picked."""
        return self.ground is self.candidates

    @property
    def stored(self) -> Float32:
        """As the kernels take it: empty where nothing is stored."""
        return np.empty((0, 0), np.float32) if self.matrix is None else self.matrix

    def of(self, rows: Int64) -> Float32:
        """Costs of some examples to all candidates, (rows, candidates)."""
        if self.matrix is not None:
            return self.matrix[rows]
        return _all_pairs(self.ground.some(rows), self.candidates, self.metric.arguments)

    def to_ground(self, chosen: Int64, rows: Int64 | None = None) -> Float32:
        """Costs of some candidates to some examples, or all, (chosen, rows)."""
        if self.matrix is not None:
            return self.matrix[chosen] if rows is None else self.matrix[np.ix_(chosen, rows)]
        ground = self.ground if rows is None else self.ground.some(rows)
        return _all_pairs(self.candidates.some(chosen), ground, self.metric.arguments)

    def squares(self, j: int) -> Float32:
        """d_ij^2 of a candidate to all examples, (ground,)."""
        unbounded = (FROBENIUS, np.float32(0), np.float32(np.inf))
        return _all_pairs(self.candidates.some(np.array([j])), self.ground, unbounded)[0]

    def gains(self, chosen: Int64, nearest_cost: Float32, weights: Float64, crew: Crew) -> Float64:
        """The marginal gains of some candidates: what `gain` says of each, faster. O(ground * dim) each."""
        out = np.empty(len(chosen))

        def work(start: int, stop: int) -> None:
            if self.matrix is not None:
                _stored_gains(self.matrix, chosen[start:stop], nearest_cost, weights, out[start:stop])
            else:
                some = self.candidates.some(chosen[start:stop])
                _computed_gains(
                    self.ground.arrays, some.arrays, self.metric.arguments, nearest_cost, weights, out[start:stop]
                )

        crew.share(len(chosen), min(_AT_ONCE, max(16, -(-len(chosen) // (2 * crew.threads)))), work)
        return out


def spread(n: int, most: int) -> Int64:
    """Some of n rows, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))


def _all_pairs(rows: Points, columns: Points, metric: tuple[int, np.float32, np.float32]) -> Float32:
    out, spare = np.empty((rows.count, columns.count), np.float32), np.empty((_TALL, _WIDE), np.float32)
    fill(rows.arrays, columns.arrays, metric, (0, rows.count, 0, columns.count), out, spare)
    return out


@kernel
def fill(rows, columns, metric, square, out, spare):  # type: ignore[no-untyped-def]
    """out[i, j] = cost of row top + i to column left + j, for square = top, bottom, left, right. spare: a tile."""
    points, norms, others, other_norms = rows
    to_points, to_norms, to_others, to_other_norms = columns
    objective, rate, empty = metric
    top, bottom, left, right = square
    tall, wide = spare.shape
    for start in range(left, right, wide):
        stop = min(start + wide, right)
        for upper in range(top, bottom, tall):
            lower = min(upper + tall, bottom)
            part = out[upper - top : lower - top]
            tile_squares(
                points, norms, others, other_norms, upper, lower,
                to_points, to_norms, to_others, to_other_norms, start, stop, part, spare, start - left,
            )  # fmt: skip
            tile_costs(part, lower - upper, start - left, stop - start, objective, rate, empty)


@inner
def cost_row(j, rows, columns, metric, stored, squared, row, squares, spare):  # type: ignore[no-untyped-def]
    """row[0, i] = phi(d_ij) for candidate j; squares[i] = d_ij^2 where asked for. spare: (1, width)."""
    points, norms, others, other_norms = rows
    to_points, to_norms, to_others, to_other_norms = columns
    objective, rate, empty = metric
    n, width = row.shape[1], spare.shape[1]
    if stored.size == 0 or squared:
        for left in range(0, n, width):
            right = min(left + width, n)
            tile_squares(
                to_points, to_norms, to_others, to_other_norms, j, j + 1,
                points, norms, others, other_norms, left, right, row, spare, left,
            )  # fmt: skip
        if squared:
            for i in range(n):
                squares[i] = row[0, i]
    if stored.size:
        for i in range(n):
            row[0, i] = stored[j, i]
    else:
        tile_costs(row, np.int64(1), np.int64(0), n, objective, rate, empty)


@inner
def gain(row, nearest_cost, weights):  # type: ignore[no-untyped-def]
    """sum_i w_i max(0, m_i - phi_ij), in float64, by i: the definition of a marginal gain to the last bit."""
    total = 0.0
    for i in range(len(row)):
        total += weights[i] * max(0.0, np.float64(nearest_cost[i]) - np.float64(row[i]))
    return total


@inner
def _add(tile, height, width, nearest_cost, weights, top, totals):  # type: ignore[no-untyped-def]
    """The next `height` terms of each total."""
    for i in range(height):
        row, least, weight = tile[i], np.float64(nearest_cost[top + i]), weights[top + i]
        for j in range(width):
            totals[j] += weight * max(0.0, least - np.float64(row[j]))


@kernel
def _computed_gains(rows, columns, metric, nearest_cost, weights, totals):  # type: ignore[no-untyped-def]
    points, norms, others, other_norms = rows
    to_points, to_norms, to_others, to_other_norms = columns
    objective, rate, empty = metric
    tile, spare = np.empty((_TALL, _WIDE), np.float32), np.empty((_TALL, _WIDE), np.float32)
    totals[:] = 0.0
    for left in range(0, len(totals), _WIDE):
        right = min(left + _WIDE, len(totals))
        for top in range(0, len(nearest_cost), _TALL):
            bottom = min(top + _TALL, len(nearest_cost))
            tile_squares(
                points, norms, others, other_norms, top, bottom,
                to_points, to_norms, to_others, to_other_norms, left, right, tile, spare, np.int64(0),
            )  # fmt: skip
            tile_costs(tile, bottom - top, np.int64(0), right - left, objective, rate, empty)
            _add(tile, bottom - top, right - left, nearest_cost, weights, top, totals[left:right])


@kernel
def _stored_gains(matrix, chosen, nearest_cost, weights, totals):  # type: ignore[no-untyped-def]
    first, n = chosen[0], len(chosen)
    if chosen[-1] - first + 1 == n:  # side by side, as when all are asked for: many sums at a time
        totals[:] = 0.0
        for i in range(len(matrix)):
            row, least, weight = matrix[i], np.float64(nearest_cost[i]), weights[i]
            for j in range(n):
                totals[j] += weight * max(0.0, least - np.float64(row[first + j]))
    else:  # the matrix is symmetric: candidate j's row is its column
        for place in range(n):
            totals[place] = gain(matrix[chosen[place]], nearest_cost, weights)
