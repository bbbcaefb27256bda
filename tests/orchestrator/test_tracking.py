"""MLflow tracking, against real stores: SQLite, and MLflow's own server."""

import math
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.mlflow_runs import MlflowRuns, merged
from orchestrator.spool import Spool
from orchestrator.tracked import ENTRY, Begin, End, Point, Points, selection_point
from orchestrator.tracking import Tracker
from orchestrator.tracking_uri import TrackingError, artifact_location, store_uri
from orchestrator.ui import serve_ui
from specs import TrialSpec, cell_hash, spec_hash, trial_id
from specs.resources import Tracking
from workers.records import (
    DataRecord,
    EpochRecord,
    EpochTimes,
    SelectionRecord,
    StoppedTrial,
    SweepRecord,
    TrialEntry,
    TrialError,
    TrialResult,
    TrialTimes,
)
from workers.storage import LocalStorage

EPOCHS = 4


@dataclass(frozen=True)
class Planned:
    entry: TrialEntry
    spec: TrialSpec
    label: str


def plan(seed: int = 0) -> Planned:
    spec = TrialSpec.model_validate(
        {
            "seed": seed,
            "dataset": {"name": "digits", "label_noise": 0.5},
            "model": {"name": "small_cnn"},
            "augmentation": {"strong": [{"name": "cutout", "size": 2}]},
            "training": {"regime": "subset", "epochs": EPOCHS},
            "selection": {"strategy": "coreset", "fraction": 0.1, "every": 2},
        }
    )
    entry = TrialEntry(
        id=trial_id(spec, "data"),
        spec_hash=spec_hash(spec),
        cell_hash=cell_hash(spec),
        strategy="coreset",
        size="10%",
        seed=seed,
        point={},
    )
    return Planned(entry, spec, f"coreset 10% seed {seed}")


def epoch(number: int, loss: float | None = None) -> EpochRecord:
    return EpochRecord(
        epoch=number,
        train_loss=1 / number if loss is None else loss,
        learning_rate=0.1,
        views=200,
        augmented=100,
        test_accuracy=0.5 + number / 100,
        test_loss=None,
    )


def spent(number: int, at: float = 1_700_000_000) -> EpochTimes:
    return EpochTimes(
        epoch=number,
        train=0.5,
        augmentation=0.1,
        proxies=0.1,
        selection=0.2,
        stall=0.1,
        evaluation=0.3,
        finished_at=at + number,
    )


def chosen(done: int) -> SelectionRecord:
    return SelectionRecord(epoch=done, strategy="coreset", size=144, value=2.5, mislabelled=0.25)


def result(trial: Planned) -> TrialResult:
    return TrialResult(
        trial_id=trial.entry.id,
        spec_hash=trial.entry.spec_hash,
        cell_hash=trial.entry.cell_hash,
        spec=trial.spec,
        data=DataRecord(fingerprint="data", train=1437, test=360, classes=("0", "1"), image_shape=(8, 8, 1)),
        test_accuracy=0.54,
        epochs=tuple(epoch(number) for number in range(1, EPOCHS + 1)),
        selections=(chosen(0), chosen(2)),
    )


def times(trial: Planned) -> TrialTimes:
    return TrialTimes(
        trial_id=trial.entry.id,
        host="node1",
        hardware="2 cores",
        versions={"torch": "2.15.0"},
        commit="abc",
        concurrent=False,
        epochs=tuple(spent(number) for number in range(1, EPOCHS + 1)),
    )


def tracker(folder: Path, trials: list[Planned], uri: str | None = None) -> Tracker:
    sweep = SweepRecord(name="tiny", description="A sweep.", spec={}, trials=tuple(trial.entry for trial in trials))
    return Tracker(LocalStorage(folder), Tracking(uri=uri), sweep, trials)


class Store:
    """What a store holds, as its own client tells it."""

    def __init__(self, uri: str):
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)

    def runs(self) -> list[Any]:
        experiment = self.client.get_experiment_by_name("tiny")
        return list(self.client.search_runs([experiment.experiment_id], order_by=["start_time"]))

    def parents(self) -> list[Any]:
        return [run for run in self.runs() if "mlflow.parentRunId" not in run.data.tags]

    def children(self) -> dict[str, Any]:
        children = [run for run in self.runs() if "mlflow.parentRunId" in run.data.tags]
        assert len({run.data.tags["trial_id"] for run in children}) == len(children), "a trial has two runs"
        return {run.data.tags["trial_id"]: run for run in children}

    def steps(self, run: Any, metric: str) -> list[int]:
        return [value.step for value in self.client.get_metric_history(run.info.run_id, metric)]

    def files(self, run: Any, folder: str = "") -> list[str]:
        return [info.path for info in self.client.list_artifacts(run.info.run_id, folder)]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An SQLite store with its tables: making them takes seconds, copying them does not."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    Store(f"sqlite:///{path}").client.search_experiments()
    return path.read_bytes()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.tracking.LINGER", 0.02)


