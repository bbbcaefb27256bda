"""Servers that tests start as processes of their own, stop in the middle, start again, and leave nothing of behind."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """A server with all of its processes. What it prints goes into `log`."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], user: str | None = None):
        self.command = list(command)
        self.log = log
        self.environment = dict(environment)
        self.user = user
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Callable[[], bool], patience: float = 90.0) -> None:
        """Start it, and wait until it is ready. Raises RuntimeError, with the end of its log, where it never is."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                user=self.user,
                start_new_session=True,
            )
        deadline = time.monotonic() + patience
        while not ready():
            ended = self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.stop(signal.SIGKILL)
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
                how = "ended" if ended else f"was not ready within {patience:.0f} s"
                raise RuntimeError(f"{Path(self.command[0]).name} {how}:\n{tail}")
            time.sleep(0.05)

    def stop(self, sign: signal.Signals = signal.SIGKILL, patience: float = 20.0) -> None:
        """End all of its processes; nothing happens where it does not run."""
        if self.process is None:
            return
        for each in (sign, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, each)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        self.process = None
