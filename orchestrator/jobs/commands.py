"""`medoid submit`, `list`, `status`, `logs` and `stop`: what they do, and what they show."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.jobs.head import Head
from orchestrator.jobs.job import Job, JobError, find_job
from orchestrator.jobs.places import check_places
from orchestrator.jobs.submission import STOPPING_SECONDS, Finished, submit
from orchestrator.report.terminal import terminal_table
from specs import SweepSpec

_TAIL = 12  # lines of a log that `status` shows
_POLL = 0.5  # seconds between two looks at a job that is being stopped


def submit_sweep(sweep: SweepSpec, address: str, console: Console, *, again: bool, as_json: bool) -> None:
    """Send a sweep, and say how to follow it; of one that is finished, show its table.

    Raises SpecError for places that mean nothing there, before the cluster is asked anything.
    """
    check_places(sweep)
    head = Head(address)
    done = submit(sweep, head, again=again)
    if isinstance(done, Finished):
        _show_finished(sweep, done, head, console, as_json)
    elif as_json:
        _print_json(console, done.to_json())
    else:
        _line(console, f"submitted {done.sweep} ({done.trials} trials) as {done.id}")
        for what in ("logs -f", "status", "stop"):
            _line(console, f"  medoid {what} {done.id} --address {address}")


def list_jobs(address: str, console: Console, *, as_json: bool) -> None:
    """All jobs that medoid has sent to a cluster since it was started."""
    jobs = Head(address).listed()
    if as_json:
        _print_json(console, [job.to_json() for job in jobs])
        return
    table = Table()
    for column in ("job", "state", "trials", "submitted", "took", "storage"):
        table.add_column(column, overflow="fold")
    for job in jobs:
        table.add_row(
            job.id, job.state.lower(), str(job.trials), _moment(job.submitted), _took(job), escape(job.storage)
        )
    console.print(table if jobs else "no jobs of medoid on this cluster")


def show_status(wanted: str, address: str, console: Console, *, as_json: bool) -> None:
    """How a job stands, and the last that its driver said."""
    head = Head(address)
    job = find_job(head.listed(), wanted)
    tail = head.log(job.id).rstrip().splitlines()[-_TAIL:]
    if as_json:
        _print_json(console, {**job.to_json(), "log_tail": tail})
        return
    _line(console, f"{job.id}: {job.state.lower()}, submitted {_moment(job.submitted)}, {_took(job)}")
    _line(console, f"  {job.trials} trials, medoid {job.medoid}, results in {job.storage}")
    for line in tail or job.message.splitlines()[-_TAIL:]:
        _line(console, f"  | {line}")


def show_log(wanted: str, address: str, write: Callable[[str], None], *, follow: bool, as_json: bool) -> None:
    """What a job's driver has printed; with `follow` until it ends."""
    head = Head(address)
    job = find_job(head.listed(), wanted)
    pieces = head.follow(job.id) if follow else iter([head.log(job.id)])
    for piece in pieces:
        if not as_json:
            write(piece)
            continue
        for line in piece.splitlines():
            write(json.dumps({"job": job.id, "line": line}) + "\n")


def stop_job(wanted: str, address: str, console: Console, *, as_json: bool) -> None:
    """Stop a job, and wait until its driver has ended. What is finished stays; submitting again goes on."""
    head = Head(address)
    job = find_job(head.listed(), wanted)
    was_running = job.running
    if was_running:
        head.stop(job.id)
    deadline = time.monotonic() + STOPPING_SECONDS + 30
    while job.running:
        if time.monotonic() > deadline:
            raise JobError(f"{job.id} has not ended {STOPPING_SECONDS + 30} s after it was told to")
        time.sleep(_POLL)
        job = find_job(head.listed(), job.id)
    if as_json:
        _print_json(console, job.to_json())
    elif was_running:
        _line(console, f"{job.id}: {job.state.lower()}. Nothing finished is lost; submit {job.sweep} again to go on")
    else:
        _line(console, f"{job.id} was not running: {job.state.lower()}")


def _show_finished(sweep: SweepSpec, done: Finished, head: Head, console: Console, as_json: bool) -> None:
    if as_json:
        _print_json(console, {"finished": sweep.name, "job": done.job and done.job.to_json()})
        return
    by = f", by job {done.job.id}" if done.job else ""
    _line(console, f"{sweep.name} is finished{by}; nothing was submitted (--again submits it all the same)")
    if done.results is not None:
        console.print(terminal_table(done.results))
    elif done.job is not None:
        _line(console, _ending(head.log(done.job.id), sweep.name))


def _ending(log: str, name: str) -> str:
    """What a driver printed from its table on."""
    lines = log.rstrip().splitlines()
    starts = [at for at, line in enumerate(lines) if line.strip().startswith(f"{name}: ")]
    return "\n".join(lines[starts[-1] :] if starts else lines[-_TAIL:])


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_json(console: Console, data: object) -> None:
    _line(console, json.dumps(data, indent=2))


def _moment(moment: datetime | None) -> str:
    return "–" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _took(job: Job) -> str:
    if job.submitted is None:
        return "–"
    seconds = round(((job.ended or datetime.now(UTC)) - job.submitted).total_seconds())
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
