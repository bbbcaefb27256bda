"""Where selection problems are solved: in this process, or elsewhere with the same answers."""

import os
from collections.abc import Sequence
from time import perf_counter
from typing import Protocol

from selection.greedy import solve_all
from selection.problem import Picks, Problem


class Mapper(Protocol):
    """Solves independent problems; the answers are those of `greedy.solve`, in the order of the problems."""

    def map(self, problems: Sequence[Problem]) -> tuple[list[Picks], float]:
        """The picks of every problem, and the seconds of the busiest of those who computed them."""
        ...


class SerialMapper:
    """Solves problems in this process, on `threads` threads (by default one for each processor)."""

    def __init__(self, threads: int | None = None):
        self.threads = threads or os.cpu_count() or 1

    def map(self, problems: Sequence[Problem]) -> tuple[list[Picks], float]:
        start = perf_counter()
        return solve_all(list(problems), self.threads), perf_counter() - start
