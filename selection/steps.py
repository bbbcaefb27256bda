"""Greedy steps, compiled: each picks the candidate of the largest marginal gain, by bounds or by running gains.

Gains are float64 sums over the examples in ascending order, and equal gains go to the smaller row, whatever the way to
the pick: all ways lead to the same picks, bit for bit.
"""

import math
from typing import NamedTuple

import numba
import numpy as np

from selection.costs import cost_row, gain
from selection.neighbours import correct, gains_of_all
from selection.problem import Float64
from selection.proxies import Float32, Int64
from selection.randomness import GOLDEN, mix

_ROUNDING = 2.0**-53  # of one float64 operation, relative
_WIDE = 512
_mix = numba.njit(cache=True, nogil=True)(mix)
DONE, MORE = 0, 1
# Places in `numbers`, what changes from step to step:
COUNT, LARGEST, OPERATIONS, ENTRIES = 0, 1, 2, 3


class State(NamedTuple):
    """A problem on its way; arrays only, written to by the kernels. g examples to cover, c candidates."""

    order: Int64  # (k,) candidates, as picked
    gains: Float64  # (k,)
    numbers: Float64  # picks so far; largest running gain when computed, corrections since, entries of neighbours
    nearest_cost: Float32  # (g,) m_i
    nearest: Int64  # (g,) the nearest medoid; c: none yet
    squares: Float64  # (g,) min_j d_ij^2 where a tolerance needs it, else (0,)
    weights: Float64  # (g,)
    left: np.ndarray  # (c,) bool: not picked yet
    bounds: Float64  # (c,) the gain or, under `by_bounds`, a bound above it; -inf once picked
    evaluated: Int64  # (c,) at which step the bound was the gain


class Options(NamedTuple):
    """What does not change from step to step."""

    limit: int  # picks to make
    tolerance: float  # stop where the measure is at most this; below 0: never
    of_costs: bool  # the measure: sum w m, or sqrt(sum w squares)
    sampled: bool  # stochastic: a sample at each step
    ratio: float  # its size: candidates / k * ln(1/epsilon); without k: candidates * ln(1/epsilon), over picks + 1
    by_step: bool
    word: np.uint64  # seeds the draws


@numba.njit(cache=True, nogil=True)
def by_bounds(state, options, rows, columns, metric, stored, evaluations):  # type: ignore[no-untyped-def]
    """Minoux's lazy steps: bounds only fall, so the largest bound that is a gain of this step is the largest gain.

    Returns MORE where a step wants more than `evaluations`, else DONE.
    """
    n = len(state.nearest_cost)
    row, squares = np.empty((1, n), np.float32), np.empty(len(state.squares), np.float32)
    spare = np.empty((1, _WIDE), np.float32)
    changed, before = np.empty(n, np.int64), np.empty(n, np.float32)
    held, seen, pool, pool_step = -1, 0, np.empty(0, np.int64), -1
    while int(state.numbers[COUNT]) < options.limit:
        step = int(state.numbers[COUNT])
        if options.sampled:
            if pool_step != step:
                pool, pool_step = sample(state.left, step, options), step
            j = pool[_best(state.bounds[pool])]
        else:
            j = _best(state.bounds)
        if state.evaluated[j] == step and held == j:
            _take(state, j, row[0], squares, changed, before)
            seen, held = 0, -1
            if is_covered(state, options):
                return DONE
            continue
        if state.evaluated[j] != step and seen >= evaluations:
            return MORE
        cost_row(j, rows, columns, metric, stored, len(squares) > 0, row, squares, spare)
        held = j
        if state.evaluated[j] != step:
            state.bounds[j] = gain(row[0], state.nearest_cost, state.weights)
            state.evaluated[j] = step
            seen += 1
    return DONE


