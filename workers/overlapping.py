"""Selections computed beside training: asked for at one epoch, used some epochs later."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from selection.select import Selection
from selection.strategies import Candidates
from workers.data import TrainingSet
from workers.harvesting import Measured


class OverlappedSelectionError(RuntimeError):
    """A selection that failed while training went on; its cause is what it failed of."""


@dataclass(frozen=True)
class Request:
    """A selection that is due: by which strategy, before which epoch, and from what."""

    strategy: str
    epoch: int
    measured: Measured


class Background:
    """One selection, computed in a thread of this process.

    Nobody need wait for it: a trial that is left drops the answer, and the thread does not keep the process alive.
    """

    def __init__(self, request: Request, compute: Callable[[Request], Selection]):
        self._request = request
        self._answer: Future[Selection] = Future()
        threading.Thread(
            target=self._run, args=(compute,), name=f"selection before epoch {request.epoch}", daemon=True
        ).start()

    def _run(self, compute: Callable[[Request], Selection]) -> None:
        try:
            self._answer.set_result(compute(self._request))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the trial raises it
            self._answer.set_exception(error)

    def wait(self) -> Selection | OverlappedSelectionError:
        """The selection once it is there, or the error, to be raised, that says why there is none."""
        error = self._answer.exception()
        if error is None:
            return self._answer.result()
        failure = OverlappedSelectionError(
            f"the selection asked for after epoch {self._request.epoch} failed: {type(error).__name__}: {error}"
        )
        failure.__cause__ = error
        return failure


def measured_state(measured: Measured) -> dict[str, Any]:
    """Candidates as they go into a checkpoint. Their labels do not: they are the trial's."""
    candidates = measured.candidates
    arrays = {name: getattr(candidates, name) for name in ("ids", "losses", "residuals", "embeddings")}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items() if array is not None}
    return {**tensors, "staleness": measured.staleness}


def measured_from_state(state: dict[str, Any], examples: TrainingSet) -> Measured:
    """Candidates as they come out of a checkpoint."""
    arrays = {name: value.numpy() for name, value in state.items() if name != "staleness"}
    assert np.array_equal(arrays["ids"], examples.ids)
    return Measured(Candidates(labels=examples.labels, **arrays), state["staleness"])


def request_state(request: Request) -> dict[str, Any]:
    """A request as it goes into a checkpoint."""
    return {"strategy": request.strategy, "epoch": request.epoch, "measured": measured_state(request.measured)}


def request_from_state(state: dict[str, Any], examples: TrainingSet) -> Request:
    """A request as it comes out of a checkpoint."""
    return Request(state["strategy"], state["epoch"], measured_from_state(state["measured"], examples))
