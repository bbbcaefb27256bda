"""Exact greedy for facility location, by differences.

The gain of j is sum_i max(0, m_i - phi_ij). When a pick lowers m_i for some examples, only these examples' terms
change, in every gain: the gains are corrected from the rows that changed. O(n^2) to start, O(n * changed) a step.
"""

import math
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from selection.objectives import Objective, cost_matrix, frobenius_norm
from selection.proxies import Float32, Int64

_CHUNK = 512  # gains corrected by one thread at a time
_SERIAL = 30_000  # below this many corrections, waking the threads costs more than it saves


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
    gains: npt.NDArray[np.float64]  # drop of the objective at each pick
    counts: Int64  # gamma: how many examples have each pick as their nearest; sums to n
    seconds: float = 0.0


def solve(problem: Problem) -> Picks:
    """Greedy picks: every step takes the largest marginal gain; ties go to the smaller row.

    With a tolerance, stops as soon as ||G_S||_F <= tolerance, after one pick at least.
    Where no further pick has a gain, the budget is filled with the smallest rows left.
    Time O(n^2 C) + O(n) for each example whose nearest medoid changes; memory 4 n^2 bytes.
    """
    n = len(problem.residuals)
    costs, empty, dim = cost_matrix(problem.residuals, problem.embeddings, problem.objective)
    limit = n if problem.budget is None else problem.budget
    if not 1 <= limit <= n:
        raise ValueError(f"budget = {limit}: should be at least 1 and at most n = {n}")
    nearest_cost = np.full(n, empty, np.float32)
    nearest = np.full(n, n, np.int64)
    left = np.ones(n, np.bool_)
    running = np.empty(n, np.float64)
    fresh_gains(costs, nearest_cost, left, running)
    order: list[int] = []
    gains: list[float] = []
    while len(order) < limit:
        pick, gain = next_pick(costs, nearest_cost, left, running)
        left[pick] = False
        take(costs, pick, nearest_cost, nearest, running)
        order.append(pick)
        gains.append(gain)
        if problem.tolerance is not None:
            c1 = empty if problem.objective == "distance" else math.inf
            if frobenius_norm(nearest_cost, problem.objective, dim, c1) <= problem.tolerance:
                break
    rows = np.array(order, np.int64)
    counts = np.bincount(nearest, minlength=n)[rows]
    return Picks(rows, np.array(gains), counts)


def next_pick(costs, nearest_cost, left, running) -> tuple[int, float]:  # type: ignore[no-untyped-def]
    """The row of the largest gain, and that gain computed afresh.

    Rounding gathers in the running gains; where it shows in the winner, all are computed afresh and compared again.
    """
    pick = int(np.argmax(running))
    gain = float(exact_gain(costs, nearest_cost, pick))
    if abs(gain - running[pick]) > 1e-9 * gain:
        fresh_gains(costs, nearest_cost, left, running)
        pick = int(np.argmax(running))
        gain = float(running[pick])
    return pick, gain


def take(costs, pick, nearest_cost, nearest, running) -> None:  # type: ignore[no-untyped-def]
    """Make `pick` a medoid: update every example's nearest medoid (ties to the smaller row) and all gains."""
    changed, before = _assign(costs[pick], pick, nearest_cost, nearest)
    running[pick] = -np.inf
    if len(changed) * len(running) < _SERIAL:
        _correct_block(costs, changed, before, nearest_cost, running, 0, len(running))
    else:
        _correct(costs, changed, before, nearest_cost, running)


@numba.njit(parallel=True, cache=True)
def fresh_gains(costs, nearest_cost, left, running):  # type: ignore[no-untyped-def]
    """running[j] = sum_i max(0, m_i - phi_ij) for all j that are left, -inf for the others."""
    for j in numba.prange(len(running)):
        running[j] = exact_gain(costs, nearest_cost, j) if left[j] else -np.inf


@numba.njit(cache=True)
def exact_gain(costs, nearest_cost, j):  # type: ignore[no-untyped-def]
    """sum_i max(0, m_i - phi_ij) in float64; costs are symmetric, so row j serves as column j."""
    row = costs[j]
    gain = 0.0
    for i in range(len(row)):
        drop = float(nearest_cost[i]) - float(row[i])
        if drop > 0.0:
            gain += drop
    return gain


@numba.njit(cache=True)
def _assign(row, pick, nearest_cost, nearest):  # type: ignore[no-untyped-def]
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
def _correct_block(costs, changed, before, nearest_cost, running, start, stop):  # type: ignore[no-untyped-def]
    """For every changed example: max(0, old - phi) - max(0, new - phi) comes off each gain."""
    for place in range(len(changed)):
        i = changed[place]
        row = costs[i]
        old, new = before[place], nearest_cost[i]
        for j in range(start, stop):
            running[j] -= float(old - min(old, max(new, row[j])))


@numba.njit(parallel=True, cache=True)
def _correct(costs, changed, before, nearest_cost, running):  # type: ignore[no-untyped-def]
    n = len(running)
    for block in numba.prange((n + _CHUNK - 1) // _CHUNK):
        start = block * _CHUNK
        _correct_block(costs, changed, before, nearest_cost, running, start, min(start + _CHUNK, n))
