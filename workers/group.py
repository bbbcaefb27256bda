"""The processes that train one trial: one, or several under DDP."""

from datetime import timedelta
from typing import Any, Protocol

import torch
from torch import nn

from selection.sharing import Holders

PATIENCE = timedelta(days=7)  # data may have to be fetched, a selection take long; that a process died is seen at once


class Group(Protocol):
    """What the loop asks of the processes beside it."""

    rank: int
    size: int
    aside: Holders  # the same processes, for what runs beside training: it does not disturb the order of what is below

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, with gradients averaged over the group on every backward pass."""
        ...

    def align(self, model: nn.Module) -> None:
        """Give everybody rank 0's buffers (batch norm's running statistics are each process's own)."""
        ...

    def tell(self, value: Any) -> Any:
        """Rank 0's value, for everybody."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """Everybody's value, in order of rank, for everybody."""
        ...

    def collect(self, value: Any) -> list[Any] | None:
        """Everybody's value, in order of rank, for rank 0; None for the others."""
        ...


class Alone:
    """One process."""

    def __init__(self) -> None:
        self.rank, self.size = 0, 1
        self.aside: Holders = self

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def align(self, model: nn.Module) -> None:
        pass

    def tell(self, value: Any) -> Any:
        return value

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def collect(self, value: Any) -> list[Any] | None:
        return [value]


class Ddp:
    """The processes of the current torch.distributed group; all of them create it at the same time.

    Tensors go over that group, which may be a GPU's; Python's objects over one on the CPU, whose memory holds them.
    """

    def __init__(self, device: torch.device):
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()
        self.device = device
        self._objects = _on_cpu()
        self.aside: Holders = _Aside()

    def wrap(self, model: nn.Module) -> nn.Module:
        # Otherwise DDP would lay out its buckets anew after the first step, also after a resume's: of three processes
        # and more, where a gradient lies decides in which order it is summed.
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices, find_unused_parameters=True)

    def align(self, model: nn.Module) -> None:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)

    def tell(self, value: Any) -> Any:
        values = [value if self.rank == 0 else None]
        torch.distributed.broadcast_object_list(values, src=0, group=self._objects)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        return _gather(value, self.size, self._objects)

    def collect(self, value: Any) -> list[Any] | None:
        values: list[Any] | None = [None] * self.size if self.rank == 0 else None
        torch.distributed.gather_object(value, values, dst=0, group=self._objects)
        return values


class _Aside:
    """A group of its own, on the CPU: calls of two threads on one group would meet in another order in each process."""

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()
        self._group = _on_cpu()

    def gather(self, value: Any) -> list[Any]:
        return _gather(value, self.size, self._group)


def _on_cpu() -> torch.distributed.ProcessGroup:
    group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(group, torch.distributed.ProcessGroup)
    return group


def _gather(value: Any, size: int, group: torch.distributed.ProcessGroup) -> list[Any]:
    values: list[Any] = [None] * size
    torch.distributed.all_gather_object(values, value, group=group)
    return values


def share(count: int, group: Group) -> slice:
    """This process's part of `count` things in order: contiguous, sizes differing by one at most."""
    base, extra = divmod(count, group.size)
    start = group.rank * base + min(group.rank, extra)
    return slice(start, start + base + (group.rank < extra))