@pytest.fixture
def folder(tmp_path: Path, empty_store: bytes) -> Path:
    home = tmp_path / "tiny"
    (home / "tracking").mkdir(parents=True)
    (home / "tracking" / "mlflow.db").write_bytes(empty_store)
    return home


def stored(folder: Path) -> Store:
    return Store(store_uri(folder, Tracking()))


def journal(folder: Path) -> bytes:
    return (folder / "tracking" / "spool.jsonl").read_bytes()


def test_a_trial_that_was_finished_before_has_its_own_times(folder: Path) -> None:
    trials = [plan(0)]
    with tracker(folder, trials) as tracking:
        tracking.trial_finished(result(trials[0]), times(trials[0]))
    (run,) = stored(folder).children().values()
    assert run.info.start_time == (spent(1).finished_at - spent(1).training_time) * 1000
    assert run.info.end_time == spent(EPOCHS).finished_at * 1000


def test_sweep_is_one_parent_and_a_child_for_each_trial(folder: Path) -> None:
    trials = [plan(0), plan(1)]
    picks = folder / "trials" / "00000.npz"
    picks.parent.mkdir()
    picks.write_bytes(b"picks")
    (folder / "report").mkdir()
    (folder / "report" / "index.html").write_text("<p>")
    with tracker(folder, trials) as tracking:
        for trial in trials:
            tracking.trial_started(trial.entry.id)
            tracking.epoch(trial.entry.id, epoch(1), spent(1), [chosen(0)])
            tracking.trial_finished(result(trial), times(trial), {"selections/00000.npz": "trials/00000.npz"})
        tracking.sweep_finished(["report/index.html"])
        assert tracking.close() == 0
    store = stored(folder)
    (parent,) = store.parents()
    assert (parent.info.status, parent.data.tags["mlflow.note.content"]) == ("FINISHED", "A sweep.")
    assert store.files(parent, "report") == ["report/index.html"]
    assert len(store.children()) == 2
    for trial in trials:
        run = store.children()[trial.entry.id]
        assert run.info.status == "FINISHED"
        assert run.info.run_name == trial.label
        # by this clock: the node's, in the times of the epochs, may be another
        assert abs(run.info.end_time / 1000 - time.time()) < 100
        assert 0 <= run.info.end_time - run.info.start_time < 100_000
        assert run.data.params["selection.fraction"] == "0.1"
        assert run.data.params["augmentation.strong"] == '[{"name": "cutout", "size": 2}]'
        assert "evaluation.every" not in run.data.params, "has no effect on the result"
        expected = {"strategy": "coreset", "size": "10%", "seed": str(trial.entry.seed), "regime": "subset"}
        expected |= {"model": "small_cnn", "dataset": "digits", "cell_hash": trial.entry.cell_hash}
        expected |= {"spec_hash": trial.entry.spec_hash, "host": "node1", "mlflow.parentRunId": parent.info.run_id}
        assert expected.items() <= run.data.tags.items()
        assert store.steps(run, "train_loss") == [1, 2, 3, 4]
        assert store.steps(run, "selection/mislabelled") == [0, 2]
        assert run.data.metrics["test_accuracy"] == pytest.approx(0.54)
        assert run.data.metrics["seconds/training_time"] == pytest.approx(1.0)
        assert "test_loss" not in run.data.metrics, "was never measured"
        assert store.files(run, "selections") == ["selections/00000.npz"]
    assert journal(folder) == b"", "all is sent, so nothing stays"


def test_overlapped_selection_stands_at_its_request_and_is_dated_by_its_first_use() -> None:
    record = chosen(1).model_copy(update={"used_from": 3, "staleness": 6.5})
    point = selection_point(record, spent(4))
    assert (point.step, point.at) == (1, 1_700_000_004_000)
    assert point.values == {
        "selection/size": 144,
        "selection/value": 2.5,
        "selection/mislabelled": 0.25,
        "selection/staleness": 6.5,
    }


