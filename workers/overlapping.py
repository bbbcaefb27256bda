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
from workers.group import Group, share
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

    def wait(self) -> Selection:
        """The selection once it is there. Raises OverlappedSelectionError, which says why there is none."""
        try:
            return self._answer.result()
        except BaseException as error:
            raise OverlappedSelectionError(
                f"the selection asked for after epoch {self._request.epoch} failed: {type(error).__name__}: {error}"
            ) from error


def measured_state(measured: Measured, group: Group) -> dict[str, Any] | None:
    """Candidates as they go into a checkpoint, for rank 0: what the others hold too, and who held it.

    Their labels are not in it: they are the trial's. Every process of the group calls this.
    """
    candidates = measured.candidates
    arrays = {name: getattr(candidates, name) for name in ("ids", "losses", "residuals", "embeddings")}
    if candidates.rows is not None:
        parts = group.collect((candidates.rows, candidates.residuals, candidates.embeddings))
        if parts is None:
            return None
        holders = [np.full(len(rows), rank) for rank, (rows, _, _) in enumerate(parts)]
        order = np.argsort(np.concatenate([rows for rows, _, _ in parts]))
        arrays["holders"] = np.concatenate(holders)[order]
        for name, place in (("residuals", 1), ("embeddings", 2)):
            if arrays[name] is not None:
                arrays[name] = np.concatenate([part[place] for part in parts if len(part[0])])[order]
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items() if array is not None}
    return {**tensors, "staleness": measured.staleness}


def measured_from_state(state: dict[str, Any], examples: TrainingSet, group: Group) -> Measured:
    """Candidates as they come out of a checkpoint: to each process what it held, or where none is named its share."""
    arrays = {name: value.numpy() for name, value in state.items() if name != "staleness"}
    assert np.array_equal(arrays["ids"], examples.ids)
    holders = arrays.pop("holders", None)
    if group.size > 1:
        everything = np.arange(len(examples.ids))
        rows = everything[share(len(everything), group)] if holders is None else everything[holders == group.rank]
        arrays |= {name: arrays[name][rows] for name in ("residuals", "embeddings") if name in arrays}
        arrays["rows"] = rows
    return Measured(Candidates(labels=examples.labels, **arrays), state["staleness"])


def request_state(request: Request, group: Group) -> dict[str, Any]:
    """A request as it goes into a checkpoint."""
    measured = measured_state(request.measured, group)
    return {"strategy": request.strategy, "epoch": request.epoch, "measured": measured}


def request_from_state(state: dict[str, Any], examples: TrainingSet, group: Group) -> Request:
    """A request as it comes out of a checkpoint."""
    return Request(state["strategy"], state["epoch"], measured_from_state(state["measured"], examples, group))
