"""The processes that train one trial: one, or several under DDP."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn


class Group(Protocol):
    """What the loop asks of the processes beside it."""

    rank: int
    size: int

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, with gradients averaged over the group on every backward pass."""
        ...

    def align(self, model: nn.Module) -> None:
        """Give everybody rank 0's buffers (batch norm's running statistics are each process's own)."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """Everybody's value, in order of rank, for everybody."""
        ...


class Alone:
    """One process."""

    rank = 0
    size = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def align(self, model: nn.Module) -> None:
        pass

    def gather(self, value: Any) -> list[Any]:
        return [value]


class Ddp:
    """The processes of the current torch.distributed group."""

    def __init__(self, device: torch.device):
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()
        self.device = device

    def wrap(self, model: nn.Module) -> nn.Module:
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices)

    def align(self, model: nn.Module) -> None:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)

    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values


def share(count: int, group: Group) -> slice:
    """This process's part of `count` things in order: contiguous, sizes differing by one at most."""
    base, extra = divmod(count, group.size)
    start = group.rank * base + min(group.rank, extra)
    return slice(start, start + base + (group.rank < extra))


def first(values: Sequence[Any]) -> Any:
    """What rank 0 said."""
    return values[0]
