"""Writes a sweep's runs into an MLflow store, as often as one likes with the same outcome."""

import getpass
import importlib
import itertools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.tracked import WITNESS, Begin, End, Point, Points, Series
from orchestrator.tracking_access import access_error
from workers.naming import unique_name
from workers.scratch import scratch
from workers.storage import LocalStorage, Storage

logger = logging.getLogger(__name__)

SWEEP_TAG, TRIAL_TAG, COMPLETE_TAG = "medoid.sweep_id", "trial_id", "medoid.complete"
PARENT_TAG = "mlflow.parentRunId"
OUTCOME_TAGS = ("error", "stopped_at_epoch")  # of an earlier attempt; void once the trial goes on

# What mlflow 3.17.2's validation allows in one log_batch.
METRICS_PER_BATCH, PARAMS_PER_BATCH, TAG_LENGTH = 1000, 100, 8000

CONNECTIONS = 4  # requests to a server at a time, as many as MLflow's has processes

# The store has answered, and will give the same answer again: every other error may pass.
REFUSALS = frozenset(
    {"BAD_REQUEST", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"}
)

# MLflow's own retries would hold up everything for minutes; an outage is for the journal to bridge. The rest
# keeps the client from printing, and from phoning home.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class StoreAwayError(RuntimeError):
    """The store cannot be reached now, or is out of order."""


@dataclass
class _Run:
    """What is known of a run in the store."""

    id: str
    status: str
    tags: dict[str, str]
    steps: dict[Series, set[int]] | None = None  # the points it has; None: not asked yet

    @property
    def complete(self) -> bool:
        return COMPLETE_TAG in self.tags


@dataclass
class MlflowRuns:
    """The runs of one sweep: a parent, and a child for each trial.

    Nothing is remembered here that the store does not know: runs are found by their tags, points by their steps.
    So entries may come twice, and a run may be continued by another process. Not thread-safe; one writer a sweep.
    """

    uri: str
    experiment: str
    sweep_id: str
    storage: Storage  # holds the files that become artifacts
    artifacts: str | None  # artifact location of a new experiment
    _client: Any = None
    _parent: _Run | None = None
    _children: dict[str, _Run] = field(default_factory=dict)
    _begins: dict[str | None, Begin] = field(default_factory=dict)
    _experiment_id: str = ""

    def write(self, entries: Sequence[Begin | Points | End]) -> None:
        """Write entries, in order for each run; what the store will never take is left out with a warning.

        Raises StoreAwayError where the store does not answer, AccessError where it does not let us in; then all
        entries have to come again.
        """
        try:
            if self._client is None:
                self._client = self._connected()
                self._look_up()
            self._write_all(merged(entries))
        except Exception as error:
            self._client = None
            raise access_error(error) or StoreAwayError(_one_line(error)) from error

    def check_access(self) -> None:
        """Ask the store for next to nothing. Raises AccessError where it does not let us in.

        Waits for the answer, 10 s at most; a store that gives none is no error, it may be back any time.
        """
        try:
            self._connected().search_experiments(max_results=1)
        except Exception as error:  # noqa: BLE001 - what is no refusal may pass, whatever it is
            refusal = access_error(error)
            if refusal is not None:
                raise refusal from None
            logger.info("MLflow at %s does not answer yet: %s", self.uri, _one_line(error))

    def _connected(self) -> Any:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        mlflow = importlib.import_module("mlflow")  # takes seconds, hence not at import of this module
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        # What fails on a disk that is full or read-only is logged with its trace; the error comes here, too.
        for library in ("mlflow.store.db.utils", "sqlalchemy.pool"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        return mlflow.MlflowClient(tracking_uri=self.uri)

    def _look_up(self) -> None:
        """Ask the store anew which runs it has.

        A server that answered too late may have made a run that was then made again: one of them is kept.
        """
        there = self._client.get_experiment_by_name(self.experiment)
        self._experiment_id = (
            there.experiment_id
            if there
            else self._client.create_experiment(self.experiment, artifact_location=self.artifacts)
        )
        self._parent, self._children = None, {}
        for found in self._search(f"tags.`{SWEEP_TAG}` = '{self.sweep_id}'"):
            run = _Run(found.info.run_id, found.info.status, dict(found.data.tags))
            trial = run.tags.get(TRIAL_TAG)
            known = self._parent if trial is None else self._children.get(trial)
            if known is not None:
                twin, run = sorted((known, run), key=lambda one: (one.complete, one.status == "FINISHED"))
                self._client.delete_run(twin.id)
            if trial is None:
                self._parent = run
            else:
                self._children[trial] = run

    def _search(self, condition: str) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_runs([self._experiment_id], condition, max_results=500, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _write_all(self, entries: Sequence[Begin | Points | End]) -> None:
        """The sweep's own entries in their places among the others; trials beside each other."""
        trials: dict[str, list[Begin | Points | End]] = {}
        for entry in entries:
            if isinstance(entry, Begin):
                self._begins[entry.trial] = entry
            if entry.trial is None:
                self._write_trials(list(trials.values()))
                trials = {}
                self._write_or_refuse(entry)
            else:
                trials.setdefault(entry.trial, []).append(entry)
        self._write_trials(list(trials.values()))

    def _write_trials(self, trials: Sequence[Sequence[Begin | Points | End]]) -> None:
        """A server answers several requests at a time; an SQLite file takes one writer."""
        if len(trials) > 1 and not self.uri.startswith("sqlite:"):
            if self._parent is None and None in self._begins:
                self._run(None)  # once, before several look for it
            with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="mlflow") as connections:
                trials = list(connections.map(self._write_or_leave, trials))
        for entry in itertools.chain.from_iterable(trials):
            self._write_or_refuse(entry)

    def _write_or_leave(self, entries: Sequence[Begin | Points | End]) -> Sequence[Begin | Points | End]:
        """Write a trial's entries; those from the first on that the store refuses are left, and returned."""
        for place, entry in enumerate(entries):
            try:
                self._write(entry)
            except Exception as error:
                if not _refused(error):
                    raise
                return entries[place:]
        return ()

    def _write_or_refuse(self, entry: Begin | Points | End) -> None:
        try:
            try:
                self._write(entry)
            except Exception as error:
                if not _refused(error):
                    raise
                self._look_up()  # the run may have been deleted since, in MLflow's own page
                self._write(entry)
        except Exception as error:
            if not _refused(error):
                raise
            logger.warning("MLflow refused %s of %s: %s", entry.kind, entry.trial or "the sweep", _one_line(error))

    def _write(self, entry: Begin | Points | End) -> None:
        run = self._run(entry.trial)
        if run is None or run.complete:
            return
        if isinstance(entry, Begin):
            self._begin(run, entry)
        elif isinstance(entry, Points):
            self._log(run, entry.points)
        else:
            self._end(run, entry)

    def _run(self, trial: str | None) -> _Run | None:
        """The run of a trial, or the sweep's; created if it is not there."""
        run = self._parent if trial is None else self._children.get(trial)
        if run is None:
            begin = self._begins.get(trial)
            if begin is None:
                logger.warning("MLflow has no run of trial %s, which is not in the sweep any more: left out", trial)
                return None
            run = self._create(begin)
        parent = self._parent
        if trial is not None and parent and run.tags.get(PARENT_TAG) != parent.id:  # the parent was deleted
            self._client.set_tag(run.id, PARENT_TAG, parent.id)
            run.tags[PARENT_TAG] = parent.id
        return run

    def _create(self, begin: Begin) -> _Run:
        tags = {**begin.tags, SWEEP_TAG: self.sweep_id, "mlflow.source.name": "medoid", "mlflow.user": _user()}
        if begin.trial is not None:
            parent = self._run(None)
            assert parent is not None, "the sweep's own run begins first"
            tags[PARENT_TAG] = parent.id
        made = self._client.create_run(self._experiment_id, start_time=begin.at, tags=tags, run_name=begin.name)
        run = _Run(made.info.run_id, "RUNNING", tags, {"epoch": set(), "selection": set()})
        if begin.trial is None:
            self._parent = run
        else:
            self._children[begin.trial] = run
        return run

    def _begin(self, run: _Run, begin: Begin) -> None:
        if run.status != "RUNNING":
            self._client.update_run(run.id, status="RUNNING")
            run.status = "RUNNING"
        for tag in OUTCOME_TAGS:
            if run.tags.pop(tag, None) is not None:
                self._client.delete_tag(run.id, tag)
        changed = {key: value for key, value in begin.tags.items() if run.tags.get(key) != value}
        self._log(run, (), begin.params, changed)

    def _end(self, run: _Run, end: End) -> None:
        if end.trial is None:
            self._look_up()  # for twins
            run = self._run(None) or run
        self._log(run, end.points, tags=end.tags)
        uploaded = self._upload(run, end.files)
        self._client.set_terminated(run.id, status=end.status, end_time=end.at)
        run.status = end.status
        if uploaded and end.trial is not None and end.status == "FINISHED":
            self._log(run, (), tags={COMPLETE_TAG: "true"})

    def _log(
        self,
        run: _Run,
        points: Sequence[Point],
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        entities = importlib.import_module("mlflow.entities")
        settings = [entities.Param(key, value) for key, value in (params or {}).items()]
        for start in range(0, len(settings), PARAMS_PER_BATCH):
            self._client.log_batch(run.id, params=settings[start : start + PARAMS_PER_BATCH], synchronous=True)
        steps = self._steps(run) if points else {}
        for batch in _batches([point for point in points if point.step not in steps[point.series]]):
            metrics = [
                entities.Metric(key, value, point.at, point.step)
                for point in batch
                for key, value in point.values.items()
            ]
            self._client.log_batch(run.id, metrics=metrics, synchronous=True)
            for point in batch:
                steps[point.series].add(point.step)
        if tags:
            labels = [entities.RunTag(key, value[:TAG_LENGTH]) for key, value in tags.items()]
            self._client.log_batch(run.id, tags=labels, synchronous=True)
            run.tags.update(tags)

    def _steps(self, run: _Run) -> dict[Series, set[int]]:
        """The points that a run has in the store: asked once, then kept up to date."""
        if run.steps is None:
            run.steps = {
                series: {value.step for value in self._client.get_metric_history(run.id, metric)}
                for series, metric in WITNESS.items()
            }
        return run.steps

    def _upload(self, run: _Run, files: Mapping[str, str]) -> bool:
        """Log artifacts; False, with a warning, where they cannot be kept though the store itself is there."""
        with scratch(f"artifacts-{unique_name(self.storage.uri)}") as folder:
            stage, gone = Path(folder, "files"), 0
            for name, key in files.items():
                try:
                    self._bring(key, stage / name)
                except FileNotFoundError:
                    gone += 1
                    logger.warning("%s/%s is gone: not logged to MLflow as %s", self.storage.uri, key, name)
            if gone == len(files):
                return True
            try:
                self._client.log_artifacts(run.id, str(stage))
            except Exception as error:  # noqa: BLE001 - every artifact store has errors of its own
                self._client.get_run(run.id)  # raises if it is the store that is away
                logger.warning("MLflow's artifact store took no files (the next run tries again): %s", _one_line(error))
                return False
        return True

    def _bring(self, key: str, place: Path) -> None:
        """Put a file where its artifact's name says, as a link where it lies on this machine."""
        place.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(self.storage, LocalStorage):
            place.write_bytes(self.storage.read(key))
        elif self.storage.exists(key):
            place.symlink_to(self.storage.path(key))
        else:
            raise FileNotFoundError(key)


def merged(entries: Sequence[Begin | Points | End]) -> list[Begin | Points | End]:
    """The same entries with fewer writes: points of a trial that nothing of that trial stands between are joined."""
    joined: list[Begin | End | list[Points]] = []
    places: dict[str | None, list[Points]] = {}
    for entry in entries:
        if not isinstance(entry, Points):
            places.pop(entry.trial, None)
            joined.append(entry)
        elif entry.trial in places:
            places[entry.trial].append(entry)
        else:
            places[entry.trial] = [entry]
            joined.append(places[entry.trial])
    return [
        Points(trial=group[0].trial, points=tuple(point for entry in group for point in entry.points))
        if isinstance(group, list)
        else group
        for group in joined
    ]


def _batches(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Points in batches that MLflow takes; a point is never split, so that a step is there whole or not at all."""
    seen: set[tuple[Series, int]] = set()
    batch: list[Point] = []
    size = 0
    for point in points:
        if (point.series, point.step) in seen:  # an epoch that was trained again after a crash
            continue
        seen.add((point.series, point.step))
        if size + len(point.values) > METRICS_PER_BATCH:
            yield batch
            batch, size = [], 0
        batch.append(point)
        size += len(point.values)
    if batch:
        yield batch


def _refused(error: Exception) -> bool:
    return getattr(error, "error_code", None) in REFUSALS


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return str(os.getuid())
