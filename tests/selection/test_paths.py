"""Every path through the CPU's solvers against the definition, bit for bit.

Which path a problem takes hangs on constants and on the memory there is: here all are forced.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from facility_location import OBJECTIVES, definition, residuals
from hypothesis import given, settings
from hypothesis import strategies as st

from selection import Proxies, greedy, neighbours
from selection.costs import Costs
from selection.distances import measured_points
from selection.neighbours import BYTES, find_neighbours
from selection.objectives import cost_matrix, metric
from selection.problem import Picks, Problem
from selection.sampling import Sampler
from selection.threads import Crew

NEVER, AT_ONCE = -1, 1 << 40  # values of _FEW: entries alone
# Constants of `selection.greedy` to set; fields of the problem; `entries`: its limit, in lists of so many an example.
PATHS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "dense": {"memory": "dense"},
    "distances alone": {"_FEW": NEVER},
    "distances alone, dense": {"_FEW": NEVER, "memory": "dense"},
    "entries at once": {"_FEW": AT_ONCE},
    "entries at once, dense": {"_FEW": AT_ONCE, "memory": "dense", "threads": 3},
    "entries in the middle": {"_FEW": 2, "threads": 2},
    "entries late": {"_FEW": 1},
    "corrected together": {"_SHARED": 0, "_FEW": NEVER, "threads": 3},
    "corrected together, then entries": {"_SHARED": 100, "_FEW": 2, "threads": 2},
    "bounds alone": {"limit": 0},
    "bounds alone, dense": {"limit": 0, "memory": "dense"},
    "bounds one by one": {"limit": 0, "_SINGLE": 1, "_BATCH": 1, "_AT_ONCE": 1},
    "bounds, then differences": {"entries": 8, "_FEW": NEVER},
    "bounds, then entries": {"entries": 8, "_FEW": AT_ONCE},
    "bounds, then all": {"entries": 3, "_FEW": 1},
    "guesses go wrong": {"_SEEN": 1, "_LIKELY": 1, "_SINGLE": 1, "_AT_ONCE": 1},
    "lazy": {"solver": "lazy"},
    "lazy one by one": {"solver": "lazy", "_SINGLE": 1, "_BATCH": 1, "memory": "dense"},
}


def take(path: str, problem: Problem) -> Picks:
    """The problem solved on a path."""
    given = dict(PATHS[path])
    if problem.solver == "stochastic" and given.get("solver") == "lazy":
        del given["solver"]
    threads, entries = given.pop("threads", 1), given.pop("entries", None)
    if entries is not None:
        given["limit"] = BYTES * entries * problem.count
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in given if name.startswith("_")]:
            patch.setattr(greedy, name, given.pop(name))
        return greedy.solve(replace(problem, **given), threads)


def by_definition(problem: Problem) -> Picks:
    """Greedy from the float32 costs: every gain summed up anew at every step, by example, in float64."""
    points = measured_points(problem.residuals, problem.embeddings)
    transform = metric(points, problem.objective)
    with Crew(1) as crew:
        every = cost_matrix(points, transform, crew)
        squares = cost_matrix(points, replace(metric(points, "frobenius"), empty=np.float32(np.inf)), crew)
    weights = np.ones(points.count) if problem.weights is None else problem.weights
    allowed = np.arange(points.count) if problem.candidates is None else problem.candidates
    counted = np.flatnonzero(weights > 0)
    weights, pairs = weights[counted], np.ix_(allowed, counted)
    costs, squares = every[pairs].astype(np.float64), squares[pairs].astype(np.float64)
    least = np.full(len(counted), transform.empty, np.float64)
    sampler = Sampler.of(problem, len(allowed))
    left = np.ones(len(allowed), bool)
    order: list[int] = []
    gains: list[float] = []
    while len(order) < (problem.budget or len(allowed)):
        if order and problem.tolerance is not None:
            if problem.measure == "objective" or problem.objective == "frobenius":
                measured = summed(weights * least) * transform.unit
            else:
                measured = summed(weights * squares[order].min(axis=0)) * transform.scale**2
            rooted = problem.objective == "frobenius" or problem.measure == "frobenius"
            if measured <= (problem.tolerance**2 if rooted else problem.tolerance):
                break
        pool = np.flatnonzero(left) if sampler is None else sampler.draw(left, len(order))
        fresh = np.array([summed(weights * np.maximum(0.0, least - costs[j])) for j in pool])
        best = int(pool[fresh.argmax()])  # the first of equals
        order.append(best)
        gains.append(fresh.max() * transform.unit)
        left[best] = False
        least = np.minimum(least, costs[best])
    members = np.sort(order)
    nearest = members[costs[members].argmin(axis=0)]
    counts = np.bincount(nearest, weights, len(allowed))[order].astype(np.float64)
    return Picks(allowed[order], np.array(gains), counts)


def summed(terms: npt.NDArray[np.float64]) -> float:
    """Their sum, one after another."""
    return float(np.cumsum(terms)[-1])


def assert_same(one: Picks, other: Picks, why: object) -> None:
    assert one.order.tolist() == other.order.tolist(), why
    assert one.gains.tobytes() == other.gains.tobytes(), why
    assert one.counts.tobytes() == other.counts.tobytes(), why


def assert_all_paths_agree(problem: Problem) -> Picks:
    expected = by_definition(problem)
    for path in PATHS:
        assert_same(take(path, problem), expected, (path, problem))
    return expected


def line(n: int) -> Any:
    return np.arange(n, dtype=np.float32)[:, None]


def square(n: int) -> Any:
    side = math.isqrt(n - 1) + 1
    return np.stack(np.divmod(np.arange(n), side), axis=1).astype(np.float32)


LATTICES: dict[str, Callable[[int], Any]] = {
    "line": line,
    "line, shuffled": lambda n: line(n)[np.argsort(np.sin(np.arange(n)))],
    "square": square,
    "cube's corners": lambda n: ((np.arange(n)[:, None] >> np.arange(6)) & 1).astype(np.float32),
    "simplex": lambda n: np.eye(n, dtype=np.float32),
    "one point": lambda n: np.ones((n, 2), np.float32),
    "origin": lambda n: np.zeros((n, 3), np.float32),
    "pairs": lambda n: np.round(4 * residuals(n, 3, 5)[np.arange(n) // 2]).astype(np.float32),
}


@pytest.mark.parametrize("n", [5, 66])
@pytest.mark.parametrize("points", LATTICES.values(), ids=LATTICES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_masses_of_ties(objective: Any, points: Callable[[int], Any], n: int) -> None:
    for k in (-(-n // 3), n):
        assert_all_paths_agree(Problem(points(n), None, objective, k, None))


@pytest.mark.parametrize("points", LATTICES.values(), ids=LATTICES)
def test_lattices_have_the_picks_of_the_definition(points: Callable[[int], Any]) -> None:
    # Squared distances of whole numbers are exact in float32: ties are ties, in float64 and by hand.
    ground = points(40)
    truth = definition(Proxies(np.arange(40), ground, np.zeros(40, int)), "frobenius")
    if truth.empty == 0:
        expected = list(range(40))
    else:
        expected = []
        empty = float(np.float32(truth.empty))
        for _ in range(40):
            gains = np.maximum(0.0, np.minimum(truth.least(expected), empty)[:, None] - truth.costs).sum(axis=0)
            gains[expected] = -1.0
            expected.append(int(gains.argmax()))
    picks = assert_all_paths_agree(Problem(ground, None, "frobenius", 40, None))
    assert picks.order.tolist() == expected
    assert picks.counts.tolist() == truth.counts(expected).tolist()


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Lattices, repeats and plain points; with weights, candidates, samples, tolerances."""
    n = draw(st.one_of(st.integers(1, 20), st.sampled_from([33, 64, 65, 127, 190])))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    width = draw(st.sampled_from([1, 2, 5, 30]))
    points = rng.standard_normal((draw(st.sampled_from([n, n // 3 + 1, 1])), width))
    points = points[rng.integers(0, len(points), n)]
    if draw(st.booleans()):
        points = np.round(points * draw(st.sampled_from([1, 3])))
    embeddings = rng.integers(0, 3, (n, 2)).astype(np.float32) if draw(st.integers(0, 3)) == 0 else None
    weights = draw(st.sampled_from([None, None, rng.integers(0, 3, n) / 1.0, rng.random(n), np.eye(n)[n // 2]]))
    if weights is not None and not weights.any():
        weights = None
    candidates = np.flatnonzero(rng.random(n) < 0.6) if draw(st.integers(0, 3)) == 0 else None
    if candidates is not None and len(candidates) == 0:
        candidates = None
    most = n if candidates is None else len(candidates)
    covered = draw(st.booleans())
    budget = None if covered else draw(st.sampled_from(sorted({1, min(2, most), most // 2 + 1, most} - {most + 1})))
    return Problem(
        points.astype(np.float32),
        embeddings,
        draw(st.sampled_from(OBJECTIVES)),
        budget,
        draw(st.sampled_from([1e-200, 0.5, 3.0, 20.0, 1e150])) if covered else None,
        measure=draw(st.sampled_from(["frobenius", "objective"])),
        solver=draw(st.sampled_from(["exact", "exact", "stochastic"])),
        epsilon=draw(st.sampled_from([0.01, 0.5, 0.999])),
        seed=draw(st.integers(0, 9)),
        weights=weights,
        candidates=candidates,
    )


@settings(max_examples=50, deadline=None, derandomize=True)
@given(problems())
def test_all_paths_lead_to_the_same_picks(problem: Problem) -> None:
    assert_all_paths_agree(problem)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_more_points_than_a_block_of_any_kernel(objective: Any) -> None:
    rows = np.round(8 * residuals(1100, 3, 6)).astype(np.float32)
    assert_all_paths_agree(Problem(rows, None, objective, 12, None))
    candidates, weights = np.arange(0, 1100, 2), np.arange(1100) % 3 / 1.0
    assert_all_paths_agree(Problem(rows, None, objective, 12, None, weights=weights, candidates=candidates))


@pytest.mark.parametrize("tolerance", [1e160, 1e300, math.inf])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_any_one_pick_is_within_a_tolerance_beyond_all_numbers(objective: Any, tolerance: float) -> None:
    assert len(greedy.solve(Problem(line(9), None, objective, None, tolerance)).order) == 1


@pytest.mark.parametrize("solver", ["exact", "lazy", "stochastic"])
def test_where_no_example_counts_the_smallest_rows_are_picked(solver: Any) -> None:
    problem = Problem(line(9), None, "distance", 3, None, solver=solver, weights=np.zeros(9))
    for asked, expected in (
        (problem, [0, 1, 2]),
        (replace(problem, candidates=np.array([2, 5, 6, 7])), [2, 5, 6]),
        (replace(problem, budget=None, tolerance=1e-3), [0]),
    ):
        picks = greedy.solve(asked)
        assert picks.order.tolist() == expected
        assert picks.gains.tolist() == picks.counts.tolist() == [0.0] * len(expected)


@pytest.mark.parametrize(
    ("fits", "memory", "turned"),
    [(True, "blockwise", True), (True, "blockwise", False), (True, "dense", False), (False, "blockwise", False)],
)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_lists_longer_than_estimated_are_not_tried_at_every_pick(
    objective: Any, fits: bool, memory: Any, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The middle of a circle has a third of it nearer to each than itself: 80,000 entries, twice what room is made for
    # in strips where none are expected; turned squares make room for as many as there are.
    monkeypatch.setattr(neighbours, "_SHALLOW", 0 if turned else 1 << 20)
    angles = np.linspace(0.0, 2 * np.pi, 500, endpoint=False)
    circle = np.concatenate([np.zeros((1, 2)), np.stack([np.cos(angles), np.sin(angles)], axis=1)])
    limit = 2 << 30 if fits else 5_000 * BYTES
    problem = Problem(circle.astype(np.float32), None, objective, 40, None, memory=memory, limit=limit)
    expected = greedy.solve(replace(problem, solver="lazy"))
    tried: list[bool] = []

    def find(*given: Any) -> Any:
        found = find_neighbours(*given)
        tried.append(found is not None)
        return found

    monkeypatch.setattr(greedy, "find_neighbours", find)
    monkeypatch.setattr(greedy, "estimated_entries", lambda *_: 0)
    assert_same(greedy.solve(problem), expected, "too long")
    if turned:
        assert tried == [True]
        return
    assert not tried[0]
    if fits:
        assert sum(tried) == 1
        assert len(tried) <= 3
    else:
        assert len(tried) <= 7  # at 1, 2, 4, 8 … picks, and once more on the way to the first


Found = tuple[np.ndarray, np.ndarray, list[list[tuple[int, float]]]]


def neighbours_of(problem: Problem, threads: int, dense: bool = False) -> Found:
    """After the first pick: sums of costs, gains, and every example's entries."""
    points = measured_points(problem.residuals, problem.embeddings)
    transform = metric(points, problem.objective)
    weights = np.linspace(0.5, 2.0, points.count)
    sums = np.empty(points.count)
    with Crew(threads) as crew:
        costs = Costs(points, points, transform, cost_matrix(points, transform, crew) if dense else None)
        nearest = costs.to_ground(np.array([3]))[0]
        found = find_neighbours(costs, nearest, weights, points.count**2, 1 << 20, crew, sums)
        assert found is not None
        places = [slice(start, start + length) for start, length in zip(found.starts, found.lengths, strict=True)]
        lists = [list(zip(found.candidates[one].tolist(), found.costs[one].tolist(), strict=True)) for one in places]
    return sums, found.gains, lists


@pytest.mark.parametrize("width", [3, 13])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("embedded", [False, True])
def test_turned_squares_and_strips_find_the_lists_of_the_definition(
    objective: Any, width: int, embedded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = np.random.default_rng(width)
    n = 331  # six squares a side, the last one narrower, and no multiple of a vector's length
    rows = stream.normal(size=(n, width)).astype(np.float32)
    rows[200:210] = rows[:10]
    problem = Problem(rows, stream.random((n, 5), np.float32) if embedded else None, objective, 1, None)
    points = measured_points(problem.residuals, problem.embeddings)
    costs = Costs(points, points, metric(points, objective), None).of(np.arange(n)).astype(np.float64)
    least, weights = costs[3], np.linspace(0.5, 2.0, n)
    listed = [
        [(j, cost) for j, cost in enumerate(row) if cost <= m] for row, m in zip(costs.tolist(), least, strict=True)
    ]
    for shallow, wide, threads, dense in (
        (1 << 20, 2048, 1, False),
        (1 << 20, 64, 3, False),  # strips in several pieces, the last one narrower
        (1 << 20, 128, 2, True),
        (0, 2048, 1, False),
        (0, 2048, 3, False),
    ):
        monkeypatch.setattr(neighbours, "_SHALLOW", shallow)
        monkeypatch.setattr(neighbours, "_WIDE", wide)
        sums, gains, lists = neighbours_of(problem, threads, dense)
        assert lists == listed
        np.testing.assert_allclose(sums, weights @ costs, rtol=1e-12)
        np.testing.assert_allclose(gains, weights @ np.maximum(0.0, least[:, None] - costs), rtol=1e-12)


def test_what_a_search_in_vain_took_is_used_again() -> None:
    """Else a limit on memory would hold for each search alone."""
    points = measured_points(np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32), None)
    costs, weights = Costs(points, points, metric(points, "distance"), None), np.ones(600)
    nearest = costs.to_ground(np.array([3]))[0]
    with Crew(2) as crew:
        before = crew.mark()
        assert find_neighbours(costs, nearest, weights, 0, 1 << 20, crew) is None
        assert crew.mark() == before


@pytest.mark.parametrize("depth", [8, 60])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_many_candidates_of_any_depth_are_picked_as_by_lazy_steps(objective: Any, depth: int) -> None:
    rows = np.random.default_rng(depth).normal(size=(700, depth)).astype(np.float32)
    problem = Problem(rows, None, objective, 350, None, memory="blockwise")
    expected = greedy.solve(replace(problem, solver="lazy"))
    for threads in (1, 3):
        assert_same(greedy.solve(problem, threads), expected, f"{threads} threads")
