"""The arguments of `select`, and what it reports."""

from typing import Any

import numpy as np
import pytest
from facility_location import OBJECTIVES, definition, outer, proxies

from selection import BudgetError, Proxies, select
from selection.mapper import SerialMapper


def in_classes(kind: str) -> Proxies:
    ground = proxies(kind, 60, 11, classes=3)
    return Proxies(ground.ids * 7 + 3, ground.residuals, ground.ids % 3, ground.embeddings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of budget, tolerance is needed; got budget=None, tolerance=None"),
        ({"budget": 5, "tolerance": 0.5}, "one of budget, tolerance is needed; got budget=5, tolerance=0.5"),
        ({"tolerance": 0.0}, "tolerance = 0.0: should be above 0"),
        ({"tolerance": float("nan")}, "tolerance = nan: should be above 0"),
        ({"tolerance": "0.1"}, "tolerance = '0.1': should be above 0"),
        ({"budget": 5, "epsilon": "x"}, "epsilon = 'x': should be above 0 and below 1"),
        ({"budget": 5, "objective": "cosine"}, "objective = 'cosine': should be 'frobenius', 'distance' or 'rbf'"),
        ({"budget": 5, "solver": "annealing"}, "solver = 'annealing': should be 'exact', 'lazy' or 'stochastic'"),
        ({"budget": 5, "per_class": "fair"}, "per_class = 'fair': should be True, False, 'proportional' or 'equal'"),
        ({"budget": 5, "memory": "disk"}, "memory = 'disk': should be 'auto', 'dense' or 'blockwise'"),
        ({"budget": 5, "measure": "sum"}, "measure = 'sum': should be 'frobenius' or 'objective'"),
        ({"budget": 5, "epsilon": 1.0}, "epsilon = 1.0: should be above 0 and below 1"),
        ({"budget": 5, "memory_limit": -1}, "memory_limit = -1: should be a whole number of bytes, at least 0"),
        ({"budget": 5, "memory_limit": 1e9}, "memory_limit = 1000000000.0: should be a whole number of bytes"),
        ({"budget": 5, "seed": -1}, "seed = -1: should be a whole number, at least 0 and below 18446744073709551616"),
        ({"budget": 5, "seed": 1.5}, r"seed = 1\.5: should be a whole number"),
        ({"budget": 5, "seed": 2**64}, "seed = 18446744073709551616: should be a whole number"),
        ({"budget": 5, "partitions": 0}, "partitions = 0: should be a whole number, at least 1"),
        ({"budget": 5, "alpha": 0.5}, "alpha = 0.5: should be at least 1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(in_classes("residual"), **options)


def test_bare_arrays_are_no_proxies() -> None:
    with pytest.raises(ValueError, match=r"proxies = ndarray: should be selection\.Proxies\(ids=…, residuals=…"):
        select(np.zeros((3, 2)), budget=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "budget = 0: should be a whole number, at least 1"),
        ({"budget": -3, "per_class": False}, "budget = -3: should be a whole number, at least 1"),
        ({"budget": 2.5}, "budget = 2.5: should be a whole number"),
        ({"budget": True}, "budget = True: should be a whole number"),
        ({"budget": 2}, "budget = 2: below the number of classes, 3"),
        ({"budget": 61}, "budget = 61: above the number of examples, 60"),
        ({"budget": 61, "per_class": False}, "budget = 61: above the number of examples, 60"),
    ],
)
def test_bad_budgets(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        select(in_classes("residual"), **options)


def test_numpy_integers_are_budgets() -> None:
    assert len(select(in_classes("residual"), budget=np.int32(9)).ids) == 9


@pytest.mark.parametrize("per_class", [True, False, "proportional", "equal"])
@pytest.mark.parametrize("kind", ["residual", "last_layer"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_is_reported(objective: str, kind: str, per_class: bool | str) -> None:
    ground = in_classes(kind)
    chosen = select(ground, budget=10, objective=objective, per_class=per_class)
    members = (chosen.ids - 3) // 7
    assert len(set(members.tolist())) == 10
    classes = [0, 1, 2] if per_class else [None]
    value = weights = 0.0
    for label in classes:
        rows = np.arange(60) if label is None else np.flatnonzero(ground.labels == label)
        picked = [rows.tolist().index(member) for member in members if member in rows]
        truth = definition(ground.rows(rows), objective)
        value += truth.value(picked)
        counts = chosen.weights[np.isin(members, rows)]
        assert counts.tolist() == truth.counts(picked).tolist()
        weights += counts.sum()
    assert weights == chosen.weights.sum() == 60
    assert chosen.value == pytest.approx(value, rel=1e-5)
    points = outer(ground)
    total = points.sum(axis=0)
    error = np.linalg.norm(total - (chosen.weights[:, None] * points[members]).sum(axis=0)) / np.linalg.norm(total)
    assert chosen.gradient_error == pytest.approx(error, rel=1e-9)
    assert chosen.gains.shape == chosen.weights.shape == chosen.ids.shape
    assert chosen.seconds >= 0
    assert chosen.waited >= 0


def test_tolerance_holds_in_each_class() -> None:
    ground = in_classes("residual")
    chosen = select(ground, tolerance=0.8)
    for label in range(3):
        rows = np.flatnonzero(ground.labels == label)
        alone = select(ground.rows(rows), tolerance=0.8)
        assert chosen.ids[np.isin((chosen.ids - 3) // 7, rows)].tolist() == alone.ids.tolist()
    assert chosen.weights.sum() == 60


def test_the_gradient_error_is_nan_where_the_gradient_vanishes() -> None:
    ground = Proxies(np.arange(4), np.array([[1.0, -1.0], [-1.0, 1.0]] * 2), np.zeros(4, int))
    assert np.isnan(select(ground, budget=2).gradient_error)


def test_a_serial_mapper_limits_its_threads_to_what_there_is() -> None:
    ground = in_classes("residual")
    chosen = select(ground, budget=10, mapper=SerialMapper(threads=1000))
    assert chosen.ids.tolist() == select(ground, budget=10).ids.tolist()
