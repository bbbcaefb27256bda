"""Losses and gradient proxies taken from an epoch of training, instead of a pass of their own."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from selection.proxies import Int64
from selection.strategies import Candidates
from workers.group import Group
from workers.measuring import losses_and_residuals
from workers.models import LastInput


@dataclass(frozen=True)
class Measured:
    """What a selection starts from.

    staleness  mean number of optimizer steps taken since an example's logits were computed; None where all were
               computed by a forward pass, after the last step
    """

    candidates: Candidates
    staleness: float | None = None


@dataclass(frozen=True)
class _Part:
    ids: Int64
    steps: Int64
    logits: npt.NDArray[np.float32]
    embeddings: npt.NDArray[np.float32] | None


class Harvest:
    """Keeps what one epoch's forward passes say of the original of every example; the copies are passed over.

    Logits, and the last layer's input where asked for, stay on the device until the epoch is over: O(n (C + D)) memory.
    """

    def __init__(self, module: nn.Module, *, embeddings: bool):
        self._ids: list[Int64] = []
        self._steps: list[Int64] = []
        self._logits: list[torch.Tensor] = []
        self._embeddings: list[torch.Tensor] | None = [] if embeddings else None
        self._last = LastInput(module) if embeddings else None

    def add(self, step: int, ids: Int64, copies: Int64, logits: torch.Tensor) -> None:
        """Keep a batch's originals: ids and copies (b,), logits (b, C) as the network has just given them.

        `step` counts the epoch's optimizer steps taken before it.
        """
        rows = np.flatnonzero(copies == 0)
        index = torch.from_numpy(rows).to(logits.device)
        self._ids.append(ids[rows])
        self._steps.append(np.full(len(rows), step, np.int64))
        self._logits.append(logits.detach().index_select(0, index))
        if self._embeddings is not None and self._last is not None:
            self._embeddings.append(self._last.take().index_select(0, index))

    def finish(self, steps: int, ids: Int64, labels: Int64, group: Group) -> Measured:
        """Residuals and losses of the whole training set (ids ascending), gathered for everybody in the group.

        `steps`: how many the epoch took. Each example's logits are as old as the steps from its own on.
        """
        if self._last is not None:
            self._last.close()
        own = _Part(
            np.concatenate([np.zeros(0, np.int64), *self._ids]),
            np.concatenate([np.zeros(0, np.int64), *self._steps]),
            _numpy(self._logits),
            None if self._embeddings is None else _numpy(self._embeddings),
        )
        parts: list[_Part] = [part for part in group.gather(own) if len(part.ids)]  # more processes than examples
        seen = np.concatenate([part.ids for part in parts])
        order = np.argsort(seen)
        assert np.array_equal(seen[order], ids), "every example has one original in an epoch"
        logits = torch.from_numpy(np.concatenate([part.logits for part in parts])[order])
        losses, residuals = losses_and_residuals(logits, torch.from_numpy(labels))
        embeddings = [part.embeddings for part in parts if part.embeddings is not None]
        candidates = Candidates(
            ids=ids,
            labels=labels,
            losses=losses.numpy(),
            residuals=residuals.numpy(),
            embeddings=np.concatenate(embeddings)[order] if embeddings else None,
        )
        taken = np.concatenate([part.steps for part in parts])
        return Measured(candidates, float((steps - taken).mean()))


def _numpy(batches: list[torch.Tensor]) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = torch.cat(batches).float().cpu().numpy() if batches else np.zeros(0, np.float32)
    return found
