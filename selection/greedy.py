"""Greedy facility location: exact, lazy or stochastic, with costs kept or computed again, and always the same picks.

The gain of j is sum_i w_i max(0, m_i - phi_ij). Lazy steps work from bounds. Exact ones do so until the candidates that
are nearer to an example than its medoid are few enough to be listed, most often after the first pick; from then on the
gains are kept by differences over these lists: a pick costs a row of distances and the entries of what it changes.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter

import numpy as np

from selection import steps
from selection.costs import Costs, spread
from selection.distances import Points, inner_products_with_sum, measured_points
from selection.neighbours import BYTES, Neighbours, estimated_entries, find_neighbours
from selection.objectives import Metric, cost_matrix, metric
from selection.problem import Float64, Memory, Picks, Problem
from selection.proxies import Float32, Int64
from selection.sampling import Sampler
from selection.threads import KEPT, Crew
from selection.tiles import FROBENIUS

_SINGLE = 32  # gains computed one by one before many are computed at once
_BATCH = 64
_SEEN = 64  # examples by whose costs the first pick and the lengths of lists are guessed
_LIKELY = 512  # candidates for the first pick, compared by as many examples
_AT_ONCE = 1 << 20  # costs
_SHARED = float(1 << 19)  # entries: while more are left, the threads correct gains together
_FEW = 24  # entries for each example and candidate: below this, listing them for the candidates, too, pays
_DENSE_DIM = 96  # below this, computing a cost again is cheaper than keeping it
_FRESH_DIM = 1024  # the same where the memory for them has to be made first
_DENSE_SHARE = 2  # 1 / the share of the limit that kept costs may take: the lists need the rest


def solve(problem: Problem, threads: int = 1) -> Picks:
    """Greedy picks: every step takes the largest marginal gain; ties go to the smaller row.

    With a tolerance, stops as soon as the measure is at most that, after one pick at least.
    Where no further pick has a gain, the budget is filled with the smallest rows left; so it is from the start where no
    example counts, as may be in a part of a partition.
    The answer depends on the problem alone: not on its memory mode or the threads.
    Time O(n^2 (C + D)) for the first two picks, then O(n (C + D)) a pick and a gain computed afresh;
    memory O(n (C + D)), 4 n^2 bytes where dense, and 8 bytes for each listed pair, within the problem's limit.
    """
    start = perf_counter()
    with Crew(threads) as crew:
        picks = _solve(problem.copied_out(), crew)
    return replace(picks, seconds=perf_counter() - start)


def is_dense(n: int, depth: int, memory: Memory, limit: int) -> bool:
    """Whether all costs of n examples are computed once and kept; `depth`: coordinates of a pair's distance."""
    if memory != "auto":
        return memory == "dense"
    size = 4 * n * n
    return size <= limit // _DENSE_SHARE and depth >= (_DENSE_DIM if size <= KEPT else _FRESH_DIM)


def entries_that_pay(ground: int, candidates: int) -> int:
    """How many entries at most are listed for the candidates, too."""
    return _FEW * (ground + candidates)


