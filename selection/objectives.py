"""Facility location over three monotone transforms of the distance in gradient space.

Every objective is a cost phi(d) that a medoid at distance d has for an example, and the cost phi_0 of having
none. With m_i = min over S of phi(d_ij), the value of S is the drop sum_i w_i (phi_0 - m_i): monotone submodular.

    frobenius   phi = d^2               phi_0 = c1^2     Eq. 9 and Algorithm 1, squared
    distance    phi = d                 phi_0 = c1       CRAIG
    rbf         phi = 1 - exp(-d/dim)   phi_0 = 1        the paper's published code; submodlib's `euclidean`

c1 = 2 max ||proxy|| is at least the diameter, so the first pick has a positive gain wherever proxies differ.
Under rbf, float32 cannot tell distances beyond about 17 dim apart: all have cost 1.
"""

from dataclasses import dataclass

import numpy as np

from selection.compiling import kernel
from selection.distances import Points
from selection.panels import LANES, pack_all, packed_squares, pieces_shape
from selection.problem import Objective
from selection.proxies import Float32
from selection.threads import Crew
from selection.tiles import DISTANCE, FROBENIUS, RBF, outer_squares, tile_costs

_CODES: dict[Objective, int] = {"frobenius": FROBENIUS, "distance": DISTANCE, "rbf": RBF}
_TALL, _WIDE = 32, 512  # rows and columns filled at a time; multiples of LANES


@dataclass(frozen=True)
class Metric:
    """phi for the points of one problem, whose distances are measured in units of `Points.scale`."""

    code: int
    rate: np.float32  # rbf: scale / dim
    empty: np.float32  # phi_0
    unit: float  # a power of two: a cost, times this, is one in the caller's units
    scale: float  # the same for a distance

    @property
    def arguments(self) -> tuple[int, np.float32, np.float32]:
        """As the kernels take it."""
        return self.code, self.rate, self.empty


def metric(points: Points, objective: Objective, c1: float | None = None) -> Metric:
    """The transform for some points; c1 in the caller's units where they are a part of a ground set."""
    scale = points.scale
    c1 = points.farthest if c1 is None else c1 / scale
    empty = {"frobenius": c1 * c1, "distance": c1, "rbf": 1.0}[objective]
    unit = {"frobenius": scale * scale, "distance": scale, "rbf": 1.0}[objective]
    with np.errstate(over="ignore"):
        rate = np.float32(min(scale / points.dimension, float(np.finfo(np.float32).max)))
    return Metric(_CODES[objective], rate, np.float32(empty), unit, scale)


def cost_matrix(points: Points, metric: Metric, crew: Crew) -> Float32:
    """phi(d_ij) for all pairs, (n, n), symmetric, in the crew's memory. Time O(n^2 (C + D)) / 2."""
    n = points.count
    matrix = crew.empty((n, n), np.float32)
    first, second = _packed(points.first), _packed(points.second) if points.second.size else None

    def fill(top: int, bottom: int) -> None:
        _fill(matrix, first, second, points.arrays, top, bottom, metric.arguments)

    crew.share(n, _TALL, fill)
    return matrix


def _packed(columns: Float32) -> Float32:
    pieces = np.empty(pieces_shape(columns), np.float32)
    pack_all(columns, pieces)
    return pieces


@kernel
def _fill(matrix, first, second, rows, top, bottom, metric):  # type: ignore[no-untyped-def]
    """Rows top..bottom up to the diagonal, and the same columns above it."""
    points, norms, others, other_norms = rows
    objective, rate, empty = metric
    shape = _TALL, _WIDE + LANES  # rows of a power of two would meet in the cache when they are turned
    tile, spare = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for left in range(0, bottom, _WIDE):
        right = min(left + _WIDE, bottom)
        packed_squares(first, len(points), top, bottom, left, right, tile)
        if second is not None:  # decided by type
            packed_squares(second, len(others), top, bottom, left, right, spare)
            outer_squares(
                points, norms, others, other_norms, top, bottom,
                points, norms, others, other_norms, left, right, tile, spare, np.int64(0),
            )  # fmt: skip
        height, width = bottom - top, right - left
        tile_costs(tile, height, np.int64(0), width, objective, rate, empty)
        matrix[top:bottom, left:right] = tile[:height, :width]
        matrix[left:right, top:bottom] = tile[:height, :width].T
