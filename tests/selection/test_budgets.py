"""Budgets, against tables worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selection import BudgetError
from selection.budgets import divide, subset_size


@pytest.mark.parametrize(
    ("k", "sizes", "parts"),
    [
        (10, (50, 30, 20), (5, 3, 2)),  # exact
        (7, (50, 30, 20), (4, 2, 1)),  # 3.5, 2.1, 1.4: the one left over goes to the largest remainder
        (8, (50, 30, 20), (4, 2, 2)),  # 4.0, 2.4, 1.6
        (4, (10, 10, 10), (2, 1, 1)),  # equal remainders: the first class
        (5, (10, 10, 10), (2, 2, 1)),
        (3, (98, 1, 1), (1, 1, 1)),  # 2.94, 0.03, 0.03: two are raised to one, the first makes up for it
        (10, (96, 2, 2), (8, 1, 1)),  # 9.6, 0.2, 0.2
        (10, (48, 48, 2, 2), (4, 4, 1, 1)),  # 4.8, 4.8, 0.2, 0.2: floors and ones fill the budget
        (5, (35, 35, 28, 1, 1), (1, 1, 1, 1, 1)),  # 1.75, 1.75, 1.4, 0.05, 0.05
        (6, (45, 45, 5, 5), (2, 2, 1, 1)),  # 2.7, 2.7, 0.3, 0.3
        (7, (45, 45, 5, 5), (3, 2, 1, 1)),  # 3.15, 3.15, 0.35, 0.35: one too many; the later class gives it back
        (100, (50, 30, 20), (50, 30, 20)),
        (3, (5,), (3,)),
    ],
)
def test_proportional(k: int, sizes: tuple[int, ...], parts: tuple[int, ...]) -> None:
    assert divide(k, dict(enumerate(sizes))) == dict(enumerate(parts))


@pytest.mark.parametrize(
    ("k", "sizes", "parts"),
    [(9, (50, 30, 20), (3, 3, 3)), (11, (50, 30, 20), (4, 4, 3)), (3, (50, 1, 1), (1, 1, 1)), (5, (4, 3), (3, 2))],
)
def test_equal(k: int, sizes: tuple[int, ...], parts: tuple[int, ...]) -> None:
    assert divide(k, dict(enumerate(sizes)), "equal") == dict(enumerate(parts))


def test_class_names_and_their_order_do_not_matter() -> None:
    assert divide(7, {9: 20, 2: 50, 5: 30}) == {2: 4, 5: 2, 9: 1}
    assert divide(4, {9: 10, 2: 10, 5: 10}) == {2: 2, 5: 1, 9: 1}
    assert divide(4, {9: 10, 2: 10, 5: 10}, "equal") == {2: 2, 5: 1, 9: 1}


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30), st.data())
def test_proportional_parts_sum_to_k_and_stay_near_their_shares(sizes: list[int], data: st.DataObject) -> None:
    n = sum(sizes)
    k = data.draw(st.integers(len(sizes), n))
    parts = divide(k, dict(enumerate(sizes)))
    assert sum(parts.values()) == k
    assert all(1 <= parts[c] <= size for c, size in enumerate(sizes))
    assert all(parts[c] <= k * size / n + 1 for c, size in enumerate(sizes))
    if all(k * size >= n for size in sizes):  # no class needs help: largest remainder, so nobody is off by one
        assert all(abs(parts[c] - k * size / n) < 1 for c, size in enumerate(sizes))
    assert all(parts[a] >= parts[b] for a in parts for b in parts if sizes[a] > sizes[b])


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30), st.data())
def test_equal_parts_differ_by_one_at_most(sizes: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(len(sizes), len(sizes) * min(sizes)))
    parts = divide(k, dict(enumerate(sizes)), "equal")
    assert sum(parts.values()) == k
    assert max(parts.values()) - min(parts.values()) <= 1


@pytest.mark.parametrize(
    ("k", "division", "message"),
    [
        (2, "proportional", "budget = 2: below the number of classes, 3"),
        (0, "proportional", "budget = 0: below the number of classes, 3"),
        (-1, "equal", "budget = -1: below the number of classes, 3"),
        (17, "proportional", "budget = 17: above the number of examples, 16"),
        (10, "equal", "budget = 10: class 7 has 2 examples, fewer than its part of 3"),
    ],
)
def test_budgets_that_cannot_be_met(k: int, division: str, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        divide(k, {1: 8, 4: 6, 7: 2}, division)  # type: ignore[arg-type]


def test_an_empty_class_is_refused() -> None:
    with pytest.raises(BudgetError, match="class 1 has 0 examples, fewer than its part of 1"):
        divide(3, {0: 5, 1: 0})


@pytest.mark.parametrize(
    ("n", "fraction", "k"),
    [
        (100, 0.1, 10),
        (25, 0.1, 3),
        (24, 0.1, 2),
        (3, 0.01, 1),
        (50, 0.29, 15),
        (1000, 0.0015, 2),
        (7, 1.0, 7),
        (7, 1, 7),
    ],
)
def test_a_fraction_is_rounded_half_up(n: int, fraction: float, k: int) -> None:
    assert subset_size(n, fraction=fraction) == k


@given(st.integers(1, 10**7), st.floats(0, 1, exclude_min=True))
def test_a_fraction_gives_between_one_and_all(n: int, fraction: float) -> None:
    k = subset_size(n, fraction=fraction)
    assert 1 <= k <= n
    assert abs(k - n * fraction) <= 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "one of fraction, budget is needed"),
        ({"fraction": 0.5, "budget": 5}, "one of fraction, budget is needed; got fraction=0.5, budget=5"),
        ({"fraction": 0.0}, "fraction = 0.0: should be above 0 and at most 1"),
        ({"fraction": 1.01}, "fraction = 1.01: should be"),
        ({"fraction": float("nan")}, "fraction = nan: should be"),
        ({"budget": 0}, "budget = 0: should be at least 1 and at most n = 10"),
        ({"budget": 11}, "budget = 11: should be at least 1 and at most n = 10"),
    ],
)
def test_sizes_that_make_no_sense(given: dict[str, float], message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        subset_size(10, **given)  # type: ignore[arg-type]
