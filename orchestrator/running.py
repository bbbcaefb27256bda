"""`medoid run`: prepare, run what is pending, report."""

import threading

from rich.console import Console

from orchestrator.interrupts import interrupt, sigterm_interrupts
from orchestrator.preparation import Library, PlannedTrial, Prepared, prepare, sweep_storage, write_sweep
from orchestrator.progress import show_progress
from orchestrator.report.paper_terminal import paper_tables
from orchestrator.report.results import read_results
from orchestrator.report.terminal import terminal_table
from orchestrator.state import tracking_store
from orchestrator.watching import Watchers
from specs import SweepSpec
from workers.naming import unique_name
from workers.records import TrialError
from workers.storage import FencedError, StorageError

_FLUSH_SECONDS = 60.0  # how long the end of a run waits for a slow MLflow server


def run_here(sweep: SweepSpec, console: Console, *, inline: bool, address: str | None) -> int:
    """Run a sweep on this machine, or on the cluster this node is in; returns how many trials failed.

    Holds the sweep's lock throughout: a second run of the same sweep is refused (SweepBusyError), and this one stops
    where another has taken over, after a network cut (FencedError).
    """
    library = Library()
    place = sweep_storage(sweep)
    if not inline:
        tracking_store(place, sweep.tracking)  # refused before anything is read
    taken = threading.Event()  # by another driver

    def lost() -> None:
        taken.set()
        interrupt()

    with place.sole_writer("lock", lost=lost) as storage:
        prepared = prepare(sweep, library, lambda text: console.print(text, style="dim"), storage)
        write_sweep(prepared)
        done = len(prepared.trials) - len(prepared.pending)
        finished = f", {done} already finished" if done else ""
        console.print(f"[bold]{sweep.name}[/bold]: {len(prepared.trials)} trials{finished}")
        failed = _inline(prepared, console) if inline else _on_ray(prepared, library, console, address, taken)
        try:
            storage.discard_unfinished()
        except FencedError:
            raise
        except StorageError as error:  # the sweep is whole without
            console.print(f"{error}; what killed processes left there takes room, and nothing else", style="yellow")
        return failed


def _inline(prepared: Prepared, console: Console) -> int:
    from orchestrator.inline import run_inline  # imports torch, which a refusal should not wait for

    failures = _Failures()
    with show_progress(console, prepared.pending) as display:
        run_inline(prepared, Watchers(display, failures))
    results = read_results(prepared.storage, prepared.record)
    console.print(terminal_table(results))
    if (beside := paper_tables(results)) is not None:
        console.print(beside)
    console.print(f"report: medoid report {_where(prepared)}", soft_wrap=True)
    return failures.count


def _on_ray(prepared: Prepared, library: Library, console: Console, address: str | None, taken: threading.Event) -> int:
    from orchestrator.cluster import configure
    from orchestrator.reporting import report_on
    from orchestrator.tracking import Tracker
    from orchestrator.tracking_watcher import TrackingWatcher

    configure()
    failures = _Failures()
    tracker = Tracker(prepared.storage, prepared.sweep.tracking, prepared.record, prepared.trials)
    with tracker:
        try:
            tracking = TrackingWatcher(tracker, prepared.storage)
            if prepared.pending:
                _train(prepared, Watchers(tracking, failures), console, address)
            tracking.finished_before(prepared)  # last, since training need not wait for it
            files = report_on(prepared, library, console)
        except BaseException as error:
            if taken.is_set() or isinstance(error, FencedError):
                tracker.abandon()
            raise
        tracker.sweep_finished(files, failed=bool(failures.count))
        unsent = tracker.close(_FLUSH_SECONDS)
    if unsent:
        console.print(f"MLflow could not be told everything; {unsent} entries go out with the next run", style="yellow")
    console.print(f"MLflow: medoid ui {_where(prepared)}", soft_wrap=True)
    return failures.count


def _where(prepared: Prepared) -> str:
    place = prepared.sweep.storage
    return f"{prepared.sweep.name} --storage {place.path}" + (f" --endpoint {place.endpoint}" if place.endpoint else "")


def _train(prepared: Prepared, watchers: Watchers, console: Console, address: str | None) -> None:
    console.print("starting Ray" if address is None else f"joining Ray at {address}", style="dim")
    from orchestrator.cluster import connect, disconnect
    from orchestrator.leftovers import end_cleaners, release_leftovers
    from orchestrator.sweep import run_sweep

    name = unique_name(prepared.storage.uri)
    connect(address, name)
    sigterm_interrupts()
    try:
        if address is not None:
            release_leftovers(name)
        with show_progress(console, prepared.pending) as display:
            run_sweep(prepared, Watchers(display, watchers))
        if address is not None and any(trial.spec.resources.workers > 1 for trial in prepared.pending):
            end_cleaners(name)
    finally:
        disconnect()


class _Failures(Watchers):
    """Counts the trials that failed."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def failed(self, trial: PlannedTrial, failure: TrialError) -> None:
        self.count += 1
