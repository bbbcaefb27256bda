"""Greedy facility location on one device: the interface."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from selection.device.blockwise import solve_blockwise
from selection.device.dense import Batch, assemble, padded
from selection.device.nearest import Reach, counts_of, nearest_picks
from selection.device.points import DevicePoints, device_points
from selection.device.problems import DeviceProblem, on_device
from selection.greedi import Partition
from selection.problem import Picks, Problem
from selection.proxies import ProxyError

_SPARE = 8  # steps that may go into finer units before the host looks whether all is done
_SLAB = 32  # picks between two looks at the tolerance
_SHARE = 0.8  # of the device's free memory that is taken
_WITHOUT_GPU = 4 << 30


def solve_on_device(
    problems: Sequence[Problem | DeviceProblem], device: torch.device | str, *, limit: int | None = None
) -> list[Picks]:
    """The picks of `selection.greedy.solve`, up to ties within the rounding of float32 costs, computed on a device.

    Problems of similar size are solved side by side, with costs kept: 4 n^2 bytes each. One whose costs are beyond its
    own `limit`, or beyond the device's memory, is solved blockwise: O(n (C + D)) bytes, costs computed again where
    needed. The answer to a problem does not depend on the others, and is the same at every call.

    device  a torch device; on `cuda`, with Triton, in kernels of this package's own
    limit   bytes to take in all; None: 80 % of the GPU's free memory, or 4 GiB elsewhere

    Time O(n^2 (C + D)) to start, then O(n) for each example whose nearest pick changes.
    Raises ProxyError where a number is not finite, MemoryError where `memory="dense"` does not fit.
    """
    device = torch.device(device)
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        limit = _free_memory(device) if limit is None else limit
        asked = [on_device(problem, device) for problem in problems]
        solved: dict[int, Picks] = {}
        blockwise = [place for place, problem in enumerate(asked) if _is_blockwise(problem, limit)]
        for place in blockwise:
            points = device_points(asked[place])
            _refuse_infinite([points])
            solved[place] = solve_blockwise(asked[place], points)
        for batch in _batches(asked, set(blockwise), limit):
            solved.update(zip(batch, _solve_dense([asked[place] for place in batch]), strict=True))
    return [solved[place] for place in range(len(asked))]


class DeviceMapper:
    """Solves the problems of `select` on one device: `select(…, mapper=DeviceMapper("cuda"))`."""

    def __init__(self, device: torch.device | str, *, limit: int | None = None):
        self.device = torch.device(device)
        self.limit = limit

    def map(self, problems: Sequence[Problem], partition: Partition | None = None) -> tuple[list[Picks], float]:
        """The picks of every problem, and the seconds of all; each problem is given an equal part of them."""
        if partition is not None and partition.parts > 1:
            raise ValueError(f"partitions = {partition.parts}: on one device should be 1")
        start = time.perf_counter()
        picks = solve_on_device(problems, self.device, limit=self.limit)
        seconds = time.perf_counter() - start
        return [replace(part, seconds=seconds / len(picks)) for part in picks], seconds


def _free_memory(device: torch.device) -> int:
    if device.type != "cuda":
        return _WITHOUT_GPU
    free = torch.cuda.mem_get_info(device)[0]
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(_SHARE * (free + cached))


def _dense_bytes(problem: DeviceProblem) -> int:
    columns = problem.residuals.shape[1] + (0 if problem.embeddings is None else problem.embeddings.shape[1] + 1)
    n = padded(problem.size)
    return 4 * n * n + n * (16 * columns + 128) + 16 * problem.most


def _is_blockwise(problem: DeviceProblem, limit: int) -> bool:
    needed = _dense_bytes(problem)
    if problem.memory == "dense" and needed > limit:
        raise MemoryError(
            f'memory = "dense" needs {needed} bytes for n = {problem.size}, and {limit} may be taken; '
            'should be "auto" or "blockwise"'
        )
    return problem.memory == "blockwise" or (problem.memory == "auto" and needed > min(limit, problem.limit))


def _batches(problems: Sequence[DeviceProblem], without: set[int], limit: int) -> list[list[int]]:
    """Places of problems to solve together: alike in kind, similar in size, all within the memory."""
    kinds: dict[tuple[bool, bool], list[int]] = {}
    for place, problem in enumerate(problems):
        if place not in without:
            kinds.setdefault((problem.solver == "stochastic", problem.budget is None), []).append(place)
    batches: list[list[int]] = []
    for places in kinds.values():
        batch: list[int] = []
        for place in sorted(places, key=lambda p: (-padded(problems[p].size), p)):
            largest = problems[batch[0] if batch else place]
            similar = 4 * padded(problems[place].size) >= 3 * padded(largest.size)
            columns_bytes = max(_dense_bytes(problems[p]) for p in (*batch[:1], place))
            if batch and not (similar and (len(batch) + 1) * columns_bytes <= limit):
                batches.append(batch)
                batch = []
            batch.append(place)
        batches.append(batch)
    return batches


def _solve_dense(problems: list[DeviceProblem]) -> list[Picks]:
    points = [device_points(problem) for problem in problems]
    batch = assemble(problems, points)
    taken = (_cover if problems[0].budget is None else _spend)(batch, problems, points)
    _refuse_infinite(points)
    longest = int(taken.max())
    order, drops = batch.order[:, :longest], batch.drops[:, :longest]
    places = torch.arange(longest, device=order.device)
    within = places < torch.as_tensor(taken, device=order.device)[:, None]
    picks = torch.where(within, order, order[:, :1])
    count = torch.arange(len(picks), device=order.device)[:, None]
    nearest = nearest_picks(lambda rows: batch.costs[count, rows], picks, batch.costs.shape[1])
    units = torch.stack([each.unit(problem.objective) for problem, each in zip(problems, points, strict=True)])
    rows, gains = picks.cpu().numpy(), (drops * units[:, None]).cpu().numpy()
    members = nearest.int().cpu().numpy()
    return [
        Picks(rows[p, :k], gains[p, :k], counts_of(members[p, : problem.size], problem, rows[p, :k]))
        for p, (problem, k) in enumerate(zip(problems, taken.tolist(), strict=True))
    ]


def _spend(batch: Batch, problems: list[DeviceProblem], points: list[DevicePoints]) -> np.ndarray:
    """Take every problem to its budget; picks of each."""
    steps = max(problem.most for problem in problems) + _SPARE
    while True:
        batch.advance(steps)
        if bool((batch.steps == batch.budgets).all()):
            return np.array([problem.most for problem in problems])
        steps = _SPARE


def _cover(batch: Batch, problems: list[DeviceProblem], points: list[DevicePoints]) -> np.ndarray:
    """Take every problem as far as its tolerance asks, looking every few steps and cutting back; picks of each."""
    reach = [Reach(problem, each) for problem, each in zip(problems, points, strict=True)]
    taken = np.zeros(len(problems), np.int64)
    going = list(range(len(problems)))
    while going:
        batch.advance(_SLAB)
        steps = batch.steps.tolist()
        new = [place for place in going if steps[place] > taken[place]]
        flags = [reach[place].within(batch.order[place, taken[place] : steps[place]]) for place in new]
        answers = torch.cat(flags).tolist() if flags else []
        for place in new:
            count = steps[place] - int(taken[place])
            mine, answers = answers[:count], answers[count:]
            taken[place] += mine.index(True) + 1 if True in mine else count
            if True in mine or taken[place] == problems[place].most:
                going.remove(place)
                batch.budgets[place] = 0  # takes no further steps
    return taken


def _refuse_infinite(points: Sequence[DevicePoints]) -> None:
    finite = torch.stack([each.finite for each in points]).tolist()
    if not all(finite):
        raise ProxyError(f"residuals and embeddings must be finite; those of {finite.count(False)} problems are not")
