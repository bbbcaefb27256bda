"""The Tune trainable: one actor that runs trial after trial, since starting a process costs more than a small trial."""

import time
from collections.abc import Iterator
from typing import Any

from ray import tune

from workers.assignment import Assignment, record_failure, run
from workers.data.arrival import Arrival
from workers.loop import DivergedError, Epoch
from workers.records import trial_key

_PATIENCE = 15.0  # seconds between words on data that are fetched


class TrialActor(tune.Trainable):
    """Runs the loop of one worker in this process, or, for several workers, in theirs.

    Each step's result holds `epochs`, a list of {record, times, selection} in order, and `notes` for the user; at
    the end `done`. Epochs that end within `report_seconds` of each other are reported together; while data are fetched,
    there are results without any. A trial that diverged has `failure`, a stored state, after which the actor takes the
    next one: it would diverge again. Whatever else it raises, Tune starts it again, as one whose process died.
    """

    def setup(self, config: dict[str, Any], assignments: dict[str, Assignment] | None = None) -> None:
        self.assignments = assignments or {}
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.assignment = self.assignments[new_config["trial"]]
        self.report_seconds: float = new_config["report_seconds"]
        self.epochs: Iterator[Epoch | None] | None = None
        self.done_epochs = 0
        self.notes: list[str] = []
        return True

    def step(self) -> dict[str, Any]:
        if self.epochs is None:
            self.epochs = self._run()
        reported: list[dict[str, Any]] = []
        result: dict[str, Any] = {"epochs": reported}
        spec = self.assignment.spec
        deadline = time.monotonic() + self.report_seconds
        ended = False
        try:
            for epoch in self.epochs:
                if epoch is None:
                    break
                self.done_epochs = epoch.record.epoch
                reported.append(
                    {
                        "record": epoch.record.model_dump(),
                        "times": epoch.times.model_dump(),
                        "selection": epoch.selection and epoch.selection.model_dump(),
                    }
                )
                result |= {"epoch": epoch.record.epoch, "train_loss": epoch.record.train_loss}
                if epoch.record.test_accuracy is not None:
                    result["test_accuracy"] = epoch.record.test_accuracy
                if self.done_epochs == spec.training.epochs or time.monotonic() >= deadline:
                    break
            else:
                ended = True
                key = trial_key(self.assignment.trial_id, "result.json")
                if not self.assignment.storage.exists(key):  # else it would count as neither finished nor failed
                    raise RuntimeError(f"the trial ended after epoch {self.done_epochs} without a result")
        except Exception as error:
            if not (isinstance(error, DivergedError) or getattr(error, "diverged", False)):
                raise
            result["failure"] = record_failure(self.assignment, error, self.done_epochs).model_dump()
        result[tune.result.DONE] = "failure" in result or ended or self.done_epochs == spec.training.epochs
        if self.notes:
            result["notes"] = self.notes.copy()
            self.notes.clear()  # the same list: whoever runs the trial holds on to it
        if result[tune.result.DONE]:
            self.epochs = None
        return result

    def _run(self) -> Iterator[Epoch | None]:
        """The trial's epochs; None where there is only something to say."""
        if self.assignment.spec.resources.workers > 1:
            from workers.distributed import run_distributed

            # under ASHA no epoch begins before its turn, as in one process: a trial that is stopped must not finish
            yield from run_distributed(self.assignment, self.notes.append, in_step=not self.report_seconds)
            return
        arrival = Arrival(self.assignment.dataset)
        while (images := arrival.wait(_PATIENCE)) is None:
            self.notes += arrival.news()
            yield None
        yield from run(self.assignment, notify=self.notes.append, images=images)

    def cleanup(self) -> None:
        self.epochs = None
