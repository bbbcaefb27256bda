"""What every mapper must hold: the answers of the solver itself, bit for bit, whatever happens to other processes."""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from selection import Proxies, Selection, select
from selection.greedy import solve
from selection.mapper import Mapper, SerialMapper
from selection.problem import Problem
from selection.randomness import draw_uniform

if TYPE_CHECKING:
    from selection.service import SelectionService

Starter = Callable[..., "SelectionService"]


@pytest.fixture(scope="module")
def start() -> Iterator[Starter]:
    """Starts services, all on one Ray cluster of this module."""
    from orchestrator import cluster

    cluster.connect(None)
    from selection.service import SelectionService

    with contextlib.ExitStack() as services:

        def service(shards: int, **options: int) -> SelectionService:
            started = SelectionService(shards, **options)
            services.callback(started.close)
            return started

        yield service
    cluster.disconnect()


@pytest.fixture(scope="module")
def services(start: Starter) -> "dict[int, SelectionService]":
    return {shards: start(shards) for shards in (1, 2)}


@pytest.fixture(params=["serial", "service of 1 shard", "service of 2 shards"])
def mapper(request: pytest.FixtureRequest) -> Mapper:
    if request.param == "serial":
        return SerialMapper(threads=1)
    shards = 1 if "1" in request.param else 2
    found: Mapper = request.getfixturevalue("services")[shards].mapper(threads=2)
    return found


def ground(n: int, classes: int = 5, *, last_layer: bool = False, columns: int = 10) -> Proxies:
    ids = np.arange(n)
    g = draw_uniform(1, "selection", 1, ids[:, None], np.arange(columns)) - 0.5
    h = draw_uniform(1, "selection", 2, ids[:, None], np.arange(40)) if last_layer else None
    return Proxies(ids, g, (classes * draw_uniform(1, "selection", 3, ids) ** 2).astype(int), h)


def assert_same(one: Selection, other: Selection) -> None:
    assert one.ids.tolist() == other.ids.tolist()
    assert one.weights.tolist() == other.weights.tolist()
    assert one.gains.tobytes() == other.gains.tobytes()
    assert one.value == other.value
    assert one.gradient_error == other.gradient_error


@pytest.mark.parametrize("last_layer", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"budget": 60},
        {"budget": 60, "objective": "distance", "per_class": "equal"},
        {"budget": 60, "objective": "rbf", "per_class": False},
        {"tolerance": 2.0, "objective": "distance"},
    ],
)
def test_same_selection_as_in_this_process(mapper: Mapper, options: dict[str, Any], last_layer: bool) -> None:
    proxies = ground(600, last_layer=last_layer)
    there = select(proxies, mapper=mapper, **options)
    assert_same(there, select(proxies, **options))
    assert there.seconds > 0
    assert there.waited >= 0


@pytest.mark.parametrize(
    "options",
    [
        {"budget": 60, "partitions": 4},
        {"budget": 60, "partitions": 4, "objective": "distance", "sample": 100},
        {"budget": 12, "partitions": 16, "capacity": 24, "per_class": False},  # several rounds
        {"budget": 60, "partitions": 16, "capacity": 20, "per_class": False},  # no process holds k members
        {"budget": 60, "partitions": 4, "solver": "stochastic", "objective": "rbf", "seed": 7},
        {"tolerance": 4.0, "partitions": 4},
    ],
)
def test_same_partitioned_selection_as_in_this_process(mapper: Mapper, options: dict[str, Any]) -> None:
    proxies = ground(600, last_layer=True)
    there = select(proxies, mapper=mapper, **options)
    assert_same(there, select(proxies, **options))
    assert there.ids.tolist() != select(proxies, **{**options, "seed": 8}).ids.tolist()


def test_weights_reach_the_service(mapper: Mapper) -> None:
    proxies = ground(300)
    weights = np.where(np.arange(300) % 3 == 0, 0.0, np.arange(300) / 7.0)
    proxies = Proxies(proxies.ids, proxies.residuals, proxies.labels, None, weights)
    for parts in (1, 3):
        there = select(proxies, budget=30, partitions=parts, mapper=mapper)
        assert_same(there, select(proxies, budget=30, partitions=parts))
        assert there.weights.sum() == pytest.approx(weights.sum(), rel=1e-12)


def test_answers_come_in_the_order_of_the_problems(mapper: Mapper) -> None:
    sizes = (10, 300, 40, 300, 5, 120)  # shards are given the largest first
    proxies = ground(sum(sizes), 1)
    parts = np.split(proxies.residuals, np.cumsum(sizes)[:-1])
    problems = [Problem(part, None, "frobenius", 1 + place, None) for place, part in enumerate(parts)]
    found, seconds = mapper.map(problems)
    for problem, picks in zip(problems, found, strict=True):
        expected = solve(problem)
        assert picks.order.tolist() == expected.order.tolist()
        assert picks.gains.tobytes() == expected.gains.tobytes()
        assert picks.counts.tolist() == expected.counts.tolist()
    assert 0 < max(picks.seconds for picks in found) <= seconds


def test_the_problems_are_left_as_they_are(mapper: Mapper) -> None:
    proxies = ground(200)
    before = proxies.residuals.copy()
    select(proxies, budget=20, mapper=mapper)
    assert (proxies.residuals == before).all()


