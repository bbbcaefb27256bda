"""Forward and backward of one batch, kernel by kernel or as one CUDA graph."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from workers.batches import Batch
from workers.models import takes_one

_WARM_STEPS = 3  # that torch asks for before a capture; here they are steps of the training itself


class Stepper:
    """Fills the gradients of a model's parameters, batch by batch.

    A single view that batch norm would see one value a channel of, which torch refuses, is put in twice, each time
    with half its weight: so its statistics are those of the one.

    replayed  on a GPU, the number of views in a full batch; 0: none. After three full batches, the next ones replay
              what those did as one graph. A step of a small network is hundreds of small kernels, and starting them
              one by one takes longer than running them. The kernels and their order are the same, and so are the
              results. Each graph keeps memory for all that its batch needs: so other sizes get none.
    """

    def __init__(self, model: nn.Module, *, replayed: int = 0):
        self.model, self.replayed = model, replayed
        self._takes_one: bool | None = None  # known once there is such a batch
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._seen: dict[tuple[Any, ...], int] = {}
        self._captured: dict[tuple[Any, ...], _Captured] = {}

    def __call__(self, batch: Batch, scale: float, *, watched: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits (b, classes) and the sum of w * l, both without their graph; gradients are of `scale` times it.

        `watched`: something looks into the network's layers while they run, which a replay does not run. What is
        returned is valid until the next call.
        """
        if len(batch.inputs) == 1 and not self._takes(batch.inputs):
            logits, loss = self._eagerly(batch.twice(), scale)
            return logits[:1], loss
        if watched or len(batch.inputs) != self.replayed:
            return self._eagerly(batch, scale)
        shape = (batch.inputs.shape, batch.target.shape, batch.target.dtype, scale)
        if self._seen.setdefault(shape, 0) < _WARM_STEPS:
            self._seen[shape] += 1
            return self._eagerly(batch, scale)
        if shape not in self._captured:
            self._captured[shape] = self._capture(batch, scale)
        return self._replay(self._captured[shape], batch)

    def _takes(self, one: torch.Tensor) -> bool:
        if self._takes_one is None:
            self._takes_one = takes_one(self.model, one)
        return self._takes_one

    def _eagerly(self, batch: Batch, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
        for parameter in self._parameters:
            parameter.grad = None
        logits = self.model(batch.inputs)
        loss = (functional.cross_entropy(logits, batch.target, reduction="none") * batch.weights).sum()
        (loss * scale).backward()
        return logits.detach(), loss.detach()

    def _capture(self, batch: Batch, scale: float) -> "_Captured":
        own = Batch(*(torch.empty_like(tensor) for tensor in (batch.inputs, batch.target, batch.weights)))
        graph = torch.cuda.CUDAGraph()
        # records, and runs nothing; another thread may get memory for the next batches meanwhile
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            logits, loss = self._eagerly(own, scale)
        return _Captured(graph, own, logits, loss, [parameter.grad for parameter in self._parameters])

    def _replay(self, captured: "_Captured", batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        captured.batch.inputs.copy_(batch.inputs)
        captured.batch.target.copy_(batch.target)
        captured.batch.weights.copy_(batch.weights)
        captured.graph.replay()
        for parameter, gradient in zip(self._parameters, captured.gradients, strict=True):
            parameter.grad = gradient  # another batch may have put its own there
        return captured.logits, captured.loss


@dataclass(frozen=True)
class _Captured:
    """A graph, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    logits: torch.Tensor
    loss: torch.Tensor
    gradients: list[torch.Tensor | None]
