"""MLflow's own pages on a sweep's store."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import urlsplit

from orchestrator.tracking_uri import TrackingError, artifact_location

HOST = "127.0.0.1"  # the pages have no password, so they are for this machine only
STARTUP = 90.0  # seconds


@dataclass
class Ui:
    """Pages that can be looked at, for as long as the context lasts."""

    url: str
    process: subprocess.Popen[bytes] | None  # None: the store is a server with pages of its own

    def wait(self) -> None:
        """Stay until the server ends, or return at once where there is none to wait for."""
        if self.process is not None:
            self.process.wait()

    def stop(self) -> None:
        """End the server with all of its processes."""
        if self.process is None:
            return
        for sign, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)

    def __enter__(self) -> "Ui":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve_ui(uri: str, port: int = 5000) -> Ui:
    """Serve MLflow's pages on a store (`store_uri` gives a sweep's) at 127.0.0.1:`port`.

    Returns once they answer, some seconds later. A store that is a server (http, https) has pages already:
    their address is returned, nothing is started.
    Raises TrackingError where the store is not there yet, the port is taken, or the server does not come up.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        return Ui(uri, None)
    if parts.scheme == "sqlite":
        if not Path(parts.path[1:]).is_file():  # MLflow would make an empty one
            raise TrackingError(f"no MLflow store at {parts.path[1:]}: run the sweep first")
        uploads = ["--artifacts-destination", str(artifact_location(Path(), uri))]
    else:
        uploads = []
    _check_free(port)
    # A session of its own: Ctrl-C goes to the caller alone, who then ends the server whole.
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, *uploads, "--host", HOST]
    command += ["--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        ui = Ui(f"http://{HOST}:{port}", process)
        try:
            _await_answer(ui, uri, log)
        except BaseException:
            ui.stop()
            raise
    return ui


def _check_free(port: int) -> None:
    if not 1 <= port <= 65535:
        raise TrackingError(f"port {port}: must lie between 1 and 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise TrackingError(f"port {port} cannot be used ({error.strerror}): choose another with --port") from None


def _await_answer(ui: Ui, store: str, log: IO[bytes]) -> None:
    assert ui.process is not None
    end = time.monotonic() + STARTUP
    while time.monotonic() < end:
        code = ui.process.poll()
        if code is not None:
            log.seek(0)
            tail = log.read().decode(errors="replace").strip().splitlines()[-5:]
            raise TrackingError(f"MLflow's server on {store} ended with code {code}: " + "\n".join(tail))
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{ui.url}/health", timeout=2):
            return
        time.sleep(0.2)
    raise TrackingError(f"MLflow's server on {store} did not answer at {ui.url} within {STARTUP:.0f} s")
