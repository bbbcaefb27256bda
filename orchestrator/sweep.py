"""Runs the pending trials of a sweep on Ray Tune."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.error import TuneError
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator

from orchestrator.cluster import concurrent_trials, nodes
from orchestrator.deaths import given_up, last_said
from orchestrator.preparation import PlannedTrial, Prepared
from orchestrator.room import Room, bundles
from orchestrator.watching import Watcher
from selection.service import SelectionService
from specs.resources import Resources
from workers.assignment import Assignment
from workers.naming import unique_name
from workers.records import EpochRecord, EpochTimes, Record, StoppedTrial, TrialError, trial_key
from workers.scratch import scratch
from workers.storage import StorageError
from workers.trial_actor import TrialActor


def run_sweep(prepared: Prepared, watcher: Watcher, trainable: type[tune.Trainable] | None = None) -> None:
    """Run every pending trial; Ray must be connected. A trial that fails does not stop the others.

    `trainable` takes the loop's place: it is given a trial's id as `trial`, and reports as TrialActor does. Where and
    when it runs is then the same, and what it does is its own.

    Raises PlacementError where a trial can never be placed, StorageError where not even a trial's end can be stored.
    """
    pending = prepared.pending
    _keep_keys()
    concurrency = {trial.spec.resources: concurrent_trials(trial.spec.resources, nodes()) for trial in pending}
    name = unique_name(prepared.storage.uri)
    service = SelectionService(
        max(trial.spec.resources.selection_shards for trial in pending),
        name=f"{name}/{ray.get_runtime_context().get_job_id()}",  # what a driver before this one left may linger
    )
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trace for each failure, which is a note here
    assignments = {
        trial.id: Assignment(
            trial.id,
            trial.spec,
            prepared.storage,
            service.mapper(trial.spec.resources.cpus, trial.id),
            concurrent=shares_device(trial.spec.resources, concurrency, len(pending)),
            folder=str(Path.cwd()),
        )
        for trial in pending
    }
    kinds = {kind: kind for kind in concurrency}
    resources = {trial.id: kinds[trial.spec.resources] for trial in pending}  # few: Tune unpickles them for each trial
    search = BasicVariantGenerator()
    listener = _Listener(prepared, watcher)
    try:
        with scratch(f"tune-{name}") as folder:
            tuner = tune.Tuner(
                tune.with_resources(
                    trainable or tune.with_parameters(TrialActor, assignments=assignments),
                    lambda config: bundles(resources[config["trial"]]),
                ),
                param_space={
                    "trial": tune.grid_search(list(assignments)),
                    "report_seconds": _report_seconds(prepared, max(concurrency.values())),
                },
                tune_config=tune.TuneConfig(
                    scheduler=_scheduler(prepared),
                    reuse_actors=True,
                    search_alg=search,
                    trial_name_creator=lambda trial: trial.config["trial"],
                    trial_dirname_creator=lambda trial: trial.config["trial"],
                ),
                run_config=tune.RunConfig(
                    name=name,
                    storage_path=folder,
                    verbose=0,
                    callbacks=[listener, Room(resources, search, watcher.note)],
                    # checkpoints are the loop's own, and Tune would make one at the end
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                    failure_config=tune.FailureConfig(
                        max_failures=max(trial.spec.resources.max_failures for trial in pending)
                    ),
                ),
            )
            try:
                tuner.fit()
            except TuneError as error:
                raise listener.refusal or error from None
    finally:
        if ray.is_initialized():
            service.close()


def shares_device(resources: Resources, at_once: Mapping[Resources, int], pending: int) -> bool:
    """Whether other trials of the sweep may run on a trial's device while it does; at_once: how many of each kind fit.

    A GPU is one trial's. Without GPUs, the device is the machine.
    """
    if resources.gpus:
        return False
    # of different kinds one of each may fit at once, such as one that needs a GPU and one that does not
    return pending > 1 and list(at_once.values()) != [1]


def _keep_keys() -> None:
    """Have Tune leave S3's keys where they are: every node has its own, or gets them from who started it.

    Tune would put the driver's into the runtime environment of each trial's actor, which Ray writes into its logs.
    """
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
        [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]
    )


def _report_seconds(prepared: Prepared, concurrent: int) -> float:
    """How often a trial reports: the driver takes some 270 reports a second, in one thread; ASHA wants each epoch."""
    return 0.0 if prepared.sweep.sweep.asha else max(0.5, concurrent / 50)


def _scheduler(prepared: Prepared) -> TrialScheduler:
    asha = prepared.sweep.sweep.asha
    if asha is None:
        return FIFOScheduler()
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=asha.metric,
        mode="max" if asha.metric == "test_accuracy" else "min",
        max_t=max(trial.spec.training.epochs for trial in prepared.trials),
        grace_period=asha.grace_epochs,
        reduction_factor=asha.reduction_factor,
    )


class _Listener(tune.Callback):
    """Passes on what Tune reports, and stores what only the driver knows: stops, and deaths of processes."""

    def __init__(self, prepared: Prepared, watcher: Watcher):
        self.storage = prepared.storage
        self.asha = prepared.sweep.sweep.asha
        self.watcher = watcher
        self.trials: dict[str, PlannedTrial] = {trial.id: trial for trial in prepared.trials}
        self.ended: set[str] = set()
        self.reached: dict[str, int] = {}
        self.refusal: StorageError | None = None  # Tune makes a trace of what its callbacks raise

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore of its own, which is never used

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        planned = self._planned(trial)
        trial.max_failures = planned.spec.resources.max_failures  # Tune gives all of a sweep the same
        self.watcher.started(planned)

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        planned = self._planned(trial)
        for note in result.get("notes", ()):
            self.watcher.note(f"{planned.label}: {note}")
        for epoch in result["epochs"]:
            record = EpochRecord(**epoch["record"])
            self.reached[planned.id] = record.epoch
            self.watcher.epoch(planned, record, EpochTimes(**epoch["times"]))
        if "failure" in result:
            with self._refusing():
                self.storage.confirm()  # else it is no failure of the trial's, which another driver goes on with
            self.ended.add(planned.id)
            self.watcher.failed(planned, TrialError(**result["failure"]))
        elif result["done"]:
            with self._refusing():
                if self.storage.exists(trial_key(planned.id, "result.json")):
                    self.ended.add(planned.id)
                    self.watcher.finished(planned)

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        with self._refusing():
            self.storage.confirm()  # its process may have died of having lost the right to write
        planned, most = self._planned(trial), trial.max_failures + 1
        self.watcher.note(
            f"{planned.label}: {last_said(trial)}; tried again (attempt {trial.num_failures + 1} of {most})"
        )

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        planned = self._planned(trial)
        if planned.id in self.ended or self.asha is None:
            return
        epoch = self.reached.get(planned.id, 0)
        stopped = StoppedTrial(trial_id=planned.id, epoch=epoch, asha=self.asha.model_dump(mode="json"))
        self._store(planned, "stopped.json", stopped)
        self._forget(planned, "error.json")  # of an earlier run
        self.watcher.stopped(planned, stopped)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        planned = self._planned(trial)
        reached = self.reached.get(planned.id, 0)
        failure = given_up(planned.id, reached, trial)
        self._store(planned, "error.json", failure)
        self._forget(planned, "stopped.json")  # by another rule
        self.watcher.failed(planned, failure)

    def _store(self, trial: PlannedTrial, name: str, record: Record) -> None:
        with self._refusing():
            self.storage.write(trial_key(trial.id, name), record.to_bytes())

    def _forget(self, trial: PlannedTrial, name: str) -> None:
        with self._refusing():
            self.storage.delete(trial_key(trial.id, name))

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            self.refusal = error
            raise

    def _planned(self, trial: TuneTrial) -> PlannedTrial:
        return self.trials[trial.config["trial"]]
