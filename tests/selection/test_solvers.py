"""Every way to the picks leads to the same ones: solvers, memory, threads; and what weights and candidates mean."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from facility_location import OBJECTIVES, PROXIES, definition, outer, proxies
from hypothesis import given, settings
from hypothesis import strategies as st

from selection import Proxies, Selection, select
from selection.greedy import solve
from selection.mapper import SerialMapper
from selection.problem import Problem
from selection.randomness import draw_words

ROUNDING = 1e-5  # of costs kept in float32, relative
WAYS: list[dict[str, Any]] = [
    {"memory": "dense"},
    {"memory": "blockwise"},
    {"memory": "dense", "memory_limit": 1},  # no room for lists of neighbours
    {"memory": "blockwise", "memory_limit": 1},
    {"solver": "lazy"},
    {"solver": "lazy", "memory": "dense"},
    {"solver": "lazy", "memory": "blockwise", "memory_limit": 1},
    {"mapper": SerialMapper(1)},
    {"mapper": SerialMapper(2), "memory": "blockwise"},
]


def weighted(ground: Proxies, weights: Any) -> Proxies:
    return Proxies(ground.ids, ground.residuals, ground.labels, ground.embeddings, weights)


def assert_same(one: Selection, other: Selection, why: object = "") -> None:
    assert one.ids.tolist() == other.ids.tolist(), why
    assert one.weights.tobytes() == other.weights.tobytes(), why
    assert one.gains.tobytes() == other.gains.tobytes(), why


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_all_ways_pick_the_same(objective: str, kind: str, integers: bool) -> None:
    ground = proxies(kind, 330, 11, classes=5, width=7)
    if integers:  # many ties, and repeats
        embeddings = None if ground.embeddings is None else np.round(2 * ground.embeddings[:, :2])
        ground = Proxies(ground.ids, np.round(2 * ground.residuals[:, :3]), ground.labels, embeddings)
    truth = definition(ground, objective)
    norm = math.sqrt(np.square(truth.distances[:, select(ground, budget=20, objective=objective).ids].min(1)).sum())
    weights = np.arange(330) % 7 / 3.0
    wanted: list[dict[str, Any]] = [{"budget": 90}, {"tolerance": norm}, {"tolerance": 30.0, "measure": "objective"}]
    for given_, options in itertools.product((ground, weighted(ground, weights)), wanted):
        expected = select(given_, objective=objective, **options)
        for way in WAYS:
            assert_same(select(given_, objective=objective, **options, **way), expected, (options, way))


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("way", WAYS[:4] + WAYS[7:])
def test_stochastic_picks_do_not_depend_on_memory_or_threads(way: dict[str, Any], kind: str) -> None:
    ground = proxies(kind, 400, 12, classes=12)
    options: dict[str, Any] = {"budget": 40, "solver": "stochastic", "epsilon": 0.1, "seed": 3}
    assert_same(select(ground, **options, **way), select(ground, **options))
    assert select(ground, **{**options, "seed": 4}).ids.tolist() != select(ground, **options).ids.tolist()


@pytest.mark.parametrize("of_candidates", [False, True])
@pytest.mark.parametrize("budget", [25, None])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_stochastic_takes_the_best_of_its_sample(objective: Any, budget: int | None, of_candidates: bool) -> None:
    ground = proxies("residual", 120, 13)
    truth, epsilon, seed = definition(ground, objective), 0.3, 77
    allowed = np.arange(1, 120, 2) if of_candidates else np.arange(120)
    tolerance = None if budget else 0.25 * math.sqrt(np.square(truth.distances[:, allowed].min(axis=1) + 0.5).sum())
    problem = Problem(
        ground.residuals, None, objective, budget, tolerance,
        solver="stochastic", epsilon=epsilon, seed=seed, candidates=allowed if of_candidates else None,
    )  # fmt: skip
    picks = solve(problem)
    assert len(picks.order) == budget or (budget is None and len(picks.order) > 5)
    for step, pick in enumerate(picks.order):
        left = np.flatnonzero(~np.isin(allowed, picks.order[:step]))
        size = math.ceil(len(allowed) * math.log(1 / epsilon) / (budget or step + 1))
        words = draw_words(seed, "selection", step, left)
        sample = allowed[left[np.argsort(words)[:size]]]
        gains = truth.gains(picks.order[:step])
        assert pick in sample
        assert gains[pick] >= gains[sample].max() * (1 - ROUNDING)
        if (np.isclose(gains[sample], gains[pick], rtol=2 * ROUNDING)).sum() > 1:
            equals = sample[np.isclose(gains[sample], gains[pick], rtol=1e-13, atol=0)]
            assert pick == equals.min()


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_sample_of_everything_is_exact(objective: str, kind: str) -> None:
    ground = proxies(kind, 200, 14)
    exact = select(ground, budget=20, objective=objective)
    assert_same(select(ground, budget=20, objective=objective, solver="stochastic", epsilon=math.exp(-20.5)), exact)


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_whole_weights_are_repeats(objective: str, kind: str) -> None:
    ground = proxies(kind, 90, 15)
    weights = 1 + np.arange(90) % 4
    copies = np.repeat(np.arange(90), weights)
    repeated = ground.rows(np.arange(90))
    many = Proxies(
        10 * copies + np.arange(len(copies)) - np.searchsorted(copies, copies),  # the first copy's id ends in 0
        repeated.residuals[copies],
        np.zeros(len(copies), int),
        None if repeated.embeddings is None else repeated.embeddings[copies],
    )
    one = select(weighted(ground, weights), budget=40, objective=objective)
    other = select(many, budget=40, objective=objective)
    assert (10 * one.ids).tolist() == other.ids.tolist()
    assert one.weights.tolist() == other.weights.tolist()
    np.testing.assert_allclose(one.gains, other.gains, rtol=1e-11)
    assert one.gradient_error == pytest.approx(other.gradient_error, rel=1e-9)


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_weighted_step_takes_the_largest_gain(objective: str, kind: str) -> None:
    ground = proxies(kind, 100, 16)
    truth = definition(ground, objective)
    weights = np.where(np.arange(100) % 3 == 0, 0.0, 0.1 + np.arange(100) % 11)
    chosen = select(weighted(ground, weights), budget=60, objective=objective)
    for step, pick in enumerate(chosen.ids):
        gains = weights @ np.maximum(0.0, truth.least(chosen.ids[:step])[:, None] - truth.costs)
        gains[chosen.ids[:step]] = -1.0
        assert gains[pick] >= gains.max() * (1 - ROUNDING)
        assert chosen.gains[step] == pytest.approx(gains[pick], rel=ROUNDING)
    order = np.sort(chosen.ids)
    nearest = order[np.argmin(truth.costs[:, order], axis=1)]
    counts = [weights[nearest == pick].sum() for pick in chosen.ids]
    np.testing.assert_allclose(chosen.weights, counts, rtol=1e-12)
    assert chosen.weights.sum() == pytest.approx(weights.sum(), rel=1e-12)


def test_an_example_without_weight_may_stand_for_others_but_counts_for_nobody() -> None:
    # Weights of the points 0, 1, 2 and 90 on a line: the middle is the best medoid of 0 and 2; 90 is nobody's concern.
    line = np.array([[0.0], [1.0], [2.0], [90.0]])
    chosen = select(Proxies(np.arange(4), line, np.zeros(4, int), None, [1.0, 0.0, 1.0, 0.0]), budget=1)
    assert chosen.ids.tolist() == [1]
    assert chosen.weights.tolist() == [2.0]
    all_ = select(Proxies(np.arange(4), line, np.zeros(4, int), None, [1.0, 0.0, 1.0, 0.0]), budget=4)
    assert dict(zip(all_.ids.tolist(), all_.weights.tolist(), strict=True)) == {0: 1.0, 1: 0.0, 2: 1.0, 3: 0.0}


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_tolerance_of_the_objective_stops_at_the_first_prefix(objective: str, kind: str) -> None:
    ground = proxies(kind, 70, 17)
    truth = definition(ground, objective)
    weights = 0.5 + np.arange(70) % 3
    for given_, counted in ((ground, np.ones(70)), (weighted(ground, weights), weights)):
        every = select(given_, budget=70, objective=objective).ids
        sums = [float(counted @ truth.least(every[:k])) for k in range(1, 70)]
        for k in (1, 2, 9, 40, 68):
            for xi in (sums[k - 1] * (1 + 1e-4), (sums[k - 2] if k > 1 else 2 * sums[0]) * (1 - 1e-4)):
                xi = math.sqrt(xi) if objective == "frobenius" else xi
                chosen = select(given_, tolerance=xi, measure="objective", objective=objective)
                assert chosen.ids.tolist() == every[:k].tolist()


@pytest.mark.parametrize("memory", ["auto", "dense", "blockwise"])
@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_candidates_are_all_that_is_picked(objective: Any, kind: str, memory: Any) -> None:
    ground = proxies(kind, 80, 18)
    truth = definition(ground, objective)
    candidates = np.arange(80)[np.arange(80) % 5 < 2]
    weights = (np.arange(80) % 4).astype(float)
    for solver in ("exact", "lazy"):
        problem = Problem(
            ground.residuals, ground.embeddings, objective, 32, None,
            solver=solver, weights=weights, candidates=candidates, memory=memory,
        )  # fmt: skip
        picks = solve(problem)
        assert sorted(picks.order.tolist()) == candidates.tolist()
        for step, pick in enumerate(picks.order):
            gains = weights @ np.maximum(0.0, truth.least(picks.order[:step])[:, None] - truth.costs)
            left = np.setdiff1d(candidates, picks.order[:step])
            assert gains[pick] >= gains[left].max() * (1 - ROUNDING)
        nearest = candidates[np.argmin(truth.costs[:, candidates], axis=1)]
        assert picks.counts.tolist() == [weights[nearest == pick].sum() for pick in picks.order]


def test_no_more_than_the_candidates_can_be_picked() -> None:
    with pytest.raises(ValueError, match="budget = 3: should be at least 1 and at most 2, the candidates there are"):
        Problem(np.ones((5, 2), np.float32), None, "frobenius", 3, None, candidates=np.array([1, 4]))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_factored_proxies_are_the_outer_products(objective: str) -> None:
    ground = proxies("last_layer", 150, 19, classes=5, width=6)
    truth = definition(ground, objective)
    built = Proxies(ground.ids, outer(ground), ground.labels)
    one, other = (select(given_, budget=60, objective=objective) for given_ in (ground, built))
    assert one.value == pytest.approx(other.value, rel=ROUNDING)
    differ = np.flatnonzero(one.ids != other.ids)
    if len(differ):  # only where float32 cannot tell which is better
        first = differ[0]
        gains = truth.gains(one.ids[:first])
        assert gains[one.ids[first]] == pytest.approx(gains[other.ids[first]], rel=ROUNDING)
    else:
        assert one.weights.tolist() == other.weights.tolist()


@st.composite
def grounds(draw: st.DrawFn) -> tuple[Proxies, int]:
    """Points with repeats, zeros and opposites, in any units; and how many to pick."""
    n = draw(st.one_of(st.integers(1, 30), st.sampled_from([63, 64, 65, 129, 257])))
    dim = draw(st.sampled_from([1, 2, 3, 8, 25]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    points = rng.standard_normal((draw(st.integers(1, n)), dim))
    if draw(st.booleans()):
        points = np.round(points)  # ties
    if draw(st.booleans()):
        points[: len(points) // 2] = -points[-(len(points) // 2) :] if len(points) > 1 else points[:0]
    points = points[rng.integers(0, len(points), n)]
    points[rng.random(n) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = 0.0
    points = points * 10.0 ** draw(st.sampled_from([-30, -12, 0, 12, 30]))
    embeddings = np.round(rng.standard_normal((n, 2)), 1) if draw(st.booleans()) else None
    k = draw(st.one_of(st.just(n), st.integers(1, n)))
    return Proxies(np.arange(n), points, np.zeros(n, int), embeddings), k


@settings(max_examples=150, deadline=None, derandomize=True)
@given(grounds(), st.sampled_from(OBJECTIVES))
def test_what_holds_for_all_proxies(ground_and_k: tuple[Proxies, int], objective: str) -> None:
    ground, k = ground_and_k
    n = len(ground.ids)
    truth = definition(ground, objective)
    exact = select(ground, budget=k, objective=objective, mapper=SerialMapper(1))
    assert len(set(exact.ids.tolist())) == k
    assert exact.weights.sum() == n
    assert (exact.gains >= 0).all()
    assert (np.diff(exact.gains) <= 1e-6 * exact.gains[0]).all()
    assert exact.value == pytest.approx(truth.value(exact.ids), rel=ROUNDING, abs=1e-300)
    for way in (*WAYS[:4], *WAYS[6:7]):
        assert_same(select(ground, budget=k, objective=objective, **way), exact, way)
