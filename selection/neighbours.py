"""For every example, the candidates as near to it as its medoid, or nearer: all that later picks can still change.

After the first pick these are 4 to 17 % of all pairs (random residuals and Gaussian points, 10 to 64 dimensions), after
t picks about 1/(5 t) of them. Exact gains can be kept by differences over these lists alone, without distances.

Indices in kernels are unsigned where it counts: others are looked at for being negative, each time.
"""

import math
import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic

from selection.compiling import inner, kernel
from selection.costs import Costs, fill
from selection.panels import DEPTH
from selection.problem import Float64
from selection.proxies import Float32, Int64
from selection.threads import Crew

BYTES = 8  # an entry
_SIDE = 512  # of a square of pairs at most; a multiple of 64
_TALL, _WIDE = 128, 2048  # of a strip: rows at most whose lists are found together, columns computed at a time
_SCRATCH = 16 << 20  # bytes of a strip's entries, were all pairs listed
_TILE = 64  # rows of a square or a strip computed at a time
_NARROW = 16  # columns of a square turned at a time
_SEGMENT = 4  # as many squares might be full of entries for which memory is taken at a time
_SHALLOW = 20  # coordinates up to which computing a pair's cost twice takes less time than turning squares
_Entries = tuple[npt.NDArray[np.int32], Float32]  # candidates and costs
_PACKED = np.uint64(0x0102040810204080)  # times eight bytes of 0 or 1: the highest byte has them as its bits


@dataclass(frozen=True)
class Neighbours:
    """Entries of example i: places starts[i] to starts[i] + lengths[i]; their candidates ascend."""

    starts: Int64  # (ground,)
    lengths: Int64  # (ground,)
    candidates: npt.NDArray[np.int32]
    costs: Float32
    gains: Float64  # (candidates,) sum_i w_i (m_i - phi_ij) as they were found, added up in no particular order

    @property
    def arrays(self) -> tuple[Int64, Int64, npt.NDArray[np.int32], Float32]:
        """As the kernels take them."""
        return self.starts, self.lengths, self.candidates, self.costs

    def by_candidate(self, crew: Crew) -> tuple[Int64, Int64, npt.NDArray[np.int32], Float32]:
        """The same entries, listed for each candidate: its examples in ascending order, and the costs."""
        size = int(self.lengths.sum())
        examples, costs = crew.empty((size,), np.int32), crew.empty((size,), np.float32)
        starts = np.zeros(len(self.gains) + 1, np.int64)
        _transpose(self.arrays, starts, np.empty_like(starts), examples, costs)
        return starts[:-1], np.diff(starts), examples, costs

    def added_up(self, nearest_cost: Float32, weights: Float64) -> Float64:
        """The marginal gains of all candidates now: to the last bit those of `costs.gain`."""
        gains = np.zeros(len(self.gains))
        _sum(self.arrays, nearest_cost, weights, gains)
        return gains


