"""Proxies that break naive code: repeats, zeros, extreme units, near-cancellation."""

import time

import numpy as np
import pytest
from facility_location import OBJECTIVES, PROXIES, definition, outer, proxies, residuals

from selection import Proxies, select
from selection.distances import measured_points
from selection.mapper import SerialMapper
from selection.objectives import cost_matrix, metric
from selection.problem import Objective
from selection.proxies import Float32
from selection.threads import Crew


def costs_of(residuals: Float32, embeddings: Float32 | None, objective: Objective) -> tuple[Float32, float]:
    """phi(d_ij) as the dense mode keeps them, and their unit."""
    points = measured_points(residuals, embeddings)
    transform = metric(points, objective)
    with Crew(1) as crew:
        return cost_matrix(points, transform, crew), transform.unit


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_one_example(objective: str, kind: str) -> None:
    ground = proxies(kind, 1, 0)
    chosen = select(ground, budget=1, objective=objective)
    assert chosen.ids.tolist() == [0]
    assert chosen.weights.tolist() == [1.0]
    assert chosen.value == pytest.approx(definition(ground, objective).empty)
    assert chosen.gradient_error == 0.0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_everything_selected_weighs_one_each(objective: str) -> None:
    ground = proxies("residual", 40, 1)
    chosen = select(ground, budget=40, objective=objective)
    assert sorted(chosen.ids.tolist()) == list(range(40))
    assert chosen.weights.tolist() == [1.0] * 40
    assert chosen.value == pytest.approx(40 * definition(ground, objective).empty)
    assert chosen.gradient_error == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("point", [[0.0, 0.0], [0.3, -0.3]])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_examples_that_are_all_alike_are_taken_by_id(objective: str, point: list[float]) -> None:
    ids = np.array([9, 3, 7, 5, 1])
    chosen = select(Proxies(ids, np.tile(point, (5, 1)), np.zeros(5, int)), budget=3, objective=objective)
    assert chosen.ids.tolist() == [1, 3, 5]
    assert chosen.weights.tolist() == [5.0, 0.0, 0.0]
    assert chosen.gains.tolist()[1:] == [0.0, 0.0]


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_zero_vectors_among_others(objective: str, kind: str) -> None:
    ground = proxies(kind, 30, 3)
    g = ground.residuals.copy()
    g[::3] = 0.0
    ground = Proxies(ground.ids, g, ground.labels, ground.embeddings)
    chosen = select(ground, budget=21, objective=objective)
    truth = definition(ground, objective)
    assert chosen.value == pytest.approx(truth.value(chosen.ids), rel=1e-5)
    assert chosen.weights.tolist() == truth.counts(chosen.ids).tolist()
    assert (chosen.ids % 3 == 0).sum() == 1  # of one point and 20 others, each once


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_more_members_than_distinct_points_is_no_slower(objective: str) -> None:
    distinct = residuals(40, 10, 0)
    ground = Proxies(np.arange(2000), np.tile(distinct, (50, 1)), np.zeros(2000, int))
    select(ground, budget=1, objective=objective)
    start = time.process_time()
    few = select(ground, budget=40, objective=objective)
    middle = time.process_time()
    many = select(ground, budget=1500, objective=objective)
    # A step without gain costs O(n); were it O(n^2), these 1,460 steps would take over five seconds.
    assert time.process_time() - middle < middle - start + 1.0
    assert sorted((many.ids[:40] % 40).tolist()) == list(range(40))
    assert many.ids[:40].tolist() == few.ids.tolist() == sorted(many.ids[:40], key=few.ids.tolist().index)
    assert many.ids[:40].max() < 40
    assert many.ids[40:].tolist() == list(range(40, 1500))
    assert many.weights.tolist() == [50.0] * 40 + [0.0] * 1460


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_clusters_a_billion_times_smaller_than_their_distance(objective: str) -> None:
    # Once each cluster has a member, gains fall to 1e-9 (frobenius: 1e-18) of what they were: rounding that running
    # gains have gathered by then is larger than the gains.
    points = np.zeros((90, 5))
    points[:, 3:] = 1e-9 * residuals(90, 4, 1)[:, :2]
    points[50:75, 0] = 1.0
    points[75:, 1] = 1.0
    ground = Proxies(np.arange(90), points, np.zeros(90, int))
    truth = definition(ground, objective)
    chosen = select(ground, budget=40, objective=objective)
    for step, pick in enumerate(chosen.ids):
        gains = truth.gains(chosen.ids[:step])
        gains[chosen.ids[:step]] = -1.0
        assert gains[pick] >= gains.max() * (1 - 1e-5)
        assert chosen.gains[step] == pytest.approx(gains[pick], rel=1e-5)


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", ["frobenius", "distance"])
@pytest.mark.parametrize("exponent", [-100, -50, 50, 120])  # float32 reaches from 2^-126 to 2^128
def test_units_do_not_matter(objective: str, kind: str, exponent: int) -> None:
    ground = proxies(kind, 60, 4)
    factor = 2.0**exponent
    scaled = Proxies(ground.ids, np.ldexp(ground.residuals, exponent), ground.labels, ground.embeddings)
    one, other = (select(given, budget=20, objective=objective) for given in (ground, scaled))
    assert one.ids.tolist() == other.ids.tolist()
    assert one.weights.tolist() == other.weights.tolist()
    unit = factor**2 if objective == "frobenius" else factor
    assert (one.gains * unit).tolist() == other.gains.tolist()
    truth = definition(scaled, objective)
    assert other.value == pytest.approx(truth.value(other.ids), rel=1e-5)
    norm = float(np.sqrt(np.square(truth.distances[:, one.ids[:10]].min(axis=1)).sum()))
    assert len(select(scaled, tolerance=norm * (1 + 1e-5), objective=objective).ids) == 10


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_rbf_knows_its_units(scale: float) -> None:
    ground = proxies("residual", 30, 6)
    scaled = Proxies(ground.ids, ground.residuals * np.float32(scale), ground.labels)
    costs, _ = costs_of(scaled.residuals, None, "rbf")
    np.testing.assert_allclose(costs, definition(scaled, "rbf").costs, rtol=1e-5)
    assert select(scaled, budget=5, objective="rbf").weights.sum() == 30