def test_overlapped_selection_of_a_finished_trial_is_dated_by_its_first_use(folder: Path) -> None:
    trial = plan()
    overlapped = result(trial).model_copy(update={"selections": (chosen(1).model_copy(update={"used_from": 3}),)})
    with tracker(folder, [trial]) as tracking:
        tracking.trial_finished(overlapped, times(trial))
        tracking.sweep_finished()
    store = stored(folder)
    run = store.children()[trial.entry.id]
    (metric,) = store.client.get_metric_history(run.info.run_id, "selection/size")
    assert (metric.step, metric.timestamp) == (1, 1_700_000_004_000)


def in_a_process_of_its_own(function: str, path: Path) -> int:
    """Call a function of this module on a path; the process's exit code."""
    code = (
        "import sys, pathlib; sys.path.append(sys.argv[1]); import test_tracking; "
        f"test_tracking.{function}(pathlib.Path(sys.argv[2]))"
    )
    return subprocess.run([sys.executable, "-c", code, Path(__file__).parent, path], check=False).returncode


def track_and_die(folder: Path) -> None:
    trial = plan()
    tracking = tracker(folder, [trial])
    tracking.trial_started(trial.entry.id)
    tracking.epoch(trial.entry.id, epoch(1), spent(1), [chosen(0)])
    wait_until_sent(tracking)
    tracking.epoch(trial.entry.id, epoch(2), spent(2))
    tracking.epoch(trial.entry.id, epoch(3), spent(3), [chosen(2)])
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_process_loses_nothing_and_the_next_doubles_nothing(folder: Path) -> None:
    """A real SIGKILL, with half of the journal sent and half a line at its end."""
    trial = plan()
    assert in_a_process_of_its_own("track_and_die", folder) == -signal.SIGKILL
    with (folder / "tracking" / "spool.jsonl").open("ab") as file:
        file.write(b'{"kind":"points","trial"')
    with tracker(folder, [trial]) as tracking:  # went on from a checkpoint after epoch 1, and lost epoch 3's message
        tracking.trial_started(trial.entry.id)
        tracking.epoch(trial.entry.id, epoch(2), spent(2, at=1_800_000_000))
        tracking.epoch(trial.entry.id, epoch(4), spent(4, at=1_800_000_000))
        tracking.trial_finished(result(trial), times(trial))
        tracking.sweep_finished()
        assert tracking.close() == 0
    store = stored(folder)
    assert len(store.parents()) == 1
    run = store.children()[trial.entry.id]
    assert run.info.status == "FINISHED"
    assert store.steps(run, "train_loss") == [1, 2, 3, 4]
    assert store.steps(run, "selection/size") == [0, 2]


def test_who_was_replaced_says_nothing_of_how_trials_end(folder: Path) -> None:
    """The driver that took over has finished the trial meanwhile; both have the same journal on a shared disk."""
    trial = plan()
    replaced = tracker(folder, [trial])
    replaced.trial_started(trial.entry.id)
    replaced.epoch(trial.entry.id, epoch(1), spent(1))
    with tracker(folder, [trial]) as tracking:
        replaced.epoch(trial.entry.id, epoch(2), spent(2))  # it has not noticed yet
        tracking.trial_finished(result(trial), times(trial))
        tracking.sweep_finished()
        assert tracking.close() == 0
    replaced.abandon()
    store = stored(folder)
    assert store.children()[trial.entry.id].info.status == "FINISHED"
    assert [run.info.status for run in store.parents()] == ["FINISHED"]
    assert sorted(store.steps(store.children()[trial.entry.id], "train_loss")) == [1, 2, 3, 4]


def test_gap_left_by_a_lost_message_is_filled_at_the_end(folder: Path) -> None:
    trial = plan()
    with tracker(folder, [trial]) as tracking:
        tracking.trial_started(trial.entry.id)
        tracking.epoch(trial.entry.id, epoch(1), spent(1))
        tracking.epoch(trial.entry.id, epoch(4), spent(4))
    with tracker(folder, [trial]) as tracking:
        tracking.trial_finished(result(trial), times(trial))
        tracking.sweep_finished()
    assert sorted(stored(folder).steps(stored(folder).children()[trial.entry.id], "train_loss")) == [1, 2, 3, 4]


