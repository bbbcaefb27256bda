"""Chaos: a sweep on a cluster of several nodes, whose processes and nodes are killed at random while it runs."""

import contextlib
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from mlflow import MlflowClient

from integration.sweeps import REPEATABLE
from servers.mlflow_server import MlflowServer
from servers.postgres import Postgres
from servers.ray_cluster import Node, RayCluster, command_line
from servers.s3 import S3Server
from workers.storage import open_storage

SPEC = """
name: chaos
dataset: {name: digits, label_noise: 0.3, train_per_class: 40}
model: {name: mlp, width: 16}
augmentation:
  weak: [{name: random_crop, padding: 1}]
  strong: [{name: cutout, size: 3}]
training: {regime: full+augmented, epochs: 20, batch_size: 16, optimizer: {learning_rate: 0.05}}
selection: {fraction: 0.25, every: 2}
checkpoints: {every: 1}
resources: {selection_shards: 2, max_failures: 10}
sweep:
  zip:
    selection.strategy: [coreset, random, max_loss, coreset, coreset, coreset, coreset, none]
    selection.mode: [overlapped, blocking, overlapped, blocking, overlapped, blocking, blocking, blocking]
    selection.proxy_source: [harvest, forward, forward, forward, harvest, forward, harvest, forward]
    selection.partitions: [3, 1, 1, 1, 1, 3, 2, 1]
    resources.workers: [2, 1, 1, 1, 1, 1, 1, 1]
"""
DRIVER, S3, MLFLOW = "driver", "s3", "mlflow"
VICTIMS = {  # by what their command lines begin with
    "trial": r"^ray::(ResourceTrainable|TrialActor)",
    "rank": r"^ray::RayTrainWorker",
    "coordinator": r"^ray::Coordinator",
    "shard": r"^ray::SelectionShard",
}
KINDS = (*VICTIMS, "node", DRIVER)
_REMAINS = "|".join([*VICTIMS.values(), r"^ray::(_QueueActor|TrainController)"])
NODE = {"cpus": 2}
_REFUSED = 2  # the exit code of a run that does not begin
_SOURCE = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}  # this checkout, not one that is installed
_OF_RAY = {"_AutoscalingCoordinatorActor"}  # one for the whole cluster, which Ray Train starts and lets live


@dataclass
class Fault:
    """What was killed, and when: seconds since the run began."""

    kind: str
    planned: float
    at: float | None = None  # None: the sweep was over before there was one to kill
    pid: int | None = None


@dataclass
class Outcome:
    """How a run ended. `wrong`: everything that should not be so."""

    faults: list[Fault]
    seconds: float = 0.0
    starts: int = 0  # of the driver
    wrong: list[str] = field(default_factory=list)
    last_output: str = ""


def undisturbed(folder: Path) -> tuple[dict[str, bytes], float]:
    """The tables of a sweep that nothing befalls, on one node, and the seconds that it takes."""
    cluster = RayCluster(cpus=4, environment=_SOURCE)
    try:
        sweep = ChaosSweep(folder, cluster)
        begin = time.monotonic()
        process = sweep.start()
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return sweep.tables(), time.monotonic() - begin
    finally:
        cluster.close()


class Servers:
    """An S3 server, and MLflow's on PostgreSQL with its files there, for as long as the context lasts."""

    def __init__(self, folder: Path):
        self.s3 = S3Server(folder)
        self.database = Postgres()
        keys = self.s3.environment | {"MLFLOW_S3_ENDPOINT_URL": self.s3.endpoint}
        files = f"s3://{self.s3.bucket}/mlflow"
        self.mlflow = MlflowServer(self.database, files, keys, password=secrets.token_hex(12))
        self.environment = self.s3.environment | self.mlflow.credentials
        self._all: tuple[S3Server | Postgres | MlflowServer, ...] = (self.s3, self.database, self.mlflow)

    def __enter__(self) -> "Servers":
        with contextlib.ExitStack() as stack:
            for server in self._all:
                stack.enter_context(server)
            os.environ.update(self.environment)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def wrong(self, experiment: str) -> list[str]:
        """What MLflow's server holds of a sweep other than one finished run of it, and of each of its eight trials."""
        client = MlflowClient(self.mlflow.uri)
        found = client.get_experiment_by_name(experiment)
        runs = [] if found is None else client.search_runs([found.experiment_id])
        names = [run.data.tags.get("trial_id", "") for run in runs]
        wrong = [f"MLflow: {run.info.run_name} is {run.info.status}" for run in runs if run.info.status != "FINISHED"]
        if len(names) != 9 or len(set(names)) != 9:
            wrong.append(f"MLflow holds {len(names)} runs of {len(set(names))} kinds instead of 9 of 9")
        epochs = sorted(len(client.get_metric_history(run.info.run_id, "train_loss")) for run in runs)
        if epochs != [0, *[20] * 8]:
            wrong.append(f"MLflow's runs hold so many epochs: {epochs}")
        return wrong


