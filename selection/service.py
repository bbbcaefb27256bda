"""The selection service: Ray actors that solve selection problems for all trials of a sweep.

Every process of a trial puts the proxies that it holds into the object store, block by block, and asks the coordinator.
The coordinator sends works to the shards, one of each trial in turn; these read the blocks where they lie, on any node.
What the coordinator sees itself are rows, gains and counts.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, ObjectLostError, OwnerDiedError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from selection.blocks import View
from selection.dispatching import Dispatcher, ShardWorkers
from selection.greedi import Partition, Placed
from selection.mapper import divided, place, run, together
from selection.problem import Picks, Problem
from selection.sharing import Holders, by_the_first
from selection.works import Held, Work, perform

log = logging.getLogger(__name__)
WAITING = 64  # requests at the coordinator at one time
_PATIENCE = 0.5  # seconds between two tries, where there are more or where a shard is being restarted
_LATER = 2.0  # seconds after rank 0 that the others are answered: time for its answer to arrive
_LOSSES = 20  # of shards and nodes that one request survives: an end to it where its own works kill the shards
_CALLS = 100_000  # calls that may wait at the coordinator, in one thread: every process of every trial makes one

Answer = tuple[list[Picks], float]


class SelectionShard:
    """One process of the service. It keeps no state; one that dies is restarted, and what it had to do is asked again.

    It reserves no CPU, and uses as many threads as the trial has: under `blocking` that trial waits meanwhile, under
    `overlapped` the two share its processors.
    """

    def perform(self, work: Work, threads: int) -> object:
        """Do one work: the answer, then the blocks that it gives back, each an object of its own."""
        answer, blocks = perform(work, ray.get, threads)
        return (answer, *blocks) if blocks else answer


@dataclass(frozen=True)
class Part:
    """What one process of a trial asks: its pieces of the problems' blocks.

    token    the same for all processes of one request, and for no other request
    """

    trial: str
    token: str
    rank: int
    size: int
    placed: list[Placed]


@dataclass
class _Meeting:
    """The parts of a request, until all have come."""

    token: str
    answer: "asyncio.Future[Answer | None]"
    parts: dict[int, list[Placed]] = field(default_factory=dict)


class Coordinator:
    """Takes requests, and lets the shards do them round by round.

    What it knows is gone with it, and comes again: every process of a trial repeats its call until it is answered.
    A request that loses a shard, or the blocks that lay on a lost node, is done again from its first round.
    """

    def __init__(self, waiting: int):
        self.waiting = waiting
        self._dispatcher: Dispatcher | None = None
        self._pool = ThreadPoolExecutor(waiting)
        self._meetings: dict[str, _Meeting] = {}
        self._requests = 0

    async def solve(self, part: Part, shards: Sequence[ActorHandle], threads: int) -> Answer | None:
        """The picks, and the seconds of the busiest shard, once all of the trial's processes have asked.

        None where too many requests wait already. `shards` come with every request: one that is started again could not
        count on what it was started with.
        """
        self._dispatcher = self._dispatcher or Dispatcher(shards)
        loop = asyncio.get_running_loop()
        meeting = self._meetings.get(part.trial)
        if meeting is None or meeting.token != part.token:
            if meeting is not None:  # of a trial that died, or was answered by a coordinator that did
                meeting.answer.set_result(None)
            meeting = self._meetings[part.trial] = _Meeting(part.token, loop.create_future())
        meeting.parts[part.rank] = part.placed
        if len(meeting.parts) < part.size:
            answer = await asyncio.shield(meeting.answer)
        else:
            del self._meetings[part.trial]
            answer = await self._answer(meeting, part, threads)
        if part.rank > 0:  # what rank 0 hears they hear: were it to ask again, they should still be asking, too
            await asyncio.sleep(_LATER)
        return answer

    async def _answer(self, meeting: _Meeting, part: Part, threads: int) -> Answer | None:
        """To all who ask."""
        assert self._dispatcher is not None
        answer: Answer | None = None
        try:
            if self._requests < self.waiting:
                answer = await self._solve(meeting, ShardWorkers(self._dispatcher, part.trial, threads))
        except BaseException as error:
            if part.size > 1:
                meeting.answer.set_exception(error)
                meeting.answer.exception()  # a process that is gone does not ask for it
            raise
        meeting.answer.set_result(answer)
        return answer

    async def _solve(self, meeting: _Meeting, workers: ShardWorkers) -> Answer:
        problems = together([meeting.parts[rank] for rank in sorted(meeting.parts)])
        self._requests += 1
        try:
            picks = await asyncio.get_running_loop().run_in_executor(self._pool, run_through, problems, workers)
        finally:
            self._requests -= 1
        return picks, workers.seconds


def run_through(problems: list[Placed], workers: ShardWorkers) -> list[Picks]:
    """Solve problems, from their first round again where that was lost on the way."""
    for repeated in range(_LOSSES + 1):
        try:
            return run(problems, workers)
        except (RayActorError, ObjectLostError) as error:
            if isinstance(error, OwnerDiedError) or repeated == _LOSSES:  # of a block: nobody can give it again
                raise
            log.warning("a selection starts again, since a shard or a node was lost: %s", type(error).__name__)
        wait_for(workers.dispatcher.shards)
    raise AssertionError("unreachable")


def wait_for(shards: Sequence[ActorHandle]) -> None:
    """Until all of them answer. Raises ActorDiedError where one is gone for good."""
    for shard in shards:
        while True:
            try:
                ray.get(shard.__ray_ready__.remote())
                break
            except RayActorError as error:
                if isinstance(error, ActorDiedError) and not error.preempted:  # of a node that is drained it comes back
                    raise
                time.sleep(_PATIENCE)


# A byte: Ray places who asks for nothing anywhere, whatever node it is told to prefer.
# Ray is not to repeat what a shard did: where a node takes a result with it, Ray would look for that work's own blocks,
# find that others own them, and declare these lost, too; or wait for ever.
_Shard = ray.remote(num_cpus=0, memory=1, max_restarts=-1, max_task_retries=0)(SelectionShard)
_Coordinator = ray.remote(num_cpus=0, memory=1, max_restarts=-1, max_task_retries=-1, max_concurrency=_CALLS)(
    Coordinator
)


class SelectionService:
    """Starts the shards and their coordinator, and hands out mappers. Lives in the driver; close it in the end.

    Shards are spread over the nodes, those without GPUs where there are any: their processors have nothing else to do.
    One whose node is lost is started again on another. `name` stands in the actors' names, as `name/shard-0`.
    """

    def __init__(self, shards: int, waiting: int = WAITING, name: str | None = None):
        if shards < 1:
            raise ValueError(f"shards = {shards}: should be at least 1")
        homes = _homes()
        self.shards: list[ActorHandle] = [
            _Shard.options(
                name=name and f"{name}/shard-{number}",
                scheduling_strategy=NodeAffinitySchedulingStrategy(homes[number % len(homes)], soft=True),
            ).remote()
            for number in range(shards)
        ]
        self.coordinator: ActorHandle | None = _Coordinator.options(
            name=name and f"{name}/coordinator",
            scheduling_strategy=NodeAffinitySchedulingStrategy(homes[shards % len(homes)], soft=True),
        ).remote(waiting)

    def mapper(self, threads: int, trial: str = "") -> "ServiceMapper":
        """A mapper for a trial with this many threads. Can be sent to other processes.

        Trials take turns by their names; one without a name is a trial of its own.
        """
        if self.coordinator is None:
            raise RuntimeError("the selection service is closed")
        return ServiceMapper(self.coordinator, self.shards, trial, threads)

    def close(self) -> None:
        """Stop the coordinator and the shards."""
        for actor in (self.coordinator, *self.shards):
            if actor is not None:
                ray.kill(actor, no_restart=True)
        self.coordinator, self.shards = None, []


def _homes() -> list[str]:
    """The nodes for the service, in an order that does not depend on who was listed first."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    working = [node for node in alive if node["Resources"].get("CPU")] or alive  # a head is often given none
    without = [node for node in working if not node["Resources"].get("GPU")]
    return sorted(str(node["NodeID"]) for node in without or working)


