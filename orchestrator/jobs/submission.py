"""Sending a sweep to a cluster, once."""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from orchestrator.jobs.head import Head, IdTakenError
from orchestrator.jobs.job import Job, JobError, find_job, job_id
from orchestrator.jobs.shipping import SPEC, pack
from orchestrator.preparation import sweep_storage
from orchestrator.report.results import Results, read_results, stopping
from specs import SCIENCE_VERSION, SweepSpec, expand
from workers.commits import commit
from workers.naming import sweep_id, unique_name
from workers.records import SWEEP_KEY, SweepRecord, load_record
from workers.storage import StorageError

COMMAND = f"exec python3 -m orchestrator.cli run {SPEC} --address auto"  # exec: signals reach the driver itself
STOPPING_SECONDS = 120  # that a driver has to store what it knows after SIGTERM; Ray's own 3 are too few


@dataclass(frozen=True)
class Finished:
    """A sweep that has nothing left to run: its results where they can be read from here, and its last job."""

    results: Results | None
    job: Job | None


def submit(sweep: SweepSpec, head: Head, *, again: bool = False) -> Job | Finished:
    """Send a sweep to a cluster; Finished where there is nothing to run (`again`: send it all the same).

    Its places must mean something there (`check_places`). Raises JobError where the sweep runs there already.
    """
    storage = sweep_storage(sweep).uri
    earlier = [job for job in head.listed() if (job.sweep, job.sweep_id) == (sweep.name, sweep_id(storage))]
    _refuse_running(earlier)
    if not again and (finished := _finished(sweep, earlier)) is not None:
        return finished
    identity = job_id(unique_name(storage), 1 + max((job.number for job in earlier), default=0))
    noted = {
        "medoid.storage": storage,
        "medoid.spec_hash": spec_hash(sweep),
        "medoid.trials": str(len(expand(sweep))),
        "medoid.version": f"{version('medoid')} {commit()}".strip(),
    }
    settings = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOPPING_SECONDS), "MEDOID_JOB": identity, "COLUMNS": "120"}
    with tempfile.TemporaryDirectory(prefix=f"medoid-{sweep.name}-") as folder:
        pack(sweep, Path(folder))
        try:
            head.submit(identity, COMMAND, Path(folder), settings, noted)
        except IdTakenError:
            _refuse_running([find_job(head.listed(), identity)])
            raise JobError(f"{sweep.name} was submitted by another at this moment, and has ended; try again") from None
    return find_job(head.listed(), identity)


def spec_hash(sweep: SweepSpec) -> str:
    """16 hexadecimal digits of all that decides what a sweep runs."""
    trials = sorted(trial.hash for trial in expand(sweep))
    return hashlib.sha256(f"{SCIENCE_VERSION} {trials} {sweep.sweep.asha}".encode()).hexdigest()[:16]


def _refuse_running(earlier: Sequence[Job]) -> None:
    for job in earlier:
        if job.running:
            raise JobError(
                f"{job.sweep} runs on this cluster already, as job {job.id} ({job.state.lower()}); follow it with "
                f"medoid logs -f, or stop it first with medoid stop {job.id}"
            )


def _finished(sweep: SweepSpec, earlier: Sequence[Job]) -> Finished | None:
    """By the results, where they can be read from here; else by how the last job ended."""
    last = earlier[0] if earlier else None
    results = _stored(sweep)
    if results is not None:
        # what another rule has stopped goes on
        states = ("finished", "stopped") if stopping(results.sweep) == sweep.sweep.asha else ("finished",)
        ended = {outcome.entry.spec_hash for outcome in results.outcomes if outcome.state in states}
        return Finished(results, last) if all(trial.hash in ended for trial in expand(sweep)) else None
    if last is not None and last.state == "SUCCEEDED" and last.spec_hash == spec_hash(sweep):
        return Finished(None, last)
    return None


def _stored(sweep: SweepSpec) -> Results | None:
    storage = sweep_storage(sweep)
    try:
        record = load_record(storage, SWEEP_KEY, SweepRecord)
        return None if record is None else read_results(storage, record)
    except StorageError:
        return None  # out of reach from here, as a cluster's disks usually are