def _solve(problem: Problem, crew: Crew) -> Picks:
    n = len(problem.residuals)
    points = measured_points(problem.residuals, problem.embeddings)
    transform = metric(points, problem.objective)
    weights = np.ones(n) if problem.weights is None else problem.weights
    counted = np.flatnonzero(weights > 0)
    if len(counted) == 0:
        return _smallest(problem)
    ground = points if len(counted) == n else points.some(counted)
    candidates = points if problem.candidates is None else points.some(problem.candidates)
    depth = problem.residuals.shape[1] + (0 if problem.embeddings is None else problem.embeddings.shape[1] + 1)
    dense = ground is candidates and is_dense(n, depth, problem.memory, problem.limit)
    matrix = cost_matrix(points, transform, crew) if dense else None
    costs = Costs(ground, candidates, transform, matrix)
    options = _options(problem, transform, candidates.count)
    state = _start(costs, weights[counted], options)
    sampler = Sampler.of(problem, candidates.count)
    kept = 0 if matrix is None else matrix.nbytes
    most = 0  # entries that may be listed
    if problem.solver != "lazy":
        most = min(max(0, problem.limit - kept) // BYTES, ground.count * candidates.count)
    listed = _first_pick(costs, state, sampler, most, crew)
    again = 1  # picks after which lists are tried: a pass that finds too many entries is as long as many picks
    while not _finished(state, options):
        if listed is None and most and _count(state) >= again:
            rows = spread(costs.ground.count, _SEEN)
            expected = _expected(costs, state.nearest_cost, rows, costs.of(rows), most)
            if expected is not None:
                expected = expected if again == 1 else most // 2  # not estimated too low twice
                listed = find_neighbours(costs, state.nearest_cost, state.weights, expected, most, crew)
                again *= 2
        if listed is not None:
            _difference_steps(costs, state, options, sampler, listed, crew)
            break
        further = _count(state) + 1 if most else options.limit
        _lazy_steps(costs, state, options._replace(limit=further), sampler, crew)
    return _answer(problem, costs, state)


def _first_pick(costs: Costs, state: steps.State, sampler: Sampler | None, most: int, crew: Crew) -> Neighbours | None:
    """The first step, from bounds on all gains; with it the lists, where they came out on the way."""
    listed, guess, mark = None, -1, crew.mark()
    if sampler is not None:
        pool = sampler.draw(state.left, 0)
        state.bounds[:] = -np.inf
        state.bounds[pool] = costs.gains(pool, state.nearest_cost, state.weights, crew)
    elif costs.metric.code == FROBENIUS:
        _bound_in_closed_form(costs, state)
    else:
        if most:
            rows = spread(costs.ground.count, _SEEN)
            seen = costs.of(rows)
            guess = _guess(costs, state, rows, seen)
            listed = _list_and_bound(costs, state, guess, (rows, seen), most, crew)
        if listed is None:
            state.bounds[:] = costs.gains(np.arange(len(state.left)), state.nearest_cost, state.weights, crew)
    first, row = _largest_gain(costs, state)
    _take_first(costs, state, first, row)
    if sampler is not None:
        state.bounds[state.left] = np.inf  # nothing is known of the others
    if first == guess:
        return listed
    crew.release(mark)
    return None


def _guess(costs: Costs, state: steps.State, rows: Int64, seen: Float32) -> int:
    """The likely first pick: the best of those that look best by the costs of some examples, seen[i] of rows[i].

    Fewer and fewer are compared by more and more examples: a wrong guess takes another pass over all pairs.
    """
    sums = np.einsum("i,ij->j", state.weights[rows], seen)  # BLAS's threads would spin on a while
    likely = np.arange(len(sums))
    for most, some in ((_LIKELY, spread(costs.ground.count, _LIKELY)), (_SINGLE, None)):
        likely = likely[np.argsort(sums, kind="stable")[:most]]
        weights = state.weights if some is None else state.weights[some]
        sums = np.einsum("ji,i->j", costs.to_ground(likely, some), weights)
    return int(likely[sums.argmin()])


def _largest_gain(costs: Costs, state: steps.State) -> tuple[int, Float32]:
    """The first pick, ties to the smaller row, and its costs: gains are computed while bounds leave a chance."""
    best, largest, kept = -1, -np.inf, np.empty(0, np.float32)
    most = max(1, min(_SINGLE, _AT_ONCE // costs.ground.count))
    eligible = np.flatnonzero(state.bounds > -np.inf)
    order = eligible[np.argsort(-state.bounds[eligible], kind="stable")]
    start, batch = 0, 1  # most often the largest bound is the largest gain
    while start < len(order):
        some = order[start : start + batch]
        start, batch = start + batch, min(2 * batch, most)
        if state.bounds[some[0]] < largest:
            break
        rows = costs.to_ground(some)
        terms = state.weights * np.maximum(0.0, state.nearest_cost.astype(np.float64) - rows)
        gains = np.cumsum(terms, axis=1)[:, -1]  # one after another, as everywhere
        for j, gain, row in zip(some.tolist(), gains.tolist(), rows, strict=True):
            if gain > largest or (gain == largest and j < best):
                best, largest, kept = j, gain, row
    state.gains[0] = largest
    return best, kept


def _take_first(costs: Costs, state: steps.State, first: int, row: Float32) -> None:
    """Make the first pick the medoid of all."""
    state.order[0] = first
    state.numbers[steps.COUNT] = 1
    state.left[first] = False
    state.bounds[first] = -np.inf
    state.nearest_cost[:] = np.minimum(row, state.nearest_cost)
    state.nearest[:] = first
    if len(state.squares):
        state.squares[:] = costs.squares(first)


def _list_and_bound(
    costs: Costs, state: steps.State, guess: int, some: tuple[Int64, Float32], most: int, crew: Crew
) -> Neighbours | None:
    """One pass over all pairs: the sums of their costs, which bound the gains, and the lists if the guess is right."""
    nearest_cost = costs.to_ground(np.array([guess]))[0]
    sums = np.empty(len(state.left))
    expected, listed = _expected(costs, nearest_cost, *some, most), None
    if expected is not None:
        listed = find_neighbours(costs, nearest_cost, state.weights, expected, most, crew, sums)
    if listed is not None:
        largest = state.weights.sum() * float(costs.metric.empty)
        state.bounds[:] = largest * (1 + 4 * (costs.ground.count + 4) * 2.0**-53) - sums
    return listed


def _options(problem: Problem, transform: Metric, candidates: int) -> steps.Options:
    tolerance, of_costs = -1.0, problem.measure == "objective" or problem.objective == "frobenius"
    if problem.tolerance is not None:
        tolerance = problem.tolerance / (transform.unit if of_costs else transform.scale)
        if problem.objective == "frobenius":
            tolerance = problem.tolerance / transform.scale
            tolerance *= tolerance  # which may be infinite, where ** would raise
    limit = candidates if problem.budget is None else problem.budget
    return steps.Options(limit=limit, tolerance=tolerance, of_costs=of_costs)


def _start(costs: Costs, weights: Float64, options: steps.Options) -> steps.State:
    g, c = costs.ground.count, costs.candidates.count
    squares = options.tolerance >= 0 and not options.of_costs
    return steps.State(
        order=np.empty(options.limit, np.int64),
        gains=np.empty(options.limit),
        numbers=np.zeros(5),
        nearest_cost=np.full(g, costs.metric.empty, np.float32),
        nearest=np.full(g, c, np.int64),
        changed=np.empty(g, np.int64),
        before=np.empty(g, np.float32),
        squares=np.full(g if squares else 0, math.inf),
        weights=np.ascontiguousarray(weights, np.float64),
        left=np.ones(c, np.bool_),
        bounds=np.empty(c),
        evaluated=np.full(c, -1, np.int64),
    )


def _bound_in_closed_form(costs: Costs, state: steps.State) -> None:
    """Bounds on the gains of the first pick for squared distances, from their sums."""
    least, error = _sums_of_squares(costs.ground, costs.candidates, state.weights)
    state.bounds[:] = state.weights.sum() * float(costs.metric.empty) * (1 + 1e-6) - least + error


def _sums_of_squares(ground: Points, candidates: Points, weights: Float64) -> tuple[Float64, Float64]:
    """sum_i w_i d_ij^2 for every candidate, and how far the sums of its float32 costs may be from that; O(n C D)."""
    total = weights.sum()
    if ground.second.size:
        norms = weights @ (ground.first_norms * ground.second_norms)
        own = candidates.first_norms * candidates.second_norms
        mean = (ground.first * weights) @ ground.second.T.astype(np.float64)
        crossed = np.einsum("dj,dj->j", mean.T @ candidates.first, candidates.second)
        digits = 50.0
    else:
        norms = (weights * ground.first_norms).sum()
        own = candidates.first_norms
        crossed = np.zeros(candidates.count)
        inner_products_with_sum(ground.first, weights, candidates.first, crossed)
        digits = 2.0
    terms = norms + total * own
    sums = terms - 2.0 * crossed
    dim = len(ground.first) + len(ground.second)
    return sums, 2.0**-24 * digits * (dim + 8) * np.maximum(sums, 0.0) + 1e-12 * terms


def _lazy_steps(costs: Costs, state: steps.State, options: steps.Options, sampler: Sampler | None, crew: Crew) -> None:
    """Steps by bounds; where one wants many gains, these are computed together."""
    batch = _BATCH
    rows, columns = costs.ground.arrays, costs.candidates.arrays
    for pool, limit in _pools(state, options, sampler):
        now = options._replace(limit=limit)
        while steps.by_bounds(state, now, pool, rows, columns, costs.metric.arguments, costs.stored, _SINGLE):
            step = _count(state)
            some = pool if len(pool) else np.flatnonzero(state.left)
            places = some[state.evaluated[some] != step]
            if len(places) > batch:
                places = np.sort(places[np.argpartition(-state.bounds[places], batch - 1)[:batch]])
            state.bounds[places] = costs.gains(places, state.nearest_cost, state.weights, crew)
            state.evaluated[places] = step
            batch *= 2


def _difference_steps(
    costs: Costs, state: steps.State, options: steps.Options, sampler: Sampler | None, listed: Neighbours, crew: Crew
) -> None:
    """Steps on running gains: by distances and entries, then, where few entries are left, by these alone."""
    ground, candidates = costs.ground, costs.candidates
    few = -1 if len(state.squares) else entries_that_pay(ground.count, candidates.count)
    points = ground.arrays, candidates.arrays, costs.metric.arguments, costs.stored
    shared = np.inf if crew.threads == 1 else _SHARED
    by_candidate = None
    _set_gains(state, listed, listed.gains)
    state.numbers[steps.OPERATIONS] = 1  # as far off as after one correction
    for pool, limit in _pools(state, options, sampler):
        now = options._replace(limit=limit)
        told = steps.REFRESH if by_candidate is None else steps.DONE
        while told in (steps.REFRESH, steps.PICKED):
            told = steps.by_differences(state, now, pool, *points, listed.arrays, ground.depth, few, shared)
            if told == steps.REFRESH:
                _set_gains(state, listed, listed.added_up(state.nearest_cost, state.weights))
            elif told == steps.PICKED:
                _correct(state, listed, crew)
        if told == steps.MORE:
            by_candidate = listed.by_candidate(crew)
        if by_candidate is not None:
            steps.by_entries(state, now, pool, listed.arrays, by_candidate)


def _set_gains(state: steps.State, listed: Neighbours, gains: Float64) -> None:
    """Begin to run from these gains."""
    state.bounds[:] = np.where(state.left, gains, -np.inf)
    state.numbers[steps.LARGEST] = max(0.0, state.bounds.max())
    state.numbers[steps.OPERATIONS] = 0
    state.numbers[steps.ENTRIES] = listed.lengths.sum()


def _correct(state: steps.State, listed: Neighbours, crew: Crew) -> None:
    """What the last pick takes off the running gains, by the whole crew."""
    count = int(state.numbers[steps.CHANGED])
    chunk = max(1, -(-count // crew.threads))
    parts, dropped = np.zeros((-(-count // chunk), len(state.bounds))), []

    def work(start: int, stop: int) -> None:
        dropped.append(steps.corrected(state, listed.arrays, start, stop, parts[start // chunk]))

    crew.share(count, chunk, work)
    state.bounds[:] += parts.sum(axis=0)
    state.numbers[steps.ENTRIES] -= sum(dropped)
    state.numbers[steps.OPERATIONS] += count + len(parts)


def _pools(state: steps.State, options: steps.Options, sampler: Sampler | None) -> Iterator[tuple[Int64, int]]:
    """The candidates to pick from, none for all, and up to how many picks: all at once, or a sample a step."""
    if sampler is None:
        yield np.empty(0, np.int64), options.limit
        return
    while not _finished(state, options):
        step = _count(state)
        yield sampler.draw(state.left, step), step + 1


def _expected(costs: Costs, nearest_cost: Float32, rows: Int64, seen: Float32, most: int) -> int | None:
    """About how many entries the lists will have, by the costs of some examples; None where `most` will hardly do."""
    expected = estimated_entries(costs.ground.count, nearest_cost[rows], seen)
    return expected if 1.1 * expected <= most else None


def _count(state: steps.State) -> int:
    """Picks so far."""
    return int(state.numbers[steps.COUNT])


def _finished(state: steps.State, options: steps.Options) -> bool:
    count = _count(state)
    return count == options.limit or (count > 0 and bool(steps.is_covered(state, options)))


def _smallest(problem: Problem) -> Picks:
    """The picks where no example counts: the smallest rows, none with a gain; one is within any tolerance."""
    rows = np.arange(problem.count) if problem.candidates is None else problem.candidates
    rows = rows[: problem.budget or 1]
    return Picks(rows, np.zeros(len(rows)), np.zeros(len(rows)))


def _answer(problem: Problem, costs: Costs, state: steps.State) -> Picks:
    count = _count(state)
    order = state.order[:count].copy()
    gamma = np.bincount(state.nearest, state.weights, costs.candidates.count)[order].astype(np.float64)
    rows = order if problem.candidates is None else problem.candidates[order]
    return Picks(rows, state.gains[:count] * costs.metric.unit, gamma)
