"""Greedy steps, compiled: each picks the candidate of the largest marginal gain, by bounds or by running gains.

Gains are float64 sums over the examples in ascending order, and equal gains go to the smaller row, whatever the way to
the pick: all ways lead to the same picks, bit for bit.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from selection.compiling import inlined, inner, kernel
from selection.costs import cost_row, gain
from selection.neighbours import correct
from selection.problem import Float64
from selection.proxies import Float32, Int64

_ROUNDING = 2.0**-53  # of one float64 operation, relative
_WIDE = 512
_BLOCK = 64  # of values, at least
_MAGNITUDE = np.int64(2**63 - 1)  # all bits of a float64 but its sign
_LEAST = np.int64(-(2**63))
DONE, MORE, REFRESH, PICKED = 0, 1, 2, 3
# Places in `numbers`, what changes from step to step:
COUNT, LARGEST, OPERATIONS, ENTRIES, CHANGED = 0, 1, 2, 3, 4


class State(NamedTuple):
    """A problem on its way; arrays only, written to by the kernels. g examples to cover, c candidates."""

    order: Int64  # (k,) candidates, as picked
    gains: Float64  # (k,)
    # Picks so far; largest running gain when computed, corrections since; entries of neighbours; how many examples' m_i
    # the last pick changed
    numbers: Float64
    nearest_cost: Float32  # (g,) m_i
    nearest: Int64  # (g,) the nearest medoid; c: none yet
    changed: Int64  # (g,) the examples whose m_i the last pick changed,
    before: Float32  # (g,) and from what
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
    maxima = _maxima(state.bounds, pool)
    held, seen = -1, 0
    while int(state.numbers[COUNT]) < options.limit:
        step = int(state.numbers[COUNT])
        largest = _largest(state.bounds, pool, maxima)
        j, _ = _at_least(largest, largest, state.bounds, pool, maxima)
        if state.evaluated[j] == step and held == j:
            _take(state, j, state.bounds[j], row[0], squares)
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
def by_differences(  # type: ignore[no-untyped-def]
    state, options, pool, rows, columns, metric, stored, neighbours, depth, few, shared
):
    """Steps on running gains, corrected after each pick for the examples whose nearest medoid changed.

    pool: as in `by_bounds`; depth: of the rows' points. Running gains carry the rounding of their corrections, at most
    `slack`. All gains that might be the largest are computed afresh before one is picked: the pick is the one that
    computing everything anew would give. Returns REFRESH where so many might be that all should be added up anew, MORE
    where no more than `few` entries are left, PICKED after a pick with more than `shared` left, whose corrections are
    the caller's, else DONE.
    """
    n, c = len(state.nearest_cost), len(state.left)
    row, squares = np.empty((1, n), np.float32), np.empty(len(state.squares), np.float32)
    best_row, best_squares = np.empty((1, n), np.float32), np.empty(len(state.squares), np.float32)
    spare = np.empty((1, _WIDE), np.float32)
    numbers, running = state.numbers, state.bounds
    maxima = _maxima(running, pool)
    single = n if stored.size else n * (1 + depth // 16)  # cost of one gain computed afresh
    while int(numbers[COUNT]) < options.limit:
        slack = _ROUNDING * numbers[LARGEST] * (2 * n + 2 * numbers[OPERATIONS] + 8)
        highest = _largest(running, pool, maxima)
        floor = highest - 2 * slack
        best, rivals = _at_least(floor, highest, running, pool, maxima)
        compared = numbers[OPERATIONS] > 0 and rivals > 1
        if compared and rivals * single > 2 * numbers[ENTRIES] + n + c:
            return REFRESH
        largest = -np.inf
        for place in range((len(pool) if len(pool) else c) if compared else 1):
            j = (pool[place] if len(pool) else place) if compared else best
            if compared and running[j] < floor:
                continue
            cost_row(j, rows, columns, metric, stored, len(squares) > 0, row, squares, spare)
            fresh = gain(row[0], state.nearest_cost, state.weights)
            if fresh > largest:
                best, largest = j, fresh
                for i in range(n):
                    best_row[0, i] = row[0, i]
                for i in range(len(squares)):
                    best_squares[i] = squares[i]
        _take(state, best, largest, best_row[0], best_squares)
        if is_covered(state, options):
            return DONE
        if numbers[ENTRIES] > shared:
            return PICKED
        _correct(state, neighbours)
        if numbers[ENTRIES] <= few:
            return MORE
    return DONE


@kernel
def by_entries(state, options, pool, neighbours, by_candidate):  # type: ignore[no-untyped-def]
    """What `by_differences` does, where entries are few: a pick costs the entries of what it changes, no distances."""
    starts, lengths, examples, costs = by_candidate
    n = len(state.nearest_cost)
    numbers, running = state.numbers, state.bounds
    maxima = _maxima(running, pool)
    while int(numbers[COUNT]) < options.limit:
        slack = _ROUNDING * numbers[LARGEST] * (2 * n + 2 * numbers[OPERATIONS] + 8)
        highest = _largest(running, pool, maxima)
        floor = highest - 2 * slack
        best, rivals = _at_least(floor, highest, running, pool, maxima)
        if numbers[OPERATIONS] and rivals > 1:
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
        for place in range(np.uint64(starts[best]), np.uint64(starts[best] + lengths[best])):
            i, cost = np.uint64(examples[place]), costs[place]
            if cost < state.nearest_cost[i]:
                state.changed[count], state.before[count] = i, state.nearest_cost[i]
                count += 1
                state.nearest_cost[i] = cost
                state.nearest[i] = best
            elif cost == state.nearest_cost[i] and best < state.nearest[i]:
                state.nearest[i] = best
        numbers[CHANGED] = count
        _correct(state, neighbours)
        if is_covered(state, options):
            return


@inner
def _listed_gain(state, by_candidate, j):  # type: ignore[no-untyped-def]
    """`gain`, to the last bit: the examples that are not listed add nothing."""
    starts, lengths, examples, costs = by_candidate
    total = 0.0
    for place in range(np.uint64(starts[j]), np.uint64(starts[j] + lengths[j])):
        i = np.uint64(examples[place])
        total += state.weights[i] * max(0.0, np.float64(state.nearest_cost[i]) - np.float64(costs[place]))
    return total


@kernel
def corrected(state, neighbours, start, stop, running):  # type: ignore[no-untyped-def]
    """Correct running gains for some of the examples whose m_i changed; returns how many entries they lost."""
    dropped = 0
    for place in range(start, stop):
        i = state.changed[place]
        dropped += correct(neighbours, i, state.before[place], state.nearest_cost[i], state.weights[i], running)
    return dropped


@inner
def _correct(state, neighbours):  # type: ignore[no-untyped-def]
    count = int(state.numbers[CHANGED])
    state.numbers[ENTRIES] -= corrected(state, neighbours, np.int64(0), count, state.bounds)
    state.numbers[OPERATIONS] += count


@inner
def _take(state, j, its_gain, row, squares):  # type: ignore[no-untyped-def]
    """Make j a medoid: its gain, and the examples for which it is the nearest, ties to the smaller row."""
    step = int(state.numbers[COUNT])
    state.order[step] = j
    state.gains[step] = its_gain
    state.numbers[COUNT] += 1
    state.left[j] = False
    state.bounds[j] = -np.inf
    count = 0
    for i in range(len(row)):
        if row[i] <= state.nearest_cost[i]:
            if row[i] < state.nearest_cost[i]:
                state.changed[count], state.before[count] = i, state.nearest_cost[i]
                count += 1
                state.nearest_cost[i] = row[i]
                state.nearest[i] = j
            elif j < state.nearest[i]:
                state.nearest[i] = j
    for i in range(len(squares)):
        state.squares[i] = min(state.squares[i], np.float64(squares[i]))
    state.numbers[CHANGED] = count


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
def _maxima(values, pool):  # type: ignore[no-untyped-def]
    """The largest value of each block; none where there is a pool, which is gone through itself."""
    block = _block(values)
    maxima = np.empty(0 if len(pool) else -(-len(values) // block))
    for b in range(len(maxima)):
        maxima[b] = _maximum(values[b * block : (b + 1) * block])
    return maxima


@inner
def _largest(values, pool, maxima):  # type: ignore[no-untyped-def]
    """The largest value, of all or of a pool; of all, by the blocks' maxima.

    Values only fall, so a maximum that was true before is a bound: blocks are gone through anew while theirs is the
    largest, most often a few. O(sqrt(n)) each.
    """
    if len(pool):
        top = _LEAST
        for j in pool:
            top = max(top, _key(_bits(values[j])))
        return _float(_key(top))
    block = _block(values)
    while True:
        b = 0
        for other in range(1, len(maxima)):
            if maxima[other] > maxima[b]:
                b = other
        high = _maximum(values[b * block : (b + 1) * block])
        if high == maxima[b]:
            return high
        maxima[b] = high


@inner
def _maximum(values):  # type: ignore[no-untyped-def]
    """By keys: a maximum of integers is taken several at a time, and one of floats is not."""
    high = _LEAST
    for j in range(len(values)):
        high = max(high, _key(_bits(values[j])))
    return _float(_key(high))


@inlined
def _block(values):  # type: ignore[no-untyped-def]
    """How many values a block has: about as many as there are blocks."""
    return _BLOCK * math.ceil(math.sqrt(len(values)) / _BLOCK)


@inlined
def _key(bits):  # type: ignore[no-untyped-def]
    """A float64's bits as an integer that is larger where the float64 is; and back."""
    return bits ^ ((bits >> np.int64(63)) & _MAGNITUDE)


@intrinsic
def _bits(typing, number):  # type: ignore[no-untyped-def]
    """A float64's bits."""
    return types.int64(types.float64), lambda context, builder, signature, arguments: builder.bitcast(
        arguments[0], context.get_value_type(types.int64)
    )


@intrinsic
def _float(typing, bits):  # type: ignore[no-untyped-def]
    """The float64 of these bits."""
    return types.float64(types.int64), lambda context, builder, signature, arguments: builder.bitcast(
        arguments[0], context.get_value_type(types.float64)
    )


@inner
def _at_least(floor, largest, values, pool, maxima):  # type: ignore[no-untyped-def]
    """The first of the largest, and how many are at least floor, which is not above it; maxima after `_largest`."""
    best, count = -1, 0
    for j in pool:
        if values[j] >= floor:
            count += 1
            best = j if best < 0 and values[j] == largest else best
    if len(pool) == 0:
        block = _block(values)
        for b in range(len(maxima)):
            if maxima[b] >= floor:
                for j in range(b * block, min((b + 1) * block, len(values))):
                    if values[j] >= floor:
                        count += 1
                        best = j if best < 0 and values[j] == largest else best
    return best, count
