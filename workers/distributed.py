"""A trial of several workers: the same loop, under Ray Train's TorchTrainer."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.util.queue import Empty, Queue

from workers.assignment import Assignment, run
from workers.group import Ddp
from workers.loop import Epoch


class WorkerError(RuntimeError):
    """What a worker of a trial raised."""


@dataclass(frozen=True)
class _Note:
    text: str


@dataclass(frozen=True)
class _Failure:
    text: str


def run_distributed(assignment: Assignment, notify: Callable[[str], None]) -> Iterator[Epoch]:
    """Run a trial on `resources.workers` processes of its own, yielding its epochs as they end.

    Raises WorkerError with the message of the first worker that raised; where a worker's process died,
    TrainingFailedError, after which the trial can be run again from its last checkpoint.
    """
    resources = assignment.spec.resources
    queue = Queue(actor_options={"num_cpus": 0})
    each: dict[str, float] = {"CPU": resources.cpus}
    if resources.gpus:
        each["GPU"] = resources.gpus
    with tempfile.TemporaryDirectory(prefix="medoid-train-") as folder:
        trainer = ray.train.torch.TorchTrainer(
            _worker,
            train_loop_config={"assignment": assignment, "queue": queue},
            torch_config=ray.train.torch.TorchConfig(backend="nccl" if resources.gpus else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=resources.workers, use_gpu=bool(resources.gpus), resources_per_worker=each
            ),
            run_config=ray.train.RunConfig(
                name=assignment.trial_id,
                storage_path=folder,
                failure_config=ray.train.FailureConfig(max_failures=0),
            ),
        )
        ended: list[BaseException | None] = []
        thread = threading.Thread(target=_fit, args=(trainer, ended), daemon=True)
        thread.start()
        try:
            yield from _epochs(queue, thread, ended, notify)
        finally:
            queue.shutdown(force=True)  # a trial stopped early: its workers end at their next report
            thread.join()


def _fit(trainer: Any, ended: list[BaseException | None]) -> None:
    try:
        trainer.fit()
        ended.append(None)
    except TrainingFailedError as error:
        ended.append(error)


def _epochs(
    queue: Queue, thread: threading.Thread, ended: list[BaseException | None], notify: Callable[[str], None]
) -> Iterator[Epoch]:
    failure: _Failure | None = None
    while True:
        over = not thread.is_alive()
        try:
            item = queue.get(timeout=0.2)
        except Empty:
            if over:
                break
            continue
        if isinstance(item, Epoch):
            yield item
        elif isinstance(item, _Note):
            notify(item.text)
        else:
            failure = failure or item
    if failure is not None:
        raise WorkerError(failure.text)
    if ended and ended[0] is not None:
        raise ended[0]


def _worker(config: dict[str, Any]) -> None:
    assignment: Assignment = config["assignment"]
    queue: Queue = config["queue"]
    gpus = assignment.spec.resources.gpus
    device = torch.device("cuda", torch.cuda.current_device()) if gpus else torch.device("cpu")
    group = Ddp(device)
    try:
        for epoch in run(assignment, group, lambda text: queue.put(_Note(text))):
            if group.rank == 0:
                queue.put(epoch)
    except Exception as error:
        queue.put(_Failure(f"rank {group.rank}: {type(error).__name__}: {error}"))
        raise
