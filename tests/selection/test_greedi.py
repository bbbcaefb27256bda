"""GreeDi against the definition, exact greedy and its own bound; rounds, and who sees how much."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from facility_location import OBJECTIVES, PROXIES, definition, proxies

from selection import Proxies, Selection, select
from selection.blocks import Block
from selection.covering import cover
from selection.distances import largest_norm
from selection.greedi import Partition, deal
from selection.mapper import LocalShards, SerialMapper, divided, place, run
from selection.problem import Picks, Problem
from selection.randomness import draw_uniform, stream_seed
from selection.threads import Crew
from selection.works import Cover, Held, Result, Solve, Work

ROUNDING = 1e-5  # of costs kept in float32, relative


class Watched:
    """A mapper in this process that writes down how many candidates every work of every round sees."""

    def __init__(self) -> None:
        self.shards = LocalShards(1)
        self.solves: list[list[int]] = []  # a round: candidates of each
        self.covers: list[list[int]] = []  # a round: the most medoids that each holds at a time
        self.grounds: list[list[int]] = []  # a round: examples that each solve covers

    def map(self, problems: Sequence[Problem], partition: Partition | None = None) -> tuple[list[Picks], float]:
        return run([place(problem, self, share) for problem, share in divided(problems, partition)], self), 0.0

    def hold(self, block: Block) -> Held:
        return self.shards.hold(block)

    def perform(self, works: Sequence[Work]) -> list[Result]:
        solves = [work.candidates or work.blocks for work in works if isinstance(work, Solve)]
        self.solves.append([sum(len(block.rows) for block in blocks) for blocks in solves])
        covers = [[len(rows) for _, rows in work.medoids] for work in works if isinstance(work, Cover)]
        self.covers.append([max(sizes) for sizes in covers])
        self.grounds.append(
            [sum(len(block.rows) for block in work.blocks) for work in works if isinstance(work, Solve)]
        )
        return self.shards.perform(works)


def points(n: int, seed: int = 0, dim: int = 4) -> Proxies:
    return Proxies(
        np.arange(n),
        draw_uniform(seed, "selection", 9, np.arange(n)[:, None], np.arange(dim)) - 0.5,
        np.zeros(n, int),
    )


def assert_sound(chosen: Selection, ground: Proxies, k: int, objective: str = "frobenius") -> None:
    """k distinct members, whose gains, value and weights are what the definition says of them on everything."""
    truth = definition(ground, objective)
    assert len(chosen.ids) == k
    assert len(set(chosen.ids.tolist())) == k
    assert chosen.weights.sum() == len(ground.ids)
    assert chosen.weights.tolist() == truth.counts(chosen.ids).tolist()
    assert chosen.value == pytest.approx(truth.value(chosen.ids), rel=ROUNDING)
    assert chosen.value == chosen.gains.sum()
    for step in (0, k // 2, k - 1):
        gain = truth.value(chosen.ids[: step + 1]) - truth.value(chosen.ids[:step])
        assert chosen.gains[step] == pytest.approx(gain, rel=1e-4, abs=ROUNDING * chosen.gains[0])


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_nearly_what_exact_greedy_reaches(objective: str, kind: str) -> None:
    ground = proxies(kind, 600, 21, classes=5)
    exact = select(ground, budget=30, objective=objective)
    for parts in (2, 5):
        chosen = select(ground, budget=30, objective=objective, partitions=parts)
        assert_sound(chosen, ground, 30, objective)
        # All but the first pick: what the first gains is mostly the distance to the empty set.
        assert chosen.gains[1:].sum() >= 0.9 * exact.gains[1:].sum()
        assert 0.9 * exact.value <= chosen.value <= exact.value * 1.1
        assert chosen.ids.tolist() != exact.ids.tolist()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("parts", "k"), [(2, 3), (3, 2)])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_bound_of_greedi(objective: str, parts: int, k: int, seed: int) -> None:
    ground = points(24, seed)
    truth = definition(ground, objective)
    watched = Watched()
    chosen = select(ground, budget=k, partitions=parts, objective=objective, seed=seed, mapper=watched)
    assert watched.solves[1] == [parts * k]  # q = k, as the bound wants it
    best = truth.best(k)
    assert truth.value(chosen.ids) >= (1 - 1 / math.e) / min(math.sqrt(k), parts) * best
    assert truth.value(chosen.ids) <= best * (1 + ROUNDING)


@pytest.mark.parametrize("options", [{}, {"capacity": 40}, {"sample": 100}, {"solver": "stochastic"}])
def test_the_seed_deals_and_nothing_else_matters(options: dict[str, Any]) -> None:
    ground = proxies("last_layer", 500, 22)
    one, again, other = (select(ground, budget=20, partitions=8, seed=seed, **options) for seed in (5, 5, 6))
    shuffled = select(ground.rows(np.argsort(np.sin(np.arange(500)))), budget=20, partitions=8, seed=5, **options)
    for same in (
        again,
        shuffled,
        *(
            select(ground, budget=20, partitions=8, seed=5, **options, mapper=SerialMapper(threads), memory=memory)
            for threads, memory in ((1, "blockwise"), (3, "dense"))
        ),
    ):
        assert same.ids.tolist() == one.ids.tolist()
        assert same.weights.tolist() == one.weights.tolist()
        assert same.gains.tobytes() == one.gains.tobytes()
    assert other.ids.tolist() != one.ids.tolist()


def test_a_partition_deals_every_row_once() -> None:
    parts = deal(103, 4, 8)
    assert sorted(len(part) for part in parts) == [25, 26, 26, 26]
    assert sorted(np.concatenate(parts).tolist()) == list(range(103))
    assert [part.tolist() for part in parts] == [part.tolist() for part in deal(103, 4, 8)]
    assert [part.tolist() for part in parts] != [part.tolist() for part in deal(103, 4, 9)]


def test_small_classes_are_divided_into_fewer_parts() -> None:
    ground = points(900)
    labels = np.repeat([0, 1, 2], [600, 299, 1])
    ground = Proxies(ground.ids, ground.residuals, labels)
    watched = Watched()
    chosen = select(ground, budget=31, partitions=6, mapper=watched)
    assert sorted(watched.solves[0]) == [1, 99, 100, 100, 100, 100, 100, 100, 100, 100]
    start = 0
    for label in (0, 1, 2):
        size = int((labels[chosen.ids] == label).sum())
        own = slice(start, start + size)
        assert (labels[chosen.ids[own]] == label).all()
        assert chosen.weights[own].sum() == (labels == label).sum()
        start += size


def test_more_parts_than_pairs_of_examples() -> None:
    assert_sound(select(points(9), budget=3, partitions=50), points(9), 3)
    assert_sound(select(points(1), budget=1, partitions=50), points(1), 1)
    assert_sound(select(points(40), budget=40, partitions=4), points(40), 40)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_small_capacity_takes_rounds(objective: str) -> None:
    ground, watched = points(2048), Watched()
    chosen = select(ground, budget=17, partitions=256, alpha=2, capacity=34, objective=objective, mapper=watched)
    assert_sound(chosen, ground, 17, objective)
    rounds = [len(solves) for solves in watched.solves if solves]
    assert rounds[0] == 256
    assert rounds[-1] == 1
    assert len(rounds) >= 3
    assert (np.diff(rounds) < 0).all()
    assert max(max(solves) for solves in watched.solves if solves) <= 34 * 1.5
    exact = select(ground, budget=17, objective=objective)
    assert chosen.value >= 0.9 * exact.value


@pytest.mark.parametrize(
    ("n", "k", "options"),
    [
        (1000, 100, {"partitions": 10, "capacity": 50}),
        (1000, 100, {"partitions": 40, "capacity": 50}),
        (1000, 300, {"partitions": 16, "alpha": 2, "capacity": 100}),
        (1000, 900, {"partitions": 10, "capacity": 120}),
        (1000, 1000, {"partitions": 10, "capacity": 120}),
        (1000, 104, {"partitions": 8, "alpha": 1, "capacity": 50}),  # the parts' picks are exactly k
        (1000, 60, {"partitions": 64, "alpha": 1, "capacity": 60}),
        (500, 20, {"partitions": 2, "capacity": 30}),
        (500, 20, {"partitions": 50, "capacity": 2}),
        (30, 4, {"partitions": 15, "capacity": 2}),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_exactly_k_members_whatever_the_capacity(n: int, k: int, options: dict[str, Any], seed: int) -> None:
    ground = points(n)
    watched = Watched()
    assert_sound(select(ground, budget=k, seed=seed, **options, mapper=watched), ground, k)
    # No process picks from more than a part of the first round, or about what it may hold: a deal is not quite even.
    seen = max(max(solves) for solves in watched.solves if solves)
    assert seen <= max(-(-n // options["partitions"]), 2 * options["capacity"])
    assert max(max(covers) for covers in watched.covers if covers) <= 2 * options["capacity"]


def test_gains_over_a_sample_are_valued_on_everything() -> None:
    ground, watched = points(1500), Watched()
    sampled = select(ground, budget=25, partitions=5, sample=300, mapper=watched)
    assert_sound(sampled, ground, 25)
    full = select(ground, budget=25, partitions=5)
    assert sampled.ids.tolist() != full.ids.tolist()
    assert sampled.value >= 0.9 * full.value
    assert select(ground, budget=25, partitions=5, sample=1500).ids.tolist() == full.ids.tolist()


def test_the_best_local_result_competes() -> None:
    # Gains over a sample of one example say nothing after the first pick: the rest would be the smallest rows.
    ground, seed = points(200), 4
    chosen = select(ground, budget=10, partitions=4, sample=1, seed=seed)
    assert_sound(chosen, ground, 10)
    parts = deal(200, 4, stream_seed(seed, "selection", 0))
    [winner] = [part for part in parts if np.isin(chosen.ids, part).all()]
    assert chosen.ids.tolist() == select(ground.rows(winner), budget=10).ids.tolist()


@pytest.mark.parametrize("parts", [3, 10])
@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_tolerance_holds_on_everything(objective: str, kind: str, parts: int) -> None:
    ground = proxies(kind, 300, 23)
    truth = definition(ground, objective)
    one = select(ground, budget=30, objective=objective).ids
    xi = math.sqrt(np.square(truth.distances[:, one].min(axis=1)).sum())
    chosen = select(ground, tolerance=xi, objective=objective, partitions=parts)
    assert math.sqrt(np.square(truth.distances[:, chosen.ids].min(axis=1)).sum()) <= xi * (1 + ROUNDING)
    assert len(chosen.ids) < 90
    assert_sound(chosen, ground, len(chosen.ids), objective)
    left = float(truth.least(one).sum())
    xi = math.sqrt(left) if objective == "frobenius" else left
    chosen = select(ground, tolerance=xi, measure="objective", objective=objective, partitions=parts)
    assert truth.least(chosen.ids).sum() <= left * (1 + ROUNDING)
    assert len(chosen.ids) < 90


@pytest.mark.parametrize("measure", ["frobenius", "objective"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_tolerance_holds_on_everything_where_gains_are_over_a_sample(objective: str, measure: str) -> None:
    ground = points(400)
    truth = definition(ground, objective)

    def left(members: Any) -> float:
        if measure == "frobenius":
            return math.sqrt(np.square(truth.distances[:, members].min(axis=1)).sum())
        least = float(truth.least(members).sum())
        return math.sqrt(least) if objective == "frobenius" else least

    xi = left(select(ground, budget=40, objective=objective).ids)
    watched = Watched()
    asked: dict[str, Any] = {"tolerance": xi, "measure": measure, "objective": objective, "partitions": 5}
    chosen = select(ground, **asked, sample=60, mapper=watched)
    assert left(chosen.ids) <= xi * (1 + ROUNDING)
    assert left(chosen.ids[:-1]) > xi * (1 - ROUNDING)
    assert_sound(chosen, ground, len(chosen.ids), objective)
    assert max(size for sizes in watched.grounds for size in sizes) == 80  # a part; the sample is smaller


def test_a_tolerance_that_takes_more_candidates_than_fit_is_refused() -> None:
    asked = {"tolerance": 1.0, "partitions": 4}
    size = len(select(points(300), **asked).ids)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"capacity = \d+: to keep the tolerance of 1\.0, the 4 parts picked \d+ cand"):
        select(points(300), **asked, capacity=size)  # type: ignore[arg-type]
    assert len(select(points(300), **asked, capacity=300).ids) == size  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"capacity": 60}, {"sample": 200}])
def test_weights_of_examples_are_kept(options: dict[str, Any]) -> None:
    ground = points(600)
    weights = np.where(np.arange(600) % 4 == 0, 0.0, 1.0 + np.arange(600) % 3)
    ground = Proxies(ground.ids, ground.residuals, ground.labels, None, weights)
    chosen = select(ground, budget=24, partitions=12, **options)
    truth = definition(ground, "frobenius")
    assert len(set(chosen.ids.tolist())) == 24
    assert chosen.weights.sum() == weights.sum()
    assert chosen.value == pytest.approx(weights @ (truth.empty - truth.least(chosen.ids)), rel=ROUNDING)


@pytest.mark.parametrize("options", [{}, {"solver": "stochastic"}, {"capacity": 12, "alpha": 1}, {"sample": 1}])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_parts_may_have_nobody_to_cover(objective: str, options: dict[str, Any]) -> None:
    ground, weights = points(40), np.zeros(40)
    weights[[7, 9]] = 1.0, 2.0
    ground = Proxies(ground.ids, ground.residuals, ground.labels, None, weights)
    chosen = select(ground, budget=6, partitions=10, objective=objective, **options)
    truth = definition(ground, objective)
    assert len(set(chosen.ids.tolist())) == 6
    assert chosen.weights.sum() == 3.0
    assert chosen.value == pytest.approx(weights @ (truth.empty - truth.least(chosen.ids)), rel=ROUNDING)
    if "sample" not in options:
        assert {7, 9} <= set(chosen.ids.tolist())
        found = select(ground, tolerance=1e-3, partitions=10, objective=objective)
        assert sorted(found.ids[found.weights > 0].tolist()) == [7, 9]


def test_rounds_of_repeats_leave_parts_with_nobody_to_cover() -> None:
    # Every part's first pick stands for all of its examples, the others for none; then they are dealt out again.
    alike = Proxies(np.arange(400), np.ones((400, 2)), np.zeros(400, int))
    assert_sound(select(alike, budget=20, partitions=50, capacity=30), alike, 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partitions": 0}, "partitions = 0: should be a whole number, at least 1"),
        ({"partitions": 2.0}, r"partitions = 2\.0: should be a whole number, at least 1"),
        ({"capacity": 1}, "capacity = 1: should be a whole number, at least 2"),
        ({"sample": 0}, "sample = 0: should be a whole number, at least 1"),
        ({"alpha": 0.5}, r"alpha = 0\.5: should be at least 1"),
        ({"alpha": math.nan}, "alpha = nan: should be at least 1"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(points(10), budget=2, **options)


def blocks(ground: Proxies, members: Any, weights: Any = None) -> tuple[Block, Block]:
    n = len(ground.ids)
    everything = Block(np.arange(n), ground.residuals, ground.embeddings, np.ones(n) if weights is None else weights)
    return everything, everything.some(np.asarray(members))


@pytest.mark.parametrize(("n", "k"), [(1, 1), (7, 3), (700, 300)])
@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_cover_is_the_definition(objective: Any, kind: str, n: int, k: int) -> None:
    ground = proxies(kind, n, 24)
    truth = definition(ground, objective)
    members = np.argsort(np.sin(1.0 + np.arange(n)))[:k]
    c1 = 2 * largest_norm(ground.residuals, ground.embeddings)
    answers = []
    for threads in (1, 2):
        with Crew(threads) as crew:
            for division in (1, 3):
                everything, medoids = blocks(ground, members)
                pieces = [medoids.some(places) for places in np.array_split(np.arange(k), division) if len(places)]
                answers.append(cover(everything, pieces, objective, c1, crew))
    for answer in answers:
        assert answer.gains.tobytes() == answers[0].gains.tobytes()
        assert answer.counts.tolist() == truth.counts(members).tolist()
        assert answer.left == pytest.approx(truth.least(members).sum(), rel=1e-4, abs=ROUNDING * n * truth.empty)
    left = [n * truth.empty, *(truth.least(members[: place + 1]).sum() for place in range(k))]
    np.testing.assert_allclose(answers[0].gains, -np.diff(left), rtol=1e-4, atol=ROUNDING * n * truth.empty)


@pytest.mark.parametrize("order", [[4, 0], [0, 4], [4, 0, 1], [1, 4, 0]])
def test_cover_gives_ties_to_the_smaller_row(order: list[int]) -> None:
    # Rows 0 and 1 repeat each other; 2 and 3 lie half way to 4.
    line = Proxies(np.arange(5), np.array([[-1.0], [-1.0], [0.0], [0.0], [1.0]]), np.zeros(5, int))
    weights = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    with Crew(1) as crew:
        everything, medoids = blocks(line, order, weights)
        covered = cover(everything, [medoids], "distance", 2.0, crew)
    expected = {0: 15.0, 4: 16.0, 1: 0.0}
    assert covered.counts.tolist() == [expected[row] for row in order]
    assert covered.gains.sum() == 31 * 2.0 - 12.0


def test_cover_counts_everyone_where_the_farthest_is_as_far_as_nothing() -> None:
    # Opposite points are c1 apart: as far as from the empty set.
    ends = Proxies(np.arange(3), np.array([[0.3, 0.1], [-0.3, -0.1], [0.3, 0.1]]), np.zeros(3, int))
    for objective in OBJECTIVES:
        chosen = select(ends, budget=1, objective=objective, partitions=1)
        assert chosen.weights.sum() == 3
        for member in range(3):
            with Crew(1) as crew:
                everything, medoids = blocks(ends, [member])
                c1 = 2 * largest_norm(ends.residuals, None)
                covered = cover(everything, [medoids], objective, c1, crew)  # type: ignore[arg-type]
            assert covered.counts.tolist() == [3.0]


def test_a_problem_with_candidates_is_not_for_a_mapper() -> None:
    problem = Problem(points(6).residuals, None, "frobenius", 1, None)
    with pytest.raises(ValueError, match="a problem for a mapper picks from all"):
        SerialMapper(1).map([replace(problem, candidates=np.array([1, 2]))])
