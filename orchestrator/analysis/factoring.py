"""The triangular factor of a wide matrix that is given slab by slab."""

from collections.abc import Iterable

import torch


def lower_factor(slabs: Iterable[torch.Tensor]) -> torch.Tensor:
    """L of A = L Q, with orthonormal rows in Q: (rows, min(rows, columns)), of A = [A_1 A_2 …] in slabs of columns.

    Householder QR of each transposed slab below the triangle of those before it ("tall and skinny QR", Demmel et al.,
    2012): backward stable, as one factorisation of the whole of A would be. L has A's singular values and its left
    singular vectors, and for two parts of A's rows, A = [B; C], the angles between their row spaces are those between
    the rows of their parts of L. None of this goes through A A^T, whose rounding would bury every singular value below
    the square root of the machine's precision times the largest.

    Cost: 2 * rows^2 * columns operations; memory for three times the slab and the triangle.
    """
    upper: torch.Tensor | None = None
    for slab in slabs:
        stacked = slab.T if upper is None else torch.cat([upper, slab.T])
        upper = torch.linalg.qr(stacked, mode="r").R
    if upper is None:
        raise ValueError("a matrix without columns has no factor")
    return upper.T
