"""A ground set that several processes hold: each asks with its part, and gets what one would that holds all."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from test_mapper import ground, pid

from selection import Proxies, Selection, select
from selection.mapper import SerialMapper, SharedMapper
from selection.sharing import Share, common

if TYPE_CHECKING:
    from selection.service import SelectionService


class Threads:
    """Several holders, each in a thread of this process."""

    def __init__(self, size: int):
        self.size = size
        self.values: list[Any] = [None] * size
        self.barrier = threading.Barrier(size)

    def holder(self, rank: int) -> "Holder":
        return Holder(self, rank)


class Holder:
    def __init__(self, all_: Threads, rank: int):
        self.all, self.rank, self.size = all_, rank, all_.size

    def gather(self, value: Any) -> list[Any]:
        self.all.values[self.rank] = value
        self.all.barrier.wait(timeout=120)
        found = list(self.all.values)
        self.all.barrier.wait(timeout=120)
        return found


def parts(n: int, size: int) -> list[np.ndarray]:
    """Who holds what: at random, one nothing at all."""
    owner = np.random.default_rng(5).integers(0, size - 1, n)
    return [np.flatnonzero(owner == rank) for rank in range(size)]


def together(proxies: Proxies, mapper: SharedMapper, size: int, **options: Any) -> list[Selection]:
    """What each of several holders gets."""
    threads = Threads(size)

    def ask(rank: int, rows: np.ndarray) -> Selection:
        share = Share(proxies.ids, proxies.labels, rows, threads.holder(rank))
        return select(proxies.rows(rows) if len(rows) else None, mapper=mapper, share=share, **options)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(ask, range(size), parts(len(proxies.ids), size)))


@pytest.fixture(scope="module")
def service() -> "Iterator[SelectionService]":
    from orchestrator import cluster

    cluster.connect(None)
    from selection.service import SelectionService

    started = SelectionService(2)
    yield started
    started.close()
    cluster.disconnect()


@pytest.fixture(params=["serial", "service"])
def mapper(request: pytest.FixtureRequest) -> SharedMapper:
    if request.param == "serial":
        return SerialMapper(1)
    found: SharedMapper = request.getfixturevalue("service").mapper(threads=1, trial="a trial")
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"budget": 60},
        {"budget": 60, "per_class": False, "objective": "rbf"},
        {"budget": 60, "partitions": 4},
        {"budget": 60, "partitions": 4, "sample": 50, "per_class": False},
        {"budget": 60, "partitions": 8, "capacity": 20, "per_class": False},
        {"tolerance": 4.0, "partitions": 4, "objective": "distance"},
    ],
    ids=str,
)
@pytest.mark.parametrize("last_layer", [False, True])
def test_same_selection_as_of_one_that_holds_all(
    mapper: SharedMapper, options: dict[str, Any], last_layer: bool
) -> None:
    proxies = ground(400, last_layer=last_layer)
    alone = select(proxies, **options)
    for found in together(proxies, mapper, 3, **options):
        assert found.ids.tolist() == alone.ids.tolist()
        assert found.weights.tobytes() == alone.weights.tobytes()
        assert found.gains.tobytes() == alone.gains.tobytes()
        assert found.gradient_error == pytest.approx(alone.gradient_error, rel=1e-9)


def test_what_one_raises_all_raise() -> None:
    class Broken(SerialMapper):
        def map_shared(self, *arguments: Any) -> Any:
            from selection.sharing import by_the_first

            return by_the_first(arguments[2], lambda: [][0])

    with pytest.raises(IndexError):
        together(ground(100), Broken(1), 3, budget=10)


def test_a_mapper_that_cannot_share_is_refused() -> None:
    class Other:
        def map(self, *arguments: Any) -> Any:
            raise AssertionError

    share = Share(np.arange(4), np.zeros(4, np.int64), np.arange(4), Threads(1).holder(0))
    with pytest.raises(ValueError, match="Other: cannot solve what several processes hold"):
        select(ground(4), budget=1, share=share, mapper=Other())  # type: ignore[arg-type]


def test_weights_are_refused() -> None:
    proxies = Proxies(np.arange(4), np.ones((4, 2)), np.zeros(4, int), None, np.ones(4))
    share = Share(proxies.ids, proxies.labels, np.arange(4), Threads(1).holder(0))
    with pytest.raises(ValueError, match="weights: what several processes hold has none"):
        select(proxies, budget=1, share=share)


def test_only_who_shares_may_hold_nothing() -> None:
    with pytest.raises(ValueError, match="proxies = None"):
        select(None, budget=1)


def test_common() -> None:
    which, where = common(np.array([1, 4, 9]), np.array([9, 2, 1, 12]))
    assert which.tolist() == [0, 2]
    assert where.tolist() == [2, 0]
    assert [part.tolist() for part in common(np.zeros(0, np.int64), np.array([3]))] == [[], []]


def test_a_coordinator_killed_between_the_parts_of_a_request_does_not_lose_it(service: "SelectionService") -> None:
    """One process has asked, another not yet: what the coordinator knew comes again."""
    proxies = ground(300)
    threads = Threads(2)
    mapper = service.mapper(threads=1, trial="divided")
    late = threading.Event()

    class Late(Holder):
        def gather(self, value: Any) -> list[Any]:
            found = super().gather(value)
            if isinstance(value, str):  # the request's token: the next thing is to ask
                late.wait(timeout=60)
            return found

    def ask(rank: int, rows: np.ndarray) -> Selection:
        holder = (Late if rank else Holder)(threads, rank)
        share = Share(proxies.ids, proxies.labels, rows, holder)
        return select(proxies.rows(rows), budget=30, mapper=mapper, share=share)

    before = pid(service.coordinator)
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(ask, rank, np.arange(rank, 300, 2)) for rank in range(2)]
        time.sleep(0.5)
        os.kill(before, signal.SIGKILL)
        late.set()
        alone = select(proxies, budget=30)
        for answer in answers:
            assert answer.result(timeout=120).ids.tolist() == alone.ids.tolist()
    assert pid(service.coordinator) != before
