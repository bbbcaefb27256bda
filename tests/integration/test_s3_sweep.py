"""A sweep whose results go to S3: by one process, on Ray, killed on the way; the tables are those of a folder."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from integration.sweeps import REPEATABLE, Sweep
from integration.sweeps import SPEC as FOUR
from servers.s3 import S3Server

SPEC = FOUR.replace("[none, random, max_loss, coreset]", "[random, coreset]")


class S3Sweep(Sweep):
    """A sweep that keeps nothing in its folder but the spec and what MLflow needs."""

    def __init__(self, folder: Path, server: S3Server, spec: str = SPEC):
        self.server = server
        self.prefix = f"{folder.parent.name}/{folder.name}"
        self.path = f"s3://{server.bucket}/{self.prefix}"
        self.uri = f"{self.path}/tiny"
        places = f"storage: {{path: {self.path}, endpoint: {server.endpoint}}}\n"
        places += f"tracking: {{uri: 'sqlite:///{folder}/mlflow.db'}}\n"
        super().__init__(folder, spec + places)

    def keys(self, part: str) -> list[str]:
        """What is in the sweep's folder and matches."""
        return [key for key in self.server.keys(f"{self.prefix}/tiny/") if part in key]

    def read(self, key: str) -> bytes:
        found = self.server.client().get_object(Bucket=self.server.bucket, Key=f"{self.prefix}/tiny/{key}")
        return bytes(found["Body"].read())

    def tables(self, name: str = "tiny") -> dict[str, bytes]:
        return {file: self.read(f"report/{file}") for file in REPEATABLE}

    def wait_for(self, pattern: str, patience: float = 240.0) -> None:
        deadline = time.monotonic() + patience
        while not self.keys(pattern):
            assert time.monotonic() < deadline, f"no {pattern} within {patience} s"
            time.sleep(0.1)


def medoid(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator.cli", *arguments]
    environment = os.environ | {"COLUMNS": "150"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The same sweep in a folder, undisturbed."""
    sweep = Sweep(tmp_path_factory.mktemp("local"), SPEC)
    sweep.run("--inline")
    assert medoid(sweep.folder, "report", "tiny").returncode == 0
    return sweep


@pytest.fixture
def sweep(tmp_path: Path, s3_keys: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Sweep:
    monkeypatch.setenv("MEDOID_STATE", str(tmp_path / "state"))
    return S3Sweep(tmp_path / "sweep", s3_keys)


@pytest.mark.slow
def test_a_driver_is_killed_and_the_next_ends_with_the_same_tables(sweep: S3Sweep, local: Sweep) -> None:
    process = sweep.start()
    try:
        sweep.wait_for("/checkpoints/")
        time.sleep(random.uniform(0.0, 1.0))
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    output = sweep.run()
    assert f"report: {sweep.uri}/report/index.html" in output
    assert f"medoid ui tiny --storage {sweep.path} --endpoint {sweep.server.endpoint}" in output
    assert sweep.tables() == local.tables()
    results = {path.parent.name: path.read_bytes() for path in local.trials().glob("*/result.json")}
    assert {trial: sweep.read(f"trials/{trial}/result.json") for trial in results} == results
    kinds = {key.split("/trials/")[1].split("/")[1] for key in sweep.keys("/trials/")}
    assert kinds == {"result.json", "times.json", "selections"}
    assert not (sweep.folder / "runs").exists()
    spools = list(sweep.folder.parent.glob("state/tiny-*/tracking/spool.jsonl"))
    assert [spool.read_bytes() for spool in spools] == [b""], "all was sent to MLflow, from a folder of this machine"


@pytest.mark.slow
def test_one_process_needs_no_mlflow(sweep: S3Sweep, local: Sweep) -> None:
    options = ("run", "tiny.yaml", "--set", "tracking.uri=null", "--set", "sweep.grid={selection.strategy: [random]}")
    refused = medoid(sweep.folder, *options)
    assert refused.returncode == 2
    assert "tracking.uri: missing; an SQLite store cannot lie in s3://" in refused.stderr
    assert sweep.keys("") == [], "refused before anything was written"
    ran = medoid(sweep.folder, *options, "--inline")
    assert ran.returncode == 0, ran.stderr
    (result,) = sweep.keys("/result.json")
    trial = result.split("/")[-2]
    assert sweep.read(f"trials/{trial}/result.json") == (local.trials() / trial / "result.json").read_bytes()
    again = medoid(sweep.folder, *options, "--inline")
    assert "1 already finished" in again.stdout
    places = ("--storage", sweep.path, "--endpoint", sweep.server.endpoint)
    reported = medoid(sweep.folder, "report", "tiny", *places)
    assert f"report: {sweep.uri}/report/index.html" in reported.stdout
    assert sweep.keys("/report/table.csv")
    unknown = medoid(sweep.folder, "report", "nosuch", *places)
    assert f"no sweep 'nosuch' in {sweep.path}; sweeps there: tiny" in unknown.stderr
