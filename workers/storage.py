"""Where results are kept: a protocol, and its form on a file system."""

import contextlib
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

_ASIDE = ".part"  # ends the names of files that are still being written


class StorageError(RuntimeError):
    """Storage that cannot be used: says which place, and why."""


class SweepBusyError(StorageError):
    """Another process is writing here."""


class Storage(Protocol):
    """Named blobs. Keys are relative, '/'-separated; a blob is there whole or not at all.

    Safe to use from several processes; of several writers of one key, the last wins.
    Every method raises StorageError, naming the place, where the store itself fails, and ValueError for keys that
    lead out of it.
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
        """The file of a key. Raises ValueError for keys that lead out of the folder."""
        relative = Path(key)
        if relative.is_absolute() or ".." in relative.parts:
            raise ValueError(f"key {key!r} leads out of {self.root}; keys are relative, without '..'")
        return self.root / relative

    def read(self, key: str) -> bytes:
        path = self.path(key)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _failed(path, "read", error) from error

    def write(self, key: str, data: bytes) -> None:
        path = self.path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_ASIDE, dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(aside, 0o644)  # mkstemp lets only the owner read
                os.replace(aside, path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(aside)
                raise
            _flush_folder(path.parent)
        except OSError as error:
            raise _failed(path, "written", error) from error

    def exists(self, key: str) -> bool:
        path = self.path(key)
        try:
            return path.is_file()
        except OSError as error:
            raise _failed(path, "read", error) from error

    def list(self, prefix: str) -> list[str]:
        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):  # a folder that is not there holds nothing
                raise _failed(Path(error.filename), "listed", error) from error

        found: list[str] = []
        for folder, _, names in os.walk(self.path(prefix), onerror=refuse):
            whole = (name for name in names if not (name.startswith(".") and name.endswith(_ASIDE)))
            found += [str((Path(folder) / name).relative_to(self.root)) for name in whole]
        return sorted(found)

    def delete(self, key: str) -> None:
        path = self.path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _failed(path, "deleted", error) from error

    @contextlib.contextmanager
    def sole_writer(self, key: str) -> Iterator[None]:
        path = self.path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+")  # noqa: SIM115 - stays open for as long as the lock is held
        except OSError as error:
            raise _failed(path, "written", error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise SweepBusyError(
                    f"{path.parent} is being written by {holder}; wait for it, or stop it first"
                ) from None
            except OSError as error:  # a file system without locks
                raise _failed(path, "locked", error) from error
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield
            file.truncate(0)


def _failed(path: Path, done: str, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be {done}: {error.strerror or error}")


def _flush_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power failure: flushing the file alone does not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_storage(uri: str) -> Storage:
    """The storage behind a spec's `storage.path`: a folder. Raises StorageError for anything else."""
    if "://" in uri:
        raise StorageError(f"storage.path = {uri!r}: only folders can be used")
    return LocalStorage(uri)
