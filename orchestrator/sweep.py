"""Runs the pending trials of a sweep on Ray Tune."""

import logging
import tempfile
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from orchestrator.cluster import concurrent_trials, nodes
from orchestrator.preparation import PlannedTrial, Prepared
from orchestrator.watching import Watcher
from selection.service import SelectionService
from specs.resources import Resources
from workers.assignment import Assignment
from workers.records import EpochRecord, EpochTimes, StoppedTrial, TrialError, trial_key
from workers.trial_actor import TrialActor


def run_sweep(prepared: Prepared, watcher: Watcher) -> None:
    """Run every pending trial; Ray must be connected. A trial that fails does not stop the others.

    Raises PlacementError where a trial can never be placed.
    """
    pending = prepared.pending
    concurrency = {trial.spec.resources: concurrent_trials(trial.spec.resources, nodes()) for trial in pending}
    service = SelectionService(max(trial.spec.resources.selection_shards for trial in pending))
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # of different kinds one of each may fit at once, such as one that needs the GPU and one that does not
    alone = len(pending) == 1 or list(concurrency.values()) == [1]
    assignments = {
        trial.id: Assignment(
            trial.id,
            trial.spec,
            prepared.storage.uri,
            service.mapper(trial.spec.resources.cpus),
            concurrent=not alone,
        )
        for trial in pending
    }
    resources = {trial.id: trial.spec.resources for trial in pending}
    grouped = [kind for kind in concurrency if kind.workers > 1]
    try:
        with tempfile.TemporaryDirectory(prefix="medoid-tune-") as folder:
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(TrialActor, assignments=assignments),
                    lambda config: _bundles(resources[config["trial"]]),
                ),
                param_space={
                    "trial": tune.grid_search(list(assignments)),
                    "every_epoch": prepared.sweep.sweep.asha is not None,
                },
                tune_config=tune.TuneConfig(
                    scheduler=_scheduler(prepared),
                    reuse_actors=True,
                    # Train places its workers itself, and would wait for ever for what other trials hold
                    max_concurrent_trials=min(concurrency[kind] for kind in grouped) if grouped else None,
                    trial_name_creator=lambda trial: trial.config["trial"],
                    trial_dirname_creator=lambda trial: trial.config["trial"],
                ),
                run_config=tune.RunConfig(
                    name="sweep",
                    storage_path=folder,
                    verbose=0,
                    callbacks=[_Listener(prepared, watcher)],
                    # checkpoints are the loop's own, and Tune would make one at the end
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                    failure_config=tune.FailureConfig(
                        max_failures=max(trial.spec.resources.max_failures for trial in pending)
                    ),
                ),
            )
            tuner.fit()
    finally:
        if ray.is_initialized():
            service.close()


def _bundles(resources: Resources) -> tune.PlacementGroupFactory:
    """One worker trains in the trial's own actor; for several, Train reserves resources, and the actor only waits."""
    if resources.workers > 1:
        return tune.PlacementGroupFactory([{"memory": 1}])  # Tune wants something above zero
    bundle: dict[str, float] = {"CPU": resources.cpus}
    if resources.gpus:
        bundle["GPU"] = resources.gpus
    return tune.PlacementGroupFactory([bundle])


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

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore of its own, which is never used

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self.watcher.started(self._planned(trial))

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
            self.ended.add(planned.id)
            self.watcher.failed(planned, TrialError(**result["failure"]))
        elif result["done"] and self.storage.exists(trial_key(planned.id, "result.json")):
            self.ended.add(planned.id)
            self.watcher.finished(planned)

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        planned = self._planned(trial)
        if planned.id in self.ended or self.asha is None:
            return
        epoch = self.reached.get(planned.id, 0)
        stopped = StoppedTrial(trial_id=planned.id, epoch=epoch, asha=self.asha.model_dump(mode="json"))
        self.storage.write(trial_key(planned.id, "stopped.json"), stopped.to_bytes())
        self.watcher.stopped(planned, stopped)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        planned = self._planned(trial)
        trace = str(trial.get_error() or "no more is known")
        failure = TrialError(
            trial_id=planned.id,
            error=f"the trial's process died {trial.num_failures} times, last of: {trace.splitlines()[0]}",
            trace=trace,
            epoch=self.reached.get(planned.id, 0),
        )
        self.storage.write(trial_key(planned.id, "error.json"), failure.to_bytes())
        self.watcher.failed(planned, failure)

    def _planned(self, trial: TuneTrial) -> PlannedTrial:
        return self.trials[trial.config["trial"]]
