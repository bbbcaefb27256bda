"""Threads for kernels that release the GIL. What they compute never depends on how many there are."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Crew:
    """A few threads. Close it, or use it in a `with`."""

    def __init__(self, threads: int = 1):
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def share(self, n: int, chunk: int, work: Callable[[int, int], None]) -> None:
        """Call work(start, stop) for every chunk of range(n), the last ones first: they may cost most."""
        starts = range(0, n, chunk)[::-1]
        if self._pool is None or len(starts) == 1:
            for start in starts:
                work(start, min(start + chunk, n))
        else:
            list(self._pool.map(lambda start: work(start, min(start + chunk, n)), starts))
