"""Tells the tracker of a running sweep."""

from orchestrator.preparation import PlannedTrial
from orchestrator.tracking import Tracker
from workers.records import (
    EpochRecord,
    EpochTimes,
    StoppedTrial,
    TrialError,
    TrialResult,
    TrialTimes,
    load_record,
    trial_key,
)
from workers.storage import LocalStorage


class TrackingWatcher:
    """Passes a sweep's events to a tracker, with what storage holds of finished trials."""

    def __init__(self, tracker: Tracker, storage: LocalStorage):
        self.tracker = tracker
        self.storage = storage

    def started(self, trial: PlannedTrial) -> None:
        self.tracker.trial_started(trial.id)

    def epoch(self, trial: PlannedTrial, record: EpochRecord, times: EpochTimes) -> None:
        self.tracker.epoch(trial.id, record, times)

    def finished(self, trial: PlannedTrial) -> None:
        result = load_record(self.storage, trial_key(trial.id, "result.json"), TrialResult)
        times = load_record(self.storage, trial_key(trial.id, "times.json"), TrialTimes)
        if result is None or times is None:
            raise RuntimeError(f"trial {trial.id} is finished, but its result or its times are not in storage")
        keys = self.storage.list(trial_key(trial.id, "selections"))
        files = {f"selections/{key.rsplit('/', 1)[1]}": self.storage.path(key) for key in keys}
        files["result.json"] = self.storage.path(trial_key(trial.id, "result.json"))
        self.tracker.trial_finished(result, times, files)

    def failed(self, trial: PlannedTrial, failure: TrialError) -> None:
        self.tracker.trial_failed(failure)

    def stopped(self, trial: PlannedTrial, stopped: StoppedTrial) -> None:
        self.tracker.trial_stopped(stopped)

    def note(self, text: str) -> None:
        pass
