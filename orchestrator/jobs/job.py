"""A sweep's job on a cluster, and how it is found: by its own id, or by the sweep's name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestrator.errors import UserError

RUNNING = ("PENDING", "RUNNING")
_ID = re.compile(r"medoid-(?P<sweep>.+)-(?P<sweep_id>[0-9a-f]{8})-(?P<number>[1-9][0-9]*)")


class JobError(UserError):
    """A job that is not there, or not in a state for what was asked."""


@dataclass(frozen=True)
class Job:
    """One submission of a sweep. All that Ray knows of it, and what was noted when it was sent."""

    id: str
    sweep: str
    sweep_id: str
    number: int  # counts the submissions of this sweep from 1
    state: str  # Ray's: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED
    message: str
    submitted: datetime | None
    ended: datetime | None
    storage: str  # the sweep's folder
    spec_hash: str  # of the sweep as it was sent
    trials: int
    medoid: str  # version and commit that were sent

    @property
    def running(self) -> bool:
        """Whether it runs, or is about to."""
        return self.state in RUNNING

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `--json`."""
        times = {
            name: moment and moment.isoformat()
            for name, moment in (("submitted", self.submitted), ("ended", self.ended))
        }
        return {**vars(self), **times}


def job_id(unique_name: str, number: int) -> str:
    """The id of a sweep's n-th job. Ray takes an id once: of two that submit a sweep at one moment, one is refused."""
    return f"medoid-{unique_name}-{number}"


def read_jobs(details: Sequence[Any]) -> list[Job]:
    """The jobs that medoid has sent, of all that Ray lists (JobDetails); the latest first."""
    found = [job for detail in details if (job := _read(detail)) is not None]
    return sorted(found, key=lambda job: (job.submitted or datetime.max.replace(tzinfo=UTC), job.number), reverse=True)


def find_job(jobs: Sequence[Job], wanted: str) -> Job:
    """A job by its id, or the latest of the sweep of this name. Raises JobError where that is none, or not only one.

    Sweeps that share a name but not a folder are different sweeps: then only the id says which is meant.
    """
    for job in jobs:
        if job.id == wanted:
            return job
    named = [job for job in jobs if job.sweep == wanted]
    if not named:
        known = ", ".join(dict.fromkeys(job.sweep for job in jobs)) or "none"
        raise JobError(f"no job or sweep {wanted!r} on this cluster; sweeps there: {known} (medoid list)")
    latest = {job.sweep_id: job for job in reversed(named)}
    if len(latest) > 1:
        which = "; ".join(f"{job.id} ({job.storage})" for job in latest.values())
        raise JobError(f"{len(latest)} sweeps are called {wanted!r}; name a job: {which}")
    return named[0]


def _read(detail: Any) -> Job | None:
    parts = _ID.fullmatch(detail.submission_id or "")
    noted = detail.metadata or {}
    if parts is None or "medoid.storage" not in noted:
        return None
    return Job(
        id=detail.submission_id,
        sweep=parts["sweep"],
        sweep_id=parts["sweep_id"],
        number=int(parts["number"]),
        state=str(detail.status.value),
        message=detail.message or "",
        submitted=_moment(detail.start_time),
        ended=_moment(detail.end_time),
        storage=noted["medoid.storage"],
        spec_hash=noted.get("medoid.spec_hash", ""),
        trials=int(noted.get("medoid.trials", 0)),
        medoid=noted.get("medoid.version", ""),
    )


def _moment(milliseconds: int | None) -> datetime | None:
    return None if not milliseconds else datetime.fromtimestamp(milliseconds / 1000, UTC)
