"""What follows from the picks: which of them each example is nearest to, and how many of them a tolerance needs."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from selection.device.points import DevicePoints
from selection.device.problems import DeviceProblem
from selection.problem import Float64
from selection.proxies import Int64

_ELEMENTS = 1 << 25  # of the costs looked at together


def nearest_picks(costs_of: Callable[[Tensor], Tensor], picks: Tensor, size: int) -> Tensor:
    """The row of the nearest pick, (B, size), of picks (B, K); ties to the smaller row. Repeated picks do no harm.

    costs_of(rows (B, T)) are the costs (B, T, size) of some picks. O(size K) for each problem.
    """
    ascending = picks.sort(dim=1).values
    height = max(1, _ELEMENTS // (len(picks) * size))
    least = torch.full((len(picks), size), torch.inf, device=picks.device)
    nearest = torch.zeros((len(picks), size), dtype=torch.int64, device=picks.device)
    for rows in ascending.split(height, dim=1):
        tile = costs_of(rows)
        best = tile.amin(dim=1)
        first = rows.gather(1, (tile == best[:, None]).int().argmax(dim=1))
        nearest = torch.where(best < least, first, nearest)
        least = least.minimum(best)
    return nearest


def counts_of(nearest: Int64, problem: DeviceProblem, rows: Int64) -> Float64:
    """gamma: the weight of the examples nearest to each of the rows."""
    weights = None if problem.weights is None else problem.weights.cpu().numpy().astype(np.float64)
    return np.bincount(nearest, weights=weights, minlength=problem.size)[rows].astype(np.float64)


class Reach:
    """How well the picks so far cover one problem, in what its tolerance bounds."""

    def __init__(self, problem: DeviceProblem, points: DevicePoints):
        self.problem = problem
        self.points = points
        self.least = torch.full((points.size,), torch.inf, dtype=torch.float64, device=points.first.device)

    def within(self, rows: Tensor) -> Tensor:
        """For each of the next picks, whether what is left after it is at most the tolerance: (rows,) bool."""
        problem, points = self.problem, self.points
        assert problem.tolerance is not None
        rooted = problem.measure == "frobenius" or problem.objective == "frobenius"
        if problem.measure == "frobenius":
            measured, unit = points.squares(rows), points.scale * points.scale
        else:
            measured, unit = points.costs(rows, problem.objective).double(), points.unit(problem.objective)
        covered = torch.cat([self.least[None], measured]).cummin(dim=0).values[1:]
        self.least = covered[-1]
        if problem.weights is not None:
            covered = torch.where(problem.weights > 0, covered * problem.weights.double(), 0.0)
        left = covered.sum(dim=1)
        reached = left.sqrt() * unit.sqrt() if rooted else left * unit
        return reached <= problem.tolerance
