"""Where results are kept: a protocol, and its form on a file system."""

import contextlib
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class StorageError(RuntimeError):
    """Storage that cannot be used: says which place, and why."""


class SweepBusyError(StorageError):
    """Another process is writing here."""


class Storage(Protocol):
    """Named blobs. Keys are relative, '/'-separated; a blob is there whole or not at all.

    Safe to use from several processes; of several writers of one key, the last wins.
    Every method raises StorageError, naming the place, where the store itself fails.
    """

    uri: str

    def read(self, key: str) -> bytes:
        """The blob. Raises FileNotFoundError where there is none."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Replace the blob, atomically and durably."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is a blob of this key."""
        ...

    def list(self, prefix: str) -> list[str]:
        """All keys below a folder, sorted."""
        ...

    def delete(self, key: str) -> None:
        """Remove the blob; nothing happens where there is none."""
        ...

    def sole_writer(self, key: str) -> contextlib.AbstractContextManager[None]:
        """Hold the right to write while the context lasts. Raises SweepBusyError where another process holds it.

        The right ends with the process that holds it, however that ends.
        """
        ...


class LocalStorage:
    """Blobs as files below a folder: written aside, flushed to disk and renamed."""

    def __init__(self, root: str | Path):
        self.root = Path(root).absolute()
        self.uri = str(self.root)

    def path(self, key: str) -> Path:
        """The file of a key; refuses keys that lead out of the folder."""
        path = self.root / key
        if not path.is_relative_to(self.root) or ".." in path.parts:
            raise ValueError(f"key {key!r} leads out of {self.root}")
        return path

    def read(self, key: str) -> bytes:
        try:
            return self.path(key).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(f"{self.path(key)} cannot be read: {error.strerror}") from error

    def write(self, key: str, data: bytes) -> None:
        path = self.path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(aside, 0o644)
                os.replace(aside, path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(aside)
                raise
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}") from error

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def list(self, prefix: str) -> list[str]:
        found = (path for path in self.path(prefix).rglob("*") if path.is_file() and path.suffix != ".part")
        return sorted(str(path.relative_to(self.root)) for path in found)

    def delete(self, key: str) -> None:
        try:
            self.path(key).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{self.path(key)} cannot be deleted: {error.strerror}") from error

    @contextlib.contextmanager
    def sole_writer(self, key: str) -> Iterator[None]:
        path = self.path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+")  # noqa: SIM115 - stays open for as long as the lock is held
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise SweepBusyError(
                    f"{path.parent} is being written by {holder}; wait for it, or stop it first"
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield
            file.truncate(0)


def open_storage(uri: str) -> Storage:
    """The storage behind a spec's `storage.path`: a folder."""
    if "://" in uri:
        raise StorageError(f"storage {uri!r}: only folders can be used")
    return LocalStorage(uri)
