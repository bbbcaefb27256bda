"""SIGTERM, which schedulers and service managers send, stops a run as Ctrl-C does."""

import os
import signal
from types import FrameType


def sigterm_interrupts() -> None:
    """Let SIGTERM raise KeyboardInterrupt in the main thread. Called again once Ray has set a handler of its own."""
    signal.signal(signal.SIGTERM, _interrupt)


def interrupt() -> None:
    """Raise KeyboardInterrupt in the main thread, whichever thread this is; `sigterm_interrupts` was called before."""
    os.kill(os.getpid(), signal.SIGTERM)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
