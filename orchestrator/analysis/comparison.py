"""How far the singular values and subspaces of one Jacobian are from those of another."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import subspace_angles

Floats = npt.NDArray[np.float64]
Range = tuple[int, int]  # of indices of singular values: from, and up to but without


@dataclass(frozen=True)
class Decomposition:
    """J = U S V^T as far as its singular values are not zero: `left` U (N, r) and `singular` S (r,), descending."""

    left: torch.Tensor
    singular: Floats


def decompose(lower: torch.Tensor, columns: int) -> Decomposition:
    """Decompose a matrix of so many columns by its triangular factor (`factoring.lower_factor`)."""
    left, values, _ = torch.linalg.svd(lower, full_matrices=False)
    singular = values.cpu().numpy()
    kept = rank(singular, max(len(lower), columns))
    return Decomposition(left[:, :kept], singular[:kept])


@dataclass(frozen=True)
class Comparison:
    """J~ = J + E of augmented examples beside J of the originals, N rows each.

    singular     (min(N, p),) singular values of J~, descending
    left, right  (ranges, 2) mean and largest principal angle, in degrees, between the singular subspaces of J and of J~
                 that belong to a range of singular values: in R^N, among examples and outputs, and in R^p, among
                 parameters
    along        (r,) ||u_i^T E||: how large E is along each left singular vector u_i of J
    norm         ||E||, the largest singular value of E
    """

    singular: Floats
    left: Floats
    right: Floats
    along: Floats
    norm: float


def compare(original: Decomposition, lower: torch.Tensor, ranges: Sequence[Range]) -> Comparison:
    """Compare J with J~ by the triangular factor (`factoring.lower_factor`) of both together, [J; J~].

    lower   (2N, min(2N, p)), float64
    ranges  of indices of singular values of J; where one ends between equal values, its subspaces, and so its angles,
            are arbitrary

    Cost: one decomposition of N x 2N, half of one more for ||E||, and two small ones for each range.
    """
    half = len(lower) // 2
    plain, moved = lower[:half], lower[half:]
    change = moved - plain
    left = original.left
    # V^T = S^-1 U^T J, in the basis that both have in common. Rounding leaves it about as far from the truth as any
    # decomposition does: by the machine's precision times the largest singular value over the row's own.
    right = (left / torch.from_numpy(original.singular).to(left.device)).T @ plain
    left_moved, values, right_moved = torch.linalg.svd(moved, full_matrices=False)
    return Comparison(
        singular=values.cpu().numpy(),
        left=_all_angles(left, left_moved, ranges),
        right=_all_angles(right.T, right_moved.T, ranges),
        along=torch.linalg.vector_norm(left.T @ change, dim=1).cpu().numpy(),
        # of E E^T the largest eigenvalue is exact to rounding: what its squares bury are the smallest
        norm=float(torch.linalg.eigvalsh(change @ change.T)[-1].sqrt()),
    )


def rank(values: Floats, longest: int) -> int:
    """How many singular values are not zero to rounding: above longest * 2^-52 times the largest, as numpy counts.

    `longest`: the longer side of the matrix. Zeros have no relative change, and any basis is theirs.
    """
    return int((values > values[0] * longest * np.finfo(np.float64).eps).sum())


def split(count: int, parts: int) -> tuple[Range, ...]:
    """0..count-1 in so many ranges, each within one of the others in size. Raises ValueError for too many."""
    if not 1 <= parts <= count:
        raise ValueError(f"{count} singular values cannot be split into {parts} ranges; allowed: 1 to {count}")
    bounds = np.linspace(0, count, parts + 1).round().astype(int)
    return tuple((int(a), int(b)) for a, b in pairwise(bounds))


def chance_angle(ranges: Sequence[Range], rows: int, seed: int, times: int = 8) -> Floats:
    """The mean principal angle, in degrees, between two random subspaces of R^rows of each range's dimension.

    What the left subspaces' angles are when augmentation leaves nothing of them. By `times` seeded draws.
    """
    stream = np.random.default_rng(seed)

    def drawn(size: int) -> float:
        pairs = [(stream.standard_normal((rows, size)), stream.standard_normal((rows, size))) for _ in range(times)]
        return float(np.degrees(np.mean([subspace_angles(one, other).mean() for one, other in pairs])))

    by_size = {size: drawn(size) for size in sorted({b - a for a, b in ranges})}
    return np.array([by_size[b - a] for a, b in ranges])


def _all_angles(one: torch.Tensor, other: torch.Tensor, ranges: Sequence[Range]) -> Floats:
    """Mean and largest angle between the same columns of two matrices, range by range: (ranges, 2)."""
    a, b = one.cpu().numpy(), other.cpu().numpy()
    angles = [np.degrees(subspace_angles(a[:, first:last], b[:, first:last])) for first, last in ranges]
    return np.array([[found.mean(), found.max()] for found in angles])
