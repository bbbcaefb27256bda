"""What the cache asks of data that lies in files."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workers.data.images import Decoded


@dataclass(frozen=True, slots=True)
class Stamp:
    """A file as it was found; a change of any field means that the data must be decoded anew."""

    path: str  # relative to the root
    size: int  # bytes
    mtime_ns: int

    @classmethod
    def of(cls, path: str, status: os.stat_result) -> "Stamp":
        """The stamp of a file with this status."""
        return cls(path, status.st_size, status.st_mtime_ns)


class Source(Protocol):
    """Files that were found, but not read yet."""

    @property
    def root(self) -> Path:
        """The folder that holds them."""
        ...

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """All files that `decode` reads."""
        ...

    def decode(self, image_size: int | None) -> Decoded:
        """Read them into memory, resized to that height and width. Raises DataError, naming what cannot be used."""
        ...
