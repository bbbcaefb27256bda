"""For every example, the candidates as near to it as its medoid, or nearer: all that later picks can still change.

After the first pick these are 4 to 17 % of all pairs (random residuals and Gaussian points, 10 to 64 dimensions), after
t picks about 1/(5 t) of them. Exact gains can be kept by differences over these lists alone, without distances.
"""

import threading
from dataclasses import dataclass
from typing import Literal

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
_TALL, _NARROW = 64, 16  # rows of a square computed at a time, columns of it turned at a time
_SQUARES = 4  # for each thread at least, after which lists are put together
_SEGMENT = 4  # as many squares might be full of entries for which memory is taken at a time
_PACKED = np.uint64(0x0102040810204080)  # times eight bytes of 0 or 1: the highest byte has them as its bits
_Entries = tuple[npt.NDArray[np.int32], Float32]  # candidates and costs; of a square: row by row


@dataclass(frozen=True)
class Neighbours:
    """Entries of example i: places starts[i] to starts[i] + lengths[i]."""

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

    Pairs are gone through square by square. Where the examples are the candidates and memory holds the entries twice, a
    square below the diagonal is the one above it, turned; elsewhere the lists of some examples after those of others.
    Time O(ground * candidates * dim), half where squares are turned.
    sums (candidates,): becomes sum_i w_i phi_ij, added up in no particular order.
    """
    room = min(most, 2 * expected + 64 * costs.candidates.count)
    turning = are_turned(costs.symmetric and costs.matrix is None, expected, most)
    search = _Search(costs, nearest_cost, weights, most // 2 if turning else room, sums is not None, crew)
    rows = search.down if turning else -(-_SQUARES * crew.threads // search.across)
    listed: _Entries | None = None if turning else (crew.empty((room,), np.int32), crew.empty((room,), np.float32))
    for first in range(0, search.down, rows):
        last = min(first + rows, search.down)
        if not search.find(first, last, turning):
            return None
        if listed is None:
            listed = crew.empty((search.used,), np.int32), crew.empty((search.used,), np.float32)
        search.put_together(first, last, listed)
    assert listed is not None
    if sums is not None:
        sums[:] = search.added_up("sums")
    return Neighbours(search.starts, search.lengths, *listed, search.added_up("gains"))


def are_turned(symmetric: bool, expected: int, most: int) -> bool:
    """Whether every pair's cost is computed once only."""
    return symmetric and 2.2 * expected <= most


def working_bytes(n: int) -> int:
    """What one thread works in, beside its entries."""
    side = _side(n)
    return 4 * side * (side + _TALL + _NARROW) + side + 4 * DEPTH * (side + _TALL)


