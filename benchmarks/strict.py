"""A watcher for sweeps that are measured: each of their trials must finish."""

from orchestrator.preparation import PlannedTrial
from orchestrator.watching import Watchers
from workers.records import StoppedTrial, TrialError


class Strict(Watchers):
    """Raises where a trial fails or is stopped."""

    def failed(self, trial: PlannedTrial, failure: TrialError) -> None:
        raise RuntimeError(failure.trace)

    def stopped(self, trial: PlannedTrial, stopped: StoppedTrial) -> None:
        raise RuntimeError(f"{trial.label} was stopped")

    def note(self, text: str) -> None:
        print(text)
