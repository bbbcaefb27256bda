"""Where the time of an epoch goes."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator

import torch


class Clock:
    """Adds up seconds by name. On a GPU it waits for the device at the borders of long parts only.

    Augmentation and training alternate every batch, so on a GPU their share is measured with events on the stream.
    """

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.seconds: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextlib.contextmanager
    def lap(self, name: str) -> Iterator[None]:
        """Time a short part of the work, without waiting for the device."""
        if not self.cuda:
            start = time.perf_counter()
            yield
            self.seconds[name] += time.perf_counter() - start
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._events.append((name, begin, end))

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Time a long part of the work, from idle device to idle device."""
        self.settle()
        start = time.perf_counter()
        yield
        if self.cuda:
            torch.cuda.synchronize()
        self.seconds[name] += time.perf_counter() - start

    def settle(self) -> None:
        """Wait for the device, and count the parts timed on it."""
        if not self.cuda:
            return
        torch.cuda.synchronize()
        for name, begin, end in self._events:
            self.seconds[name] += begin.elapsed_time(end) / 1000.0
        self._events.clear()
