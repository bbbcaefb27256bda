"""Proxies made ready for measuring on a device, and their costs: `selection.distances` and `objectives` in torch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from selection.device.problems import DeviceProblem
from selection.problem import Objective


@dataclass(frozen=True)
class DevicePoints:
    """The points g, or g ⊗ [h, 1], brought to unit size by powers of two; nothing here waits for the device.

    Each problem's points are prepared by themselves, so that they do not depend on what else is solved beside them.
    """

    first: Tensor  # (C, n) float32 columns of g, the largest number in [0.5, 1)
    first_norms: Tensor  # (n,) float64, squared
    second: Tensor | None  # (D + 1, n) columns of [h, 1], likewise
    second_norms: Tensor | None
    scale: Tensor  # () float64: a distance measured here, times this, is one in the caller's units
    farthest: Tensor  # () float64: c1
    finite: Tensor  # () bool: no number is infinite or nan

    @property
    def size(self) -> int:
        """n."""
        return self.first.shape[1]

    @property
    def dimension(self) -> int:
        """Of the proxies: C, or C * (D + 1)."""
        return len(self.first) * (1 if self.second is None else len(self.second))

    def empty(self, objective: Objective) -> Tensor:
        """phi_0, () float32."""
        c1 = self.farthest
        phi = {"frobenius": c1 * c1, "distance": c1, "rbf": torch.ones_like(c1)}[objective]
        return phi.float()

    def unit(self, objective: Objective) -> Tensor:
        """What a cost of 1 is in the caller's units, () float64."""
        return {"frobenius": self.scale * self.scale, "distance": self.scale, "rbf": torch.ones_like(self.scale)}[
            objective
        ]

    def squares(self, rows: Tensor) -> Tensor:
        """d^2 of all points to some of them, (rows, n) float64; not yet times scale^2. O(rows n (C + D)).

        Sums of squared differences. With embeddings, d^2 = ||Δa ⊗ b̄ + ā ⊗ Δb||^2, whose terms may cancel: float64
        throughout leaves them their digits.
        """
        squares = _differences(self.first, rows)
        if self.second is None:
            return squares
        assert self.second_norms is not None
        others = _differences(self.second, rows)
        a_i, b_i = self.first_norms[rows, None], self.second_norms[rows, None]
        a_j, b_j = self.first_norms, self.second_norms
        terms = 0.5 * (squares * (b_i + b_j) + others * (a_i + a_j))
        outer = terms - 0.5 * squares * others + 0.5 * (a_i - a_j) * (b_i - b_j)
        return torch.where(terms == 0, 0.0, outer.clamp(min=0.0))  # equal points have distance 0, not rounding

    def costs(self, rows: Tensor, objective: Objective) -> Tensor:
        """phi(d) of all points to some of them, (rows, n) float32."""
        squares = self.squares(rows)
        if objective == "distance":
            squares = squares.sqrt()
        elif objective == "rbf":
            squares = -torch.expm1(-squares.sqrt() * (self.scale / self.dimension))
        return squares.float().minimum(self.empty(objective))


def device_points(problem: DeviceProblem) -> DevicePoints:
    """Points of the residuals (n, C), and embeddings (n, D) or None. Cost O(n (C + D))."""
    first, exponent, finite = _unit_columns(problem.residuals)
    norms = first_norms = _squared_norms(first)
    second, second_norms = None, None
    if problem.embeddings is not None:
        h = torch.nn.functional.pad(problem.embeddings.double(), (0, 1), value=1.0)
        second, second_exponent, second_finite = _unit_columns(h)
        second_norms = _squared_norms(second)
        norms = norms * second_norms
        exponent, finite = exponent + second_exponent, finite & second_finite
    return DevicePoints(
        first, first_norms, second, second_norms, power_of_two(exponent), 2.0 * norms.max().sqrt(), finite
    )


def power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent as float64, exactly: `exp2` and `ldexp` may round on a device. For exponents from -1022 to 1023."""
    return ((exponent.long() + 1023) << 52).view(torch.float64)


def _unit_columns(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    exact = rows.double()
    largest = exact.abs().max()
    exponent = torch.frexp(largest).exponent.long()
    columns = (exact * power_of_two(-exponent)).float().t().contiguous()
    return columns, exponent, largest.isfinite()


def _squared_norms(columns: Tensor) -> Tensor:
    return columns.double().square().sum(dim=0)


def _differences(columns: Tensor, rows: Tensor) -> Tensor:
    points = columns.t().double()
    mode = "donot_use_mm_for_euclid_dist"  # never from a Gram matrix, which loses close points far from the origin
    return torch.cdist(points[rows], points, compute_mode=mode).square()
