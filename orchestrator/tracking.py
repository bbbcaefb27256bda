"""Keeps MLflow informed of a sweep, without ever holding it up.

What is to be told goes into a journal on disk first; one thread carries it into MLflow. So a store that is away means
a delay, a killed process loses nothing that was told, and what is left over goes out with the sweep's next run.
"""

import logging
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from orchestrator.mlflow_runs import MlflowRuns, StoreAwayError
from orchestrator.spool import Spool
from orchestrator.state import artifact_home, state_folder, tracking_store
from orchestrator.tracked import (
    ENTRY,
    Begin,
    End,
    Points,
    Status,
    TrackedTrial,
    epoch_point,
    machine_tags,
    milliseconds,
    selection_point,
    trial_begin,
)
from orchestrator.tracking_access import AccessError
from orchestrator.tracking_uri import TrackingError
from specs.resources import Tracking
from workers.records import (
    EpochRecord,
    EpochTimes,
    SelectionRecord,
    StoppedTrial,
    SweepRecord,
    TrialError,
    TrialResult,
    TrialTimes,
)
from workers.storage import Storage

logger = logging.getLogger(__name__)

BATCH = 2000  # entries at a time
LINGER = 3.0  # seconds in which entries gather: a write costs 30 ms and more, however little is written
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between attempts while the store is away


