"""A journal on disk of what still has to be sent somewhere."""

import contextlib
import logging
import os
import threading
from collections import deque
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

logger = logging.getLogger(__name__)
E = TypeVar("E")


class Spool(Generic[E]):
    """A queue that outlives its process: every entry is a line of JSON in a file until it is acknowledged.

    An entry has reached the operating system when `append` returns, so a killed process loses none. Acknowledged
    entries leave the file only when nothing is pending: a reader that starts anew may meet entries that were
    acknowledged before, and must not mind. One process at a time; within it, any thread.
    """

    def __init__(self, path: Path, kind: TypeAdapter[E]):
        """Open the journal, and what an earlier process left in it. Raises OSError where it cannot be opened."""
        self.path = path
        self._kind = kind
        self._lock = threading.Lock()
        self._told = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._entries: deque[E] = deque(self._read())

    def _read(self) -> list[E]:
        data = self.path.read_bytes()
        # A killed process or a full disk can leave half a line; the next one must not be glued to it.
        self._size = data.rfind(b"\n") + 1
        if self._size < len(data):
            logger.warning("%s: dropped a last line that was never finished", self.path)
            os.truncate(self.path, self._size)
        entries = []
        for number, line in enumerate(data[: self._size].splitlines(), start=1):
            try:
                entries.append(self._kind.validate_json(line))
            except ValidationError as error:
                problem = error.errors(include_url=False)[0]["msg"]
                logger.warning("%s:%d: dropped a line that is not an entry: %s", self.path, number, problem)
        return entries

    @property
    def pending(self) -> int:
        """How many entries are not acknowledged."""
        return len(self._entries)

    def append(self, entry: E) -> None:
        """Add an entry. Where the disk refuses it, says so and keeps it in memory."""
        line = self._kind.dump_json(entry) + b"\n"
        with self._lock:
            if self._file is None:
                raise ValueError(f"{self.path} is closed")
            try:
                written = os.pwrite(self._file, line, self._size)
                if written < len(line):
                    raise OSError(None, "no space left")
                self._size += len(line)
            except OSError as error:
                if not self._told:
                    logger.warning(
                        "%s cannot be written (%s): its entries are kept in memory, and lost if they cannot be sent",
                        self.path,
                        error.strerror,
                    )
                    self._told = True
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._size)
            self._entries.append(entry)

    def peek(self, most: int) -> list[E]:
        """The oldest entries, at most so many; they stay pending."""
        with self._lock:
            return [self._entries[i] for i in range(min(most, len(self._entries)))]

    def acknowledge(self, count: int) -> None:
        """Forget the oldest entries. Does nothing once closed: the journal may be another process's by then."""
        with self._lock:
            if self._file is None:
                return
            for _ in range(count):
                self._entries.popleft()
            if not self._entries:
                os.ftruncate(self._file, 0)
                self._size = 0

    def close(self) -> None:
        """Give up the file; what is pending stays in it."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None
