"""Tracking on MLflow's own server, with a password, on PostgreSQL, with its files in S3."""

import base64
import logging
import math
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
import pytest
from test_tracking import (
    EPOCHS,
    Store,
    chosen,
    epoch,
    journal,
    plan,
    result,
    spent,
    times,
    tracker,
    wait_until_sent,
)

from orchestrator.tracking_uri import TrackingError
from servers.mlflow_server import MlflowServer
from servers.s3 import S3Server

OUTAGE = 5.0  # seconds


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.tracking.LINGER", 0.02)
    monkeypatch.setattr("orchestrator.tracking.LONGEST_PAUSE", 1.0)


def test_runs_are_in_postgresql_and_their_files_in_s3(
    mlflow_user: MlflowServer, s3_server: S3Server, tmp_path: Path
) -> None:
    trial = plan(seed=1)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("<p>")
    (tmp_path / "picks.npz").write_bytes(b"picks")
    with tracker(tmp_path, [trial], mlflow_user.uri) as tracking:
        tracking.trial_finished(result(trial), times(trial), {"selections/00000.npz": "picks.npz"})
        tracking.sweep_finished(["report/index.html"])
        assert tracking.close() == 0
    store = Store(mlflow_user.uri)
    run = store.children()[trial.entry.id]
    assert store.files(run, "selections") == ["selections/00000.npz"]
    keys = s3_server.keys("mlflow/")
    assert {key.split("/artifacts/")[1] for key in keys} >= {"selections/00000.npz", "report/index.html"}
    with psycopg.connect(mlflow_user.database.uri) as connection:
        found = connection.execute("SELECT count(*) FROM metrics WHERE key = 'train_loss'").fetchone()
    assert found == (EPOCHS,)


