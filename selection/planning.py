"""`plan`: the time and memory of a selection, before anything of its size is allocated."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Literal

import numpy as np

from selection.budgets import Division, divide
from selection.costs import fill
from selection.distances import measured_points
from selection.greedi import Partition
from selection.greedy import entries_that_pay, is_dense
from selection.neighbours import BYTES, are_turned, working_bytes
from selection.objectives import metric
from selection.options import check_options
from selection.problem import Memory, Objective, Solver
from selection.threads import KEPT
from selection.tiles import FOURS

# Of all pairs of n points, those nearer than the medoid after t picks: _SHARE t^-_FALL, measured on residuals and on
# clustered and Gaussian points of 10 to 64 dimensions (0.04 to 0.14 after the first pick).
_SHARE, _FALL = 0.13, 0.8
_CALIBRATION = 3e8  # pairs times dimensions that are computed to measure this machine
_ENTRY, _SCANNED = 3e-9, 2e-10  # seconds to correct one entry, to pass over one candidate
_GAIN = 1e-9  # seconds to add one pair to a gain
_DRAWN = 1.5e-8  # seconds a candidate and step that a sample takes
_FRESH = 0.8e-9  # seconds a byte that is used for the first time
_LISTED = 8e-10  # seconds to look whether a pair is an entry, and to list it where it is
_ROW = 5.0  # a row of distances takes so much longer than the same pairs in tiles: its points come from memory
_ROWS, _TILE = 256, (64, 512)  # of the pairs that are computed to measure this machine


@dataclass(frozen=True)
class Plan:
    """seconds: on this machine, all threads its own; bytes: the most beyond the input, in one process."""

    seconds: float
    bytes: int
    memory: Literal["dense", "blockwise"]  # of the largest class, or part


@dataclass(frozen=True)
class _Shape:
    """What the works of a selection have in common."""

    columns: int
    embedding: int | None
    objective: Objective
    solver: Solver
    epsilon: float
    memory: Memory
    threads: int

    @property
    def depth(self) -> int:
        """Coordinates that a pair's distance is summed up over."""
        return self.columns + (0 if self.embedding is None else self.embedding + 1)

    @property
    def padded(self) -> int:
        """The same as points have them."""
        parts = (self.columns, self.depth - self.columns)
        return sum(FOURS * -(-part // FOURS) for part in parts)


@dataclass(frozen=True)
class _Cost:
    seconds: float  # of one thread where works are done side by side, else of all
    bytes: int
    dense: bool = False


def plan(
    sizes: Sequence[int],
    *,
    columns: int,
    embedding: int | None = None,
    budget: int | None = None,
    objective: Objective = "frobenius",
    solver: Solver = "exact",
    epsilon: float = 0.01,
    partitions: int = 1,
    alpha: float = 4.0,
    sample: int | None = None,
    capacity: int = 1_000_000,
    division: Division = "proportional",
    memory: Memory = "auto",
    memory_limit: int = 2 << 30,
    threads: int | None = None,
) -> Plan:
    """What `select` will take for classes of these sizes, in this process.

    sizes      examples of each class; one size where selection is not class by class
    columns    C, of the residuals; embedding: D, or None where there are none
    budget     None: a tolerance decides; planned for a tenth of every class
    division   of the budget: `select`'s per_class, in words; the other options are as there
    threads    by default one for each processor

    Takes up to a second to measure this machine, and compiles where nothing was selected before. Its model is that
    of points spread out as residuals are: a run can take half or twice its time.
    Raises BudgetError where the budget cannot be divided, and ValueError with the value received and those allowed.
    """
    check_options(objective=objective, solver=solver, memory=memory, division=division, epsilon=epsilon)
    check_options(columns=columns, memory_limit=memory_limit)
    if embedding is not None:
        check_options(embedding=embedding)
    if threads is not None:
        check_options(threads=threads)
    if not len(sizes) or min(sizes) < 1:
        raise ValueError(f"sizes = {list(sizes)}: should be the number of examples of each class, at least 1")
    shape = _Shape(columns, embedding, objective, solver, epsilon, memory, threads or os.cpu_count() or 1)
    parts = {c: max(1, size // 10) for c, size in enumerate(sizes)}
    if budget is not None:
        parts = divide(budget, dict(enumerate(sizes)), division)
    largest = max(sizes)
    partition = Partition(partitions, alpha, sample, capacity)
    exact: list[tuple[int, int, int]] = []  # works that are done side by side: examples, candidates, picks
    rest: list[_Cost] = []
    for c, size in enumerate(sizes):
        m = max(1, min(-(-partition.parts * size // largest), size // 2))
        if m == 1:
            exact.append((size, size, parts[c]))
        else:
            local, others = _divided(shape, size, parts[c], m, partition, memory_limit)
            exact += local
            rest += others
    beside = shape.threads if len(exact) >= 2 * shape.threads else 1
    costs = [_solve(shape, *work, limit=memory_limit // beside, threads=shape.threads // beside) for work in exact]
    used = sorted((cost.bytes for cost in costs), reverse=True)
    every = [sum(used[:beside]), *(cost.bytes for cost in rest)]
    return Plan(
        seconds=sum(cost.seconds for cost in costs) / beside + sum(cost.seconds for cost in rest),
        bytes=max(every),
        memory="dense" if costs[int(np.argmax([work[0] for work in exact]))].dense else "blockwise",
    )


def _divided(
    shape: _Shape, n: int, k: int, parts: int, partition: Partition, limit: int
) -> tuple[list[tuple[int, int, int]], list[_Cost]]:
    """GreeDi: the local works of all rounds, and what is done with all threads after them."""
    local: list[tuple[int, int, int]] = []
    groups, size, whole = parts, n, 0
    while True:
        quota = partition.local(k, n, groups)
        each = min(size // groups, quota)
        local += [(size // groups, size // groups, each)] * groups
        whole = groups if groups == parts and quota == k else whole
        size = groups * each
        further = min(-(-size // partition.capacity), groups - 1)
        if further <= 1 or k > partition.capacity:
            break
        groups = further
    sampled = partition.sampled(n, k)
    rest = [_cover(shape, n, k, min(k, partition.capacity))]
    if k <= partition.capacity:
        rest += [_solve(shape, sampled, size, k, limit=limit, threads=shape.threads)]
        rest += [_cover(shape, sampled, k, k)] * whole
    return local, rest


def _solve(shape: _Shape, ground: int, candidates: int, k: int, *, limit: int, threads: int) -> _Cost:
    """Greedy over some candidates."""
    depth, pair = shape.depth, _pair_seconds(shape.columns, shape.embedding, shape.objective)
    pairs = float(ground) * candidates
    dense = ground == candidates and is_dense(ground, depth, shape.memory, limit)
    kept = 4.0 * pairs if dense else 0.0
    room = max(0.0, limit - kept) / (1.1 * BYTES)
    if shape.solver == "lazy":
        fits = k
    else:  # the pick after which the lists fit
        fits = 1 if pairs * _SHARE <= room else math.ceil((pairs * _SHARE / max(room, 1.0)) ** (1 / _FALL))
    before = min(k, fits)
    evaluated = 0.0 if before == 1 else 1.0 + 0.3 * math.log2(max(1, before - 1))
    if shape.solver == "stochastic":
        evaluated = min(evaluated, before * math.log(1 / shape.epsilon) / k)
    elif shape.objective != "frobenius" and before > 1:
        evaluated += 1.0
    listed = before < k or k == 1
    entries = pairs * _SHARE * before**-_FALL if listed else 0.0
    most = int(max(0.0, limit - kept)) // BYTES
    turned = are_turned(ground == candidates and not dense, shape.padded, math.ceil(entries), most)
    passes = 0.5 if dense else evaluated + listed * (0.5 if turned else 1.0)
    computed = passes * depth * pair + evaluated * _GAIN + listed * _LISTED + dense * _GAIN
    few = entries_that_pay(ground, candidates)
    late = min(k, max(before, math.ceil((pairs * _SHARE / few) ** (1 / _FALL))))
    rows = 0.0 if dense else _ROW * pair * depth * ground * (late - (before if listed else 0))
    corrected = pairs * _SHARE / _FALL * before**-_FALL * _ENTRY if listed else 0.0
    copied = 4 * (ground + candidates * (ground != candidates)) * (2 + dense) * depth
    state = 40 * ground + 60 * candidates + 16 * k
    scratch = threads * (working_bytes(max(ground, candidates), entries / pairs) + 16 * candidates)
    fresh = kept + BYTES * (1 + turned) * entries
    steps = k * candidates * (_SCANNED + (_DRAWN if shape.solver == "stochastic" else 0.0))
    return _Cost(
        seconds=pairs * computed / threads
        + rows
        + steps
        + (corrected + (fresh > KEPT) * fresh * _FRESH) / threads
        + 2e-3,
        bytes=int(copied + state + scratch + fresh),
        dense=dense,
    )


def _cover(shape: _Shape, n: int, k: int, held: int) -> _Cost:
    """The value and the weights of k medoids on n examples; some of them are held at a time."""
    pair = _pair_seconds(shape.columns, shape.embedding, shape.objective)
    size = 12 * (n + held) * shape.depth + 60 * n
    return _Cost(float(n) * k * (shape.depth * pair + 5e-10) / shape.threads, size)


@lru_cache(maxsize=32)
def _pair_seconds(columns: int, embedding: int | None, objective: Objective) -> float:
    """Seconds of one thread for one coordinate of one pair of examples, measured here."""
    depth = columns + (0 if embedding is None else embedding + 1)
    n = int(np.clip(_CALIBRATION / (depth * _ROWS), 500, 8_000))  # a power of two would meet itself in the cache
    stream = np.random.default_rng(0)
    rows = stream.standard_normal((n, columns), np.float32)
    inputs = None if embedding is None else stream.standard_normal((n, embedding), np.float32)
    points = measured_points(rows, inputs)
    costs, out, spare = (
        metric(points, objective).arguments,
        np.empty((_ROWS, n), np.float32),
        np.empty(_TILE, np.float32),
    )
    taken = []
    for _ in range(6):  # the first compiles, and is the first to touch the memory
        start = perf_counter()
        fill(points.arrays, points.arrays, costs, (0, _ROWS, 0, n), out, spare)
        taken.append(perf_counter() - start)
    return min(taken[1:]) / (_ROWS * n * depth)
