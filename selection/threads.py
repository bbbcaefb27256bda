"""Threads for kernels that release the GIL, and memory for them. What they compute never depends on either."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
KEPT = 64 << 20  # bytes that wait in this process for the next crew: fresh memory costs up to a millisecond a megabyte
_spare: list[Bytes] = []
_lock = threading.Lock()


class Crew:
    """A few threads, and the memory that they work in. Close it, or use it in a `with`."""

    def __init__(self, threads: int = 1):
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._borrowed: list[Bytes] = []

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        _give_back(self._borrowed)
        self._borrowed = []

    def share(self, n: int, chunk: int, work: Callable[[int, int], None]) -> None:
        """Call work(start, stop) for every chunk of range(n), the last ones first: they may cost most."""
        starts = range(0, n, chunk)[::-1]
        if self._pool is None or len(starts) == 1:
            for start in starts:
                work(start, min(start + chunk, n))
        else:
            list(self._pool.map(lambda start: work(start, min(start + chunk, n)), starts))

    def mark(self) -> int:
        """For `release`: what is borrowed until now stays."""
        return len(self._borrowed)

    def release(self, mark: int) -> None:
        """Arrays since a mark are needed no more; their memory is used again."""
        _give_back(self._borrowed[mark:])
        del self._borrowed[mark:]

    def empty(self, shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
        """An array with arbitrary content, for as long as this crew is open. Memory not written to costs nothing."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        taken = _take(size)
        self._borrowed.append(taken)
        return taken[:size].view(dtype).reshape(shape)


def _take(size: int) -> Bytes:
    with _lock:
        fitting = [place for place, one in enumerate(_spare) if size <= len(one)]
        if fitting:
            return _spare.pop(min(fitting, key=lambda place: len(_spare[place])))
    return np.empty(size, np.uint8)


def _give_back(borrowed: list[Bytes]) -> None:
    """Keep the largest that fit together; the rest is freed."""
    with _lock:
        every = sorted([*_spare, *borrowed], key=len, reverse=True)
        _spare.clear()
        left = KEPT
        for one in every:
            if len(one) <= left:
                _spare.append(one)
                left -= len(one)
