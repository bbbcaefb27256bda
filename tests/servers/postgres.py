"""PostgreSQL, from the package pgserver, as a process of its own that listens on 127.0.0.1 and asks for a password."""

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from servers.processes import ServerProcess, free_port

NOBODY = "nobody"  # PostgreSQL refuses to run as root, as which tests may run


class Postgres:
    """A server with one database, for as long as the context lasts; `stop` and `start` make an outage.

    `durable=False` leaves out the waiting for the disk, which no test looks at and a measurement must not do.
    """

    def __init__(self, durable: bool = False):
        self.port = free_port()
        self.password = secrets.token_hex(12)
        self.folder = Path(tempfile.mkdtemp(prefix="medoid-postgres-"))
        self._user = NOBODY if os.geteuid() == 0 else None
        self._programs = self._reachable_programs()
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-p", str(self.port)]
        if not durable:
            options += ["-c", "fsync=off", "-c", "synchronous_commit=off"]
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        command = [str(self._programs / "postgres"), "-D", str(self.folder / "data"), *options]
        self._process = ServerProcess(command, self.folder / "log", environment, self._user)
        self._initialise(environment)

    def _reachable_programs(self) -> Path:
        """Where the programs lie: a copy, where the other user might not be allowed to look into this one's folders."""
        package = importlib.util.find_spec("pgserver")  # its own server would make a user, and open folders up to /
        assert package is not None, "pip install pgserver"
        assert package.origin is not None
        home = Path(package.origin).parent
        if self._user is not None:
            for part in ("pgserver/pginstall", "pgserver.libs"):
                shutil.copytree(home.parent / part, self.folder / part)
            shutil.chown(self.folder, self._user)
            home = self.folder / "pgserver"
        return home / "pginstall" / "bin"

    def _initialise(self, environment: dict[str, str]) -> None:
        phrase = self.folder / "password"
        phrase.write_text(self.password)
        if self._user is not None:
            shutil.chown(phrase, self._user)
        subprocess.run(
            [
                self._programs / "initdb",
                *("-D", self.folder / "data", "-U", "medoid", "--pwfile", phrase),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            env=environment,
            user=self._user,
        )
        phrase.unlink()

    @property
    def uri(self) -> str:
        """The database, with the password."""
        return f"postgresql://medoid:{self.password}@127.0.0.1:{self.port}/postgres"

    @property
    def uri_without_password(self) -> str:
        """The database, for clients that get the password as PGPASSWORD."""
        return f"postgresql://medoid@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        asking = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        self._process.start(lambda: subprocess.run(asking, check=False).returncode == 0)

    def stop(self) -> None:
        """End it at once: clients lose their connections, what was committed stays."""
        self._process.stop(signal.SIGQUIT)

    def __enter__(self) -> "Postgres":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder)