class ChaosSweep:
    """The sweep in a folder of its own, or with its results on servers, driven from the head of a cluster."""

    def __init__(self, folder: Path, cluster: RayCluster, servers: Servers | None = None):
        self.folder = folder
        self.cluster = cluster
        self.scratch = folder / "tmp"
        self.scratch.mkdir(parents=True)
        spec, self.storage = SPEC, open_storage(str(folder / "runs/chaos"))
        self.experiment = f"{folder.parent.name}-{folder.name}"
        if servers is not None:
            place = f"s3://{servers.s3.bucket}/{self.experiment}"
            spec += f"storage: {{path: {place}, endpoint: {servers.s3.endpoint}}}\n"
            spec += f"tracking: {{uri: '{servers.mlflow.uri}', experiment: {self.experiment}}}\n"
            self.storage = open_storage(f"{place}/chaos", servers.s3.endpoint)
        (folder / "chaos.yaml").write_text(spec)

    def start(self) -> subprocess.Popen[str]:
        """Start `medoid run`, or go on with it."""
        command = [sys.executable, "-m", "orchestrator.cli", "run", "chaos.yaml", "--address", self.cluster.gcs]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.cluster.environment(PYTHONUNBUFFERED="1", COLUMNS="150", TMPDIR=str(self.scratch), **_SOURCE),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def tables(self) -> dict[str, bytes]:
        """The CSV files that must not depend on what happened on the way."""
        return {name: self.storage.read(f"report/{name}") for name in REPEATABLE}


