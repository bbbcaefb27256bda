"""A journal on disk of what still has to be sent somewhere."""

import contextlib
import logging
import os
import shutil
import threading
from collections import deque
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

logger = logging.getLogger(__name__)
E = TypeVar("E")

BLOCK = 1 << 20  # bytes read at a time: what waits is on disk, and memory holds no more of it than this


class Spool(Generic[E]):
    """A queue that outlives its process: every entry is a line of JSON in a file until it is acknowledged.

    An entry has reached the operating system when `append` returns, so a killed process loses none. Acknowledged
    entries leave the file only when nothing is pending: a reader that starts anew may meet entries that were
    acknowledged before, and must not mind. One process at a time; within it, any thread appends and one reads.
    """

    def __init__(self, path: Path, kind: TypeAdapter[E]):
        """Open the journal, and what an earlier process left in it. Raises OSError where it cannot be opened."""
        self.path = path
        self._kind = kind
        self._lock = threading.Lock()
        self._told = False
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_own(path)
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._unwritten: deque[bytes] = deque()  # lines that the disk refused; they come after those in the file
        self._read = self._line = 0  # where the first entry that is not acknowledged starts, and the number of its line
        self._size, self._pending = self._measure(self._file)
        self._offered: list[
            list[bytes]
        ] = []  # the lines of each entry that was read last, unreadable ones before it too
        self._judged = 0  # up to which line those that are no entries were reported

    def _measure(self, file: int) -> tuple[int, int]:
        """The bytes and the number of the lines that an earlier process has finished."""
        whole = lines = place = 0
        while block := os.pread(file, BLOCK, place):
            if b"\n" in block:
                whole = place + block.rfind(b"\n") + 1
                lines += block.count(b"\n")
            place += len(block)
        # A killed process or a full disk can leave half a line; the next one must not be glued to it.
        if whole < place:
            logger.warning("%s: dropped a last line that was never finished", self.path)
            os.ftruncate(file, whole)
        return whole, lines

    @property
    def pending(self) -> int:
        """How many entries are not acknowledged."""
        return self._pending

    def append(self, entry: E) -> None:
        """Add an entry. Where the disk refuses it, says so and keeps it in memory."""
        line = self._kind.dump_json(entry) + b"\n"
        with self._lock:
            if self._file is None:
                raise ValueError(f"{self.path} is closed")
            self._unwritten.append(line)
            self._pending += 1
            try:
                while self._unwritten:
                    self._write(self._file, self._unwritten[0])
                    self._unwritten.popleft()
            except OSError as error:
                if not self._told:
                    logger.warning(
                        "%s cannot be written (%s): its entries are kept in memory, and lost if they cannot be sent",
                        self.path,
                        error.strerror,
                    )
                    self._told = True

    def _write(self, file: int, line: bytes) -> None:
        try:
            if os.pwrite(file, line, self._size) < len(line):
                raise OSError(None, "no space left")
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, self._size)
            raise
        self._size += len(line)

    def peek(self, most: int) -> list[E]:
        """The oldest entries, at most so many, and fewer where they are long; they stay pending."""
        with self._lock:
            entries: list[E] = []
            while not entries and self._pending and self._file is not None:
                self._offered, lines = [], []
                for line in self._oldest(self._file, most):
                    lines.append(line)
                    entry = self._parsed(line, self._line + sum(map(len, self._offered)) + len(lines))
                    if entry is not None:
                        entries.append(entry)
                        self._offered.append(lines)
                        lines = []
                if not entries:
                    self._drop(lines)
            return entries

    def _oldest(self, file: int, most: int) -> list[bytes]:
        """The oldest lines: those in the file, as many as a block holds, and then those that it would not take."""
        left = self._size - self._read
        block = os.pread(file, min(BLOCK, left), self._read)
        while left and b"\n" not in block:  # one line longer than a block
            block += os.pread(file, BLOCK, self._read + len(block))
        lines = block[: block.rfind(b"\n") + 1].splitlines(keepends=True)[:most]
        if left <= BLOCK:
            lines += [self._unwritten[place] for place in range(min(most - len(lines), len(self._unwritten)))]
        return lines

    def _parsed(self, line: bytes, number: int) -> E | None:
        try:
            return self._kind.validate_json(line)
        except ValidationError as error:
            if number > self._judged:
                self._judged = number
                problem = error.errors(include_url=False)[0]["msg"]
                logger.warning("%s:%d: dropped a line that is not an entry: %s", self.path, number, problem)
            return None

    def acknowledge(self, count: int) -> None:
        """Forget the oldest of the entries that `peek` has shown. Does nothing once closed: the journal may be another
        process's by then."""
        with self._lock:
            if self._file is not None:
                self._drop([line for lines in self._offered[:count] for line in lines])
                self._offered = []

    def _drop(self, lines: list[bytes]) -> None:
        assert self._file is not None
        for line in lines:
            if self._read < self._size:
                self._read += len(line)
            else:
                self._unwritten.popleft()
        self._line += len(lines)
        self._pending -= len(lines)
        if not self._pending:
            os.ftruncate(self._file, 0)
            self._read = self._size = self._line = self._judged = 0

    def close(self) -> None:
        """Give up the file; what is pending stays in it."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def _make_own(path: Path) -> None:
    """Put a copy in the journal's place: a process that lost the sweep on a shared disk may still write to the old."""
    if path.exists():
        aside = path.with_name(f".{path.name}.part")
        shutil.copyfile(path, aside)
        os.replace(aside, path)
