"""The steps of `dense.Batch` as two Triton kernels, recorded once and replayed as a CUDA graph.

`_pick` takes the largest gain of each problem and lists the examples whose nearest cost it lowers; `_correct` takes
what they no longer gain off every gain, and finds each block's largest. Nothing comes back to the host in between.
"""

from dataclasses import dataclass, field

import torch
import triton
import triton.language as tl
from torch import Tensor

from selection.device.dense import BLOCK, Batch
from selection.device.scaling import BITS, COARSE

_RECORDED = 32  # steps in one graph
_IDLE, _CHANGED, _ANEW = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # what `_correct` has to do
_COARSE, _BITS = tl.constexpr(COARSE), tl.constexpr(BITS)
_ROWS = 16  # costs of so many changed examples are read together
_CHUNK = 1024  # examples that `_pick` looks at together


@dataclass
class KernelBatch(Batch):
    """A batch whose steps are kernels: O(n) for each changed example, no launch from the host for each step."""

    mode: Tensor = field(init=False)  # (B,) int32
    count: Tensor = field(init=False)  # (B,) int32: changed examples
    changed: Tensor = field(init=False)  # (B, N) int32: their rows
    before: Tensor = field(init=False)  # (B, N) float32: what m was
    best_gain: Tensor = field(init=False)  # (B, N / BLOCK) int64: the largest gain of each block
    best_row: Tensor = field(init=False)  # (B, N / BLOCK) int32
    sampled: tuple[Tensor, Tensor] | None = field(init=False, default=None)  # the sample's largest gain, its row
    graph: "torch.cuda.CUDAGraph | None" = field(init=False, default=None)

    def __post_init__(self) -> None:
        count, size = self.nearest_cost.shape
        device = self.costs.device
        self.mode = torch.full((count,), _ANEW.value, dtype=torch.int32, device=device)
        self.count = torch.zeros(count, dtype=torch.int32, device=device)
        self.changed = torch.zeros((count, size), dtype=torch.int32, device=device)
        self.before = torch.zeros_like(self.nearest_cost)
        self.best_gain = torch.full((count, size // BLOCK), -1, dtype=torch.int64, device=device)
        self.best_row = torch.zeros((count, size // BLOCK), dtype=torch.int32, device=device)
        self._correct_gains()

    def advance(self, steps: int) -> None:
        """Take at least this many steps in every problem that has not reached its budget."""
        if self.costs.device.type != "cuda":
            super().advance(steps)
            return
        if self.graph is None:
            self._step()  # compiles the kernels, which a recording cannot
            self.graph = self._recorded()
        for _ in range(triton.cdiv(steps, _RECORDED)):
            self.graph.replay()

    def _step(self) -> None:
        if self.sample_sizes is not None:
            gain, row = self._best()
            self.sampled = gain, row
        sampled_gain, sampled_row = self.sampled or (self.best_gain, self.order)
        count, size = self.nearest_cost.shape
        blocks = size // BLOCK
        _pick[(count,)](
            self.costs, self.nearest_cost, self.live, self.sizes, self.shift, self.last_shift, self.budgets,
            self.steps, self.order, self.drops, self.best_gain, self.best_row, sampled_gain, sampled_row,
            self.mode, self.count, self.changed, self.before, size, self.order.shape[1], blocks,
            SAMPLED=self.sample_sizes is not None, BLOCKS=triton.next_power_of_2(blocks), CHUNK=_CHUNK, num_warps=8,
        )  # fmt: skip
        self._correct_gains()

    def _correct_gains(self) -> None:
        count, size = self.nearest_cost.shape
        _correct[(size // BLOCK, count)](
            self.costs, self.nearest_cost, self.weights, self.live, self.gains, self.sizes, self.shift,
            self.best_gain, self.best_row, self.mode, self.count, self.changed, self.before, size,
            ROWS=_ROWS, COLUMNS=BLOCK,
        )  # fmt: skip

    def _recorded(self) -> "torch.cuda.CUDAGraph":
        """Some steps as a graph. Recorded by hand: `torch.cuda.graph` empties the allocator's cache each time."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            graph.capture_begin(capture_error_mode="thread_local")
            for _ in range(_RECORDED):
                self._step()
            graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)
        return graph


@triton.jit
def _power_of_two(exponent):  # type: ignore[no-untyped-def]
    return ((exponent.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)


@triton.jit
def _pick(  # type: ignore[no-untyped-def]
    costs, nearest_cost, live, sizes, shift, last_shift, budgets, steps, order, drops, best_gain, best_row,
    sampled_gain, sampled_row, mode, count, changed, before, N, K, blocks,
    SAMPLED: tl.constexpr, BLOCKS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    step = tl.load(steps + b)
    if step >= tl.load(budgets + b):
        tl.store(mode + b, _IDLE)
    else:
        n = tl.load(sizes + b)
        units, finest = tl.load(shift + b), tl.load(last_shift + b)
        block = tl.arange(0, BLOCKS)
        largest = tl.load(best_gain + b * blocks + block, mask=block < blocks, other=-2)
        gain = tl.max(largest)
        row = tl.min(tl.where(largest == gain, tl.load(best_row + b * blocks + block, mask=block < blocks, other=N), N))
        if (gain < _COARSE) & (units < finest):
            bits = (tl.maximum(gain, 0) + n).to(tl.float64).to(tl.int64, bitcast=True)
            exponent = ((bits >> 52) - 1022).to(tl.int32)
            tl.store(shift + b, tl.minimum(units + _BITS - exponent, finest))
            tl.store(mode + b, _ANEW)
        else:
            if SAMPLED:
                gain = tl.load(sampled_gain + b)
                row = tl.load(sampled_row + b).to(tl.int32)
            tl.store(order + b * K + step, row.to(tl.int64))
            tl.store(drops + b * K + step, gain.to(tl.float64) * _power_of_two(-units))
            tl.store(live + b * N + row, tl.full([], 0, tl.int8))
            tl.store(steps + b, step + 1)
            total = 0
            for start in range(0, N, CHUNK):
                i = start + tl.arange(0, CHUNK)
                old = tl.load(nearest_cost + b * N + i, mask=i < N, other=-1.0)
                cost = tl.load(costs + (b * N + row) * N + i, mask=i < N, other=0.0)
                lower = cost < old
                place = b * N + total + tl.cumsum(lower.to(tl.int32), axis=0) - 1
                tl.store(changed + place, i, mask=lower)
                tl.store(before + place, old, mask=lower)
                tl.store(nearest_cost + b * N + i, cost, mask=lower)
                total += tl.sum(lower.to(tl.int32))
            tl.store(count + b, total)
            tl.store(mode + b, tl.where(2 * total > n, _ANEW, _CHANGED))


@triton.jit
def _correct(  # type: ignore[no-untyped-def]
    costs, nearest_cost, weights, live, gains, sizes, shift, best_gain, best_row, mode, count, changed, before, N,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(1).to(tl.int64)
    work = tl.load(mode + b)
    if work != _IDLE:
        j = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
        scale = _power_of_two(tl.load(shift + b))
        sums = tl.zeros([ROWS, COLUMNS], tl.int64)
        if work == _CHANGED:
            several = tl.load(count + b)
            for start in range(0, several, ROWS):
                place = start + tl.arange(0, ROWS)
                inside = place < several
                i = tl.load(changed + b * N + place, mask=inside, other=0)
                old = tl.load(before + b * N + place, mask=inside, other=0.0).to(tl.float64)
                new = tl.load(nearest_cost + b * N + i, mask=inside, other=0.0).to(tl.float64)
                factor = tl.load(weights + b * N + i, mask=inside, other=0.0) * scale
                tile = tl.load(costs + (b * N + i[:, None]) * N + j[None, :]).to(tl.float64)
                sums += (tl.maximum(new[:, None] - tile, 0.0) * factor[:, None]).to(tl.int64)
                sums -= (tl.maximum(old[:, None] - tile, 0.0) * factor[:, None]).to(tl.int64)
            total = tl.load(gains + b * N + j) + tl.sum(sums, axis=0)
        else:
            n = tl.load(sizes + b)
            for start in range(0, n, ROWS):
                i = start + tl.arange(0, ROWS)
                inside = i < n
                least = tl.load(nearest_cost + b * N + i, mask=inside, other=0.0).to(tl.float64)
                factor = tl.load(weights + b * N + i, mask=inside, other=0.0) * scale
                tile = tl.load(costs + (b * N + i[:, None]) * N + j[None, :], mask=inside[:, None], other=0.0)
                sums += (tl.maximum(least[:, None] - tile.to(tl.float64), 0.0) * factor[:, None]).to(tl.int64)
            total = tl.sum(sums, axis=0)
        total = tl.where(tl.load(live + b * N + j) != 0, total, -1)
        tl.store(gains + b * N + j, total)
        largest = tl.max(total)
        slot = b * tl.num_programs(0) + tl.program_id(0)
        tl.store(best_gain + slot, largest)
        tl.store(best_row + slot, tl.min(tl.where(total == largest, j, N)))