class _Store:
    """The object store, as those who deal blocks out see it."""

    def hold(self, block: View) -> Held:
        return ray.put(block.block())


class ServiceMapper:
    """Solves problems on the service: the same answers as `SerialMapper`, from other processes."""

    def __init__(self, coordinator: ActorHandle, shards: Sequence[ActorHandle], trial: str, threads: int):
        self.coordinator = coordinator
        self.shards = list(shards)
        self.trial = trial
        self.threads = threads

    def map(self, problems: Sequence[Problem], partition: Partition | None = None) -> Answer:
        """Send the blocks to the object store and the request to the coordinator; wait while too many wait there."""
        token = uuid.uuid4().hex
        part = Part(self.trial or token, token, 0, 1, _placed(problems, partition))
        told = False
        while True:
            answer: Answer | None = ray.get(self.coordinator.solve.remote(part, self.shards, self.threads))
            if answer is not None:
                return answer
            _wait(told)
            told = True

    def map_shared(self, problems: Sequence[Problem], partition: Partition | None, holders: Holders) -> Answer:
        """The same, each process with its pieces of the blocks: only what stands for them crosses.

        What rank 0 is answered is everybody's: the coordinator may die when it has answered some.
        """
        token = holders.gather(uuid.uuid4().hex)[0]
        part = Part(self.trial or token, token, holders.rank, holders.size, _placed(problems, partition))
        told = False
        while True:
            request = self.coordinator.solve.remote(part, self.shards, self.threads)
            answer: Answer | None = by_the_first(holders, partial(ray.get, request))
            if answer is not None:
                return answer
            _wait(told or holders.rank > 0)
            told = True


def _placed(problems: Sequence[Problem], partition: Partition | None) -> list[Placed]:
    store = _Store()
    return [place(problem, store, share) for problem, share in divided(problems, partition)]


def _wait(told: bool) -> None:
    if not told:
        log.warning("the selection service has as many requests as it takes; this one waits for its turn")
    time.sleep(_PATIENCE)
