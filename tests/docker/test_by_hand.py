"""compose.yaml's cluster without Docker: its own commands and environments, as processes of this machine.

A head, two workers and MLflow's server are started as compose.yaml says, with other addresses, ports and passwords;
PostgreSQL and S3 come from the packages that carry them. Then a sweep is submitted as docker/README.md says.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from deployment import compose, example, readme_commands

from servers.postgres import Postgres
from servers.processes import ServerProcess, free_port
from servers.ray_cluster import Node, command_line
from servers.s3 import S3Server

pytestmark = pytest.mark.slow
SMALLER = ("training.epochs=4", "seeds=[0]")  # of the quick start's 27 trials 9, of its 20 epochs 4
PORT = re.compile(r"\b(6379|8265|5000|6380|6381|52365)\b")


@dataclass
class Service:
    """A service of compose.yaml on this machine."""

    command: list[str]
    environment: dict[str, str]
    check: list[str]
    node: Node = field(default_factory=Node)


class Deployment:
    """compose.yaml's services, for as long as the context lasts."""

    def __init__(self, s3: S3Server, database: Postgres):
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: of Unix sockets below it
        self.s3, self.database = s3, database
        self.shared = {port: str(free_port()) for port in ("6379", "8265", "5000")}
        self.url = f"http://127.0.0.1:{self.shared['8265']}"
        self.tracking = f"http://127.0.0.1:{self.shared['5000']}"
        self.values = {name: value or secrets.token_hex(20) for name, value in example().items()}
        self.values |= {"POSTGRES_PASSWORD": database.password, "WORKER_CPUS": "1"}
        for user in ("SWEEPS", "ARTIFACTS"):
            self.values[f"{user}_ACCESS_KEY"] = s3.environment["AWS_ACCESS_KEY_ID"]
            self.values[f"{user}_SECRET_KEY"] = s3.environment["AWS_SECRET_ACCESS_KEY"]
        self.values["MLFLOW_HOSTS"] = "mlflow:5000"
        self.compose = compose(self.values)
        self.token = self.folder / "token"
        self.token.touch(mode=0o600)
        self.token.write_text(secrets.token_hex(32))
        self.services: dict[str, Service] = {}

    def start(self, name: str, called: str = "") -> Service:
        """Start a service as compose.yaml says, and wait until its own health check is content."""
        spec = self.compose["services"][name]
        ports = dict(self.shared)
        command = [self._here(part, ports) for part in spec["command"]]
        service = Service(
            command,
            {key: self._here(value, ports) for key, value in spec["environment"].items()},
            [self._here(part, ports) for part in spec["healthcheck"]["test"][1:]],
        )
        self._write_configs(spec, ports)
        own = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_", "AWS_"))}
        environment = (
            own
            | service.environment
            | {
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "AWS_EC2_METADATA_DISABLED": "true",
                "MEDOID_STATE": str(self.folder / "state"),
                "MEDOID_TEST_NODE": service.node.tag,
            }
        )
        if service.command[0] == "ray":  # a container has an address and a /tmp of its own
            place = Path(tempfile.mkdtemp(prefix="t", dir=self.folder))
            service.command += ["--node-ip-address=127.0.0.1", f"--temp-dir={place}"]
        process = ServerProcess(service.command, self.folder / f"{called or name}.log", environment)
        self.services[called or name] = service

        def healthy() -> bool:
            return subprocess.run(service.check, env=environment, capture_output=True, check=False).returncode == 0

        process.start(healthy, patience=240)
        return service

    def _here(self, text: str, ports: dict[str, str]) -> str:
        """What compose.yaml says, for this machine: where names of services are known, and ports are free."""
        for there, here in {
            "postgresql://mlflow@postgres:5432/mlflow": self.database.uri_without_password,
            "http://minio:9000": self.s3.endpoint,
            "/run/secrets/ray_token": str(self.token),
            "/etc/mlflow/": f"{self.folder}/",
            "0.0.0.0": "127.0.0.1",
            "head:": "127.0.0.1:",
            "mlflow:5000": "127.0.0.1:5000",
        }.items():
            text = str(text).replace(there, here)
        if "worker-port=" in text:  # two nodes would fight for one range
            return text.split("=")[0] + "=0"
        return PORT.sub(lambda match: ports.setdefault(match[0], str(free_port())), text)

    def _write_configs(self, spec: dict[str, Any], ports: dict[str, str]) -> None:
        for config in spec.get("configs", ()):
            content = self.compose["configs"][config["source"]]["content"]
            Path(self._here(config["target"], ports)).write_text(self._here(content, ports))

    def medoid(self, *arguments: str) -> str:
        """Run a command of docker/README.md's user, who has the token, to its end; what it printed."""
        own = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_", "AWS_"))}
        ran = subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", *arguments],
            env=own | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token), "COLUMNS": "150"},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def as_in_the_readme(self, verb: str, *more: str) -> str:
        """Run the README's command of this verb, at these addresses."""
        (command,) = [each for each in readme_commands("medoid") if each[0] == verb]
        here = [self._here(part, dict(self.shared)) for part in command]
        return self.medoid(*here, *more)

    def secrets(self) -> set[str]:
        """Everything that must not be seen anywhere."""
        hidden = {value for name, value in self.values.items() if not example()[name]}
        return {*hidden, self.database.password, self.s3.environment["AWS_SECRET_ACCESS_KEY"], self.token.read_text()}

    def __enter__(self) -> "Deployment":
        return self

    def __exit__(self, *_: object) -> None:
        for service in self.services.values():
            service.node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def deployment(s3_server: S3Server) -> Iterator[Deployment]:
    client = s3_server.client()
    for bucket in ("sweeps", "artifacts"):
        client.create_bucket(Bucket=bucket)
    with Postgres() as database, Deployment(s3_server, database) as deployed:
        deployed.start("mlflow")
        deployed.start("head")
        deployed.start("worker", "worker-1")
        deployed.start("worker", "worker-2")
        yield deployed


