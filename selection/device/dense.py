"""Exact greedy with all costs kept on the device: several problems side by side, step by step, without host syncs.

Gains are whole numbers of 2^-shift: sum_i floor(w_i max(0, m_i - phi_ij) 2^shift). Adding whole numbers is exact in any
order, so the gains do not depend on how the sum is divided among threads, nor on what stands beside a problem, and
correcting them for the examples that changed gives just what computing them anew would: no rounding gathers, equal
gains stay equal. Before the largest gain falls below 40 bits, all are computed anew in finer units.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selection.device.points import DevicePoints, power_of_two
from selection.device.problems import DeviceProblem
from selection.device.sampling import sample, stream_word
from selection.device.scaling import COARSE, first_shift, next_shift

BLOCK = 64  # the padded size is a multiple of it
_ELEMENTS = 1 << 24  # of temporary tiles where there is no Triton


def has_kernels(device: torch.device) -> bool:
    """Whether this package's Triton kernels run there; elsewhere the same steps are taken in plain torch."""
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return False
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


def padded(n: int) -> int:
    """The size that a problem of n examples has in a batch, at least."""
    return -(-n // BLOCK) * BLOCK


@dataclass
class Batch:
    """The state of B problems of at most N examples (n of them its own, the others never counted or picked)."""

    costs: Tensor  # (B, N, N) float32
    nearest_cost: Tensor  # (B, N) float32: m_i; -1 where there is no example
    weights: Tensor  # (B, N) float64; 0 where there is no example
    live: Tensor  # (B, N) int8: 1 where a candidate is not picked yet
    gains: Tensor  # (B, N) int64, in units of 2^-shift; -1 where not live
    sizes: Tensor  # (B,) int32: n
    shift: Tensor  # (B,) int32
    last_shift: Tensor  # (B,) int32: in these units no gain rounds to 0
    budgets: Tensor  # (B,) int32
    steps: Tensor  # (B,) int32: picks so far
    order: Tensor  # (B, K) int64
    drops: Tensor  # (B, K) float64: gain at each pick
    starts: Tensor  # (B,) int64: state of the random stream; stochastic only
    sample_sizes: Tensor | None  # (B, K) int64; None: exact

    def advance(self, steps: int) -> None:
        """Take this many steps in every problem that has not reached its budget. A step may only change the units."""
        for _ in range(steps):
            self._step()

    def _step(self) -> None:
        self._compute_gains()
        top = self.gains.max(dim=1).values
        active = self.steps < self.budgets
        finer = active & (top < COARSE) & (self.shift < self.last_shift)
        takes = active & ~finer
        gain, row = self._best()
        self.shift.copy_(torch.where(finer, next_shift(self.shift, self.last_shift, top, self.sizes), self.shift))
        place = self.steps.long().clamp(max=self.order.shape[1] - 1)[:, None]
        drop = gain.double() * power_of_two(-self.shift)
        self.order.scatter_(1, place, torch.where(takes, row, self.order.gather(1, place)[:, 0])[:, None])
        self.drops.scatter_(1, place, torch.where(takes, drop, self.drops.gather(1, place)[:, 0])[:, None])
        self.live.scatter_(1, row[:, None], torch.where(takes, 0, self.live.gather(1, row[:, None])[:, 0])[:, None])
        picked = self.costs[torch.arange(len(row), device=row.device), row]
        self.nearest_cost.copy_(torch.where(takes[:, None], self.nearest_cost.minimum(picked), self.nearest_cost))
        self.steps += takes.int()

    def _compute_gains(self) -> None:
        """All gains from their definition, a tile of rows at a time."""
        count, size = self.nearest_cost.shape
        height = max(1, _ELEMENTS // (count * size))
        least, scale = self.nearest_cost.double(), power_of_two(self.shift)[:, None]
        for top in range(0, size, height):
            tile = self.costs[:, top : top + height].double()  # symmetric: rows serve as columns
            terms = (least[:, None] - tile).clamp(min=0.0).mul_(self.weights[:, None]).mul_(scale[:, None])
            self.gains[:, top : top + height] = terms.long().sum(dim=2)
        self.gains.masked_fill_(self.live == 0, -1)

    def _best(self) -> tuple[Tensor, Tensor]:
        """The largest gain of each problem and its row, of equals the smallest; of the sample where there is one."""
        gains = self.gains
        if self.sample_sizes is not None:
            place = self.steps.long().clamp(max=self.order.shape[1] - 1)
            size = self.sample_sizes.gather(1, place[:, None])[:, 0]
            gains = torch.where(sample(self.starts, self.steps, self.live != 0, size), gains, -1)
        best = gains.max(dim=1).values
        return best, (gains == best[:, None]).int().argmax(dim=1)


def assemble(problems: Sequence[DeviceProblem], points: Sequence[DevicePoints]) -> Batch:
    """The state before the first pick, costs included: O(n^2 (C + D)) for each problem."""
    device = points[0].first.device
    size = padded(max(each.size for each in points))
    count, most = len(points), max(problem.most for problem in problems)
    nearest_cost = torch.full((count, size), -1.0, device=device)
    weights = torch.zeros((count, size), dtype=torch.float64, device=device)
    live = torch.zeros((count, size), dtype=torch.int8, device=device)
    shifts, last_shifts = [], []
    for place, (problem, each) in enumerate(zip(problems, points, strict=True)):
        empty = each.empty(problem.objective)
        nearest_cost[place, : each.size] = empty
        weights[place, : each.size] = 1.0 if problem.weights is None else problem.weights
        live[place, slice(0, each.size) if problem.candidates is None else problem.candidates] = 1
        shift, last = first_shift(weights[place, : each.size], empty)
        shifts.append(shift)
        last_shifts.append(last)
    stochastic = problems[0].solver == "stochastic"
    tables = torch.ones((count, most), dtype=torch.int64)
    for place, problem in enumerate(problems if stochastic else ()):
        tables[place, : problem.most] = torch.from_numpy(problem.sample_sizes)

    def whole(values: list[int], kind: torch.dtype = torch.int32) -> Tensor:
        return torch.tensor(values, dtype=kind, device=device)

    kind = Batch
    if has_kernels(device):
        from selection.device.stepping import KernelBatch

        kind = KernelBatch
    return kind(
        costs=_costs(points, problems, size),
        nearest_cost=nearest_cost,
        weights=weights,
        live=live,
        gains=torch.full((count, size), -1, dtype=torch.int64, device=device),
        sizes=whole([each.size for each in points]),
        shift=torch.stack(shifts).int(),
        last_shift=torch.stack(last_shifts).int(),
        budgets=whole([problem.most for problem in problems]),
        steps=whole([0] * count),
        order=torch.zeros((count, most), dtype=torch.int64, device=device),
        drops=torch.zeros((count, most), dtype=torch.float64, device=device),
        starts=whole([stream_word(problem.seed) for problem in problems], torch.int64),
        sample_sizes=tables.to(device) if stochastic else None,
    )


def _costs(points: Sequence[DevicePoints], problems: Sequence[DeviceProblem], size: int) -> Tensor:
    device = points[0].first.device
    costs = torch.zeros((len(points), size, size), device=device)
    for place, (problem, each) in enumerate(zip(problems, points, strict=True)):
        if has_kernels(device):
            from selection.device.filling import Tiles

            Tiles(each, problem.objective).fill(costs[place])
            continue
        height = max(1, _ELEMENTS // each.size)
        for rows in torch.arange(each.size, device=device).split(height):
            costs[place, rows, : each.size] = each.costs(rows, problem.objective)
    return costs
