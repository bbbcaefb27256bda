"""What a set of medoids is worth on some examples: gains in pick order, and whom each medoid stands for."""

from dataclasses import dataclass

import numpy as np

from selection.blocks import Block
from selection.compiling import kernel
from selection.distances import measured_points
from selection.objectives import metric
from selection.problem import Float64, Objective
from selection.threads import Crew
from selection.tiles import tile_costs, tile_squares

_STRANDS = 8  # sums of gains, each over a fixed part of the examples: the same bits for any number of threads
_TALL, _WIDE = 64, 512


@dataclass(frozen=True)
class Covered:
    """gains (k,): drop of the objective at each pick; counts (k,): the weight of the examples nearest to each."""

    gains: Float64
    counts: Float64
    seconds: float = 0.0


def cover(ground: Block, medoids: Block, objective: Objective, c1: float | None, crew: Crew) -> Covered:
    """Value medoids (in pick order) on the examples of a block; c1 is the distance to the empty set.

    Ties of nearness go to the smaller row. Time O(n k (C + D)); memory O((n + k) (C + D)).
    """
    k, n = len(medoids.rows), len(ground.rows)
    residuals = np.concatenate([medoids.residuals, ground.residuals])
    embeddings = None
    if ground.embeddings is not None and medoids.embeddings is not None:
        embeddings = np.concatenate([medoids.embeddings, ground.embeddings])
    points = measured_points(residuals, embeddings)
    transform = metric(points, objective, c1)
    rows, columns = points.some(slice(k, None)).arrays, points.some(slice(0, k)).arrays
    gains, counts = np.zeros((_STRANDS, k)), np.zeros((_STRANDS, k))
    strand = -(-n // _STRANDS)

    def work(start: int, stop: int) -> None:
        place = start // strand
        _cover(
            rows, columns, transform.arguments, ground.weights, medoids.rows, start, stop, gains[place], counts[place]
        )

    crew.share(n, strand, work)
    return Covered(gains.sum(axis=0) * transform.unit, counts.sum(axis=0))


@kernel
def _cover(rows, columns, metric, weights, ids, start, stop, gains, counts):  # type: ignore[no-untyped-def]
    points, norms, others, other_norms = rows
    to_points, to_norms, to_others, to_other_norms = columns
    objective, rate, empty = metric
    k = len(ids)
    tile, spare = np.empty((_TALL, _WIDE), np.float32), np.empty((_TALL, _WIDE), np.float32)
    nearest, nearest_cost = np.empty(_TALL, np.int64), np.empty(_TALL, np.float32)
    for top in range(start, stop, _TALL):
        bottom = min(top + _TALL, stop)
        nearest[:], nearest_cost[:] = -1, empty
        for left in range(0, k, _WIDE):
            right = min(left + _WIDE, k)
            tile_squares(
                points, norms, others, other_norms, top, bottom,
                to_points, to_norms, to_others, to_other_norms, left, right, tile, spare, np.int64(0),
            )  # fmt: skip
            tile_costs(tile, bottom - top, np.int64(0), right - left, objective, rate, empty)
            for i in range(bottom - top):
                row, least, weight = tile[i, : right - left], nearest_cost[i], weights[top + i]
                for j in range(right - left):
                    if row[j] <= least:
                        if row[j] < least:
                            gains[left + j] += weight * (np.float64(least) - np.float64(row[j]))
                            least = row[j]
                            nearest[i] = left + j
                        elif nearest[i] < 0 or ids[left + j] < ids[nearest[i]]:
                            nearest[i] = left + j
                nearest_cost[i] = least
        for i in range(bottom - top):
            counts[nearest[i]] += weights[top + i]
