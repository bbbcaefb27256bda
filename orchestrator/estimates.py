"""What a sweep will take, as numbers: made where it would run, shown where it was asked for."""

import heapq
from dataclasses import dataclass

from pydantic import TypeAdapter


@dataclass(frozen=True)
class Estimate:
    """What the trials of one cell (all its seeds) take."""

    label: str
    trials: int
    todo: int
    selected: int | None  # |S|; None where a tolerance decides it while running
    views: int | None  # images trained on in an epoch
    selection_bytes: int  # the most that a selection takes in one process, beyond the proxies
    seconds: float  # a trial, with its cores to itself
    measured: bool  # on finished trials of the cell; else reckoned from a few steps
    at_once: int = 1  # trials of this kind that fit at one time


@dataclass(frozen=True)
class Outlook:
    """A whole sweep, and where it would run: on `this machine`, or on a cluster, in words."""

    sweep: str
    place: str
    cells: tuple[Estimate, ...]

    @property
    def trials(self) -> int:
        return sum(cell.trials for cell in self.cells)

    @property
    def todo(self) -> int:
        """Trials that are not finished; the others are skipped."""
        return sum(cell.todo for cell in self.cells)

    @property
    def seconds(self) -> float:
        """Until the whole is done, where nothing else runs there: trials begin in order, each as soon as it fits."""
        now, free = 0.0, 1.0
        running: list[tuple[float, float]] = []  # ends, and shares of the place
        for cell in self.cells:
            share = 1 / cell.at_once
            for _ in range(cell.todo):
                while free < share - 1e-9:
                    now, freed = heapq.heappop(running)
                    free += freed
                heapq.heappush(running, (now + cell.seconds, share))
                free -= share
        return max((end for end, _ in running), default=now)

    def to_json(self) -> str:
        """One line."""
        return _OUTLOOKS.dump_json(self).decode()


def read_outlook(text: str) -> Outlook:
    """What `Outlook.to_json` wrote."""
    return _OUTLOOKS.validate_json(text)


_OUTLOOKS = TypeAdapter(Outlook)
