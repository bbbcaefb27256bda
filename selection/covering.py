"""What a set of medoids is worth on some examples: gains in pick order, and whom each medoid stands for."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from selection.blocks import Block
from selection.compiling import kernel
from selection.distances import measured_points
from selection.objectives import metric
from selection.problem import Float64, Objective
from selection.proxies import Int64
from selection.threads import Crew
from selection.tiles import tile_costs, tile_squares

_STRANDS = 8  # sums of gains, each over a fixed part of the examples: the same bits for any number of threads
_TALL, _WIDE = 64, 512


@dataclass(frozen=True)
class Covered:
    """gains (k,): drop of the objective at each pick; counts (k,): the weight of the examples nearest to each.

    left: what all of them leave of the objective's sum.
    """

    gains: Float64
    counts: Float64
    left: float
    seconds: float = 0.0


def cover(ground: Block, medoids: Iterable[Block], objective: Objective, c1: float, crew: Crew) -> Covered:
    """Value medoids, block by block in the order they were picked, on the examples of a block.

    c1 is the distance to the empty set. One block of medoids is held at a time. Ties of nearness go to the smaller
    row. Time O(n k (C + D)); memory O((n + m) (C + D)) for blocks of m medoids.
    """
    state = _State.empty(len(ground.rows))
    gains = [_nearer(ground, block, objective, c1, crew, state) for block in medoids]
    counts = np.bincount(state.nearest, ground.weights, minlength=state.seen)
    return Covered(np.concatenate(gains), counts.astype(np.float64), float(ground.weights @ state.costs))


@dataclass
class _State:
    """Between blocks of medoids."""

    nearest: Int64  # (n,) each example's medoid, counted as picked; -1: none yet
    row: Int64  # (n,) its row
    costs: Float64  # (n,) in the caller's units: those of a block of medoids are a power of two of it
    seen: int  # medoids

    @classmethod
    def empty(cls, n: int) -> "_State":
        return cls(np.full(n, -1, np.int64), np.full(n, -1, np.int64), np.empty(n), 0)


def _nearer(ground: Block, medoids: Block, objective: Objective, c1: float, crew: Crew, state: _State) -> Float64:
    """Take one more block of medoids into account; their gains."""
    n, k = len(ground.rows), len(medoids.rows)
    residuals = np.concatenate([medoids.residuals, ground.residuals])
    embeddings = None
    if ground.embeddings is not None and medoids.embeddings is not None:
        embeddings = np.concatenate([medoids.embeddings, ground.embeddings])
    points = measured_points(residuals, embeddings)
    transform = metric(points, objective, c1)
    rows, columns = points.some(slice(k, None)).arrays, points.some(slice(0, k)).arrays
    costs = np.full(n, transform.empty) if state.seen == 0 else (state.costs / transform.unit).astype(np.float32)
    gains, strand = np.zeros((_STRANDS, k)), -(-n // _STRANDS)

    def work(start: int, stop: int) -> None:
        _cover(
            rows, columns, transform.arguments, ground.weights, medoids.rows, start, stop,
            gains[start // strand], costs, state.nearest, state.row, state.seen,
        )  # fmt: skip

    crew.share(n, strand, work)
    state.costs, state.seen = costs.astype(np.float64) * transform.unit, state.seen + k
    return gains.sum(axis=0) * transform.unit


@kernel
def _cover(  # type: ignore[no-untyped-def]
    rows, columns, metric, weights, ids, start, stop, gains, costs, nearest, nearest_row, before
):
    """Examples start..stop against one block of medoids, after `before` others."""
    points, norms, others, other_norms = rows
    to_points, to_norms, to_others, to_other_norms = columns
    objective, rate, empty = metric
    k = len(ids)
    tile, spare = np.empty((_TALL, _WIDE), np.float32), np.empty((_TALL, _WIDE), np.float32)
    for top in range(start, stop, _TALL):
        bottom = min(top + _TALL, stop)
        for left in range(0, k, _WIDE):
            right = min(left + _WIDE, k)
            tile_squares(
                points, norms, others, other_norms, top, bottom,
                to_points, to_norms, to_others, to_other_norms, left, right, tile, spare, np.int64(0),
            )  # fmt: skip
            tile_costs(tile, bottom - top, np.int64(0), right - left, objective, rate, empty)
            for i in range(bottom - top):
                row, least, weight = tile[i, : right - left], costs[top + i], weights[top + i]
                for j in range(right - left):
                    if row[j] <= least:
                        if row[j] < least:
                            gains[left + j] += weight * (np.float64(least) - np.float64(row[j]))
                            least = row[j]
                        elif nearest[top + i] >= 0 and ids[left + j] >= nearest_row[top + i]:
                            continue
                        nearest[top + i], nearest_row[top + i] = before + left + j, ids[left + j]
                costs[top + i] = least
