"""Greedy against the definition: every subset of small sets, every step of larger ones."""

import math

import numpy as np
import pytest
from facility_location import OBJECTIVES, PROXIES, definition, proxies

from selection import Proxies, select

ROUNDING = 1e-5  # of costs kept in float32, relative


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_greedy_reaches_its_share_of_the_best_of_all_subsets(objective: str, kind: str, seed: int) -> None:
    ground = proxies(kind, 6 + seed, seed)
    truth = definition(ground, objective)
    for k in (1, 2, 3, 4):
        chosen = select(ground, budget=k, objective=objective)
        best = truth.best(k)
        assert truth.value(chosen.ids) >= (1 - 1 / math.e) * best
        assert truth.value(chosen.ids) <= best * (1 + ROUNDING)
        if k == 1:
            assert truth.value(chosen.ids) == pytest.approx(best, rel=ROUNDING)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "classes"), [("residual", 3), ("residual", 10), ("residual", 70), ("last_layer", 6)])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_step_takes_the_largest_gain(objective: str, kind: str, classes: int, seed: int) -> None:
    ground = proxies(kind, 150, seed, classes, width=90)
    truth = definition(ground, objective)
    chosen = select(ground, budget=60, objective=objective)
    picked: list[int] = []
    for pick, gain in zip(chosen.ids, chosen.gains, strict=True):
        gains = truth.gains(picked)
        gains[picked] = -1.0
        assert gain == pytest.approx(gains[pick], rel=ROUNDING)
        assert gains[pick] >= gains.max() * (1 - ROUNDING)
        # Two lonely examples gain the same from one another: m_i + m_j - d_ij. Such ties are common.
        equals = np.flatnonzero(np.isclose(gains, gains[pick], rtol=1e-13, atol=0))
        assert pick == equals[0]
        picked.append(int(pick))
    assert chosen.value == pytest.approx(truth.value(picked), rel=ROUNDING)
    assert chosen.value == chosen.gains.sum()
    assert (np.diff(chosen.gains) <= 1e-12 * chosen.gains[0]).all()
    assert chosen.weights.tolist() == truth.counts(picked).tolist()
    assert chosen.weights.sum() == 150


@pytest.mark.parametrize("objective", ["frobenius", "distance"])
def test_ties_go_to_the_smaller_id(objective: str) -> None:
    # On the line 0, 3, 6, 9 every step is a tie: 3 with 6; then 6 with 9; then 0 with 9.
    line = np.array([[9.0], [6.0], [3.0], [0.0]])
    ids = np.array([40, 30, 20, 10])
    chosen = select(Proxies(ids, line, np.zeros(4, int)), budget=4, objective=objective)
    assert chosen.ids.tolist() == [20, 30, 10, 40]


def test_an_example_between_two_members_counts_for_the_smaller_id() -> None:
    ground = Proxies(np.array([1, 2, 3, 4, 5]), np.array([[0.0], [0.0], [1.0], [2.0], [2.0]]), np.zeros(5, int))
    chosen = select(ground, budget=3, objective="distance")
    assert dict(zip(chosen.ids.tolist(), chosen.weights.tolist(), strict=True)) == {3: 1, 1: 2, 4: 2}
    chosen = select(ground, budget=5, objective="distance")  # 2 and 5 repeat 1 and 4, and nothing is left for them
    assert dict(zip(chosen.ids.tolist(), chosen.weights.tolist(), strict=True)) == {3: 1, 1: 2, 4: 2, 2: 0, 5: 0}


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_tolerance_stops_at_the_first_prefix_that_covers(objective: str, kind: str) -> None:
    ground = proxies(kind, 80, 5)
    truth = definition(ground, objective)
    every = select(ground, budget=80, objective=objective).ids
    norms = [math.sqrt(np.square(truth.distances[:, every[:k]].min(axis=1)).sum()) for k in range(1, 80)]
    for k in (1, 2, 7, 30, 79):
        before = norms[k - 2] if k > 1 else 2 * norms[0]
        for tolerance in (norms[k - 1] * (1 + 1e-5), before * (1 - 1e-5)):
            chosen = select(ground, tolerance=tolerance, objective=objective)
            assert chosen.ids.tolist() == every[:k].tolist()
    assert len(select(ground, tolerance=1e9, objective=objective).ids) == 1


def test_rbf_tolerance_is_a_distance_even_where_similarity_has_vanished() -> None:
    # 100 dim apart exp(-d/dim) is 0 in float32: the objective cannot tell, the norm of G_S can.
    ground = Proxies(np.arange(2), np.array([[0.0], [100.0]]), np.zeros(2, int))
    assert len(select(ground, tolerance=99.9, objective="rbf").ids) == 2
    assert len(select(ground, tolerance=100.1, objective="rbf").ids) == 1


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_order_of_the_rows_does_not_matter(objective: str, kind: str) -> None:
    ground = proxies(kind, 300, 8, classes=40)
    shuffled = ground.rows(np.argsort(np.sin(np.arange(300))))
    one, other = (select(given, budget=90, objective=objective) for given in (ground, shuffled))
    assert one.ids.tolist() == other.ids.tolist()
    assert one.weights.tolist() == other.weights.tolist()
    assert one.gains.tolist() == other.gains.tolist()
    assert one.gradient_error == pytest.approx(other.gradient_error, rel=1e-12)


@pytest.mark.parametrize("per_class", [True, "equal"])
def test_classes_are_selected_from_one_by_one(per_class: bool | str) -> None:
    ground = proxies("residual", 90, 2)
    labels = np.repeat([0, 3, 7], [45, 30, 15])
    chosen = select(Proxies(ground.ids, ground.residuals, labels), budget=12, per_class=per_class)
    sizes = {True: (6, 4, 2), "equal": (4, 4, 4)}[per_class]
    start = 0
    for label, size in zip((0, 3, 7), sizes, strict=True):
        alone = select(ground.rows(np.flatnonzero(labels == label)), budget=size)
        part = slice(start, start + size)
        assert chosen.ids[part].tolist() == alone.ids.tolist()
        assert chosen.weights[part].tolist() == alone.weights.tolist()
        assert chosen.gains[part].tolist() == alone.gains.tolist()
        start += size
    together = select(Proxies(ground.ids, ground.residuals, labels), budget=12, per_class=False)
    assert together.ids.tolist() == select(ground, budget=12).ids.tolist()
