"""Works to shards: to whichever is free, one of each trial in turn."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import ray
from ray.actor import ActorHandle

from selection.blocks import View
from selection.turns import Turns
from selection.works import Held, Result, Work

_AHEAD = 1e7  # pairs: works that are cheaper than this together, some milliseconds, may queue up at a shard


@dataclass(frozen=True)
class _Job:
    work: Work
    threads: int
    sent: "Future[tuple[int, list[Any]]]" = field(default_factory=Future)  # to which shard, and what stands for results


class Dispatcher:
    """Sends works to shards from one thread. What comes later does not wait for all that came before it."""

    def __init__(self, shards: Sequence[ActorHandle]):
        self.shards = list(shards)
        self._turns: Turns[_Job] = Turns()
        self._loads = [0.0] * len(self.shards)
        self._under_way = [0] * len(self.shards)
        self._news: SimpleQueue[tuple[str, list[_Job]] | tuple[int, float]] = SimpleQueue()
        threading.Thread(target=self._run, name="dispatcher", daemon=True).start()

    def send(self, trial: str, works: Sequence[Work], threads: int) -> list[_Job]:
        """Line works up; each `sent` when its turn has come."""
        jobs = [_Job(work, threads) for work in works]
        self._news.put((trial, jobs))
        return jobs

    def _run(self) -> None:
        while True:
            first, second = self._news.get()
            if isinstance(first, str):
                assert isinstance(second, list)
                self._turns.add(first, [(job.work.cost, job) for job in second])
            else:
                assert isinstance(second, float)
                self._loads[first] -= second
                self._under_way[first] -= 1
            while (cost := self._turns.next_cost()) is not None and (shard := self._free(cost)) is not None:
                self._send(self._turns.take(), shard)

    def _free(self, cost: float) -> int | None:
        """The least loaded shard that takes a work of this cost now."""
        shard = min(range(len(self.shards)), key=lambda at: (self._under_way[at] > 0, self._loads[at]))
        if self._under_way[shard] and self._loads[shard] + cost > _AHEAD:
            return None
        return shard

    def _send(self, job: _Job, shard: int) -> None:
        if not job.sent.set_running_or_notify_cancel():
            return  # its request has failed meanwhile
        cost = float(job.work.cost)
        self._loads[shard] += cost
        self._under_way[shard] += 1
        try:
            answers = self.shards[shard].perform.options(num_returns=1 + job.work.scatter).remote(job.work, job.threads)
            refs = answers if job.work.scatter else [answers]
            refs[0].future().add_done_callback(lambda _: self._news.put((shard, cost)))
        except Exception as error:  # noqa: BLE001 - the request raises it; the others go on
            self._news.put((shard, cost))
            job.sent.set_exception(error)
        else:
            job.sent.set_result((shard, refs))


class ShardWorkers:
    """The shards, as one request of a trial sees them."""

    def __init__(self, dispatcher: Dispatcher, trial: str, threads: int):
        self.dispatcher = dispatcher
        self.trial = trial
        self.threads = threads
        self.seconds = 0.0  # of the busiest shard, over all rounds

    def hold(self, block: View) -> Held:
        return ray.put(block.block())

    def perform(self, works: Sequence[Work]) -> list[Result]:
        """What the works give back stays in the object store. Where one fails, those that wait are not sent."""
        side_by_side = min(len(works), len(self.dispatcher.shards))
        threads = max(1, self.threads // side_by_side)
        busy: dict[int, float] = {}
        results: list[Result] = []
        jobs = self.dispatcher.send(self.trial, works, threads)
        try:
            for job in jobs:
                shard, (answer, *blocks) = job.sent.result()
                done = ray.get(answer)
                busy[shard] = busy.get(shard, 0.0) + done.seconds
                results.append((done, blocks))
        except BaseException:
            for job in jobs:
                job.sent.cancel()
            raise
        self.seconds += max(busy.values())
        return results
