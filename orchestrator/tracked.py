"""What MLflow is told about a sweep: its runs, their metrics, how they ended. Plain data that can wait on disk."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Protocol

from pydantic import ConfigDict, Field, TypeAdapter

from specs import TrialSpec, effective
from workers.records import EpochRecord, EpochTimes, Record, SelectionRecord, TrialEntry, TrialTimes

Series = Literal["epoch", "selection"]
WITNESS: dict[Series, str] = {"epoch": "train_loss", "selection": "selection/size"}
"""A metric that every point of a series has: where it is in the store, the point is."""

Status = Literal["FINISHED", "FAILED", "KILLED"]
SECONDS = ("train", "augmentation", "proxies", "selection", "stall", "evaluation", "background")


class Point(Record):
    """Metrics of one step."""

    series: Series
    step: int
    at: int  # milliseconds since 1970
    values: dict[str, float]


class Begin(Record):
    """A run begins or goes on. `trial` None: the sweep's own run, the parent of the others."""

    kind: Literal["begin"] = "begin"
    trial: str | None
    at: int
    name: str
    params: dict[str, str] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)


class Points(Record):
    """Metrics of a trial, on the way."""

    kind: Literal["points"] = "points"
    trial: str
    points: tuple[Point, ...]


class End(Record):
    """A run has ended. `points` are all of the run's: those that are in the store already are left out there."""

    kind: Literal["end"] = "end"
    trial: str | None
    at: int
    status: Status
    tags: dict[str, str] = Field(default_factory=dict)
    points: tuple[Point, ...] = ()
    files: dict[str, str] = Field(default_factory=dict)  # artifact's name: key in the sweep's storage


Entry = Annotated[Begin | Points | End, Field(discriminator="kind")]
# A metric may be NaN or infinite, and must still be so when it comes back from the journal.
ENTRY: TypeAdapter[Begin | Points | End] = TypeAdapter(Entry, config=ConfigDict(ser_json_inf_nan="constants"))


def milliseconds(seconds: float) -> int:
    """MLflow's unit of time."""
    return round(seconds * 1000)


class TrackedTrial(Protocol):
    """A trial as far as tracking is concerned."""

    @property
    def entry(self) -> TrialEntry: ...

    @property
    def spec(self) -> TrialSpec: ...

    @property
    def label(self) -> str:
        """Its name among the sweep's trials, such as `coreset 10% seed 0`."""
        ...


def trial_begin(trial: TrackedTrial, at: float) -> Begin:
    """A trial's run: the spec's fields that have an effect as parameters, what one groups by as tags."""
    entry, spec = trial.entry, trial.spec
    tags = {
        "trial_id": entry.id,
        "spec_hash": entry.spec_hash,
        "cell_hash": entry.cell_hash,
        "strategy": entry.strategy,
        "size": entry.size,
        "seed": str(entry.seed),
        "regime": spec.training.regime,
        "model": spec.model.name,
        "dataset": spec.dataset.name,
    }
    params = {key: value if isinstance(value, str) else json.dumps(value) for key, value in _flat(effective(spec))}
    tags = {key: value for key, value in tags.items() if value}
    return Begin(trial=entry.id, at=milliseconds(at), name=trial.label, params=params, tags=tags)


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def epoch_point(record: EpochRecord, times: EpochTimes) -> Point:
    """An epoch's metrics and what its time went into; its step is the epoch, counted from 1."""
    values = record.model_dump(exclude={"epoch"}, exclude_none=True)
    values |= {f"seconds/{name}": getattr(times, name) for name in SECONDS}
    values["seconds/training_time"] = times.training_time
    return Point(series="epoch", step=record.epoch, at=milliseconds(times.finished_at), values=values)


def selection_point(record: SelectionRecord, times: EpochTimes) -> Point:
    """A selection's metrics; its step counts the epochs done when it was asked for.

    `times` are of the first epoch that used it, which is when it is known.
    """
    values = record.model_dump(exclude={"epoch", "used_from", "strategy"}, exclude_none=True)
    values = {f"selection/{name}": value for name, value in values.items()}
    return Point(series="selection", step=record.epoch, at=milliseconds(times.finished_at), values=values)


def machine_tags(times: TrialTimes) -> dict[str, str]:
    """What a trial ran on."""
    versions = {f"version.{name}": version for name, version in times.versions.items()}
    tags = {"host": times.host, "hardware": times.hardware, "commit": times.commit, **versions}
    return {key: value for key, value in tags.items() if value}