def test_one_dimension() -> None:
    points = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
    chosen = select(Proxies(np.arange(6), points, np.zeros(6, int)), budget=2)
    assert sorted(chosen.ids.tolist()) == [2, 4]  # 2 is best alone; of the others, 11 then gains most
    assert chosen.weights.sum() == 6


@pytest.mark.parametrize("dim", [1, 3, 10, 33, 64, 130, 600])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_distances_of_close_points_far_from_the_origin(dim: int, offset: float) -> None:
    points = (offset + 1e-2 * np.sin(1.0 + np.arange(200 * dim).reshape(200, dim) ** 1.1)).astype(np.float32)
    costs, unit = costs_of(points, None, "distance")
    truth = np.sqrt(np.array([np.square(points.astype(float) - p.astype(float)).sum(axis=1) for p in points]))
    np.testing.assert_allclose(costs * unit, truth, rtol=1e-5)
    assert (costs == costs.T).all()
    assert (np.diag(costs) == 0).all()


@pytest.mark.parametrize("far", [0.0, 1e3])
@pytest.mark.parametrize("spread", [1.0, 1e-2])
@pytest.mark.parametrize("width", [1, 7, 300])
def test_outer_products_are_measured_without_being_built(width: int, spread: float, far: float) -> None:
    n = 140
    ground = proxies("last_layer", n, width, classes=7, width=width)
    assert ground.embeddings is not None
    g = ground.residuals[0] + spread * ground.residuals  # spread 0.01: nearly parallel, as late in training
    h = far + spread * ground.embeddings
    h[1:9] = h[0]  # equal inputs, other residuals
    g[9:17] = g[0]  # equal residuals, other inputs
    g[17:25], h[17:25] = g[0], h[0]  # equal altogether
    g[25], h[25] = -g[26], h[26]  # opposite
    ground = Proxies(ground.ids, g, ground.labels, h)
    costs, unit = costs_of(ground.residuals, ground.embeddings, "distance")
    truth = definition(ground, "distance").distances
    np.testing.assert_allclose(costs * unit, truth, rtol=1e-5, atol=1e-12)
    assert (costs == costs.T).all()
    assert (costs[17:25, 17:25] == 0).all()


def test_scaling_one_factor_by_what_the_other_loses_is_seen_as_no_change() -> None:
    # a -> ta, b -> b/t leaves a ⊗ b as it is, up to the bias: large terms that cancel to a small distance.
    a, b = np.array([0.6, -0.35, -0.25]), np.array([1.1e4, 2.3e4, 0.7e4, 1.9e4])
    ground = Proxies(np.arange(2), np.array([a, a / 1.7]), np.zeros(2, int), np.array([b, 1.7 * b]))
    costs, unit = costs_of(ground.residuals, ground.embeddings, "distance")
    points = outer(ground)
    assert costs[0, 1] * unit == pytest.approx(np.linalg.norm(points[0] - points[1]), rel=1e-5)


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_threads_do_not_matter(objective: str, kind: str) -> None:
    ground = proxies(kind, 2500, 7, classes=10, width=6)
    one, two = (select(ground, budget=25, objective=objective, mapper=SerialMapper(threads)) for threads in (1, 2))
    assert one.ids.tolist() == two.ids.tolist()
    assert one.weights.tolist() == two.weights.tolist()
    assert one.gains.tolist() == two.gains.tolist()
    assert one.gradient_error == two.gradient_error
