"""Storage on a file system."""

import contextlib
import fcntl
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from workers.storage.protocol import Fence, StorageError, SweepBusyError, checked_key, replaced

_ASIDE = ".part"  # ends the names of files that are still being written


class LocalStorage:
    """Blobs as files below a folder: written aside, flushed to disk and renamed.

    The lock of `sole_writer` is the kernel's (`flock`). On one machine it cannot be lost while its process lives. On a
    shared file system it can, when the network is cut: so the lock's file also holds a token, which every writer that
    was given the right looks at before it renames or deletes. Between that look and the rename, microseconds later,
    nothing more is checked: a file system has no conditional rename.
    """

    def __init__(self, root: str | Path, fence: Fence | None = None):
        self.root = Path(root).expanduser().absolute()
        self.uri = str(self.root)
        self.fence = fence

    def path(self, key: str) -> Path:
        """The file of a key. Raises ValueError for keys that lead out of the folder."""
        return self.root / checked_key(key, self.uri)

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
                self._check_fence()
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

    def folders(self, prefix: str) -> list[str]:
        place = self.path(prefix)
        _, inner, _ = next(os.walk(place, onerror=_refuse), (place, [], []))
        return sorted(inner)

    def list(self, prefix: str) -> list[str]:
        found: list[str] = []
        for folder, _, names in os.walk(self.path(prefix), onerror=_refuse):
            whole = (name for name in names if not _is_aside(name))
            found += [str((Path(folder) / name).relative_to(self.root)) for name in whole]
        return sorted(found)

    def delete(self, key: str) -> None:
        path = self.path(key)
        self._check_fence()
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _failed(path, "deleted", error) from error

    def confirm(self) -> None:
        self._check_fence()

    def discard_unfinished(self) -> None:
        self.confirm()
        for folder, _, names in os.walk(self.root, onerror=_refuse):
            for name in filter(_is_aside, names):
                path = Path(folder) / name
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise _failed(path, "deleted", error) from error

    @contextlib.contextmanager
    def sole_writer(self, key: str, lost: Callable[[], None] | None = None) -> Iterator["LocalStorage"]:
        # `lost` is never called: who lost the lock of a shared file system learns it when it next writes.
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
                holder = file.readline().strip() or "another process"
                raise SweepBusyError(
                    f"{path.parent} is being written by {holder}; wait for it, or stop it first"
                ) from None
            except OSError as error:  # a file system without locks
                raise _failed(path, "locked", error) from error
            fence = Fence(key, secrets.token_hex(16))
            try:
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n{fence.token}\n")
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                raise _failed(path, "written", error) from error
            yield LocalStorage(self.root, fence)
            file.seek(0)
            if fence.token in file.read():  # else another took over, on a file system that lost our lock
                file.truncate(0)

    def _check_fence(self) -> None:
        if self.fence is None:
            return
        path = self.path(self.fence.key)
        try:
            holder, token = [*path.read_text().splitlines(), "", ""][:2]
        except OSError as error:
            raise _failed(path, "read", error) from error
        if token != self.fence.token:
            raise replaced(str(path.parent), holder)


def _is_aside(name: str) -> bool:
    return name.startswith(".") and name.endswith(_ASIDE)


def _failed(path: Path, done: str, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be {done}: {error.strerror or error}")


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # a folder that is not there holds nothing
        raise _failed(Path(error.filename), "listed", error) from error


def _flush_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power failure: flushing the file alone does not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
