"""What is told of a running sweep, and to whom."""

from typing import Protocol

from orchestrator.preparation import PlannedTrial
from workers.records import EpochRecord, EpochTimes, StoppedTrial, TrialError


class Watcher(Protocol):
    """Told of everything that happens, in the driver's main thread; must not wait for anything."""

    def started(self, trial: PlannedTrial) -> None:
        """A trial begins, or goes on from a checkpoint."""
        ...

    def epoch(self, trial: PlannedTrial, record: EpochRecord, times: EpochTimes) -> None:
        """An epoch is over. After a crash, epochs since the last checkpoint come again."""
        ...

    def finished(self, trial: PlannedTrial) -> None:
        """A trial's result is stored."""
        ...

    def failed(self, trial: PlannedTrial, failure: TrialError) -> None:
        """A trial failed; why is stored."""
        ...

    def stopped(self, trial: PlannedTrial, stopped: StoppedTrial) -> None:
        """ASHA stopped a trial."""
        ...

    def note(self, text: str) -> None:
        """Something the user should know."""
        ...


class Watchers:
    """Several watchers as one; without any, a base for one that heeds only some of it."""

    def __init__(self, *watchers: Watcher):
        self.watchers = watchers

    def started(self, trial: PlannedTrial) -> None:
        for watcher in self.watchers:
            watcher.started(trial)

    def epoch(self, trial: PlannedTrial, record: EpochRecord, times: EpochTimes) -> None:
        for watcher in self.watchers:
            watcher.epoch(trial, record, times)

    def finished(self, trial: PlannedTrial) -> None:
        for watcher in self.watchers:
            watcher.finished(trial)

    def failed(self, trial: PlannedTrial, failure: TrialError) -> None:
        for watcher in self.watchers:
            watcher.failed(trial, failure)

    def stopped(self, trial: PlannedTrial, stopped: StoppedTrial) -> None:
        for watcher in self.watchers:
            watcher.stopped(trial, stopped)

    def note(self, text: str) -> None:
        for watcher in self.watchers:
            watcher.note(text)
