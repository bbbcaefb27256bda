"""Lazy greedy (Minoux, 1978) with costs computed where they are needed: O(n (C + D)) memory, one problem at a time.

A gain never grows, so an old one bounds the new one. At each step the candidates with the largest bounds are
evaluated anew, in batches, until the largest gain is fresh. Gains are whole numbers (see `dense`), exactly
non-increasing: no bound is ever too low by rounding.
"""

import torch
from torch import Tensor

from selection.device.dense import has_kernels
from selection.device.nearest import Reach, counts_of, nearest_picks
from selection.device.points import DevicePoints, power_of_two
from selection.device.problems import DeviceProblem
from selection.device.sampling import sample, stream_word
from selection.device.scaling import COARSE, first_shift, next_shift
from selection.problem import Picks

_FEWEST, _MOST = 64, 1 << 16  # candidates evaluated together
_ELEMENTS = 1 << 22  # of temporary tiles where there is no Triton


def solve_blockwise(problem: DeviceProblem, points: DevicePoints) -> Picks:
    """Exact or stochastic greedy. About 4 to 7 n gains are evaluated in all, each O(n (C + D)); the host looks on
    once for each batch of them.
    """
    cover = BlockwiseCover(problem, points)
    reach = None if problem.tolerance is None else Reach(problem, points)
    order: list[int] = []
    drops: list[float] = []
    sizes = problem.sample_sizes if problem.solver == "stochastic" else None
    while len(order) < problem.most:
        row, drop = cover.best() if sizes is None else cover.best_of_sample(len(order), int(sizes[len(order)]))
        order.append(row)
        drops.append(drop)
        cover.take(row)
        if reach is not None and bool(reach.within(torch.tensor([row], device=cover.device))[0]):
            break
    picks = torch.tensor([order], device=cover.device)
    nearest = nearest_picks(lambda rows: cover.costs(rows[0])[None], picks, problem.size)[0]
    rows = picks[0].cpu().numpy()
    gains = torch.tensor(drops, dtype=torch.float64) * points.unit(problem.objective).cpu()
    return Picks(rows, gains.numpy(), counts_of(nearest.cpu().numpy(), problem, rows))


class BlockwiseCover:
    """How well the picks so far cover the examples, and bounds of what each further one would gain."""

    def __init__(self, problem: DeviceProblem, points: DevicePoints):
        n, self.device = points.size, points.first.device
        self.problem, self.points = problem, points
        empty = points.empty(problem.objective)
        self.nearest_cost = empty.repeat(n)
        weights = torch.ones(n, device=self.device) if problem.weights is None else problem.weights
        self.weights = weights.double()
        rows = torch.arange(n, device=self.device) if problem.candidates is None else problem.candidates
        self.live = torch.zeros(n, dtype=torch.bool, device=self.device)
        self.live[rows] = True
        self.shift, self.last_shift = first_shift(self.weights, empty)
        self.bounds = torch.full((n,), -1, dtype=torch.int64, device=self.device)
        self.bounds[rows] = (1 << 62) - 1
        self.fresh = torch.zeros(n, dtype=torch.bool, device=self.device)
        self.evaluated = False
        self.tiles = None
        if has_kernels(self.device):
            from selection.device.filling import Tiles

            self.tiles = Tiles(points, problem.objective)

    def best(self) -> tuple[int, float]:
        """The row of the largest gain, of equals the smallest, and the gain."""
        batch = _FEWEST if self.evaluated else _MOST  # at first no bound says anything
        while True:
            top = self.bounds.max()
            row = (self.bounds == top).int().argmax()
            gain, fresh, place, shift, last, size = torch.stack(
                [top, self.fresh[row].long(), row, self.shift, self.last_shift, self.live.sum()]
            ).tolist()
            if not fresh:
                self._evaluate(min(batch, size, _MOST))
                batch *= 4
            elif gain < COARSE and shift < last and bool((self.nearest_cost * self.weights).any()):
                self._refine(top)
            else:
                return int(place), gain * 2.0**-shift

    def best_of_sample(self, step: int, size: int) -> tuple[int, float]:
        """The same among this step's sample, whose gains are computed anew in units of their own."""
        start = torch.tensor([stream_word(self.problem.seed)], device=self.device)
        steps, sizes = torch.tensor([step], device=self.device), torch.tensor([size], device=self.device)
        rows = sample(start, steps, self.live[None], sizes)[0].nonzero()[:, 0]  # ascending
        left = (self.nearest_cost.double() * self.weights).sum()
        self.shift = next_shift(torch.zeros_like(self.shift), self.last_shift, torch.zeros_like(rows[0]), left + 1e-300)
        gains = self._gains(rows)
        top = gains.max()
        place = (gains == top).int().argmax()
        return int(rows[place]), float(top.double() * power_of_two(-self.shift))

    def take(self, row: int) -> None:
        """Make a row a pick."""
        self.live[row] = False
        self.bounds[row] = -1
        self.fresh[:] = False
        picked = self.costs(torch.tensor([row], device=self.device))[0]
        self.nearest_cost = self.nearest_cost.minimum(picked)

    def costs(self, rows: Tensor) -> Tensor:
        """phi(d) of all points to some of them, (rows, n)."""
        if self.tiles is not None:
            return self.tiles.costs(rows)
        return self.points.costs(rows, self.problem.objective)

    def _evaluate(self, count: int) -> None:
        rows = torch.where(self.fresh, -1, self.bounds).topk(count).indices
        self.bounds[rows] = torch.where(self.live[rows], self._gains(rows), -1)
        self.fresh[rows] = True
        self.evaluated = True

    def _refine(self, top: Tensor) -> None:
        """Finer units; the bounds stay bounds, no more of them fresh."""
        terms = torch.full_like(top, self.points.size)
        finer = next_shift(self.shift, self.last_shift, top, terms)
        self.bounds = torch.where(self.live, (self.bounds + terms) << (finer - self.shift), -1)
        self.shift = finer
        self.fresh[:] = False

    def _gains(self, rows: Tensor) -> Tensor:
        """sum_i floor(w_i max(0, m_i - phi_ij) 2^shift) of some candidates j, (rows,) int64."""
        scale = power_of_two(self.shift)
        if self.tiles is not None:
            return self.tiles.gains(rows, self.nearest_cost, self.weights, scale)
        least = self.nearest_cost.double()
        height = max(1, _ELEMENTS // self.points.size)
        parts = [
            ((least - self.costs(part).double()).clamp(min=0.0) * self.weights * scale).long().sum(dim=1)
            for part in rows.split(height)
        ]
        return torch.cat(parts)
