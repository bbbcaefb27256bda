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
from workers.uploads import upload


@dataclass(frozen=True)
class Measured:
    """What a selection starts from.

    staleness  mean number of optimizer steps taken since an example's logits were computed; None where all were
               computed by a forward pass, after the last step
    """

    candidates: Candidates
    staleness: float | None = None


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
        index = upload(rows, logits.device)
        self._ids.append(ids[rows])
        self._steps.append(np.full(len(rows), step, np.int64))
        self._logits.append(logits.detach().index_select(0, index))
        if self._embeddings is not None and self._last is not None:
            self._embeddings.append(self._last.take().index_select(0, index))

    def finish(self, steps: int, ids: Int64, labels: Int64, group: Group) -> Measured:
        """Losses of the whole training set (ids ascending), and residuals of what was trained on in this process.

        `steps`: how many the epoch took. Each example's logits are as old as the steps from its own on.
        """
        if self._last is not None:
            self._last.close()
        own = np.concatenate([np.zeros(0, np.int64), *self._ids])
        order = np.argsort(own)
        rows = np.searchsorted(ids, own[order])
        losses, residuals = np.zeros(0, np.float32), np.zeros((0, 1), np.float32)
        if len(rows):  # there may be more processes than examples in a batch
            logits = torch.from_numpy(_numpy(self._logits)[order])
            computed = losses_and_residuals(logits, torch.from_numpy(labels[rows]))
            losses, residuals = computed[0].numpy(), computed[1].numpy()
        taken = np.concatenate([np.zeros(0, np.int64), *self._steps])
        parts = group.gather((rows, losses, taken))
        seen = np.concatenate([part[0] for part in parts])
        assert np.array_equal(np.sort(seen), np.arange(len(ids))), "every example has one original in an epoch"
        everybody = np.empty(len(ids), np.float32)
        everybody[seen] = np.concatenate([part[1] for part in parts])
        candidates = Candidates(
            ids=ids,
            labels=labels,
            losses=everybody,
            residuals=residuals,
            embeddings=None if self._embeddings is None else _numpy(self._embeddings)[order],
            rows=None if group.size == 1 else rows,
        )
        return Measured(candidates, float((steps - np.concatenate([part[2] for part in parts])).mean()))


def _numpy(batches: list[torch.Tensor]) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = torch.cat(batches).float().cpu().numpy() if batches else np.zeros(0, np.float32)
    return found
