"""A trial of several workers: the same loop, under Ray Train's TorchTrainer."""

import os
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError
from ray.util.placement_group import (
    PlacementGroup,
    PlacementGroupID,
    get_current_placement_group,
    remove_placement_group,
)
from ray.util.queue import Empty, Queue

from workers.assignment import Assignment, run
from workers.group import PATIENCE, Ddp
from workers.loop import DivergedError, Epoch
from workers.naming import unique_name
from workers.scratch import scratch


class WorkerError(RuntimeError):
    """What a worker of a trial raised; its trace is a note, after a line that says which process that was.

    diverged  that its loss was not finite, which it will be again
    """

    def __init__(self, message: str, diverged: bool = False):  # one argument is enough: so it can be sent on
        super().__init__(message)
        self.diverged = diverged


class ControllerError(WorkerError):
    """That Ray Train's controller of a trial is gone."""


@dataclass(frozen=True)
class _Note:
    text: str


@dataclass(frozen=True)
class _Reserved:
    group: str  # the id of the placement group that the workers lie in


@dataclass(frozen=True)
class _Failure:
    rank: int
    text: str
    trace: str
    diverged: bool

    def error(self) -> WorkerError:
        """As the trial's own process raises it."""
        error = WorkerError(self.text, self.diverged)
        error.add_note(self.trace)
        return error


def run_distributed(
    assignment: Assignment, notify: Callable[[str], None], *, in_step: bool = False
) -> Iterator[Epoch | None]:
    """Run a trial on `resources.workers` processes of its own, yielding its epochs as they end, and None after a note.

    in_step  an epoch begins once the one before it was taken, and the next is asked for

    Raises WorkerError with the message of the first worker that raised; where a worker's process died, however the
    others took it, TrainingFailedError; where Ray Train's controller died, ControllerError. The trial can be run again
    from its last checkpoint.
    """
    resources = assignment.spec.resources
    queue = Queue(actor_options={"num_cpus": 0})
    asked = Queue(actor_options={"num_cpus": 0}) if in_step else None
    each: dict[str, float] = {"CPU": resources.cpus}
    if resources.gpus:
        each["GPU"] = resources.gpus
    # the trial waits for its turn: the driver knows whether its workers can be placed at all
    patience = int(PATIENCE.total_seconds())
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(patience)
    sweep = unique_name(assignment.storage.uri)
    with scratch(f"train-{sweep}") as folder:
        trainer = ray.train.torch.TorchTrainer(
            _worker,
            train_loop_config={"assignment": assignment, "queue": queue, "asked": asked},
            torch_config=ray.train.torch.TorchConfig("nccl" if resources.gpus else "gloo", timeout_s=patience),
            scaling_config=ray.train.ScalingConfig(
                num_workers=resources.workers,
                use_gpu=bool(resources.gpus),
                resources_per_worker=each,
            ),
            run_config=ray.train.RunConfig(
                name=f"{sweep}-{assignment.trial_id}",
                storage_path=folder,
                failure_config=ray.train.FailureConfig(max_failures=0),
            ),
        )
        ended: list[BaseException | None] = []
        reserved: list[str] = []
        thread = threading.Thread(target=_fit, args=(trainer, ended), daemon=True)
        thread.start()
        try:
            for epoch in _epochs(queue, thread, ended, reserved, notify):
                yield epoch
                if asked is not None and epoch is not None:
                    asked.put(epoch.record.epoch)
        finally:
            for one in (queue, asked):
                if one is not None:
                    one.shutdown(force=True)  # a trial stopped early: its workers end at their next report
            thread.join()
            if ended and isinstance(ended[0], ControllerError):
                _free(reserved)


def _free(reserved: list[str]) -> None:
    """Remove what a controller that died had reserved, which Ray itself does only at the end of the job.

    Train's own cleaner needs a dashboard to see the death, and there is none on a machine of one's own.
    """
    for group in reserved:
        remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(group)))


def _fit(trainer: Any, ended: list[BaseException | None]) -> None:
    error: BaseException | None = None
    try:
        trainer.fit()
    except TrainingFailedError as failed:
        error = failed
    except BaseException as failed:  # noqa: BLE001 - its controller died, say
        error = ControllerError(f"Ray Train ended with {type(failed).__name__}: {failed}".splitlines()[0])
    ended.append(error)


def _epochs(
    queue: Queue,
    thread: threading.Thread,
    ended: list[BaseException | None],
    reserved: list[str],
    notify: Callable[[str], None],
) -> Iterator[Epoch | None]:
    failures: list[_Failure] = []
    while True:
        over = not thread.is_alive()
        try:
            item = pickle.loads(queue.get(timeout=0.2))
        except Empty:
            if over:
                break
            continue
        if isinstance(item, Epoch):
            yield item
        elif isinstance(item, _Note):
            notify(item.text)
            yield None
        elif isinstance(item, _Reserved):
            reserved.append(item.group)
        else:
            failures.append(item)
    error = ended[0] if ended else None
    if isinstance(error, WorkerGroupError) and set(error.worker_failures) - {failure.rank for failure in failures}:
        raise error  # somebody went without a word: what the others say is that they miss it
    if failures:
        raise failures[0].error()
    if error is not None:
        raise error


def _worker(config: dict[str, Any]) -> None:
    assignment: Assignment = config["assignment"]
    queue: Queue = config["queue"]
    asked: Queue | None = config["asked"]

    def tell(what: Epoch | _Note | _Reserved | _Failure) -> None:
        queue.put(pickle.dumps(what))  # as bytes: the queue's process need not import torch to pass it on

    gpus = assignment.spec.resources.gpus
    device = torch.device("cuda", torch.cuda.current_device()) if gpus else torch.device("cpu")
    group = Ddp(device)
    if group.rank == 0 and (reserved := get_current_placement_group()) is not None:
        tell(_Reserved(reserved.id.hex()))
    try:
        for epoch in run(assignment, group, lambda text: tell(_Note(text))):
            if group.rank == 0:
                tell(epoch)
                if asked is not None and epoch.record.epoch < assignment.spec.training.epochs:
                    asked.get()
    except Exception as error:
        text = f"rank {group.rank}: {type(error).__name__}: {error}"
        where = f"Rank {group.rank} was process {os.getpid()} on {ray.util.get_node_ip_address()}:"
        trace = f"{where}\n{''.join(traceback.format_exception(error))}"
        tell(_Failure(group.rank, text, trace, isinstance(error, DivergedError)))
        raise