def test_an_outage_delays_and_doubles_nothing(
    mlflow_user: MlflowServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SIGKILL of the server in the middle of a batch, and again while it is told what it missed."""
    trials = [plan(seed) for seed in range(2, 6)]
    longest = 0.0
    with tracker(tmp_path, trials, mlflow_user.uri) as tracking:
        for trial in trials:
            tracking.trial_started(trial.entry.id)
        for number in range(1, EPOCHS + 1):
            if number == 2:
                mlflow_user.stop()
            for trial in trials:
                started = time.perf_counter()
                tracking.epoch(trial.entry.id, epoch(number), spent(number), [chosen(number - 1)] if number % 2 else ())
                longest = max(longest, time.perf_counter() - started)
        time.sleep(OUTAGE)
        assert journal(tmp_path), "what could not be sent waits on disk"
        assert "does not answer" in caplog.text
        mlflow_user.start()
        wait_until_sent(tracking)
        for trial in trials:
            tracking.trial_finished(result(trial), times(trial))
        tracking.sweep_finished()
        assert tracking.close() == 0
    assert longest < 0.5, "an outage holds nothing up; its shortest wait would be a second"
    store = Store(mlflow_user.uri)
    for trial in trials:
        run = store.children()[trial.entry.id]
        assert run.info.status == "FINISHED"
        assert store.steps(run, "train_loss") == list(range(1, EPOCHS + 1))
        assert store.steps(run, "selection/size") == [0, 2]
    assert journal(tmp_path) == b""


def test_runs_deleted_on_the_way_are_replaced_among_others_that_are_not(
    mlflow_user: MlflowServer, tmp_path: Path
) -> None:
    """Trials are written side by side: those whose runs are gone must not disturb the others, nor come twice."""
    trials = [plan(seed) for seed in range(20, 32)]
    store = Store(mlflow_user.uri)
    with tracker(tmp_path, trials, mlflow_user.uri) as tracking:
        for trial in trials:
            tracking.trial_started(trial.entry.id)
            tracking.epoch(trial.entry.id, epoch(1), spent(1))
        wait_until_sent(tracking)
        before = {trial.entry.id: store.children()[trial.entry.id].info.run_id for trial in trials}
        gone = {trial.entry.id for trial in trials[::4]}
        for trial_id in gone:
            store.client.delete_run(before[trial_id])
        for trial in trials:
            tracking.trial_finished(result(trial), times(trial))
        tracking.sweep_finished()
        assert tracking.close() == 0
    after = store.children()
    for trial in trials:
        run = after[trial.entry.id]
        assert (run.info.run_id != before[trial.entry.id]) == (trial.entry.id in gone)
        assert store.steps(run, "train_loss") == [1, 2, 3, 4]


def test_numbers_that_are_none_survive_the_way(mlflow_user: MlflowServer, tmp_path: Path) -> None:
    trial = plan(seed=7)
    with tracker(tmp_path, [trial], mlflow_user.uri) as tracking:
        tracking.trial_started(trial.entry.id)
        tracking.epoch(trial.entry.id, epoch(1, loss=math.nan), spent(1))
        tracking.epoch(trial.entry.id, epoch(2, loss=math.inf), spent(2))
        wait_until_sent(tracking)
    store = Store(mlflow_user.uri)
    history = store.client.get_metric_history(store.children()[trial.entry.id].info.run_id, "train_loss")
    assert [math.isnan(value.value) for value in history] == [True, False]
    assert history[1].value > 1e308


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "asks for a name and a password: set MLFLOW_TRACKING_USERNAME"),
        (
            {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "wrong-s3cret"},
            r"does not accept 'admin' with the password given \(MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD\)",
        ),
    ],
)
def test_who_may_not_write_is_told_before_any_work(
    mlflow_server: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    environment: dict[str, str],
    message: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrackingError, match=message) as refused:
        tracker(tmp_path, [plan()], mlflow_server.uri)
    assert mlflow_server.uri in str(refused.value)
    assert "s3cret" not in str(refused.value) + caplog.text


class Gateway(BaseHTTPRequestHandler):
    """What stands before an MLflow server where one comes in with a token: it lets requests through that carry it."""

    server: "TokenGateway"
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers["Authorization"] != f"Bearer {self.server.token}":
            self._answer(401, b"who is there?")
            return
        name, password = self.server.behind.credentials.values()
        basic = base64.b64encode(f"{name}:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.server.behind.uri + self.path, body or None, headers, method=self.command)
        try:
            with urllib.request.urlopen(request) as answer:
                self._answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, error.read())

    do_GET = do_PUT = do_PATCH = do_POST

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class TokenGateway(ThreadingHTTPServer):
    def __init__(self, behind: MlflowServer, token: str):
        super().__init__(("127.0.0.1", 0), Gateway)
        self.behind, self.token = behind, token


def test_a_token_opens_what_a_wrong_one_does_not(
    mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = plan(seed=10)
    with TokenGateway(mlflow_server, "right-s3cret") as gateway:
        threading.Thread(target=gateway.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{gateway.server_address[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "wrong-s3cret")
        with pytest.raises(TrackingError, match=r"not accept the token given \(MLFLOW_TRACKING_TOKEN\)$") as refused:
            tracker(tmp_path, [trial], uri)
        assert "s3cret" not in str(refused.value)
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "right-s3cret")
        with tracker(tmp_path, [trial], uri) as tracking:
            tracking.trial_finished(result(trial), times(trial))
            tracking.sweep_finished()
            assert tracking.close() == 0
        store = Store(uri)
        assert store.steps(store.children()[trial.entry.id], "train_loss") == [1, 2, 3, 4]
        gateway.shutdown()


def test_a_name_that_the_server_does_not_go_by_is_said_so(mlflow_user: MlflowServer, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="which its --allowed-hosts must list"):
        tracker(tmp_path, [plan()], f"http://localhost:{mlflow_user.port}")


def test_a_password_that_changes_on_the_way_is_said_and_loses_nothing(
    mlflow_user: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trial = plan(seed=8)
    right = mlflow_user.credentials["MLFLOW_TRACKING_PASSWORD"]
    with tracker(tmp_path, [trial], mlflow_user.uri) as tracking:
        wait_until_sent(tracking)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-s3cret")
        tracking.trial_finished(result(trial), times(trial))
        deadline = time.monotonic() + 20
        while "does not let us in" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", right)
        wait_until_sent(tracking)
    assert "does not accept 'admin' with the password given" in caplog.text
    assert "s3cret" not in caplog.text
    assert right not in caplog.text
    store = Store(mlflow_user.uri)
    assert store.steps(store.children()[trial.entry.id], "train_loss") == [1, 2, 3, 4]


def test_no_secret_is_in_the_journal_or_the_store_or_the_list_of_processes(
    mlflow_user: MlflowServer, s3_server: S3Server, tmp_path: Path
) -> None:
    trial = plan(seed=9)
    with tracker(tmp_path, [trial], mlflow_user.uri) as tracking:
        tracking.trial_started(trial.entry.id)
        told = journal(tmp_path)
        tracking.trial_finished(result(trial), times(trial))
        tracking.sweep_finished()
        assert tracking.close() == 0
    secrets = [
        mlflow_user.credentials["MLFLOW_TRACKING_PASSWORD"],
        mlflow_user.database.password,
        s3_server.environment["AWS_SECRET_ACCESS_KEY"],
    ]
    commands = b"\n".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
    with psycopg.connect(mlflow_user.database.uri) as connection:
        tables = ("runs", "tags", "params", "experiments", "experiment_tags")
        rows = "\n".join(str(row) for table in tables for row in connection.execute(f"SELECT * FROM {table}"))
    assert str(mlflow_user.port).encode() in commands
    assert trial.entry.id in rows
    for secret in secrets:
        assert secret.encode() not in told + commands + mlflow_user.log.read_bytes()
        assert secret not in rows