@numba.njit(cache=True, nogil=True)
def by_differences(state, options, rows, columns, metric, stored, neighbours):  # type: ignore[no-untyped-def]
    """Steps on running gains, corrected after each pick for the examples whose nearest medoid changed.

    Running gains carry the rounding of their corrections, at most `slack`. All gains that might be the largest are
    computed afresh before one is picked: the pick is the one that computing everything anew would give.
    """
    n, c = len(state.nearest_cost), len(state.left)
    row, squares = np.empty((1, n), np.float32), np.empty(len(state.squares), np.float32)
    best_row, best_squares = np.empty((1, n), np.float32), np.empty(len(state.squares), np.float32)
    spare = np.empty((1, _WIDE), np.float32)
    numbers, running = state.numbers, state.bounds
    changed, before = np.empty(n, np.int64), np.empty(n, np.float32)
    single = n if stored.size else n * (1 + (len(rows[0]) + len(rows[2])) // 16)  # cost of one gain computed afresh
    _refresh(state, neighbours)
    everything = np.arange(c)
    while int(numbers[COUNT]) < options.limit:
        pool = sample(state.left, int(numbers[COUNT]), options) if options.sampled else everything
        eligible = running[pool] if options.sampled else running
        best = pool[_best(eligible)]
        compared = False
        if numbers[OPERATIONS]:
            slack = _ROUNDING * numbers[LARGEST] * (2 * n + 2 * numbers[OPERATIONS])
            floor = running[best] - 2 * slack
            rivals = _count_above(eligible, floor)
            if rivals > 1 and rivals * single > 2 * numbers[ENTRIES] + n + c:
                _refresh(state, neighbours)
                best = pool[_best(running[pool] if options.sampled else running)]
            elif rivals > 1:
                compared, largest = True, -np.inf
                for j in pool:
                    if running[j] >= floor:
                        cost_row(j, rows, columns, metric, stored, len(squares) > 0, row, squares, spare)
                        fresh = gain(row[0], state.nearest_cost, state.weights)
                        if fresh > largest:
                            best, largest = j, fresh
                            best_row[:], best_squares[:] = row, squares
        if not compared:
            cost_row(best, rows, columns, metric, stored, len(squares) > 0, best_row, best_squares, spare)
        _pick(state, best, best_row[0], best_squares, neighbours, changed, before)
        if is_covered(state, options):
            return


@numba.njit(cache=True, nogil=True)
def _pick(state, j, row, squares, neighbours, changed, before):  # type: ignore[no-untyped-def]
    """Make j a medoid, and correct the running gains."""
    count = _take(state, j, row, squares, changed, before)
    for place in range(count):
        i = changed[place]
        state.numbers[ENTRIES] -= correct(
            neighbours, i, before[place], state.nearest_cost[i], state.weights[i], state.bounds
        )
    state.numbers[OPERATIONS] += count


@numba.njit(cache=True, nogil=True)
def _take(state, j, row, squares, changed, before):  # type: ignore[no-untyped-def]
    """Make j a medoid: its gain, and the examples for which it is the nearest, ties to the smaller row.

    Returns how many examples' m_i changed; writes which, and from what.
    """
    step = int(state.numbers[COUNT])
    state.order[step] = j
    state.gains[step] = gain(row, state.nearest_cost, state.weights)
    state.numbers[COUNT] += 1
    state.left[j] = False
    state.bounds[j] = -np.inf
    count = 0
    for i in range(len(row)):
        if row[i] <= state.nearest_cost[i]:
            if row[i] < state.nearest_cost[i]:
                changed[count], before[count] = i, state.nearest_cost[i]
                count += 1
                state.nearest_cost[i] = row[i]
                state.nearest[i] = j
            elif j < state.nearest[i]:
                state.nearest[i] = j
    for i in range(len(squares)):
        state.squares[i] = min(state.squares[i], np.float64(squares[i]))
    return count


@numba.njit(cache=True, nogil=True)
def is_covered(state, options):  # type: ignore[no-untyped-def]
    """Whether what is left uncovered is within the tolerance."""
    if options.tolerance < 0:
        return False
    total = 0.0
    if options.of_costs:
        for i in range(len(state.nearest_cost)):
            total += state.weights[i] * np.float64(state.nearest_cost[i])
        return total <= options.tolerance
    for i in range(len(state.squares)):
        total += state.weights[i] * state.squares[i]
    return math.sqrt(total) <= options.tolerance


@numba.njit(cache=True, nogil=True)
def _refresh(state, neighbours):  # type: ignore[no-untyped-def]
    gains_of_all(neighbours, state.nearest_cost, state.weights, state.left, state.bounds)
    state.numbers[LARGEST] = max(0.0, state.bounds.max())
    state.numbers[OPERATIONS] = 0
    state.numbers[ENTRIES] = neighbours[1].sum()


@numba.njit(cache=True, nogil=True)
def _best(values):  # type: ignore[no-untyped-def]
    """The first of the largest; four at a time, since each comparison waits for the one before."""
    n = len(values)
    a = b = c = d = -np.inf
    for j in range(0, n - 3, 4):
        a = values[j] if values[j] > a else a
        b = values[j + 1] if values[j + 1] > b else b
        c = values[j + 2] if values[j + 2] > c else c
        d = values[j + 3] if values[j + 3] > d else d
    for j in range(n // 4 * 4, n):
        a = values[j] if values[j] > a else a
    largest = max(max(a, b), max(c, d))
    for j in range(n):
        if values[j] == largest:
            return j
    return -1


@numba.njit(cache=True, nogil=True)
def _count_above(values, floor):  # type: ignore[no-untyped-def]
    count = 0
    for j in range(len(values)):
        count += values[j] >= floor
    return count


@numba.njit(cache=True, nogil=True)
def sample(left, step, options):  # type: ignore[no-untyped-def]
    """The candidates left with the smallest draws, ascending: those of `draw_words(seed, "selection", step, place)`."""
    places = np.flatnonzero(left)
    size = min(len(places), max(1, math.ceil(options.ratio / (step + 1) if options.by_step else options.ratio)))
    words = np.empty(len(places), np.uint64)
    word = _mix((options.word ^ np.uint64(step)) + GOLDEN)
    for place in range(len(places)):
        words[place] = _mix((word ^ np.uint64(places[place])) + GOLDEN)
    if size == len(places):
        return places
    last = np.partition(words, size - 1)[size - 1]
    chosen = np.empty(size, np.int64)
    count = 0
    for place in range(len(places)):  # draws are distinct: _mix is a bijection
        if words[place] <= last:
            chosen[count] = places[place]
            count += 1
    return chosen
