"""Whose work is done next, where many ask for works at the same time."""

from collections import deque
from typing import Generic, TypeVar

J = TypeVar("J")


class Turns(Generic[J]):
    """One job of each asker in turn, however many another has; of one asker's, the costliest first."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[tuple[float, J]]] = {}  # in the order of their turns

    def add(self, asker: str, jobs: list[tuple[float, J]]) -> None:
        """Line up jobs with their costs; an asker that waits already keeps its turn."""
        waiting = [*self._queues.get(asker, ()), *jobs]
        if waiting:
            self._queues[asker] = deque(sorted(waiting, key=lambda job: -job[0]))

    def next_cost(self) -> float | None:
        """What the next job costs; None where there is none."""
        for queue in self._queues.values():
            return queue[0][0]
        return None

    def take(self) -> J:
        """The next job; its asker goes to the end. Raises LookupError where there is none."""
        if not self._queues:
            raise LookupError("nobody waits")
        asker = next(iter(self._queues))
        queue = self._queues.pop(asker)
        _, job = queue.popleft()
        if queue:
            self._queues[asker] = queue
        return job
