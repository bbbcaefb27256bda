"""Exact greedy for facility location, by differences.

The gain of j is sum_i max(0, m_i - phi_ij). When a pick lowers m_i for some examples, only these examples' terms
change, in every gain: the gains are corrected from the rows that changed. O(n^2) to start, O(n * changed) a step.
"""

import math
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from selection.objectives import Objective, cost_matrix
from selection.proxies import Float32, Int64

Float64 = npt.NDArray[np.float64]
_BLOCK = 1024  # gains corrected by one thread at a time
_SERIAL = 4_000_000  # below this many corrections, waking the threads costs more than it saves
_ROUNDING = 2.0**-53  # of one float64 operation, relative


@dataclass(frozen=True)
class Problem:
    """One facility-location problem: a class of examples, its rows in ascending order of id."""

    residuals: Float32  # (n, C)
    embeddings: Float32 | None  # (n, D)
    objective: Objective
    budget: int | None  # exactly this many, or
    tolerance: float | None  # until ||G_S||_F is at most this


@dataclass(frozen=True)
class Picks:
    """A solved problem."""

    order: Int64  # rows, in the order they were picked
    gains: Float64  # drop of the objective at each pick
    counts: Int64  # gamma: how many examples have each pick as their nearest; sums to n
    seconds: float = 0.0


def solve(problem: Problem) -> Picks:
    """Greedy picks: every step takes the largest marginal gain; ties go to the smaller row.

    With a tolerance, stops as soon as ||G_S||_F <= tolerance, after one pick at least.
    Where no further pick has a gain, the budget is filled with the smallest rows left.
    Time O(n^2 C) + O(n) for each example whose nearest medoid changes; memory 4 n^2 bytes.
    """
    n = len(problem.residuals)
    limit = n if problem.budget is None else problem.budget
    if not 1 <= limit <= n:
        raise ValueError(f"budget = {limit}: should be at least 1 and at most n = {n}")
    costs = cost_matrix(problem.residuals, problem.embeddings, problem.objective)
    cover = Cover(costs.matrix, costs.empty)
    order: list[int] = []
    gains: list[float] = []
    squares = np.full(n, math.inf)  # min_j d_ij^2, kept for the tolerance only
    while len(order) < limit:
        row, gain = cover.pick()
        order.append(row)
        gains.append(gain * costs.unit)
        if problem.tolerance is not None:
            np.minimum(squares, costs.squares_to(row), out=squares)
            if math.sqrt(squares.sum()) <= problem.tolerance:
                break
    rows = np.array(order, np.int64)
    return Picks(rows, np.array(gains), np.bincount(cover.nearest, minlength=n)[rows])


