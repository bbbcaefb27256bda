"""The selection service on several nodes: where its shards are, and what the loss of a node does to a request."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selection import Proxies, Selection, select
from selection.greedi import Partition, Placed
from selection.mapper import Shards, divided, place
from selection.problem import Picks, Problem
from selection.randomness import draw_uniform
from selection.works import Result, Work
from servers.ray_cluster import RayCluster

N = 60_000
OPTIONS: dict[str, Any] = {"budget": 4000, "partitions": 12, "capacity": 6000, "per_class": False}
PLAIN = 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """A head that computes nothing, two nodes without GPUs and one with."""
    source = Path(__file__).resolve().parents[2]
    made = RayCluster(
        cpus=0, environment={"PYTHONPATH": f"{source}:{source}/tests", "RAY_health_check_period_ms": "500"}
    )
    for _ in range(PLAIN):
        made.add(cpus=1)
    made.add(cpus=1, gpus=1)
    yield made
    made.close()


def ground(n: int) -> Proxies:
    ids = np.arange(n)
    return Proxies(ids, draw_uniform(1, "selection", 1, ids[:, None], np.arange(64)) - 0.5, np.zeros(n, int))


def summary(selection: Selection) -> dict[str, Any]:
    return {"ids": selection.ids.tolist(), "weights": selection.weights.tolist(), "gains": selection.gains.tolist()}


def drive(address: str, folder: Path) -> None:
    """The driver, in a process of its own: it says where it is, and waits until a node has been lost."""
    from orchestrator.cluster import connect, disconnect

    connect(address, "nodes-test")
    import ray

    from selection.service import SelectionService, wait_for

    service = SelectionService(PLAIN + 1, name="nodes-test")
    try:
        homes = [ray.get(actor.__ray_call__.remote(_home)) for actor in (*service.shards, service.coordinator)]
        (folder / "homes.json").write_text(json.dumps(homes))
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(select, ground(N), mapper=service.mapper(1, "trial"), **OPTIONS)
            time.sleep(0.5)
            (folder / "asked").touch()
            (folder / "answer.json").write_text(json.dumps(summary(answer.result(timeout=300))))
        wait_for(service.shards)
        again = [ray.get(actor.__ray_call__.remote(_home)) for actor in (*service.shards, service.coordinator)]
        (folder / "moved.json").write_text(json.dumps(again))
    finally:
        service.close()
        disconnect()


def coordinate(address: str, folder: Path) -> None:
    """A coordinator, in a process of its own, that loses a node when what was picked on it is needed."""
    from orchestrator.cluster import connect, disconnect

    connect(address, "rounds-test")
    import ray

    from selection.dispatching import Dispatcher, ShardWorkers
    from selection.service import SelectionService, run_through

    class Losing(ShardWorkers):
        def perform(self, works: Sequence[Work]) -> list[Result]:
            results = super().perform(works)
            with (folder / "rounds").open("a") as rounds:
                rounds.write(f"{len(works)}\n")
            if not (folder / "picked").exists():
                home, _ = ray.get(service.shards[0].__ray_call__.remote(_home))
                (folder / "home").write_text(home)
                (folder / "picked").touch()
                while not (folder / "lost").exists():
                    time.sleep(0.02)
            return results

    service = SelectionService(PLAIN, name="rounds-test")
    try:
        mapper = Mapped(Losing(Dispatcher(service.shards), "trial", 1), run_through)
        (folder / "answer.json").write_text(json.dumps(summary(select(ground(N), mapper=mapper, **OPTIONS))))
    finally:
        service.close()
        disconnect()


@dataclass
class Mapped:
    """A mapper whose coordinator is in this process."""

    workers: Shards
    run: Callable[[list[Placed], Any], list[Picks]]

    def map(self, problems: Sequence[Problem], partition: Partition | None = None) -> tuple[list[Picks], float]:
        return self.run(
            [place(one, self.workers, share) for one, share in divided(problems, partition)], self.workers
        ), 0.0


def reserve(address: str, namespace: str) -> None:
    """A driver that is killed in the moment at which what it reserves would be left: here, since it is detached.

    And one of its trials' controllers, before it told its cleaner to watch it.
    """
    from orchestrator.cluster import connect

    connect(address, namespace)
    import ray
    from ray.train.v2._internal.execution.controller.placement_group_cleaner import PlacementGroupCleaner
    from ray.util.placement_group import placement_group

    cleaner = ray.remote(num_cpus=0)(PlacementGroupCleaner).options(lifetime="detached")
    ray.get(cleaner.remote("no controller's id", 1.0, 5.0, None).__ray_ready__.remote())
    ray.get(ray.remote(_Idle).options(num_cpus=0).remote().wait.remote())
    ray.get(placement_group([{"CPU": 0.1}], lifetime="detached", name=namespace).ready())
    os.kill(os.getpid(), signal.SIGKILL)


class _Idle:
    def wait(self) -> None: ...


def release(address: str, namespace: str) -> None:
    """The next driver of the sweep."""
    from orchestrator.cluster import connect, disconnect
    from orchestrator.leftovers import release_leftovers

    connect(address, namespace)
    release_leftovers(namespace)
    disconnect()


def _home(_: Any) -> tuple[str, dict[str, float]]:
    import ray

    node = ray.get_runtime_context().get_node_id()
    return node, next(one["Resources"] for one in ray.nodes() if one["NodeID"] == node)


@pytest.mark.slow
def test_shards_are_spread_and_a_lost_node_loses_no_request(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cluster.environment().items():
        monkeypatch.setenv(name, value)
    driver = multiprocessing.get_context("spawn").Process(target=drive, args=(cluster.gcs, tmp_path))
    driver.start()
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "asked").exists():
            assert driver.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        homes = json.loads((tmp_path / "homes.json").read_text())
        assert all(not resources.get("GPU") for _, resources in homes)
        assert len({node for node, _ in homes[:3]}) == PLAIN
        lost = cluster.nodes[1]
        asked_late = (tmp_path / "answer.json").exists()
        lost.kill()
        driver.join(timeout=400)
        assert driver.exitcode == 0
    finally:
        driver.kill()
    assert not asked_late, "the answer was there before the node was lost: this shows nothing"
    expected = select(ground(N), **OPTIONS)
    assert json.loads((tmp_path / "answer.json").read_text()) == summary(expected)
    moved = {node for node, _ in json.loads((tmp_path / "moved.json").read_text())}
    assert len(moved & {node for node, _ in homes}) < len({node for node, _ in homes})  # the lost one's are elsewhere


@pytest.mark.slow
def test_a_node_lost_with_what_was_picked_on_it_loses_no_request(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cluster.environment().items():
        monkeypatch.setenv(name, value)
    cluster.add(cpus=1)  # the test before has lost one
    driver = multiprocessing.get_context("spawn").Process(target=coordinate, args=(cluster.gcs, tmp_path))
    driver.start()
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "picked").exists():
            assert driver.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        option = f"--node_id={(tmp_path / 'home').read_text()}"
        next(node for node in cluster.nodes if node.processes(option)).kill()
        (tmp_path / "lost").touch()
        driver.join(timeout=400)
        assert driver.exitcode == 0
    finally:
        driver.kill()
    assert json.loads((tmp_path / "answer.json").read_text()) == summary(select(ground(N), **OPTIONS))
    assert (tmp_path / "rounds").read_text().split()[:2] == 2 * [str(OPTIONS["partitions"])]  # begun, and begun again


@pytest.mark.slow
def test_what_a_killed_driver_left_is_freed_by_the_next_of_its_sweep(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cluster.environment().items():
        monkeypatch.setenv(name, value)
    processes = multiprocessing.get_context("spawn")
    for driver, namespace in ((reserve, "one-1"), (reserve, "other-2"), (release, "one-1")):
        process = processes.Process(target=driver, args=(cluster.gcs, namespace))
        process.start()
        process.join(timeout=120)
        assert process.exitcode == (-signal.SIGKILL if driver is reserve else 0)
    groups = cluster.get("/api/v0/placement_groups?limit=10000").json()["data"]["result"]["result"]
    assert {group["name"]: group["state"] for group in groups} == {"one-1": "REMOVED", "other-2": "CREATED"}
    deadline = time.monotonic() + 30  # Ray hears of a process's death in its own time
    while (found := cleaners(cluster)) != {"one-1": "DEAD", "other-2": "ALIVE"}:
        assert time.monotonic() < deadline, found
        time.sleep(0.5)


def cleaners(cluster: RayCluster) -> dict[str, str]:
    """The state of Ray Train's cleaners, by their sweeps' namespaces."""
    actors = cluster.get("/api/v0/actors?limit=10000&detail=true").json()["data"]["result"]["result"]
    return {one["ray_namespace"]: one["state"] for one in actors if one["class_name"] == "PlacementGroupCleaner"}
