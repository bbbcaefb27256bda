"""Greedy steps, compiled: each picks the candidate of the largest marginal gain, by bounds or by running gains.

Gains are float64 sums over the examples in ascending order, and equal gains go to the smaller row, whatever the way to
the pick: all ways lead to the same picks, bit for bit.
"""

import math
from typing import NamedTuple

import numpy as np

from selection.compiling import inner, kernel
from selection.costs import cost_row, gain
from selection.neighbours import correct, gains_of_all
from selection.problem import Float64
from selection.proxies import Float32, Int64

_ROUNDING = 2.0**-53  # of one float64 operation, relative
_WIDE = 512
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


@kernel
def by_bounds(state, options, pool, rows, columns, metric, stored, evaluations):  # type: ignore[no-untyped-def]
    """Minoux's lazy steps: bounds only fall, so the largest bound that is a gain of this step is the largest gain.

    pool: the candidates that may be picked, ascending; empty: all. Returns MORE where a step wants more than
    `evaluations`, else DONE.
    """
    n = len(state.nearest_cost)
    row, squares = np.empty((1, n), np.float32), np.empty(len(state.squares), np.float32)
    spare = np.empty((1, _WIDE), np.float32)
    changed, before = np.empty(n, np.int64), np.empty(n, np.float32)
    held, seen = -1, 0
    while int(state.numbers[COUNT]) < options.limit:
        step = int(state.numbers[COUNT])
        j = _best(state.bounds, pool)
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


@kernel
def by_differences(state, options, pool, rows, columns, metric, stored, neighbours):  # type: ignore[no-untyped-def]
    """Steps on running gains, corrected after each pick for the examples whose nearest medoid changed.

    pool: as in `by_bounds`. Running gains carry the rounding of their corrections, at most `slack`. All gains that
    might be the largest are computed afresh before one is picked: the pick is the one that computing everything anew
    would give.
    """
    n, c = len(state.nearest_cost), len(state.left)
    row, squares = np.empty((1, n), np.float32), np.empty(len(state.squares), np.float32)
    best_row, best_squares = np.empty((1, n), np.float32), np.empty(len(state.squares), np.float32)
    spare = np.empty((1, _WIDE), np.float32)
    numbers, running = state.numbers, state.bounds
    changed, before = np.empty(n, np.int64), np.empty(n, np.float32)
    single = n if stored.size else n * (1 + (len(rows[0]) + len(rows[2])) // 16)  # cost of one gain computed afresh
    if numbers[ENTRIES] < 0:
        _refresh(state, neighbours)
    while int(numbers[COUNT]) < options.limit:
        best = _best(running, pool)
        compared = False
        if numbers[OPERATIONS]:
            slack = _ROUNDING * numbers[LARGEST] * (2 * n + 2 * numbers[OPERATIONS])
            floor = running[best] - 2 * slack
            rivals = _count_above(running, pool, floor)
            if rivals > 1 and rivals * single > 2 * numbers[ENTRIES] + n + c:
                _refresh(state, neighbours)
                best = _best(running, pool)
            elif rivals > 1:
                compared, largest = True, -np.inf
                for place in range(len(pool) if len(pool) else c):
                    j = pool[place] if len(pool) else place
                    if running[j] >= floor:
                        cost_row(j, rows, columns, metric, stored, len(squares) > 0, row, squares, spare)
                        fresh = gain(row[0], state.nearest_cost, state.weights)
                        if fresh > largest:
                            best, largest = j, fresh
                            row, best_row = best_row, row
                            squares, best_squares = best_squares, squares
        if not compared:
            cost_row(best, rows, columns, metric, stored, len(squares) > 0, best_row, best_squares, spare)
        _pick(state, best, best_row[0], best_squares, neighbours, changed, before)
        if is_covered(state, options):
            return


@inner
def _pick(state, j, row, squares, neighbours, changed, before):  # type: ignore[no-untyped-def]
    """Make j a medoid, and correct the running gains."""
    count = _take(state, j, row, squares, changed, before)
    for place in range(count):
        i = changed[place]
        state.numbers[ENTRIES] -= correct(
            neighbours, i, before[place], state.nearest_cost[i], state.weights[i], state.bounds
        )
    state.numbers[OPERATIONS] += count


@inner
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


@kernel
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


@inner
def _refresh(state, neighbours):  # type: ignore[no-untyped-def]
    gains_of_all(neighbours, state.nearest_cost, state.weights, state.left, state.bounds)
    largest, entries = 0.0, 0
    for value in state.bounds:
        largest = max(largest, value)
    for length in neighbours[1]:
        entries += length
    state.numbers[LARGEST] = largest
    state.numbers[OPERATIONS] = 0
    state.numbers[ENTRIES] = entries


@inner
def _best(values, pool):  # type: ignore[no-untyped-def]
    """The first of the largest, of all or of a pool; four at a time, since each comparison waits for the one before."""
    if len(pool):
        best = pool[0]
        for j in pool:
            if values[j] > values[best]:
                best = j
        return best
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


@inner
def _count_above(values, pool, floor):  # type: ignore[no-untyped-def]
    count = 0
    for j in pool:
        count += values[j] >= floor
    if len(pool) == 0:
        for value in values:
            count += value >= floor
    return count
