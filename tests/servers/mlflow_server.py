"""MLflow's own server, as a process of its own on a random port of 127.0.0.1."""

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from servers.postgres import Postgres
from servers.processes import ServerProcess, free_port


class MlflowServer:
    """A server on a PostgreSQL database, for as long as the context lasts; `stop` and `start` make an outage.

    Files of runs pass through it to `artifacts`: a folder, or s3://BUCKET/PREFIX with what S3 needs in `environment`
    (MLFLOW_S3_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).
    With `password`, nothing is told or taken without the name `admin` and this password, the `credentials` that a
    client has in its environment.
    """

    def __init__(
        self,
        database: Postgres,
        artifacts: str | None = None,
        environment: Mapping[str, str] | None = None,
        password: str | None = None,
        workers: int = 1,
    ):
        self.database = database
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = Path(tempfile.mkdtemp(prefix="medoid-mlflow-"))
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", database.uri_without_password, "--workers", str(workers)]
        command += ["--artifacts-destination", artifacts or (self.folder / "artifacts").as_uri()]
        command += ["--allowed-hosts", f"127.0.0.1:{self.port}"]
        variables = {
            **os.environ,
            "PGPASSWORD": database.password,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            **(environment or {}),
        }
        if password is not None:
            command += ["--app-name", "basic-auth"]
            variables |= self._authentication(database, password)
        name = {} if password is None else {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": password}
        self.credentials: dict[str, str] = name
        self.log = self.folder / "log"
        self._process = ServerProcess(command, self.log, variables)

    def _authentication(self, database: Postgres, password: str) -> dict[str, str]:
        settings = self.folder / "auth.ini"
        settings.write_text(
            "[mlflow]\n"
            "default_permission = READ\n"
            f"database_uri = {database.uri_without_password}\n"
            "auth_cache_ttl_seconds = 60\n"
        )
        return {
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
            "MLFLOW_AUTH_ADMIN_PASSWORD": password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        }

    @property
    def pid(self) -> int:
        """The server's process, which leads the group of all of them."""
        assert self._process.process is not None, "the server does not run"
        return self._process.process.pid

    def start(self) -> None:
        """Start it, and wait until it answers; the first time, it makes its tables."""
        self._process.start(self._answers)

    def stop(self) -> None:
        """SIGKILL all of its processes."""
        self._process.stop()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    def __enter__(self) -> "MlflowServer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder)