class Chaos:
    """A cluster on which sweeps are run and disturbed, one after another."""

    def __init__(self, root: Path, expected: dict[str, bytes], servers: Servers | None = None, outage: float = 5.0):
        self.root = root
        self.expected = expected
        self.servers = servers
        self.outage = outage  # seconds that a server is away
        self.scratch = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
        keys = servers.environment if servers is not None else {}
        self.cluster = RayCluster(cpus=0, environment={"TMPDIR": str(self.scratch), **_QUICK, **_SOURCE, **keys})
        self.nodes = [self.cluster.add(**NODE) for _ in range(2)]
        self.outages: list[threading.Thread] = []
        self.away: set[str] = set()

    def close(self) -> None:
        """End the cluster, and remove its files."""
        self.cluster.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def run(self, number: int, stream: random.Random, kinds: list[str], span: float, patience: float) -> Outcome:
        """One sweep with faults of these kinds, at moments drawn from `span` seconds."""
        folder = self.root / f"run-{number}"
        sweep = ChaosSweep(folder, self.cluster, self.servers)
        moments = sorted(stream.uniform(0.0, span) for _ in kinds)
        outcome = Outcome([Fault(kind, moment) for kind, moment in zip(kinds, moments, strict=True)])
        begin = time.monotonic()
        with _Driver(sweep, outcome) as driver:
            for fault in outcome.faults:
                self._strike(fault, driver, stream, begin)
            while driver.finish(begin + patience) == _REFUSED and self.outages:  # it was started while S3 was away
                self._come_back()
                driver.again()
            self._come_back()
            if self.servers is not None and not outcome.wrong and self.servers.wrong(sweep.experiment):
                driver.again()  # what MLflow did not take while it was away goes out with the next run
                driver.finish(begin + patience)
        outcome.seconds = time.monotonic() - begin
        self._judge(sweep, outcome)
        if not outcome.wrong:
            shutil.rmtree(folder)
        return outcome

    def _strike(self, fault: Fault, driver: "_Driver", stream: random.Random, begin: float) -> None:
        """Wait for the moment, and then for a victim, and kill it."""
        while True:
            over = driver.ended()
            passed = time.monotonic() - begin
            if over:
                return
            if passed >= fault.planned and (victim := self._victim(fault.kind, driver, stream)) is not None:
                break
            time.sleep(0.02)
        fault.at = time.monotonic() - begin
        if isinstance(victim, Node):
            self.nodes.remove(victim)
            self.cluster.nodes.remove(victim)
            victim.kill()
            self.nodes.append(self.cluster.add(**NODE))  # another joins
        elif isinstance(victim, S3Server | MlflowServer):
            self.away.add(fault.kind)
            victim.stop()
            self.outages.append(threading.Thread(target=self._start_again, args=(fault.kind, victim)))
            self.outages[-1].start()
        else:
            fault.pid = victim
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        if fault.kind == DRIVER:
            driver.again()

    def _come_back(self) -> None:
        """Wait for the end of the servers' outages."""
        for outage in self.outages:
            outage.join()
        self.outages.clear()

    def _start_again(self, kind: str, server: S3Server | MlflowServer) -> None:
        time.sleep(self.outage)
        server.start()
        self.away.discard(kind)

    def _victim(
        self, kind: str, driver: "_Driver", stream: random.Random
    ) -> int | Node | S3Server | MlflowServer | None:
        if kind in (S3, MLFLOW):
            assert self.servers is not None
            return None if kind in self.away else self.servers.s3 if kind == S3 else self.servers.mlflow
        if kind == "node":
            return stream.choice(self.nodes)
        if kind == DRIVER:
            return driver.process.pid
        found = self._processes(VICTIMS[kind])
        return stream.choice(sorted(found)) if found else None

    def _processes(self, title: str) -> list[int]:
        return [pid for pid in self.cluster.processes("ray::") if re.search(title, command_line(pid))]

    def _judge(self, sweep: ChaosSweep, outcome: Outcome) -> None:
        wrong = outcome.wrong
        if wrong:
            return
        for name, table in sweep.tables().items():
            if table != self.expected[name]:
                wrong.append(f"{name} is not that of the undisturbed sweep")
        keys = [key.split("/") for key in sweep.storage.list("trials")]
        if (results := sum(key[-1] == "result.json" for key in keys)) != 8:
            wrong.append(f"{results} results instead of 8")
        kinds = {key[2] for key in keys}
        if kinds != {"result.json", "times.json", "selections"}:
            wrong.append(f"beside results there is {sorted(kinds)}")
        left = [str(path) for path in (sweep.folder / "runs").rglob("*.part")]
        left += [str(path) for folder in (sweep.scratch, self.scratch) for path in folder.glob("medoid-*")]
        if self.servers is not None:
            left += [upload["Key"] for upload in self.servers.s3.unfinished_uploads(f"{sweep.experiment}/")]
        if left:
            wrong.append(f"temporary files are left: {left}")
        if self.servers is not None:
            wrong += self.servers.wrong(sweep.experiment)
        wrong += self._left_on_cluster(patience=60.0)

    def _left_on_cluster(self, patience: float) -> list[str]:
        """Processes, actors and placement groups that are still there after a while."""
        end = time.monotonic() + patience
        while True:
            left = [f"process {pid}: {command_line(pid)}" for pid in self._processes(_REMAINS)]
            living = {actor["class_name"] for actor in self._state("actors") if actor["state"] != "DEAD"}
            left += [f"actor {name}" for name in sorted(living - _OF_RAY)]
            groups = self._state("placement_groups")
            left += [f"placement group {group}" for group in groups if group["state"] != "REMOVED"]
            if not left or time.monotonic() > end:
                return left
            time.sleep(0.5)

    def _state(self, kind: str) -> list[dict[str, Any]]:
        answer = self.cluster.get(f"/api/v0/{kind}?limit=10000").json()
        found: list[dict[str, Any]] = answer["data"]["result"]["result"]
        return found


_QUICK = {  # a lost node is noticed within seconds
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
}


class _Driver:
    """`medoid run`, started again where it was killed."""

    def __init__(self, sweep: ChaosSweep, outcome: Outcome):
        self.sweep = sweep
        self.outcome = outcome
        self.process = self._start()

    def __enter__(self) -> "_Driver":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def ended(self) -> bool:
        """Whether the sweep is over."""
        return self.process.poll() is not None

    def again(self) -> None:
        """Start it once more, after it was killed."""
        self.process.communicate()
        self.process = self._start()

    def finish(self, deadline: float) -> int | None:
        """Wait for its end, and note where that is not a good one; its exit code."""
        self.outcome.wrong.clear()
        try:
            output, _ = self.process.communicate(timeout=max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            output, _ = self.process.communicate()
            self.outcome.wrong.append("the sweep does not end")
        else:
            if self.process.returncode:
                self.outcome.wrong.append(f"medoid run returned {self.process.returncode}")
        self.outcome.last_output = output
        return self.process.returncode

    def _start(self) -> subprocess.Popen[str]:
        self.outcome.starts += 1
        return self.sweep.start()
