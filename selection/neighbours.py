"""For every example, the candidates as near to it as its medoid, or nearer: all that later picks can still change.

After the first pick these are 4 to 17 % of all pairs (random residuals and Gaussian points, 10 to 64 dimensions), after
t picks about 1/(5 t) of them. Exact gains can be kept by differences over these lists alone, without distances.
"""

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic

from selection.compiling import inner, kernel
from selection.costs import Costs, spread
from selection.problem import Float64
from selection.proxies import Float32, Int64
from selection.threads import Crew
from selection.tiles import tile_costs, tile_squares

BYTES = 8  # an entry
_SAMPLE = 64  # rows counted for an estimate
_TALL, _WIDE = 64, 512  # of a tile; _WIDE a multiple of 64
_PACKED = np.uint64(0x0102040810204080)  # times eight bytes of 0 or 1: the highest byte has them as its bits


@dataclass(frozen=True)
class Neighbours:
    """Entries of example i: places starts[i] to starts[i] + lengths[i]."""

    starts: Int64  # (ground,)
    lengths: Int64  # (ground,)
    candidates: npt.NDArray[np.int32]
    costs: Float32

    @property
    def arrays(self) -> tuple[Int64, Int64, npt.NDArray[np.int32], Float32]:
        """As the kernels take them."""
        return self.starts, self.lengths, self.candidates, self.costs

    def by_candidate(self, candidates: int, crew: Crew) -> "Neighbours":
        """The same entries, listed for each candidate: its examples in ascending order, and the costs."""
        size = int(self.lengths.sum())
        examples, costs = crew.empty((size,), np.int32), crew.empty((size,), np.float32)
        starts = _transpose(self.arrays, candidates, examples, costs)
        return Neighbours(starts[:-1], np.diff(starts), examples, costs)

    def gains(self, nearest_cost: Float32, weights: Float64, candidates: int, crew: Crew | None) -> Float64:
        """The marginal gains of all candidates: to the last bit those of `costs.gain`, or faster by a crew."""
        ground = len(self.starts)
        chunk = ground if crew is None else -(-ground // (2 * crew.threads))
        parts = np.zeros((-(-ground // chunk), candidates))

        def work(start: int, stop: int) -> None:
            _sum(self.arrays, nearest_cost, weights, start, stop, parts[start // chunk])

        if crew is None:
            work(0, ground)
        else:
            crew.share(ground, chunk, work)
        return np.asarray(parts.sum(axis=0))


def estimated_entries(costs: Costs, nearest_cost: Float32) -> int:
    """How many entries there are, from some of the examples; all where they are few."""
    rows = spread(costs.ground.count, _SAMPLE)
    seen = int(np.count_nonzero(costs.of(rows) <= nearest_cost[rows, None]))
    return -(-seen * costs.ground.count // len(rows))


def find_neighbours(
    costs: Costs, nearest_cost: Float32, weights: Float64, most: int, crew: Crew, sums: Float64 | None = None
) -> Neighbours | None:
    """All entries, or None where there are more than `most`. Time O(ground * candidates * dim).

    sums (candidates,): becomes sum_i w_i phi_ij, added up in no particular order.
    """
    ground, candidates = costs.ground.count, costs.candidates.count
    starts, lengths = np.zeros(ground, np.int64), np.zeros(ground, np.int64)
    found = crew.empty((most,), np.int32), crew.empty((most,), np.float32)
    used = 0
    lock, own = threading.Lock(), threading.local()
    parts: list[Float64] = []

    def find(top: int, bottom: int) -> None:
        nonlocal used
        if used > most:
            return
        if not hasattr(own, "scratch"):
            own.scratch = (
                crew.empty((_TALL, candidates), np.int32),
                crew.empty((_TALL, candidates), np.float32),
                crew.empty((_TALL, _WIDE), np.float32),
                crew.empty((_TALL, _WIDE), np.float32),
                crew.empty((_WIDE,), np.uint8),
            )
            own.sums = np.zeros(0 if sums is None else candidates)
            parts.append(own.sums)
        count = _list(
            costs.ground.arrays,
            costs.candidates.arrays,
            costs.metric.arguments,
            costs.stored,
            (top, bottom),
            nearest_cost,
            weights,
            own.scratch,
            lengths,
            own.sums,
        )
        with lock:
            start = used
            used += count
        if start + count <= most:
            _gather(own.scratch[:2], lengths[top:bottom], start, starts[top:bottom], found)

    crew.share(ground, _TALL, find)
    if sums is not None:
        sums[:] = np.sum(parts, axis=0)
    return None if used > most else Neighbours(starts, lengths, *found)


@kernel
def _sum(neighbours, nearest_cost, weights, top, bottom, gains):  # type: ignore[no-untyped-def]
    starts, lengths, candidates, costs = neighbours
    for i in range(top, bottom):
        least, weight = np.float64(nearest_cost[i]), weights[i]
        for place in range(starts[i], starts[i] + lengths[i]):
            gains[candidates[place]] += weight * (least - np.float64(costs[place]))


@kernel
def _list(rows, columns, metric, stored, span, nearest_cost, weights, scratch, lengths, sums):  # type: ignore[no-untyped-def]
    """Write the entries of rows span[0] to span[1], each from its row's start in scratch, and how many; their sum."""
    points, norms, others, other_norms = rows
    to_points, to_norms, to_others, to_other_norms = columns
    objective, rate, empty = metric
    top, bottom = span
    found, their_costs, tile, spare, nearer = scratch
    c = len(to_norms)
    for left in range(0, c, _WIDE):
        right = min(left + _WIDE, c)
        width = right - left
        if stored.size == 0:
            tile_squares(
                points, norms, others, other_norms, top, bottom,
                to_points, to_norms, to_others, to_other_norms, left, right, tile, spare, np.int64(0),
            )  # fmt: skip
            tile_costs(tile, bottom - top, np.int64(0), width, objective, rate, empty)
        for i in range(bottom - top):
            row = stored[top + i, left:right] if stored.size else tile[i, :width]
            place = lengths[top + i] if left else 0
            lengths[top + i] = _append(row, nearest_cost[top + i], left, found[i], their_costs[i], place, nearer)
            if len(sums):
                _add(row, weights[top + i], sums[left:right])
    total = 0
    for i in range(top, bottom):
        total += lengths[i]
    return total


@inner
def _append(row, least, left, found, costs, place, nearer):  # type: ignore[no-untyped-def]
    """Add the entries of a piece of a row: 64 comparisons become the bits of one word, so that few branches are missed.

    Returns the place after them. nearer: (_WIDE,) bytes to work in.
    """
    for at in range(len(row)):
        nearer[at] = row[at] <= least
    for at in range(len(row), _WIDE):
        nearer[at] = 0
    eights = nearer.view(np.uint64)
    for start in range(0, len(eights), 8):
        bits = np.uint64(0)
        for byte in range(8):
            bits |= (eights[start + byte] * _PACKED >> np.uint64(56)) << np.uint64(8 * byte)
        while bits:
            j = 8 * start + np.int64(_lowest(bits))
            bits &= bits - np.uint64(1)
            found[place] = left + j
            costs[place] = row[j]
            place += 1
    return place


@inner
def _add(row, weight, sums):  # type: ignore[no-untyped-def]
    for j in range(len(row)):
        sums[j] += weight * np.float64(row[j])


@kernel
def _transpose(neighbours, count, examples, theirs):  # type: ignore[no-untyped-def]
    starts, lengths, candidates, costs = neighbours
    ends = np.zeros(count + 1, np.int64)
    for i in range(len(starts)):
        for place in range(starts[i], starts[i] + lengths[i]):
            ends[candidates[place] + 1] += 1
    for j in range(count):
        ends[j + 1] += ends[j]
    at = ends.copy()
    for i in range(len(starts)):
        for place in range(starts[i], starts[i] + lengths[i]):
            j = candidates[place]
            examples[at[j]] = i
            theirs[at[j]] = costs[place]
            at[j] += 1
    return ends


@intrinsic
def _lowest(typing, word):  # type: ignore[no-untyped-def]
    """The place of the lowest bit that is set, of a word that is not zero."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return types.uint64(types.uint64), code


@kernel
def _gather(scratch, lengths, start, starts, found):  # type: ignore[no-untyped-def]
    """The entries of some rows from their scratch, one row after another."""
    place = start
    for i in range(len(lengths)):
        starts[i] = place
        for at in range(lengths[i]):
            found[0][place] = scratch[0][i, at]
            found[1][place] = scratch[1][i, at]
            place += 1


@inner
def correct(neighbours, i, old, new, weight, running):  # type: ignore[no-untyped-def]
    """Take off what the candidates lose when m_i falls from old to new, and drop those that can gain no more."""
    starts, lengths, candidates, costs = neighbours
    high = np.float64(old)
    start = starts[i]
    kept = start
    for place in range(start, start + lengths[i]):
        j, cost = candidates[place], costs[place]
        running[j] -= weight * (high - np.float64(max(new, cost)))
        candidates[kept] = j
        costs[kept] = cost
        kept += cost <= new
    dropped = start + lengths[i] - kept
    lengths[i] = kept - start
    return dropped