class Tracker:
    """Tells MLflow of one sweep: a parent run, and a child run for each trial.

    Methods return once the journal has the news; none waits for MLflow or fails because of it. Telling the same
    again does no harm, so a run that goes on (or is told of after the fact, from its records) ends up whole.
    Used from one thread, by the one process that runs the sweep. The sweep's own run ends as KILLED, and with it
    the trials under way, unless `sweep_finished` is called before `close`.
    """

    def __init__(self, storage: Storage, tracking: Tracking, sweep: SweepRecord, trials: Iterable[TrackedTrial]):
        """Open the journal, which lies on this machine, and start sending what is in it.

        `storage` is the sweep's; `trials` are all of the sweep's, finished ones too.
        Raises TrackingError for a URI that no store can have and for a server that does not let us in, OSError where
        the journal cannot be written.
        """
        self.uri = tracking_store(storage, tracking)
        self._trials = {trial.entry.id: trial for trial in trials}
        self._begun: set[str] = set()
        self._under_way: set[str] = set()
        self._finished = self._abandoned = False
        self._runs = MlflowRuns(
            uri=self.uri,
            experiment=tracking.experiment or sweep.name,
            sweep_id=_identity(storage),
            storage=storage,
            artifacts=artifact_home(storage, self.uri),
        )
        if self.uri.startswith(("http://", "https://")):
            self._check_access()
        self._spool = Spool(state_folder(storage) / "tracking" / "spool.jsonl", ENTRY)
        self._wake, self._closing = threading.Event(), threading.Event()
        tags = {"sweep": sweep.name, "trials": str(len(sweep.trials)), "mlflow.note.content": sweep.description}
        self._tell(Begin(trial=None, at=milliseconds(time.time()), name=sweep.name, tags=tags))
        self._thread = threading.Thread(target=self._send, name="mlflow", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pending(self) -> int:
        """Entries of the journal that MLflow does not have yet."""
        return self._spool.pending

    def trial_started(self, trial_id: str) -> None:
        """A trial starts or goes on; what an earlier attempt said of its end is void."""
        self._begun.discard(trial_id)
        self._begin(trial_id, time.time())
        self._under_way.add(trial_id)

    def epoch(
        self, trial_id: str, record: EpochRecord, times: EpochTimes, selections: Sequence[SelectionRecord] = ()
    ) -> None:
        """An epoch is done; `selections` are those it was the first to use."""
        self._begin(trial_id, time.time())
        points = [epoch_point(record, times), *(selection_point(chosen, times) for chosen in selections)]
        self._tell(Points(trial=trial_id, points=tuple(points)))

    def trial_finished(self, result: TrialResult, times: TrialTimes, files: Mapping[str, str] | None = None) -> None:
        """A trial has its result, now or long since. Adds the epochs and selections that MLflow has not heard of.

        `files` (names, and keys in storage) become artifacts; they are read when MLflow takes them. Raises ValueError
        where `times` lacks an epoch of the result.
        """
        by_epoch = {spent.epoch: spent for spent in times.epochs}
        missing = [record.epoch for record in result.epochs if record.epoch not in by_epoch]
        if missing or not result.epochs:
            raise ValueError(f"times of trial {result.trial_id}: no times of epochs {missing or 'at all'}")
        first, last = (by_epoch[result.epochs[place].epoch] for place in (0, -1))
        began = first.finished_at - first.training_time
        self._begin(result.trial_id, began)
        points = [epoch_point(record, by_epoch[record.epoch]) for record in result.epochs]
        points += [selection_point(chosen, by_epoch[chosen.used_from + 1]) for chosen in result.selections]
        self._end(
            End(
                trial=result.trial_id,
                # by the clock that it began by, which may not be that of the node that trained it
                at=milliseconds(time.time() if result.trial_id in self._under_way else max(began, last.finished_at)),
                status="FINISHED",
                tags=machine_tags(times),
                points=tuple(points),
                files=dict(files or {}),
            )
        )

    def trial_failed(self, error: TrialError) -> None:
        """A trial has failed."""
        self._begin(error.trial_id, time.time())
        self._end_now(error.trial_id, "FAILED", {"error": f"epoch {error.epoch}: {error.error}"})

    def trial_stopped(self, stopped: StoppedTrial) -> None:
        """ASHA has stopped a trial."""
        self._begin(stopped.trial_id, time.time())
        self._end_now(stopped.trial_id, "KILLED", {"stopped_at_epoch": str(stopped.epoch)})

    def sweep_finished(self, files: Iterable[str] = (), failed: bool = False) -> None:
        """Nothing is left to do in the sweep, unless trials failed. The files of these keys become artifacts of the
        sweep's own run."""
        self._finished = True
        status: Status = "FAILED" if failed else "FINISHED"
        self._end(End(trial=None, at=milliseconds(time.time()), status=status, files={key: key for key in files}))

    def abandon(self) -> None:
        """Tell nothing more: another driver has the sweep, and tells what becomes of it."""
        self._abandoned = True
        self._finished = True
        self.close()

    def close(self, timeout: float = 30.0) -> int:
        """Send what is left, for at most `timeout` seconds; how many entries stay in the journal, unsent.

        A store that is away gets one more attempt. May be called again, to no effect.
        """
        if not self._closing.is_set():
            if not self._finished:
                for trial in sorted(self._under_way):
                    self._end_now(trial, "KILLED")
                self._end_now(None, "KILLED")
            self._closing.set()
            self._wake.set()
            self._thread.join(timeout)
            self._spool.close()
            if self.pending and not self._abandoned:
                logger.warning(
                    "MLflow at %s has not got everything: %d entries stay in %s and go out with the next run",
                    self.uri,
                    self.pending,
                    self._spool.path,
                )
        return self.pending

    def _check_access(self) -> None:
        """A wrong password would be noticed by nobody until the sweep is over."""
        try:
            self._runs.check_access()
        except AccessError as error:
            raise TrackingError(f"tracking.uri = {self.uri!r}: {error}") from None

    def _begin(self, trial_id: str, at: float) -> None:
        if trial_id not in self._begun:
            self._begun.add(trial_id)
            self._tell(trial_begin(self._trials[trial_id], at))

    def _end_now(self, trial: str | None, status: Status, tags: Mapping[str, str] | None = None) -> None:
        self._end(End(trial=trial, at=milliseconds(time.time()), status=status, tags=dict(tags or {})))

    def _end(self, end: End) -> None:
        if end.trial is not None:
            self._under_way.discard(end.trial)
        self._tell(end)

    def _tell(self, entry: Begin | Points | End) -> None:
        self._spool.append(entry)
        self._wake.set()

    def _send(self) -> None:
        """The thread: carry the journal into MLflow until closed."""
        pause, away_since = FIRST_PAUSE, 0.0
        while True:
            last = self._closing.is_set()  # asked first: what was told before closing gets one more attempt
            if self._abandoned:
                return
            entries = self._spool.peek(BATCH)
            if not entries:
                if last:
                    return
                self._wake.wait()
                self._wake.clear()
                self._closing.wait(LINGER)
                continue
            try:
                self._runs.write(entries)
            except (StoreAwayError, AccessError) as error:
                if not away_since:
                    away_since = time.monotonic()
                    logger.warning(
                        "MLflow at %s does not %s; the sweep goes on, its metrics wait in %s: %s",
                        self.uri,
                        "let us in" if isinstance(error, AccessError) else "answer",
                        self._spool.path,
                        error,
                    )
                if last:
                    return
                self._closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if away_since:
                logger.info("MLflow is back after %.0f s", time.monotonic() - away_since)
                pause, away_since = FIRST_PAUSE, 0.0
            self._spool.acknowledge(len(entries))


def _identity(storage: Storage) -> str:
    """The id that ties a sweep's folder to its runs: MLflow may hold other sweeps of the same name."""
    key = "tracking/sweep_id"
    try:
        return storage.read(key).decode().strip()
    except FileNotFoundError:
        storage.write(key, f"{uuid.uuid4().hex}\n".encode())
        return storage.read(key).decode().strip()
