"""What the trials of a sweep left in storage: results, times, and why a result is missing."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from orchestrator.ahead import read_ahead
from specs.experiment import Asha
from workers.records import (
    Record,
    StoppedTrial,
    SweepRecord,
    TrialEntry,
    TrialError,
    TrialResult,
    TrialTimes,
    load_record,
    trial_key,
)
from workers.storage import Storage, StorageError

State = Literal["finished", "failed", "stopped", "unfinished"]
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Outcome:
    """How one trial ended. `result` is there if, and only if, `state` is finished; then `reason` is empty."""

    entry: TrialEntry
    state: State
    result: TrialResult | None = None
    times: TrialTimes | None = None
    reason: str = ""


@dataclass(frozen=True)
class Results:
    """A sweep and the outcomes of its trials, in the sweep's order."""

    sweep: SweepRecord
    outcomes: tuple[Outcome, ...]

    def missing(self) -> tuple[Outcome, ...]:
        """Trials without a result."""
        return tuple(outcome for outcome in self.outcomes if outcome.result is None)

    def states(self) -> list[State]:
        """How each trial ended."""
        return [outcome.state for outcome in self.outcomes]

    def stopped(self) -> int:
        """How many trials ASHA stopped."""
        return sum(outcome.state == "stopped" for outcome in self.outcomes)


def read_results(storage: Storage, sweep: SweepRecord) -> Results:
    """Read every trial of a sweep. Raises StorageError naming a file that is not what it should be."""
    asha = stopping(sweep)
    rule = asha.model_dump(mode="json") if asha else None
    return Results(sweep, tuple(read_ahead(partial(_outcome, storage, rule), sweep.trials)))


def stopping(sweep: SweepRecord) -> Asha | None:
    """By which rule the sweep's trials are stopped early."""
    found = sweep.spec.get("sweep", {}).get("asha")
    return Asha.model_validate(found) if found else None


def _outcome(storage: Storage, rule: dict[str, Any] | None, entry: TrialEntry) -> Outcome:
    """`rule`: by which ASHA stops trials of the sweep; what another rule has stopped goes on in the next run."""
    times = _load(storage, trial_key(entry.id, "times.json"), TrialTimes)
    result = _load(storage, trial_key(entry.id, "result.json"), TrialResult)
    if result is not None:
        return Outcome(entry, "finished", result, times)
    stopped = _load(storage, trial_key(entry.id, "stopped.json"), StoppedTrial) if rule else None
    if stopped is not None and stopped.asha == rule:
        return Outcome(entry, "stopped", None, times, f"by ASHA after epoch {stopped.epoch}")
    failure = _load(storage, trial_key(entry.id, "error.json"), TrialError)
    if failure is not None:
        return Outcome(entry, "failed", None, times, f"in epoch {failure.epoch}: {failure.error}")
    return Outcome(entry, "unfinished", None, times, "run the spec again to go on")


def _load(storage: Storage, key: str, kind: type[R]) -> R | None:
    try:
        return load_record(storage, key, kind)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the whole file"
        raise StorageError(
            f"{storage.uri}/{key} is not a {kind.__name__}: {place}: {first['msg']}; "
            "delete the file and run the spec again"
        ) from error
