"""A Ray cluster on this machine: a head with its job server and any number of further nodes, as processes of their own.

Every process carries a tag in its environment, so that a node can be killed as a whole, and only what was started here
is ended. Ray's daemons and jobs leave the process group of `ray start`: groups alone would miss them.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

TAG = "MEDOID_TEST_NODE"
_LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now, each another."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind((_LOOPBACK, 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def processes(tag: str) -> list[int]:
    """Living processes that carry a tag."""
    wanted, found = f"{TAG}={tag}".encode(), []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            ours = wanted in (entry / "environ").read_bytes().split(b"\0")
            alive = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except (OSError, UnicodeDecodeError):
            continue  # it has ended meanwhile, or is another user's
        if ours and alive:
            found.append(int(entry.name))
    return found


@dataclass
class Node:
    """One node: its raylet, agents and workers; of the head also the control store, the dashboard and jobs' drivers."""

    tag: str = field(default_factory=lambda: uuid.uuid4().hex)

    def processes(self, title: str = "") -> list[int]:
        """Its living processes whose command line holds a text, such as `raylet/raylet` or `ray::TrialActor`."""
        return [pid for pid in processes(self.tag) if title in command_line(pid)]

    def kill(self) -> None:
        """SIGKILL all of it at once, as a machine that loses power."""
        patience = time.monotonic() + 30
        while found := processes(self.tag):  # again, for those that were just being started
            assert time.monotonic() < patience, f"still there: {found}"
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


def command_line(pid: int) -> str:
    """What `ps` shows of a process; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def ahead(seconds: float) -> dict[str, str]:
    """The environment of processes whose clock is wrong. What counts durations is not: no machine's is."""
    import libfaketime

    library = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"
    return {"LD_PRELOAD": str(library), "FAKETIME": f"{seconds:+.0f}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


class RayCluster:
    """A cluster with token authentication. `url` is the job server's, `gcs` what nodes and drivers join."""

    def __init__(self, cpus: int = 2, gpus: int = 0, environment: dict[str, str] | None = None):
        # short: Ray puts Unix sockets below it, whose paths may have 107 characters
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        self.token = secrets.token_hex(32)
        self.token_path = self.folder / "token"
        self.token_path.touch(mode=0o600)
        self.token_path.write_text(self.token)
        self.own = environment or {}
        self.nodes: list[Node] = []
        gcs, dashboard, client = free_ports(3)
        self.gcs = f"{_LOOPBACK}:{gcs}"
        self.url = f"http://{_LOOPBACK}:{dashboard}"
        head = ["--head", f"--port={gcs}", f"--ray-client-server-port={client}", f"--temp-dir={self.folder / 'tmp'}"]
        served = ["--include-dashboard=true", f"--dashboard-host={_LOOPBACK}", f"--dashboard-port={dashboard}"]
        self.head = self._start([*head, *served], cpus, gpus)
        self._wait_until_served()

    def add(
        self, cpus: int = 1, gpus: int = 0, resources: str = "", clock: float = 0.0, address: str = _LOOPBACK
    ) -> Node:
        """Start one more node and let it join.

        `resources`: Ray's JSON of custom ones; `clock`: seconds it is ahead; `address`: of the loopback network,
        another than the head's for a node that others take for another machine.
        """
        options = [f"--address={self.gcs}", *([f"--resources={resources}"] if resources else [])]
        return self._start(options, cpus, gpus, ahead(clock) if clock else {}, address)

    def environment(self, **more: str) -> dict[str, str]:
        """What a client of the cluster has in its environment: where the token is, not the token."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return own | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_path)} | more

    def get(self, path: str) -> requests.Response:
        """Ask the dashboard something."""
        return requests.get(self.url + path, headers={"Authorization": f"Bearer {self.token}"}, timeout=30)

    def processes(self, title: str = "") -> list[int]:
        """Living processes of all nodes whose command line holds a text."""
        return [pid for node in self.nodes for pid in node.processes(title)]

    def logs(self) -> Iterator[Path]:
        """Every file that the cluster has written below its folder, the token's aside."""
        for path in self.folder.rglob("*"):
            if path.is_file() and path != self.token_path:
                yield path

    def close(self) -> None:
        """Kill every node and remove what they wrote."""
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(
        self,
        options: Sequence[str],
        cpus: int,
        gpus: int,
        more: dict[str, str] | None = None,
        address: str = _LOOPBACK,
    ) -> Node:
        node = Node()
        self.nodes.append(node)
        names = (
            "node-manager-port",
            "object-manager-port",
            "dashboard-agent-listen-port",
            "dashboard-agent-grpc-port",
            "runtime-env-agent-port",
            "metrics-export-port",
        )
        ports = [f"--{name}={port}" for name, port in zip(names, free_ports(len(names)), strict=True)]
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", *options, *ports),
            *("--min-worker-port=0", "--max-worker-port=0", f"--node-ip-address={address}"),
            *(f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--object-store-memory={100 * 2**20}"),
            "--disable-usage-stats",
        ]
        environment = self.environment(**self.own, **(more or {})) | {
            TAG: node.tag,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # a job's python3 is this one
        }
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        if ran.returncode:
            self.close()
            raise RuntimeError(f"ray start failed:\n{ran.stdout}\n{ran.stderr}")
        return node

    def _wait_until_served(self) -> None:
        patience = time.monotonic() + 120
        while True:
            try:
                if self.get("/api/version").status_code == 200:
                    return
            except requests.ConnectionError:
                pass  # not listening yet
            if time.monotonic() > patience:
                self.close()
                raise RuntimeError(f"no job server at {self.url} within 120 s")
            time.sleep(0.2)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[RayCluster]:
    """A head with 2 CPUs, for all tests of a module."""
    cluster = RayCluster()
    try:
        yield cluster
    finally:
        cluster.close()
