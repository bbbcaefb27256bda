"""The plan of a selection: it grows as the selection does, keeps to its memory, and refuses what `select` refuses."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from selection import BudgetError, Proxies, plan, select, threads
from selection.randomness import draw_uniform


def planned(n: int, k: int, **options: Any) -> Any:
    return plan([n], columns=16, budget=k, threads=1, **options)


def test_time_is_quadratic_at_first_and_then_by_the_pick() -> None:
    small, large = planned(10_000, 100), planned(40_000, 100)
    assert 8 < large.seconds / small.seconds < 32
    assert planned(10_000, 3_000).seconds > small.seconds


def test_memory_keeps_to_the_limit() -> None:
    n, limit = 50_000, 100 << 20
    assert planned(n, 500).bytes > 5 * limit
    beyond_lists = 3 * 4 * n * 16 + 64 * 8 * n + 200 * n  # points, what one thread works in, what the steps keep
    assert planned(n, 500, memory_limit=limit).bytes < limit + beyond_lists
    assert planned(n, 500, memory_limit=limit).seconds > planned(n, 500, memory_limit=1 << 34).seconds
    dense = planned(5_000, 50, memory="dense", memory_limit=1 << 30)
    assert dense.memory == "dense"
    assert dense.bytes > 4 * 5_000**2
    assert planned(5_000, 50, memory="blockwise").memory == "blockwise"


def test_a_partition_takes_less_of_both() -> None:
    whole, parts = planned(200_000, 1_000), planned(200_000, 1_000, partitions=32)
    assert parts.seconds < whole.seconds
    assert parts.bytes < whole.bytes


def test_classes_add_up() -> None:
    one = plan([2_000], columns=16, budget=200, threads=1)
    ten = plan([2_000] * 10, columns=16, budget=2_000, threads=1)
    assert ten.seconds == pytest.approx(10 * one.seconds)
    assert ten.bytes == one.bytes


@pytest.mark.parametrize("memory", ["dense", "blockwise"])
def test_memory_is_about_what_is_taken(memory: Any) -> None:
    n, columns, k = 3_000, 40, 300
    rows = draw_uniform(5, "selection", 1, np.arange(n)[:, None], np.arange(columns)).astype(np.float32)
    proxies = Proxies(np.arange(n), rows, np.zeros(n, int))
    threads._spare.clear()  # else memory of the selections before is used again
    tracemalloc.start()
    select(proxies, budget=k, memory=memory)
    _, taken = tracemalloc.get_traced_memory()  # with what is reserved and never written to
    tracemalloc.stop()
    assert 0.3 < plan([n], columns=columns, budget=k, memory=memory).bytes / taken < 3


def test_what_cannot_be_selected_cannot_be_planned() -> None:
    with pytest.raises(BudgetError, match="budget = 11: above the number of examples, 10"):
        plan([5, 5], columns=3, budget=11)
    with pytest.raises(ValueError, match="partitions = 0"):
        plan([5], columns=3, budget=1, partitions=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "cosine"}, "objective = 'cosine': should be 'frobenius', 'distance' or 'rbf'"),
        ({"division": "fair"}, "division = 'fair': should be 'proportional' or 'equal'"),
        ({"columns": 0}, "columns = 0: should be a whole number, at least 1"),
        ({"embedding": 0}, "embedding = 0: should be a whole number, at least 1"),
        ({"threads": -1}, "threads = -1: should be a whole number, at least 1"),
        ({"sizes": []}, r"sizes = \[\]: should be the number of examples of each class, at least 1"),
        ({"sizes": [5, 0]}, r"sizes = \[5, 0\]: should be the number of examples of each class, at least 1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**{"sizes": [5], "columns": 3, **options})