def test_requests_at_the_same_time_do_not_mix(services: "dict[int, SelectionService]") -> None:
    mapper = services[2].mapper(threads=1)
    grounds = [ground(n) for n in (100, 400, 150, 300, 200, 250)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda proxies: select(proxies, budget=30, mapper=mapper), grounds))
    for proxies, selection in zip(grounds, found, strict=True):
        assert_same(selection, select(proxies, budget=30))


def pid(shard: Any) -> int:
    import ray

    from selection.service import wait_for

    wait_for([shard])  # who killed it may not have heard yet that it is back
    found: int = ray.get(shard.__ray_call__.remote(lambda _: os.getpid()), timeout=60)
    return found


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("shards", [1, 2])
def test_a_shard_killed_between_requests_is_replaced(services: "dict[int, SelectionService]", shards: int) -> None:
    service, proxies = services[shards], ground(400)
    expected = select(proxies, budget=40)
    mapper = service.mapper(threads=1)
    for shard in service.shards:
        before = pid(shard)
        os.kill(before, signal.SIGKILL)
        assert_same(select(proxies, budget=40, mapper=mapper), expected)
        assert pid(shard) != before


@pytest.mark.parametrize("shards", [1, 2])
def test_a_shard_killed_during_a_request_does_not_lose_it(services: "dict[int, SelectionService]", shards: int) -> None:
    service, proxies = services[shards], ground(6000, 2, columns=200)
    expected = select(proxies, budget=1000, objective="rbf")
    mapper = service.mapper(threads=1)
    with ThreadPoolExecutor(1) as pool:
        for shard in service.shards:
            before = pid(shard)
            os.kill(before, signal.SIGSTOP)  # however fast it is, it is killed before it answers
            answer = pool.submit(select, proxies, budget=1000, objective="rbf", mapper=mapper)
            time.sleep(0.5)
            os.kill(before, signal.SIGKILL)
            assert not answer.done()
            assert_same(answer.result(timeout=120), expected)


@pytest.mark.parametrize("capacity", [1_000_000, 60])
def test_a_shard_killed_during_a_partitioned_request_does_not_lose_it(
    services: "dict[int, SelectionService]", capacity: int
) -> None:
    service, proxies = services[2], ground(2000, 1)
    options: dict[str, Any] = {"budget": 24, "partitions": 32, "alpha": 2.5, "capacity": capacity}
    expected = select(proxies, **options)
    before = pid(service.shards[1])
    with ThreadPoolExecutor(1) as pool:
        os.kill(before, signal.SIGSTOP)
        answer = pool.submit(select, proxies, **options, mapper=service.mapper(threads=1))
        time.sleep(0.5)
        os.kill(before, signal.SIGKILL)
        assert not answer.done()
        assert_same(answer.result(timeout=120), expected)


@pytest.mark.parametrize("at_work", [False, True])
def test_a_coordinator_killed_during_a_request_does_not_lose_it(
    services: "dict[int, SelectionService]", at_work: bool
) -> None:
    service, proxies = services[2], ground(600)
    expected = select(proxies, budget=40, partitions=4)
    mapper = service.mapper(threads=1)
    coordinator, shard = pid(service.coordinator), pid(service.shards[0])
    stopped = shard if at_work else coordinator  # at work: it waits for this shard; else: it has yet to take it up
    with ThreadPoolExecutor(1) as pool:
        os.kill(stopped, signal.SIGSTOP)
        try:
            answer = pool.submit(select, proxies, budget=40, partitions=4, mapper=mapper)
            time.sleep(0.5)
            assert not answer.done()
            os.kill(coordinator, signal.SIGKILL)
        finally:
            if at_work:
                os.kill(shard, signal.SIGCONT)
        assert_same(answer.result(timeout=120), expected)
    assert pid(service.coordinator) != coordinator
    assert pid(service.shards[0]) == shard


def test_requests_beyond_what_a_service_takes_wait_and_say_so(start: Starter, caplog: pytest.LogCaptureFixture) -> None:
    service = start(1, waiting=1)
    mapper, grounds = service.mapper(threads=1), [ground(n) for n in (100, 150, 200, 250)]
    pid(service.coordinator)
    shard = pid(service.shards[0])
    caplog.set_level(logging.WARNING, logger="selection.service")

    def told() -> int:
        return sum("this one waits for its turn" in record.getMessage() for record in caplog.records)

    with ThreadPoolExecutor(4) as pool:
        os.kill(shard, signal.SIGSTOP)  # the one that is taken is not answered before the others have come
        try:
            answers = [pool.submit(select, proxies, budget=20, mapper=mapper) for proxies in grounds]
            end = time.monotonic() + 60
            while told() < 3 and time.monotonic() < end:
                time.sleep(0.05)
        finally:
            os.kill(shard, signal.SIGCONT)
        for proxies, answer in zip(grounds, answers, strict=True):
            assert_same(answer.result(timeout=120), select(proxies, budget=20))
    assert told() == 3  # each once, however often it tried
    service.close()


def test_a_closed_service_leaves_no_process(start: Starter) -> None:
    service = start(2)
    assert_same(select(ground(100), budget=10, mapper=service.mapper(2)), select(ground(100), budget=10))
    processes = [pid(shard) for shard in service.shards]
    assert len(set(processes)) == 2
    service.close()
    end = time.monotonic() + 30
    while any(alive(process) for process in processes) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(alive(process) for process in processes)
    assert service.shards == []
    service.close()  # once is enough, twice does no harm


def test_a_service_has_a_shard(start: Starter) -> None:
    with pytest.raises(ValueError, match="shards = 0: should be at least 1"):
        start(0)
