"""Reading many things in turn: in S3 each is waited for."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_AT_ONCE = 8
_HELD = 64  # read, and not yet taken
T = TypeVar("T")
R = TypeVar("R")


def read_ahead(read: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """What `read` gives for each item, in their order; a few are read beside each other, ahead of who takes them."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for start in range(0, len(items), _HELD):
            yield from pool.map(read, items[start : start + _HELD])