def test_same_sweep_again_is_the_same_runs(folder: Path) -> None:
    trial, later = plan(0), plan(1)
    seen = []
    for trials in ([trial], [trial], [trial, later]):
        with tracker(folder, trials) as tracking:
            for each in trials:
                tracking.trial_finished(result(each), times(each))
            tracking.sweep_finished()
        store = stored(folder)
        run = store.children()[trial.entry.id]
        seen.append((store.parents()[0].info.run_id, run.info.run_id, store.steps(run, "train_loss")))
    assert seen == [seen[0]] * 3
    assert store.children().keys() == {trial.entry.id, later.entry.id}


def test_journal_that_comes_twice_leaves_the_store_as_it_was(folder: Path) -> None:
    """The thread acknowledges after writing: killed in between, it writes the same entries again."""
    trial = plan()
    entries: list[Begin | Points | End] = [
        Begin(trial=None, at=1, name="tiny"),
        Begin(trial=trial.entry.id, at=2, name="a", tags={"trial_id": trial.entry.id}),
        Points(trial=trial.entry.id, points=(Point(series="epoch", step=1, at=3, values={"train_loss": math.nan}),)),
        Points(trial=trial.entry.id, points=(Point(series="epoch", step=2, at=4, values={"train_loss": math.inf}),)),
        End(trial=trial.entry.id, at=5, status="FAILED", tags={"error": "not finite"}),
        End(trial=None, at=6, status="FINISHED"),
    ]
    entries = [ENTRY.validate_json(ENTRY.dump_json(entry)) for entry in entries]  # NaN survives the journal
    for upto in (3, 4, len(entries)):
        runs = MlflowRuns(store_uri(folder, Tracking()), "tiny", "id", LocalStorage(folder), None)
        runs.write(entries[:upto])
    store = stored(folder)
    assert len(store.parents()) == 1
    run = store.children()[trial.entry.id]
    first, second = store.client.get_metric_history(run.info.run_id, "train_loss")
    assert math.isnan(first.value)
    assert second.value > 1e308
    assert run.info.status == "FAILED"


def test_interrupted_failed_and_stopped_trials_show_it_and_go_on_in_their_runs(folder: Path) -> None:
    trials = [plan(0), plan(1), plan(2)]
    interrupted, failed, stopped = (trial.entry.id for trial in trials)
    with tracker(folder, trials) as tracking:
        for trial in (interrupted, failed, stopped):
            tracking.trial_started(trial)
        tracking.trial_failed(TrialError(trial_id=failed, error="loss is nan", trace="", epoch=3))
        tracking.trial_stopped(StoppedTrial(trial_id=stopped, epoch=2, asha={}))
    store = stored(folder)
    before = store.children()
    assert store.parents()[0].info.status == "KILLED"
    assert [before[trial].info.status for trial in (interrupted, failed, stopped)] == ["KILLED", "FAILED", "KILLED"]
    assert before[failed].data.tags["error"] == "epoch 3: loss is nan"
    assert before[stopped].data.tags["stopped_at_epoch"] == "2"
    with tracker(folder, trials) as tracking:
        tracking.trial_started(failed)
        tracking.trial_finished(result(trials[1]), times(trials[1]))
    after = store.children()[failed]
    assert after.info.run_id == before[failed].info.run_id
    assert after.info.status == "FINISHED"
    assert "error" not in after.data.tags


def test_deleted_runs_are_logged_again(folder: Path) -> None:
    trial = plan()
    store = stored(folder)
    for _ in range(2):
        with tracker(folder, [trial]) as tracking:
            tracking.trial_finished(result(trial), times(trial))
            tracking.sweep_finished()
        run = store.children()[trial.entry.id]
        assert store.steps(run, "train_loss") == [1, 2, 3, 4]
        for gone in (run, *store.parents()):
            store.client.delete_run(gone.info.run_id)


def test_run_deleted_on_the_way_is_replaced(folder: Path) -> None:
    trial = plan()
    store = stored(folder)
    with tracker(folder, [trial]) as tracking:
        tracking.trial_started(trial.entry.id)
        wait_until_sent(tracking)
        store.client.delete_run(store.children()[trial.entry.id].info.run_id)
        tracking.trial_finished(result(trial), times(trial))
        tracking.sweep_finished()
    assert store.steps(store.children()[trial.entry.id], "train_loss") == [1, 2, 3, 4]