class Cover:
    """How well the medoids picked so far cover the examples, and what each further one would gain.

    The running gains carry the rounding of their corrections, at most `slack`. All gains that might be the largest
    are computed afresh before one is picked, so that the pick is the one that computing everything anew would give.
    """

    def __init__(self, costs: Float32, empty: float):
        n = len(costs)
        self.costs = costs
        self.nearest_cost = np.full(n, empty, np.float32)  # m_i
        self.nearest = np.full(n, n, np.int64)  # n: none yet
        self.left = np.ones(n, np.bool_)
        self.running = np.empty(n, np.float64)
        self.most = max(16, n // 16)  # gains computed singly before computing all is cheaper
        self.refresh()

    def refresh(self) -> None:
        """Compute all gains from their definition."""
        fresh_gains(self.costs, self.nearest_cost, self.left, self.running)
        self.largest = float(self.running.max())
        self.operations = 0

    @property
    def slack(self) -> float:
        """The most that a running gain can be away from the same gain computed afresh."""
        if self.operations == 0:
            return 0.0
        return _ROUNDING * self.largest * (2 * len(self.running) + 2 * self.operations)

    def pick(self) -> tuple[int, float]:
        """Make the example of the largest gain a medoid: its row (of equals, the smallest), and its gain."""
        if self.operations:
            row, gain = _largest(self.costs, self.nearest_cost, self.running, 2 * self.slack, self.most)
            if row < 0:
                self.refresh()
        if not self.operations:
            row = int(np.argmax(self.running))
            gain = float(self.running[row])
        self.left[row] = False
        self.running[row] = -np.inf
        changed, before = _assign(self.costs[row], row, self.nearest_cost, self.nearest)
        if 2 * len(changed) > len(self.running):
            self.refresh()
        elif len(changed):
            correct = _correct if len(changed) * len(self.running) > _SERIAL else _correct_serially
            correct(self.costs, changed, before, self.nearest_cost, self.running)
            self.operations += len(changed)
        return row, gain


@numba.njit(parallel=True, cache=True)
def fresh_gains(costs, nearest_cost, left, running):  # type: ignore[no-untyped-def]
    """running[j] = sum_i max(0, m_i - phi_ij) for all j that are left, -inf for the others."""
    for j in numba.prange(len(running)):
        running[j] = exact_gain(costs[j], nearest_cost) if left[j] else -np.inf


@numba.njit(cache=True)
def exact_gain(row, nearest_cost):  # type: ignore[no-untyped-def]
    """sum_i max(0, m_i - phi_ij) in float64; costs are symmetric, so row j serves as column j."""
    gain = 0.0
    for i in range(len(row)):
        gain += max(0.0, np.float64(nearest_cost[i]) - np.float64(row[i]))
    return gain


@numba.njit(cache=True)
def _largest(costs, nearest_cost, running, slack, most):  # type: ignore[no-untyped-def]
    """The largest gain and its row, of those within `slack` of the largest running gain; -1 where these are many."""
    floor = running.max() - slack
    row, gain, seen = -1, -np.inf, 0
    for j in range(len(running)):
        if running[j] >= floor:
            seen += 1
            if seen > most:
                return -1, gain
            running[j] = exact_gain(costs[j], nearest_cost)
            if running[j] > gain:
                row, gain = j, running[j]
    return row, gain


@numba.njit(cache=True)
def _assign(row, pick, nearest_cost, nearest):  # type: ignore[no-untyped-def]
    """Update every example's nearest medoid, ties to the smaller row; whose cost changed, and from what."""
    n = len(row)
    changed = np.empty(n, np.int64)
    before = np.empty(n, np.float32)
    count = 0
    for i in range(n):
        if row[i] < nearest_cost[i]:
            changed[count] = i
            before[count] = nearest_cost[i]
            count += 1
            nearest_cost[i] = row[i]
            nearest[i] = pick
        elif row[i] == nearest_cost[i] and pick < nearest[i]:
            nearest[i] = pick
    return changed[:count], before[:count]


@numba.njit(cache=True)
def _correct_serially(costs, changed, before, nearest_cost, running):  # type: ignore[no-untyped-def]
    """For every changed example: max(0, old - phi) - max(0, new - phi) comes off each gain."""
    for place in range(len(changed)):
        i = changed[place]
        _correct_row(costs[i], before[place], nearest_cost[i], running)


@numba.njit(parallel=True, cache=True)
def _correct(costs, changed, before, nearest_cost, running):  # type: ignore[no-untyped-def]
    """The same on all threads; each gain sees the same operations in the same order."""
    n = len(running)
    for block in numba.prange((n + _BLOCK - 1) // _BLOCK):
        start = block * _BLOCK
        stop = min(start + _BLOCK, n)
        _correct_serially(costs[:, start:stop], changed, before, nearest_cost, running[start:stop])


@numba.njit(cache=True)
def _correct_row(row, old, new, running):  # type: ignore[no-untyped-def]
    # In float64, where these differences are exact; `float` of a float32 would stay a float32 here.
    high = np.float64(old)
    for j in range(len(running)):
        running[j] -= high - np.float64(min(old, max(new, row[j])))
