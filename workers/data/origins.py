"""Where data lie that are brought to a node."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from workers.data.archives import unpack
from workers.data.pictures import DataError

SUM = ".sha256"  # beside an archive: its checksum, as sha256sum writes it


class Origin(Protocol):
    """Where the data lie."""

    place: str  # what the user calls it
    size: int  # bytes to be read

    def identity(self) -> str:
        """What is there now: another as soon as anything of it changes."""
        ...

    def bring(self, folder: Path, advance: Callable[[int], None]) -> None:
        """Bring the files into an empty folder, telling `advance` of bytes that were read."""
        ...


class ArchiveFile:
    """An archive on a disk, usually a shared one."""

    def __init__(self, root: str):
        self.path = Path(root).expanduser().resolve()
        try:
            self.status = self.path.stat()
        except OSError as error:
            raise DataError(f"dataset.root: {self.path} cannot be read: {error.strerror}") from error
        if not self.path.is_file():
            raise DataError(f"dataset.root: {self.path} is not a file, though it is named as an archive is")
        self.place, self.size = str(self.path), self.status.st_size

    def identity(self) -> str:
        return digest([self.status.st_size, self.status.st_mtime_ns])

    def bring(self, folder: Path, advance: Callable[[int], None]) -> None:
        beside = self.path.with_name(self.path.name + SUM)
        if beside.is_file():
            check_sum(self.path, self.place, beside.read_bytes())
        unpack(self.path, folder, self.place, advance)


def check_sum(archive: Path, place: str, expected: bytes) -> None:
    """Raise DataError where an archive has not the checksum that was written beside it."""
    with open(archive, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if expected.split()[:1] != [found.encode()]:
        raise DataError(f"{place}: its SHA-256 is {found}, not that of {place}{SUM}: damaged, or another version")


def digest(what: Sequence[object]) -> str:
    """16 hexadecimal digits that change with what was found."""
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]
