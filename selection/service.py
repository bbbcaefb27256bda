"""The selection service: Ray actors that solve selection problems for all trials of a sweep."""

from collections.abc import Sequence

import ray
from ray.actor import ActorHandle

from selection.greedy import solve_all
from selection.problem import Picks, Problem


class SelectionShard:
    """One process of the service. It keeps no state: a shard that dies is restarted and its calls are repeated.

    It reserves no CPU: while it computes for a trial, that trial waits, and it uses as many threads as the trial has.
    """

    def solve(self, problems: list[Problem], threads: int) -> list[Picks]:
        """Solve problems one after another. Their arrays are read where they lie in the object store."""
        return solve_all(problems, threads)


_Shard = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(SelectionShard)


class SelectionService:
    """Starts the shards and hands out mappers to them. Lives in the driver; close it when the sweep ends."""

    def __init__(self, shards: int):
        if shards < 1:
            raise ValueError(f"shards = {shards}: should be at least 1")
        self.shards: list[ActorHandle] = [_Shard.remote() for _ in range(shards)]

    def mapper(self, threads: int) -> "ServiceMapper":
        """A mapper for a trial with this many threads. Can be sent to other processes."""
        return ServiceMapper(self.shards, threads)

    def close(self) -> None:
        """Stop the shards."""
        for shard in self.shards:
            ray.kill(shard, no_restart=True)
        self.shards = []


class ServiceMapper:
    """Solves problems on the service's shards: the same answers as `SerialMapper`, from other processes."""

    def __init__(self, shards: Sequence[ActorHandle], threads: int):
        self.shards = list(shards)
        self.threads = threads

    def map(self, problems: Sequence[Problem]) -> tuple[list[Picks], float]:
        """Pack the problems onto the shards by cost (n^2, largest first), and gather the answers."""
        packs: list[list[int]] = [[] for _ in self.shards]
        loads = [0] * len(self.shards)
        for place in sorted(range(len(problems)), key=lambda p: -(len(problems[p].residuals) ** 2)):
            shard = loads.index(min(loads))
            packs[shard].append(place)
            loads[shard] += len(problems[place].residuals) ** 2
        threads = max(1, self.threads // sum(bool(pack) for pack in packs))
        pending = [
            shard.solve.remote([problems[place] for place in pack], threads)
            for shard, pack in zip(self.shards, packs, strict=True)
            if pack
        ]
        answers = ray.get(pending)
        solved: dict[int, Picks] = {}
        for pack, answer in zip([pack for pack in packs if pack], answers, strict=True):
            solved.update(zip(pack, answer, strict=True))
        seconds = max(sum(picks.seconds for picks in answer) for answer in answers)
        return [solved[place] for place in range(len(problems))], seconds