def test_of_a_run_that_a_slow_server_made_twice_one_is_kept(folder: Path) -> None:
    """Its client gave up waiting, and asked again."""
    trials = [plan(0), plan(1)]
    store = stored(folder)
    with tracker(folder, trials) as tracking:
        tracking.trial_started(trials[0].entry.id)
        tracking.trial_finished(result(trials[1]), times(trials[1]))
        wait_until_sent(tracking)
        for run in store.runs():
            store.client.create_run(run.info.experiment_id, tags=run.data.tags | {"medoid.complete": ""})
        tracking.trial_finished(result(trials[0]), times(trials[0]))
        tracking.sweep_finished()
    assert len(store.parents()) == 1
    for run in (*store.parents(), *store.children().values()):
        assert run.info.status == "FINISHED"
    for trial in trials:
        assert store.steps(store.children()[trial.entry.id], "train_loss") == [1, 2, 3, 4]


def test_refused_entry_is_named_and_does_not_hold_up_the_rest(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    runs = MlflowRuns(store_uri(folder, Tracking()), "tiny", "id", LocalStorage(folder), None)
    begin = Begin(trial="a", at=1, name="a", tags={"trial_id": "a"}, params={"x": "1"})
    other = Begin(trial="b", at=1, name="b", tags={"trial_id": "b"})
    changed = begin.model_copy(update={"params": {"x": "2"}})
    runs.write([Begin(trial=None, at=0, name="tiny"), begin, changed, other])
    assert "MLflow refused begin of a" in caplog.text
    assert stored(folder).children().keys() == {"a", "b"}


def test_files_that_cannot_be_kept_are_tried_again_by_the_next_run(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trial = plan()
    picks = folder / "picks.npz"
    picks.write_bytes(b"picks")
    blocked = folder / "tracking" / "artifacts"
    blocked.write_text("a file where a folder should be")
    for _ in range(2):
        with tracker(folder, [trial]) as tracking:
            tracking.trial_finished(result(trial), times(trial), {"picks.npz": "picks.npz"})
            tracking.sweep_finished(failed=True)
        store = stored(folder)
        run = store.children()[trial.entry.id]
        assert run.info.status == "FINISHED"
        if blocked.is_file():
            assert "took no files" in caplog.text
            blocked.unlink()
    assert store.files(run) == ["picks.npz"]
    assert store.parents()[0].info.status == "FAILED"
    assert store.steps(run, "train_loss") == [1, 2, 3, 4]


def test_times_that_lack_an_epoch_are_refused(folder: Path) -> None:
    trial = plan()
    short = times(trial).model_copy(update={"epochs": (spent(1),)})
    with tracker(folder, [trial]) as tracking, pytest.raises(ValueError, match=r"no times of epochs \[2, 3, 4\]"):
        tracking.trial_finished(result(trial), short)


def test_merged_joins_points_but_never_past_the_same_trials_end() -> None:
    def at(trial: str, step: int) -> Points:
        return Points(trial=trial, points=(Point(series="epoch", step=step, at=0, values={"train_loss": 1}),))

    end = End(trial="a", at=0, status="FAILED")
    joined = merged([at("a", 1), at("b", 1), at("a", 2), end, at("b", 2), at("a", 3)])
    shape = [(type(e).__name__, e.trial, [p.step for p in getattr(e, "points", ())]) for e in joined]
    assert shape == [("Points", "a", [1, 2]), ("Points", "b", [1, 2]), ("End", "a", []), ("Points", "a", [3])]


def test_spool_keeps_what_is_not_acknowledged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "spool.jsonl"
    entries = [Begin(trial=str(number), at=number, name="n") for number in range(3)]
    spool = Spool(path, ENTRY)
    for entry in entries:
        spool.append(entry)
    assert spool.peek(2) == entries[:2]
    spool.acknowledge(1)
    assert spool.pending == 2
    spool.close()
    spool.acknowledge(1)
    assert spool.pending == 2, "a closed spool may be another process's"
    path.write_bytes(path.read_bytes() + b"not an entry\n" + b'{"kind": "begin"')
    again = Spool(path, ENTRY)
    assert again.peek(9) == entries
    assert f"{path}:4: dropped a line that is not an entry" in caplog.text
    assert "never finished" in caplog.text
    again.append(entries[0])
    assert path.read_bytes().splitlines()[-1] == ENTRY.dump_json(entries[0])
    assert again.peek(9) == [*entries, entries[0]]
    again.acknowledge(4)
    assert path.read_bytes() == b""
    again.append(entries[1])
    again.close()
    assert Spool(path, ENTRY).peek(9) == [entries[1]]


def fill_the_disk(path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # the kernel then refuses writes as a full disk does
    spool = Spool(path, ENTRY)
    for number in range(3):
        spool.append(Begin(trial=None, at=number, name="n"))
    assert [entry.at for entry in spool.peek(9)] == [0, 1, 2]
    os._exit(0 if len(Spool(path, ENTRY).peek(9)) == 1 else 1)


def test_spool_keeps_entries_in_memory_when_the_disk_is_full(tmp_path: Path) -> None:
    assert in_a_process_of_its_own("fill_the_disk", tmp_path / "spool.jsonl") == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_server_that_goes_away_and_comes_back(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's own server, which `medoid ui` starts too: stopped in the middle of a sweep, then started again."""
    monkeypatch.setattr("orchestrator.tracking.LONGEST_PAUSE", 1.0)
    port = free_port()
    home, trial = tmp_path / "elsewhere", plan()
    home.mkdir()
    picks = home / "picks.npz"
    picks.write_bytes(b"picks")
    uri = f"http://127.0.0.1:{port}"
    with tracker(home, [trial], uri) as tracking:
        with serve_ui(store_uri(folder, Tracking()), port) as server:
            assert b"<html" in urllib.request.urlopen(server.url, timeout=10).read().lower()
            with pytest.raises(TrackingError, match=f"port {port} cannot be used"):
                serve_ui(store_uri(folder, Tracking()), port)
            tracking.trial_started(trial.entry.id)
            tracking.epoch(trial.entry.id, epoch(1, loss=math.nan), spent(1), [chosen(0)])
            wait_until_sent(tracking)
        started = time.monotonic()
        tracking.epoch(trial.entry.id, epoch(2), spent(2))
        assert time.monotonic() - started < 0.1, "an outage holds nothing up"
        while "does not answer" not in caplog.text:
            time.sleep(0.05)
        assert journal(home)
        with serve_ui(store_uri(folder, Tracking()), port):
            wait_until_sent(tracking)
            tracking.trial_finished(result(trial), times(trial), {"selections/00000.npz": "picks.npz"})
            tracking.sweep_finished()
            assert tracking.close() == 0
    store = stored(folder)
    run = store.children()[trial.entry.id]
    assert len(store.parents()) == 1
    assert run.info.status == "FINISHED"
    assert store.steps(run, "train_loss") == [1, 2, 3, 4]
    assert (folder / "tracking" / "artifacts").is_dir()
    assert list((folder / "tracking" / "artifacts").rglob("00000.npz"))


def wait_until_sent(tracking: Tracker) -> None:
    end = time.monotonic() + 30
    while tracking.pending:
        assert time.monotonic() < end, f"{tracking.pending} entries are not sent"
        time.sleep(0.02)


def test_server_that_is_never_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trial = plan()
    for expected in (4, 8):  # what the first run could not send waits for the second
        tracking = tracker(tmp_path, [trial], f"http://127.0.0.1:{free_port()}")
        tracking.trial_finished(result(trial), times(trial))
        tracking.sweep_finished()
        started = time.monotonic()
        assert tracking.close(timeout=20) == expected
        assert time.monotonic() - started < 15
    assert "does not answer" in caplog.text
    assert "8 entries stay in" in caplog.text


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("postgresql+nosuch://user@host/db", "nosuch; install the driver with pip install"),
        ("postgresql+asyncpg://user@host/db", "No module named 'asyncpg'; install the driver"),
    ],
)
def test_a_database_without_its_driver_is_refused_at_once(tmp_path: Path, uri: str, message: str) -> None:
    with pytest.raises(TrackingError, match=message):
        tracker(tmp_path, [plan()], uri)
    assert not list(tmp_path.iterdir()), "refused before anything was written"


def test_stores_and_their_artifacts(tmp_path: Path) -> None:
    default = store_uri(tmp_path, Tracking())
    assert default == f"sqlite:///{tmp_path}/tracking/mlflow.db"
    assert artifact_location(tmp_path, default) == f"file://{tmp_path}/tracking/artifacts"
    assert artifact_location(tmp_path, "sqlite:////srv/shared.db") == "file:///srv/artifacts"
    assert artifact_location(tmp_path, "http://host:5000") is None


def test_pages_need_a_store_and_a_port(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="run the sweep first"):
        serve_ui(store_uri(tmp_path, Tracking()))
    assert not list(tmp_path.iterdir())
    assert serve_ui("https://mlflow.example").url == "https://mlflow.example"
    (tmp_path / "tracking").mkdir()
    (tmp_path / "tracking" / "mlflow.db").touch()
    with pytest.raises(TrackingError, match="between 1 and 65535"):
        serve_ui(store_uri(tmp_path, Tracking()), 70_000)