def _side(n: int) -> int:
    """Of the squares: small enough for several in a row, so that near the diagonal little is computed twice."""
    return min(_SIDE, 64 * -(-n // (8 * 64)))


class _Search:
    """The entries of all squares, and how they become lists."""

    def __init__(self, costs: Costs, nearest_cost: Float32, weights: Float64, most: int, summing: bool, crew: Crew):
        self.costs, self.crew, self.most, self.summing = costs, crew, most, summing
        self.nearest_cost, self.weights = nearest_cost, weights
        self.ground, self.candidates = costs.ground.count, costs.candidates.count
        self.side = _side(max(self.ground, self.candidates))
        self.down, self.across = -(-self.ground // self.side), -(-self.candidates // self.side)
        self.starts, self.lengths = np.zeros(self.ground, np.int64), np.zeros(self.ground, np.int64)
        self.used = 0
        self._counts = np.zeros((self.across, self.ground), np.int16)  # of each example in each square
        self._pieces: dict[tuple[int, int], _Entries] = {}
        self._lock, self._own = threading.Lock(), threading.local()
        self._workers: list[_Worker] = []

    def find(self, first: int, last: int, turning: bool) -> bool:
        """The entries of some rows of squares; of those at and above the diagonal alone where the others are turned.

        False where they become too many.
        """
        squares = [(p, q) for p in range(first, last) for q in range(p if turning else 0, self.across)]
        for worker in self._workers:
            worker.rewind()

        def work(number: int, _: int) -> None:
            if self.used <= self.most:
                p, q = squares[number]
                self._find(p, q, turning and p != q)

        self.crew.share(len(squares), 1, work)
        return self.used <= self.most

    def put_together(self, first: int, last: int, listed: _Entries) -> None:
        """The lists of some rows of squares, behind those that are there."""
        top, bottom = first * self.side, min(last * self.side, self.ground)
        lengths = self._counts[:, top:bottom].sum(axis=0, dtype=np.int64)
        before = self.used - int(lengths.sum())
        self.lengths[top:bottom] = lengths
        self.starts[top:bottom] = before + np.cumsum(lengths) - lengths

        def work(start: int, stop: int) -> None:
            rows = slice(top + start, top + stop)
            at, gains = self.starts[rows].copy(), self._worker().gains
            for q in range(self.across):
                piece = self._pieces.pop((rows.start // self.side, q))
                _append_piece(
                    piece, self._counts[q, rows], self.nearest_cost[rows], self.weights[rows], at, listed, gains
                )

        self.crew.share(bottom - top, self.side, work)

    def added_up(self, what: Literal["sums", "gains"]) -> Float64:
        """What the threads have added up."""
        return np.asarray(np.sum([getattr(worker, what) for worker in self._workers], axis=0))

    def _find(self, p: int, q: int, turned: bool) -> None:
        costs, counts, worker, side = self.costs, self._counts, self._worker(), self.side
        top, bottom = p * side, min((p + 1) * side, self.ground)
        left, right = q * side, min((q + 1) * side, self.candidates)
        square = top, bottom, left, right
        tile, at = worker.tile, (0, 0)
        if costs.matrix is None:
            fill(costs.ground.arrays, costs.candidates.arrays, costs.metric.arguments, square, tile, worker.spare)
        else:
            tile, at = costs.matrix, (top, left)
        straight, total = _list(
            tile,
            at,
            square,
            turned,
            self.nearest_cost,
            self.weights,
            (*worker.scratch, *worker.room()),
            (counts[q, top:bottom], counts[p, left:right] if turned else counts[q, :0]),
            worker.sums,
        )
        self._pieces[p, q] = worker.keep(straight)
        if turned:
            self._pieces[q, p] = worker.keep(total - straight)
        with self._lock:
            self.used += total

    def _worker(self) -> "_Worker":
        """This thread's."""
        if not hasattr(self._own, "worker"):
            self._own.worker = _Worker(self.crew, self.side, self.candidates, self.candidates if self.summing else 0)
            self._workers.append(self._own.worker)
        worker: _Worker = self._own.worker
        return worker


class _Worker:
    """What one thread finds entries with, where it keeps them, and what it adds up."""

    def __init__(self, crew: Crew, side: int, candidates: int, summed: int):
        self._crew, self._square = crew, 2 * side * side
        self.tile, self.spare = crew.empty((side, side), np.float32), crew.empty((_TALL, side), np.float32)
        nearer = crew.empty((side,), np.uint8)
        self.scratch = crew.empty((_NARROW, side + _NARROW), np.float32), nearer, nearer.view(np.uint64)
        self.sums, self.gains = np.zeros(summed), np.zeros(candidates)
        self._segments: list[_Entries] = []
        self._segment, self._start = 0, 0  # where the next entries go

    def rewind(self) -> None:
        """What was kept is needed no more."""
        self._segment, self._start = 0, 0

    def room(self) -> _Entries:
        """Room for the entries of a square and of its turn."""
        size = _SEGMENT * self._square
        if self._segments and self._start + self._square > size:
            self._segment, self._start = self._segment + 1, 0
        if self._segment == len(self._segments):
            self._segments.append((self._crew.empty((size,), np.int32), self._crew.empty((size,), np.float32)))
        candidates, costs = self._segments[self._segment]
        return candidates[self._start :], costs[self._start :]

    def keep(self, count: int) -> _Entries:
        """The first of those that have just been written there."""
        candidates, costs = self._segments[self._segment]
        start, self._start = self._start, self._start + count
        return candidates[start : start + count], costs[start : start + count]


@kernel
def _sum(neighbours, nearest_cost, weights, gains):  # type: ignore[no-untyped-def]
    starts, lengths, candidates, costs = neighbours
    for i in range(len(starts)):
        least, weight = np.float64(nearest_cost[i]), weights[i]
        for place in range(starts[i], starts[i] + lengths[i]):
            gains[candidates[place]] += weight * (least - np.float64(costs[place]))


@kernel
def _list(tile, at_tile, square, turned, nearest_cost, weights, scratch, counts, sums):  # type: ignore[no-untyped-def]
    """Write the entries of a square's rows to scratch, and behind them, where it is turned, too, those of its columns.

    Returns where the rows' and where all end; writes how many each has; adds up what there is to.
    """
    top, bottom, left, right = square
    upper, first = at_tile
    lines, nearer, eights, found, costs = scratch
    height, width = bottom - top, right - left
    place = straight = 0
    for line in range(height + width if turned else height):
        before = place
        if line < height:
            row = tile[upper + line, first : first + width]
            i, j, theirs, at = top + line, left, counts[0], line
        else:
            at = line - height
            if at % _NARROW == 0:
                for k in range(height):
                    for one in range(_NARROW):  # beyond the width, too: so it is one block of known size
                        lines[one, k] = tile[k, at + one]
            row = lines[at % _NARROW, :height]
            i, j, theirs = left + at, top, counts[1]
        place = _append(row, nearest_cost[i], j, found, costs, place, nearer, eights)
        theirs[at] = place - before
        if len(sums):
            _add(row, weights[i], sums[j : j + len(row)])
        if line < height:
            straight = place
    return straight, place


@inner
def _append(row, least, left, found, costs, place, nearer, eights):  # type: ignore[no-untyped-def]
    """Add the entries of a piece of a row: 64 comparisons become the bits of one word, so that few branches are missed.

    Returns the place after them. nearer: bytes to work in, a multiple of 64 and at least as many as the row is long;
    eights: the same memory, eight at a time.
    """
    for at in range(len(row)):
        nearer[at] = row[at] <= least
    words = (len(row) + 63) // 64
    for at in range(len(row), 64 * words):
        nearer[at] = 0
    to = np.uint64(place)  # unsigned: such indices are not looked at for being negative
    for word in range(words):
        bits = np.uint64(0)
        for byte in range(8):
            bits |= (eights[np.uint64(8 * word + byte)] * _PACKED >> np.uint64(56)) << np.uint64(8 * byte)
        while bits:
            j = np.uint64(64 * word) + _lowest(bits)
            bits &= bits - np.uint64(1)
            found[to] = np.int32(left) + np.int32(j)
            costs[to] = row[j]
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
        for place in range(starts[i], starts[i] + lengths[i]):
            ends[candidates[place] + 1] += 1
    at[0] = 0
    for j in range(1, len(ends)):
        ends[j] += ends[j - 1]
        at[j] = ends[j]
    for i in range(len(starts)):
        for place in range(starts[i], starts[i] + lengths[i]):
            j = candidates[place]
            examples[at[j]] = i
            theirs[at[j]] = costs[place]
            at[j] += 1


@intrinsic
def _lowest(typing, word):  # type: ignore[no-untyped-def]
    """The place of the lowest bit that is set, of a word that is not zero."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return types.uint64(types.uint64), code


@kernel
def _append_piece(piece, counts, nearest_cost, weights, at, listed, gains):  # type: ignore[no-untyped-def]
    """Put every row's entries of a piece where its list has come to, and add them to their candidates' gains."""
    candidates, costs = piece
    entry = np.uint64(0)
    for i in range(len(counts)):
        least, weight, to = np.float64(nearest_cost[i]), weights[i], np.uint64(at[i])
        for _ in range(counts[i]):
            j, cost = np.uint64(candidates[entry]), costs[entry]
            listed[0][to] = candidates[entry]
            listed[1][to] = cost
            gains[j] += weight * (least - np.float64(cost))
            entry += np.uint64(1)
            to += np.uint64(1)
        at[i] += counts[i]


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
