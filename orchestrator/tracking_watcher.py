"""Tells the tracker of a running sweep."""

from orchestrator.ahead import read_ahead
from orchestrator.preparation import PlannedTrial, Prepared
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
from workers.storage import Storage


class TrackingWatcher:
    """Passes a sweep's events to a tracker, with what storage holds of finished trials."""

    def __init__(self, tracker: Tracker, storage: Storage):
        self.tracker = tracker
        self.storage = storage

    def started(self, trial: PlannedTrial) -> None:
        self.tracker.trial_started(trial.id)

    def epoch(self, trial: PlannedTrial, record: EpochRecord, times: EpochTimes) -> None:
        self.tracker.epoch(trial.id, record, times)

    def finished(self, trial: PlannedTrial) -> None:
        self.tracker.trial_finished(*self._ended(trial))

    def finished_before(self, prepared: Prepared) -> None:
        """Tell of the trials that earlier runs finished; where MLflow has it all, that changes nothing."""
        ended = [trial for trial in prepared.trials if trial.state == "finished"]
        for found in read_ahead(self._ended, ended):
            self.tracker.trial_finished(*found)

    def _ended(self, trial: PlannedTrial) -> tuple[TrialResult, TrialTimes, dict[str, str]]:
        result = load_record(self.storage, trial_key(trial.id, "result.json"), TrialResult)
        times = load_record(self.storage, trial_key(trial.id, "times.json"), TrialTimes)
        if result is None or times is None:
            raise RuntimeError(f"trial {trial.id} is finished, but its result or its times are not in storage")
        keys = self.storage.list(trial_key(trial.id, "selections"))
        files = {f"selections/{key.rsplit('/', 1)[1]}": key for key in keys}
        files["result.json"] = trial_key(trial.id, "result.json")
        return result, times, files

    def failed(self, trial: PlannedTrial, failure: TrialError) -> None:
        self.tracker.trial_failed(failure)

    def stopped(self, trial: PlannedTrial, stopped: StoppedTrial) -> None:
        self.tracker.trial_stopped(stopped)

    def note(self, text: str) -> None:
        pass
