"""Trials take turns at the shards, whatever one of them has asked for."""

import pytest

from selection.turns import Turns


def taken(turns: Turns[str], count: int) -> list[str]:
    return [turns.take() for _ in range(count)]


def test_one_of_each_in_turn_however_many_another_has() -> None:
    turns: Turns[str] = Turns()
    turns.add("huge", [(100.0, f"huge {number}") for number in range(1000)])
    assert taken(turns, 2) == ["huge 0", "huge 1"]
    turns.add("small", [(1.0, "small 0"), (1.0, "small 1")])
    turns.add("other", [(1.0, "other 0")])
    assert taken(turns, 6) == ["huge 2", "small 0", "other 0", "huge 3", "small 1", "huge 4"]


def test_of_one_askers_the_costliest_first() -> None:
    turns: Turns[str] = Turns()
    turns.add("a", [(1.0, "cheap"), (3.0, "dear"), (2.0, "middling")])
    assert turns.next_cost() == 3.0
    assert taken(turns, 3) == ["dear", "middling", "cheap"]
    assert turns.next_cost() is None


def test_asking_for_more_does_not_move_it_forward() -> None:
    turns: Turns[str] = Turns()
    turns.add("a", [(1.0, "a 0"), (1.0, "a 1")])
    turns.add("b", [(1.0, "b 0")])
    assert turns.take() == "a 0"
    turns.add("a", [(9.0, "a 2")])
    assert taken(turns, 3) == ["b 0", "a 2", "a 1"]


def test_nobody_waits() -> None:
    turns: Turns[str] = Turns()
    turns.add("a", [])
    assert turns.next_cost() is None
    with pytest.raises(LookupError):
        turns.take()
