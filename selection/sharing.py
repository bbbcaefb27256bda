"""A ground set that several processes hold together, each the proxies of some of its examples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from selection.proxies import Int64

T = TypeVar("T")


class Holders(Protocol):
    """The processes, in which the same is asked at the same time."""

    rank: int
    size: int

    def gather(self, value: Any) -> list[Any]:
        """Everybody's value, in order of rank, for everybody."""
        ...


@dataclass(frozen=True)
class Share:
    """What one of the processes knows of the whole, and which part it holds.

    ids     (n,) ascending, of all examples
    labels  (n,)
    rows    (m,) ascending: the places in `ids` of those whose proxies it holds; each is held by one process
    """

    ids: Int64
    labels: Int64
    rows: Int64
    holders: Holders


def common(held: Int64, wanted: Int64) -> tuple[Int64, Int64]:
    """Of the numbers wanted, those that are held (ascending): which of the wanted they are, and where they are held."""
    at = np.searchsorted(held, wanted)
    there = at < len(held)
    there[there] = held[at[there]] == wanted[there]
    return np.flatnonzero(there), at[there]


def by_the_first(holders: Holders, compute: Callable[[], T]) -> T:
    """What rank 0 computes, for everybody; what it raises is raised by everybody, so that nobody waits for ever."""
    outcome: T | BaseException | None = None
    if holders.rank == 0:
        try:
            outcome = compute()
        except Exception as error:  # noqa: BLE001 - raised below, by everybody
            outcome = error
    outcome = holders.gather(outcome)[0]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
