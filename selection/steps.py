"""Greedy steps, compiled: each picks the candidate of the largest marginal gain, by bounds or by running gains.

Gains are float64 sums over the examples in ascending order, and equal gains go to the smaller row, whatever the way to
the pick: all ways lead to the same picks, bit for bit.
"""

import math
from typing import NamedTuple

import numpy as np

from selection.compiling import inner, kernel
from selection.costs import cost_row, gain
from selection.neighbours import correct
from selection.problem import Float64
from selection.proxies import Float32, Int64

_ROUNDING = 2.0**-53  # of one float64 operation, relative
_WIDE = 512
_BLOCK = 512  # values searched for the largest of them
DONE, MORE, REFRESH = 0, 1, 2
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
        j, _ = _best(state.bounds, pool)
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
def by_differences(state, options, pool, rows, columns, metric, stored, neighbours, depth, few):  # type: ignore[no-untyped-def]
    """Steps on running gains, corrected after each pick for the examples whose nearest medoid changed.

    pool: as in `by_bounds`; depth: of the rows' points. Running gains carry the rounding of their corrections, at most
    `slack`. All gains that might be the largest are computed afresh before one is picked: the pick is the one that
    computing everything anew would give. Returns REFRESH where so many might be that all should be added up anew, MORE
    where no more than `few` entries are left, else DONE.
    """
    n, c = len(state.nearest_cost), len(state.left)
    row, squares = np.empty((1, n), np.float32), np.empty(len(state.squares), np.float32)
    best_row, best_squares = np.empty((1, n), np.float32), np.empty(len(state.squares), np.float32)
    spare = np.empty((1, _WIDE), np.float32)
    numbers, running = state.numbers, state.bounds
    changed, before = np.empty(n, np.int64), np.empty(n, np.float32)
    single = n if stored.size else n * (1 + depth // 16)  # cost of one gain computed afresh
    while int(numbers[COUNT]) < options.limit:
        best, second = _best(running, pool)
        compared = False
        slack = _ROUNDING * numbers[LARGEST] * (2 * n + 2 * numbers[OPERATIONS] + 8)
        floor = running[best] - 2 * slack
        if numbers[OPERATIONS] and second >= floor:
            rivals = _count_above(running, pool, floor)
            if rivals * single > 2 * numbers[ENTRIES] + n + c:
                return REFRESH
            compared, largest = True, -np.inf
            for place in range(len(pool) if len(pool) else c):
                j = pool[place] if len(pool) else place
                if running[j] >= floor:
                    cost_row(j, rows, columns, metric, stored, len(squares) > 0, row, squares, spare)
                    fresh = gain(row[0], state.nearest_cost, state.weights)
                    if fresh > largest:
                        best, largest = j, fresh
                        for i in range(n):
                            best_row[0, i] = row[0, i]
                        for i in range(len(squares)):
                            best_squares[i] = squares[i]
        if not compared:
            cost_row(best, rows, columns, metric, stored, len(squares) > 0, best_row, best_squares, spare)
        count = _take(state, best, best_row[0], best_squares, changed, before)
        _correct(state, neighbours, changed, before, count)
        if is_covered(state, options):
            return DONE
        if numbers[ENTRIES] <= few:
            return MORE
    return DONE


@kernel
def by_entries(state, options, pool, neighbours, by_candidate):  # type: ignore[no-untyped-def]
    """What `by_differences` does, where entries are few: a pick costs the entries of what it changes, no distances."""
    starts, lengths, examples, costs = by_candidate
    n = len(state.nearest_cost)
    numbers, running = state.numbers, state.bounds
    changed, before = np.empty(n, np.int64), np.empty(n, np.float32)
    while int(numbers[COUNT]) < options.limit:
        best, second = _best(running, pool)
        slack = _ROUNDING * numbers[LARGEST] * (2 * n + 2 * numbers[OPERATIONS] + 8)
        floor = running[best] - 2 * slack
        if numbers[OPERATIONS] and second >= floor:
            largest = -np.inf
            for place in range(len(pool) if len(pool) else len(running)):
                j = pool[place] if len(pool) else place
                if running[j] >= floor:
                    fresh = _listed_gain(state, by_candidate, j)
                    if fresh > largest:
                        best, largest = j, fresh
        step = int(numbers[COUNT])
        state.order[step] = best
        state.gains[step] = _listed_gain(state, by_candidate, best)
        numbers[COUNT] += 1
        state.left[best] = False
        running[best] = -np.inf
        count = 0
        for place in range(starts[best], starts[best] + lengths[best]):
            i, cost = examples[place], costs[place]
            if cost < state.nearest_cost[i]:
                changed[count], before[count] = i, state.nearest_cost[i]
                count += 1
                state.nearest_cost[i] = cost
                state.nearest[i] = best
            elif cost == state.nearest_cost[i] and best < state.nearest[i]:
                state.nearest[i] = best
        _correct(state, neighbours, changed, before, count)
        if is_covered(state, options):
            return


@inner
def _listed_gain(state, by_candidate, j):  # type: ignore[no-untyped-def]
    """`gain`, to the last bit: the examples that are not listed add nothing."""
    starts, lengths, examples, costs = by_candidate
    total = 0.0
    for place in range(starts[j], starts[j] + lengths[j]):
        i = examples[place]
        total += state.weights[i] * max(0.0, np.float64(state.nearest_cost[i]) - np.float64(costs[place]))
    return total


@inner
def _correct(state, neighbours, changed, before, count):  # type: ignore[no-untyped-def]
    """Correct the running gains for the examples whose m_i changed, and from what."""
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
def _best(values, pool):  # type: ignore[no-untyped-def]
    """The first of the largest, of all or of a pool, and the largest of the others.

    Four at a time, since each comparison waits for the one before; then only the largest's block is searched.
    """
    if len(pool):
        best, largest, second = pool[0], values[pool[0]], -np.inf
        for j in pool[1:]:
            second = max(second, min(largest, values[j]))
            if values[j] > largest:
                best, largest = j, values[j]
        return best, second
    n = len(values)
    largest = second = -np.inf
    at = 0
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        a = b = c = d = e = f = g = h = -np.inf
        for j in range(start, stop - 3, 4):
            e = max(e, min(a, values[j]))
            a = max(a, values[j])
            f = max(f, min(b, values[j + 1]))
            b = max(b, values[j + 1])
            g = max(g, min(c, values[j + 2]))
            c = max(c, values[j + 2])
            h = max(h, min(d, values[j + 3]))
            d = max(d, values[j + 3])
        for j in range(start + (stop - start) // 4 * 4, stop):
            e = max(e, min(a, values[j]))
            a = max(a, values[j])
        high, low = max(a, b), min(a, b)
        top, under = max(c, d), min(c, d)
        other = max(max(min(high, top), max(low, under)), max(max(e, f), max(g, h)))
        highest = max(high, top)
        second = max(max(second, other), min(largest, highest))
        if highest > largest:
            largest, at = highest, start
    for j in range(at, n):
        if values[j] == largest:
            return j, second
    return -1, second


@inner
def _count_above(values, pool, floor):  # type: ignore[no-untyped-def]
    count = 0
    for j in pool:
        count += values[j] >= floor
    if len(pool) == 0:
        for value in values:
            count += value >= floor
    return count
