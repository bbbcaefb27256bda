"""What a storage is, whatever it keeps its blobs in."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol


class StorageError(RuntimeError):
    """Storage that cannot be used: says which place, and why."""


class SweepBusyError(StorageError):
    """Another process is writing here."""


class FencedError(StorageError):
    """This writer's right has gone to another: what it wanted to write was not written."""


class DamagedBlobError(StorageError):
    """A blob whose bytes are not those that were written."""


@dataclass(frozen=True)
class Fence:
    """The right to write: good for as long as the lock of this key holds this token."""

    key: str
    token: str


class Storage(Protocol):
    """Named blobs. Keys are relative, '/'-separated; a blob is there whole or not at all.

    Safe to use from several processes, and can be sent to them; of several writers of one key, the last wins.
    Every method raises StorageError, naming the place, where the store itself fails, and ValueError for keys that
    lead out of it.
    """

    uri: str

    def read(self, key: str) -> bytes:
        """The blob. Raises FileNotFoundError where there is none, DamagedBlobError where the store knows it is one."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Replace the blob, atomically and durably. Raises FencedError where the right to write has been lost."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is a blob of this key."""
        ...

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly in a folder, sorted. Those that were emptied may or may not be among them."""
        ...

    def list(self, prefix: str) -> list[str]:
        """All keys below a folder, sorted."""
        ...

    def delete(self, key: str) -> None:
        """Remove the blob; nothing happens where there is none. Raises FencedError as `write` does."""
        ...

    def confirm(self) -> None:
        """Do nothing, unless the right to write has been lost: then raise FencedError."""
        ...

    def discard_unfinished(self) -> None:
        """Remove what processes that were killed while they wrote have left. Raises FencedError as `write` does.

        For the sole writer once its own processes have ended: a write that is under way may fail with StorageError.
        """
        ...

    def sole_writer(self, key: str, lost: Callable[[], None] | None = None) -> AbstractContextManager["Storage"]:
        """Hold the right to write while the context lasts, and give the storage to write through.

        Raises SweepBusyError where another process holds it; FencedError at the end where it was lost on the way. The
        right ends with the process that holds it, however that ends. What is given may be sent to other processes,
        and outlive this one: it refuses to write or delete (FencedError) once the right has gone to another.
        `lost` is called, on a thread of its own, when that is noticed; the context should be left then.
        """
        ...


def checked_key(key: str, place: str) -> PurePosixPath:
    """A key as a relative path. Raises ValueError for keys that lead out of the storage."""
    relative = PurePosixPath(key)
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"key {key!r} leads out of {place}; keys are relative, without '..'")
    return relative


def replaced(place: str, holder: str) -> FencedError:
    """The error of a writer that was replaced by another."""
    by = f"by {holder}" if holder else "by another process, which has ended since"
    return FencedError(f"{place} was taken over {by}: this process may not write there any more")