def estimated_entries(ground: int, nearest_cost: Float32, costs: Float32) -> int:
    """How many entries there are for all examples, by the costs (some, candidates) of some; all where they are few."""
    return -(-int(np.count_nonzero(costs <= nearest_cost[:, None])) * ground // len(costs))


def find_neighbours(
    costs: Costs,
    nearest_cost: Float32,
    weights: Float64,
    expected: int,
    most: int,
    crew: Crew,
    sums: Float64 | None = None,
) -> Neighbours | None:
    """All entries, or None where there are more than `most`, or far more than `expected`.

    Strip by strip, the lists of some examples after those of others. Where pairs have many coordinates, the examples
    are the candidates, and memory holds the entries twice: square by square, one below the diagonal the turned one
    above it; what the squares hold of each example is put together at last.
    Time O(ground * candidates * dim), half where squares are turned.
    sums (candidates,): becomes sum_i w_i phi_ij, added up in no particular order.
    """
    turning = are_turned(costs.symmetric and costs.matrix is None, costs.ground.depth, expected, most)
    # squares take memory as they go, strips all of it at once
    room = most // 2 if turning else min(most, 2 * expected + 64 * costs.candidates.count)
    kind, mark = _Squares if turning else _Strips, crew.mark()
    found = kind(costs, nearest_cost, weights, room, sums, crew).find()
    if found is None:
        crew.release(mark)
    return found


def are_turned(symmetric: bool, depth: int, expected: int, most: int) -> bool:
    """Whether every pair's cost is computed once only."""
    return symmetric and depth > _SHALLOW and 2.2 * expected <= most


def working_bytes(n: int, share: float) -> int:
    """What one thread works in, beside its entries, `share` of all pairs: rows differ, so some have twice as many."""
    side = _side(n)
    tall = _tall(n, n, 1)
    square = 4 * side * side
    strip = 4 * tall * min(n, _WIDE) + BYTES * math.ceil(tall * n * min(1.0, 2 * share))
    return max(square, strip) + 4 * _TILE * (side + _NARROW) + 4 * DEPTH * (side + _TILE)


def _tall(ground: int, candidates: int, threads: int) -> int:
    """Rows of a strip, a multiple of a vector's length: several strips a thread, few rows where lists may be long."""
    tall = min(_TALL, 16 * -(-ground // (16 * 4 * threads)))
    return tall if BYTES * tall * candidates <= _SCRATCH else min(tall, _TILE)


def _side(n: int) -> int:
    """Of the squares: small enough for several in a row, so that near the diagonal little is computed twice."""
    return min(_SIDE, 64 * -(-n // (8 * 64)))


class _Search:
    """Entries as threads find them: where they go, and what is added up on the way."""

    def __init__(
        self, costs: Costs, nearest_cost: Float32, weights: Float64, room: int, sums: Float64 | None, crew: Crew
    ):
        self.costs, self.room, self.sums, self.crew = costs, room, sums, crew
        self.given = nearest_cost, weights
        self.ground, self.candidates = costs.ground.count, costs.candidates.count
        self.side = _side(max(self.ground, self.candidates))
        self.used = 0
        self._lock, self._own = threading.Lock(), threading.local()
        self._workers: list[_Worker] = []

    def take(self, count: int) -> int | None:
        """Where so many entries go, were they all in a row; None where there is no room."""
        with self._lock:
            start = self.used
            self.used += count
        return start if start + count <= self.room else None

    def empty(self, count: int) -> _Entries:
        """Room for entries."""
        return self.crew.empty((count,), np.int32), self.crew.empty((count,), np.float32)

    def worker(self, tile: tuple[int, int]) -> "_Worker":
        """This thread's."""
        if not hasattr(self._own, "worker"):
            self._own.worker = _Worker(self, tile)
            self._workers.append(self._own.worker)
        worker: _Worker = self._own.worker
        return worker

    def fill(self, square: tuple[int, int, int, int], worker: "_Worker") -> None:
        """The costs of a square of pairs."""
        ground, candidates, metric = self.costs.ground, self.costs.candidates, self.costs.metric
        fill(ground.arrays, candidates.arrays, metric.arguments, square, worker.tile, worker.spare)

    def lists(self, starts: Int64, lengths: Int64, listed: _Entries) -> Neighbours:
        """With what the threads have added up."""
        if self.sums is not None:
            self.sums[:] = np.sum([worker.sums for worker in self._workers], axis=0)
        return Neighbours(
            starts, lengths, *listed, np.asarray(np.sum([worker.gains for worker in self._workers], axis=0))
        )


class _Worker:
    """What one thread finds entries with, and what it adds up."""

    def __init__(self, search: _Search, tile: tuple[int, int]):
        self.crew, n = search.crew, search.candidates
        self.tile = self.crew.empty(tile, np.float32)
        self.spare = self.crew.empty((_TILE, search.side + _NARROW), np.float32)
        nearer = self.crew.empty((64 * -(-tile[1] // 64),), np.uint8)
        self.compared = nearer, nearer.view(np.uint64)
        self.sums, self.gains = np.zeros(0 if search.sums is None else n), np.zeros(n)
        self.lists: _Entries | None = None  # of a strip: those of each row
        self.room: _Entries | None = None  # for squares
        self.at = 0  # where the next square's entries go


class _Strips(_Search):
    """Some rows after others, each list in one piece."""

    def find(self) -> Neighbours | None:
        """The lists, if there is room for all."""
        starts, lengths = np.zeros(self.ground, np.int64), np.zeros(self.ground, np.int64)
        listed = self.empty(self.room)
        tall = _tall(self.ground, self.candidates, self.crew.threads)
        wide = min(_WIDE, self.candidates)

        def work(top: int, bottom: int) -> None:
            if self.used > self.room:
                return
            worker = self.worker((tall, wide))
            if worker.lists is None:
                shape = tall, self.candidates
                worker.lists = self.crew.empty(shape, np.int32), self.crew.empty(shape, np.float32)
            for left in range(0, self.candidates, wide):
                square = top, bottom, left, min(left + wide, self.candidates)
                tile, at = worker.tile, (0, 0)
                if self.costs.matrix is None:
                    self.fill(square, worker)
                else:
                    tile, at = self.costs.matrix, (top, left)
                scratch = *worker.compared, *worker.lists
                _list_strip(tile, at, square, lengths, *self.given, scratch, worker.sums, worker.gains)
            start = self.take(int(lengths[top:bottom].sum()))
            if start is not None:
                _keep_strip(worker.lists, top, starts, lengths[top:bottom], start, listed)

        self.crew.share(self.ground, tall, work)
        return self.lists(starts, lengths, listed) if self.used <= self.room else None


class _Squares(_Search):
    """Squares of pairs, each a piece of the lists of its rows and, turned, of those of its columns."""

    def find(self) -> Neighbours | None:
        """The lists, if there is room for all."""
        n, side = self.ground, self.side
        across = -(-n // side)
        self.counts = np.zeros((across, n), np.int16)  # of each example in each square
        self.pieces: dict[tuple[int, int], _Entries] = {}
        squares = [(p, q) for p in range(across) for q in range(p, across)]

        def work(number: int, _: int) -> None:
            if self.used <= self.room:
                self._find(*squares[number])

        self.crew.share(len(squares), 1, work)
        return self._put_together() if self.used <= self.room else None

    def _find(self, p: int, q: int) -> None:
        n, side, counts = self.ground, self.side, self.counts
        worker = self.worker((side, side))
        square = top, bottom, left, right = p * side, min((p + 1) * side, n), q * side, min((q + 1) * side, n)
        self.fill(square, worker)
        if worker.room is None or len(worker.room[0]) - worker.at < 2 * side * side:
            worker.room, worker.at = self.empty(_SEGMENT * 2 * side * side), 0
        candidates, costs = worker.room[0][worker.at :], worker.room[1][worker.at :]
        scratch = *worker.compared, candidates, costs
        lines = worker.spare[:_NARROW]
        theirs = counts[q, top:bottom], counts[p, left:right]
        straight, total = _list_square(
            worker.tile, square, lines, theirs, *self.given, scratch, worker.sums, worker.gains
        )
        worker.at += total
        self.take(total)
        self.pieces[p, q] = candidates[:straight], costs[:straight]
        if p != q:
            self.pieces[q, p] = candidates[straight:total], costs[straight:total]

    def _put_together(self) -> Neighbours:
        lengths = self.counts.sum(axis=0, dtype=np.int64)
        starts, listed = np.cumsum(lengths) - lengths, self.empty(self.used)

        def work(top: int, bottom: int) -> None:
            at = starts[top:bottom].copy()
            for q in range(len(self.counts)):
                _append_piece(self.pieces[top // self.side, q], self.counts[q, top:bottom], at, listed)

        self.crew.share(self.ground, self.side, work)
        return self.lists(starts, lengths, listed)


@kernel
def _sum(neighbours, nearest_cost, weights, gains):  # type: ignore[no-untyped-def]
    starts, lengths, candidates, costs = neighbours
    for i in range(len(starts)):
        least, weight = np.float64(nearest_cost[i]), weights[i]
        for place in range(np.uint64(starts[i]), np.uint64(starts[i] + lengths[i])):
            gains[np.uint64(candidates[place])] += weight * (least - np.float64(costs[place]))


@kernel
def _list_strip(tile, at, square, lengths, nearest_cost, weights, scratch, sums, gains):  # type: ignore[no-untyped-def]
    """Add the entries of some columns to those of a strip's rows, and what there is to add up."""
    top, bottom, left, right = square
    upper, first = at
    nearer, eights, candidates, costs = scratch
    for i in range(top, bottom):
        row, line = tile[upper + i - top, first : first + right - left], i - top
        its = nearer, eights, candidates[line], costs[line]
        lengths[i] = _append(row, nearest_cost[i], weights[i], left, its, lengths[i], gains)
        if len(sums):
            _add(row, weights[i], sums[left:right])


@kernel
def _keep_strip(lists, top, starts, lengths, start, listed):  # type: ignore[no-untyped-def]
    """What a strip's rows have goes to where it stays."""
    for line in range(len(lengths)):
        starts[top + line] = start
        to = start
        for place in range(lengths[line]):
            listed[0][to + place] = lists[0][line, place]
        for place in range(lengths[line]):
            listed[1][to + place] = lists[1][line, place]
        start += lengths[line]


@kernel
def _list_square(tile, square, lines, counts, nearest_cost, weights, scratch, sums, gains):  # type: ignore[no-untyped-def]
    """Find the entries of a square's rows and, if it is not on the diagonal, behind them those of its columns.

    Returns where the rows' and where all end; notes how many each has; adds up what there is to. lines: to turn columns
    in.
    """
    top, bottom, left, right = square
    height, width = bottom - top, right - left
    place = straight = 0
    for line in range(height + width if top != left else height):
        before = place
        if line < height:
            row = tile[line, :width]
            i, j, theirs, at = top + line, left, counts[0], line
        else:
            at = line - height
            if at % _NARROW == 0:
                for k in range(height):
                    for one in range(_NARROW):  # beyond the width, too: so it is one block of known size
                        lines[one, k] = tile[k, at + one]
            row = lines[at % _NARROW, :height]
            i, j, theirs = left + at, top, counts[1]
        place = _append(row, nearest_cost[i], weights[i], j, scratch, place, gains)
        theirs[at] = place - before
        if len(sums):
            _add(row, weights[i], sums[j : j + len(row)])
        if line < height:
            straight = place
    return straight, place


@kernel
def _append_piece(piece, counts, at, listed):  # type: ignore[no-untyped-def]
    """Put every row's entries of a piece where its list has come to."""
    candidates, costs = piece
    entry = np.uint64(0)
    for i in range(len(counts)):
        to = np.uint64(at[i])
        for _ in range(counts[i]):
            listed[0][to] = candidates[entry]
            listed[1][to] = costs[entry]
            entry += np.uint64(1)
            to += np.uint64(1)
        at[i] += counts[i]


@inner
def _append(row, least, weight, left, scratch, place, gains):  # type: ignore[no-untyped-def]
    """Add the entries of a piece of a row, and what they gain: 64 comparisons become the bits of one word, so that few
    branches are missed.

    Returns the place after them. scratch: bytes to work in, a multiple of 64 and at least as many as the row is long;
    the same memory, eight at a time; where candidates and costs go.
    """
    nearer, eights, found, costs = scratch
    for at in range(len(row)):
        nearer[at] = row[at] <= least
    words = (len(row) + 63) // 64
    for at in range(len(row), 64 * words):
        nearer[at] = 0
    to = np.uint64(place)
    for word in range(words):
        bits = np.uint64(0)
        for byte in range(8):
            bits |= (eights[np.uint64(8 * word + byte)] * _PACKED >> np.uint64(56)) << np.uint64(8 * byte)
        while bits:
            j = np.uint64(64 * word) + _lowest(bits)
            bits &= bits - np.uint64(1)
            found[to] = np.int32(left) + np.int32(j)
            costs[to] = row[j]
            gains[np.uint64(left) + j] += weight * (np.float64(least) - np.float64(row[j]))
            to += np.uint64(1)
    return np.int64(to)


@inner
def _add(row, weight, sums):  # type: ignore[no-untyped-def]
    for j in range(len(row)):
        sums[j] += weight * np.float64(row[j])


@kernel
def _transpose(neighbours, ends, at, examples, theirs):  # type: ignore[no-untyped-def]
    """Every entry to its candidate. ends: zeros, becomes where the candidates' lists end, behind a zero; at: to use."""
    starts, lengths, candidates, costs = neighbours
    for i in range(len(starts)):
        for place in range(np.uint64(starts[i]), np.uint64(starts[i] + lengths[i])):
            ends[np.uint64(candidates[place]) + np.uint64(1)] += 1
    at[0] = 0
    for j in range(1, len(ends)):
        ends[j] += ends[j - 1]
        at[j] = ends[j]
    for i in range(len(starts)):
        for place in range(np.uint64(starts[i]), np.uint64(starts[i] + lengths[i])):
            candidate = np.uint64(candidates[place])
            to = np.uint64(at[candidate])
            examples[to] = i
            theirs[to] = costs[place]
            at[candidate] += 1


@intrinsic
def _lowest(typing, word):  # type: ignore[no-untyped-def]
    """The place of the lowest bit that is set, of a word that is not zero."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return types.uint64(types.uint64), code


@inner
def correct(neighbours, i, old, new, weight, running):  # type: ignore[no-untyped-def]
    """Take off what the candidates lose when m_i falls from old to new, and drop those that can gain no more."""
    starts, lengths, candidates, costs = neighbours
    high = np.float64(old)
    start, length = np.uint64(starts[i]), np.uint64(lengths[i])
    kept = start
    for place in range(start, start + length):
        j, cost = candidates[place], costs[place]
        running[np.uint64(j)] -= weight * (high - np.float64(max(new, cost)))
        candidates[kept] = j
        costs[kept] = cost
        kept += np.uint64(cost <= new)
    left = np.int64(kept - start)
    dropped = lengths[i] - left
    lengths[i] = left
    return dropped
