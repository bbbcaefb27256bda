"""Runs the pending trials of a sweep in this process, one after another: no Ray, no MLflow."""

from orchestrator.errors import UserError
from orchestrator.preparation import Prepared
from orchestrator.watching import Watcher
from workers.assignment import Assignment, record_failure, run


class InlineError(UserError):
    """A sweep that cannot run in one process."""


def run_inline(prepared: Prepared, watcher: Watcher) -> None:
    """Run every pending trial here; same storage, same results as on Ray. Raises InlineError before any work."""
    several = sorted({trial.spec.resources.workers for trial in prepared.pending} - {1})
    if several:
        raise InlineError(f"resources.workers = {several[0]}: one process has one worker; set resources.workers=1")
    if prepared.sweep.sweep.asha is not None:
        raise InlineError(
            "sweep.asha: early stopping compares trials that run side by side; leave --inline or asha out"
        )
    for trial in prepared.pending:
        assignment = Assignment(trial.id, trial.spec, prepared.storage)
        watcher.started(trial)
        reached = 0
        try:
            for epoch in run(assignment, notify=watcher.note):
                reached = epoch.record.epoch
                watcher.epoch(trial, epoch.record, epoch.times)
        except Exception as error:  # noqa: BLE001 - whatever a trial raises is its stored result
            watcher.failed(trial, record_failure(assignment, error, reached))
        else:
            watcher.finished(trial)