@pytest.fixture(scope="module")
def followed(deployment: Deployment) -> dict[str, str]:
    """The quick start, submitted and followed as the README says; what was printed, and the list of processes."""
    smaller = [part for override in SMALLER for part in ("--set", override)]
    said = {"submit": deployment.as_in_the_readme("submit", *smaller)}
    time.sleep(5)  # the driver is at work
    said["processes"] = "\n".join(command_line(int(pid)) for pid in os.listdir("/proc") if pid.isdigit())
    said["logs"] = deployment.as_in_the_readme("logs")
    said["status"] = deployment.as_in_the_readme("status")
    return said


def test_the_quick_start_runs_there(deployment: Deployment, followed: dict[str, str]) -> None:
    assert "submitted quickstart (9 trials)" in followed["submit"]
    assert "succeeded" in followed["status"], followed["logs"]
    assert re.search(r"coreset\s+.*10%", followed["logs"])
    keys = {key["Key"] for key in deployment.s3.client().list_objects_v2(Bucket="sweeps")["Contents"]}
    assert "runs/quickstart/report/index.html" in keys
    assert len([key for key in keys if key.endswith("/result.json")]) == 9


def test_both_workers_trained(deployment: Deployment, followed: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {deployment.token.read_text()}"}
    request = urllib.request.Request(f"{deployment.url}/api/v0/actors?limit=1000&detail=true", headers=headers)
    actors = json.load(urllib.request.urlopen(request))["data"]["result"]["result"]
    trained = {one["node_id"] for one in actors if one["class_name"].endswith("ResourceTrainable")}
    assert len(trained) == 2
    for worker in ("worker-1", "worker-2"):
        assert deployment.services[worker].node.processes("raylet/raylet")


def test_mlflow_has_the_runs_and_their_files_are_in_s3(deployment: Deployment, followed: dict[str, str]) -> None:
    with psycopg.connect(deployment.database.uri) as connection:
        statuses = connection.execute("SELECT status, count(*) FROM runs GROUP BY status").fetchall()
        steps = connection.execute("SELECT count(*) FROM metrics WHERE key = 'train_loss'").fetchone()
    assert statuses == [("FINISHED", 10)]
    assert steps == (9 * 4,)
    found = deployment.s3.client().list_objects_v2(Bucket="artifacts")["Contents"]
    assert any(key["Key"].endswith("/report/index.html") for key in found)


def test_without_the_token_and_the_password_nothing_is_told(deployment: Deployment) -> None:
    for url in (
        f"{deployment.url}/api/jobs/",
        f"{deployment.tracking}/api/2.0/mlflow/experiments/search?max_results=1",
    ):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(url)


def test_no_secret_is_in_logs_results_mlflow_or_the_list_of_processes(
    deployment: Deployment, followed: dict[str, str]
) -> None:
    client = deployment.s3.client()
    seen = {f"printed by {name}": text.encode() for name, text in followed.items()}
    for path in deployment.folder.rglob("*"):
        if path.is_file() and path != deployment.token:
            seen[str(path)] = path.read_bytes()
    for bucket in ("sweeps", "artifacts"):
        for key in client.list_objects_v2(Bucket=bucket)["Contents"]:
            seen[f"s3://{bucket}/{key['Key']}"] = client.get_object(Bucket=bucket, Key=key["Key"])["Body"].read()
    with psycopg.connect(deployment.database.uri) as connection:
        for table in ("runs", "tags", "params", "experiments"):
            seen[f"MLflow's {table}"] = str(connection.execute(f"SELECT * FROM {table}").fetchall()).encode()
    assert len(seen) > 50
    leaks = [where for where, text in seen.items() for secret in deployment.secrets() if secret.encode() in text]
    assert not leaks
