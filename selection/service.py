"""The selection service: Ray actors that solve selection problems for all trials of a sweep.

A trial puts its proxies into the object store, block by block, and asks the coordinator. The coordinator sends works to
the shards, which read the blocks where they lie; what it sees itself are rows, gains and counts.
"""

import logging
import threading
import time
from collections.abc import Sequence

import ray
from ray.actor import ActorHandle

from selection.blocks import View
from selection.greedi import Partition, Placed
from selection.mapper import divided, place, run
from selection.problem import Picks, Problem
from selection.works import Held, Result, Work, perform

log = logging.getLogger(__name__)
WAITING = 64  # requests at the coordinator at one time
_PATIENCE = 0.5  # seconds between two tries where there are more


class SelectionShard:
    """One process of the service. It keeps no state: a shard that dies is restarted and its calls are repeated.

    It reserves no CPU, and uses as many threads as the trial has: under `blocking` that trial waits meanwhile, under
    `overlapped` the two share its processors.
    """

    def perform(self, work: Work, threads: int) -> object:
        """Do one work: the answer, then the blocks that it gives back, each an object of its own."""
        answer, blocks = perform(work, ray.get, threads)
        return (answer, *blocks) if blocks else answer


class Coordinator:
    """Takes requests, and lets the shards do them round by round. It keeps no state: a request can be repeated."""

    def __init__(self, waiting: int):
        self.waiting = waiting
        self._lock = threading.Lock()
        self._requests = 0

    def solve(
        self, problems: list[Placed], shards: list[ActorHandle], threads: int
    ) -> tuple[list[Picks], float] | None:
        """The picks, and the seconds of the busiest shard; None where too many requests wait already."""
        with self._lock:
            if self._requests >= self.waiting:
                return None
            self._requests += 1
        try:
            workers = RayShards(shards, threads)
            return run(problems, workers), workers.seconds
        finally:
            with self._lock:
                self._requests -= 1


_Shard = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(SelectionShard)
_Coordinator = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Coordinator)


class RayShards:
    """Actors that do works on blocks in the object store."""

    def __init__(self, shards: Sequence[ActorHandle], threads: int):
        self.shards = list(shards)
        self.threads = threads
        self.seconds = 0.0  # of the busiest shard, over all rounds

    def hold(self, block: View) -> Held:
        return ray.put(block.block())

    def perform(self, works: Sequence[Work]) -> list[Result]:
        """Packed onto the shards by cost, the largest first. What they give back stays in the object store."""
        loads = [0.0] * len(self.shards)
        where: dict[int, int] = {}
        for at in sorted(range(len(works)), key=lambda at: -works[at].cost):
            where[at] = loads.index(min(loads))
            loads[where[at]] += works[at].cost
        threads = max(1, self.threads // len(set(where.values())))
        sent = {
            at: self.shards[shard].perform.options(num_returns=1 + works[at].scatter).remote(works[at], threads)
            for at, shard in where.items()
        }
        results: list[Result] = []
        for at, work in enumerate(works):
            answer, *blocks = sent[at] if work.scatter else [sent[at]]
            results.append((ray.get(answer), blocks))
        busy = [0.0] * len(self.shards)
        for at, (answer, _) in enumerate(results):
            busy[where[at]] += answer.seconds
        self.seconds += max(busy)
        return results


class SelectionService:
    """Starts the shards and their coordinator, and hands out mappers. Lives in the driver; close it in the end."""

    def __init__(self, shards: int, waiting: int = WAITING):
        if shards < 1:
            raise ValueError(f"shards = {shards}: should be at least 1")
        self.shards: list[ActorHandle] = [_Shard.remote() for _ in range(shards)]
        self.coordinator: ActorHandle | None = _Coordinator.options(max_concurrency=2 * waiting).remote(waiting)

    def mapper(self, threads: int) -> "ServiceMapper":
        """A mapper for a trial with this many threads. Can be sent to other processes."""
        if self.coordinator is None:
            raise RuntimeError("the selection service is closed")
        return ServiceMapper(self.coordinator, self.shards, threads)

    def close(self) -> None:
        """Stop the coordinator and the shards."""
        for actor in (self.coordinator, *self.shards):
            if actor is not None:
                ray.kill(actor, no_restart=True)
        self.coordinator, self.shards = None, []


class ServiceMapper:
    """Solves problems on the service: the same answers as `SerialMapper`, from other processes."""

    def __init__(self, coordinator: ActorHandle, shards: Sequence[ActorHandle], threads: int):
        self.coordinator = coordinator
        self.shards = list(shards)
        self.threads = threads

    def map(self, problems: Sequence[Problem], partition: Partition | None = None) -> tuple[list[Picks], float]:
        """Send the blocks to the object store and the request to the coordinator; wait while too many wait there."""
        store = RayShards([], self.threads)
        placed = [place(problem, store, share) for problem, share in divided(problems, partition)]
        told = False
        while True:
            request = self.coordinator.solve.remote(placed, self.shards, self.threads)
            answer: tuple[list[Picks], float] | None = ray.get(request)
            if answer is not None:
                return answer
            if not told:
                log.warning("the selection service has as many requests as it takes; this one waits for its turn")
                told = True
            time.sleep(_PATIENCE)
