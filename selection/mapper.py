"""Where selection problems are solved: in this process, or elsewhere with the same answers."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numba

from selection.greedy import Picks, Problem, solve


class Mapper(Protocol):
    """Solves independent problems; the answers are those of `greedy.solve`, in the order of the problems."""

    def map(self, problems: Sequence[Problem]) -> tuple[list[Picks], float]:
        """The picks of every problem, and the seconds of the busiest of those who computed them."""
        ...


class SerialMapper:
    """Solves one problem after another in this process, each on `threads` threads."""

    def __init__(self, threads: int | None = None):
        self.threads = threads

    def map(self, problems: Sequence[Problem]) -> tuple[list[Picks], float]:
        if self.threads is not None:
            numba.set_num_threads(min(self.threads, numba.config.NUMBA_NUM_THREADS))
        picks = [timed(problem) for problem in problems]
        return picks, sum(part.seconds for part in picks)


def timed(problem: Problem) -> Picks:
    """Solve a problem and record how long that took."""
    start = time.perf_counter()
    return replace(solve(problem), seconds=time.perf_counter() - start)
