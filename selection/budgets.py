"""How many members of the coreset each class gets."""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

Division = Literal["proportional", "equal"]


class BudgetError(ValueError):
    """A budget that cannot be met; says which class, and what is possible."""


def subset_size(n: int, *, fraction: float | None = None, budget: int | None = None) -> int:
    """k, from a fraction of n (rounded half up, at least 1) or as given. Raises BudgetError where k > n.

    A fraction counts as the decimal it is written as: 0.29 of 50 is 14.5, which binary arithmetic misses.
    """
    if (fraction is None) == (budget is None):
        raise BudgetError(f"one of fraction, budget is needed; got fraction={fraction}, budget={budget}")
    if fraction is not None:
        if not 0 < fraction <= 1:
            raise BudgetError(f"fraction = {fraction}: should be above 0 and at most 1")
        return max(1, math.floor(n * Fraction(repr(float(fraction))) + Fraction(1, 2)))
    assert budget is not None
    if not 1 <= budget <= n:
        raise BudgetError(f"budget = {budget}: should be at least 1 and at most n = {n}")
    return budget


def divide(k: int, sizes: Mapping[int, int], division: Division = "proportional") -> dict[int, int]:
    """Divide a budget of k among classes of the given sizes; the parts sum to k, none is below 1.

    proportional: by the largest remainder, after every class has at least one.
    equal: k / classes each; what is left over goes, one each, to the first classes.

    Raises BudgetError where k is below the number of classes or a class is smaller than its part.
    """
    if k < len(sizes):
        raise BudgetError(f"budget = {k}: below the number of classes, {len(sizes)}; every class needs one at least")
    n = sum(sizes.values())
    if k > n:
        raise BudgetError(f"budget = {k}: above the number of examples, {n}")
    classes = sorted(sizes)
    if division == "equal":
        parts = {c: k // len(classes) + (place < k % len(classes)) for place, c in enumerate(classes)}
    else:
        parts = _proportional(k, n, {c: sizes[c] for c in classes})
    for c in classes:
        if sizes[c] < parts[c]:
            raise BudgetError(f"budget = {k}: class {c} has {sizes[c]} examples, fewer than its part of {parts[c]}")
    return parts


def _proportional(k: int, n: int, sizes: dict[int, int]) -> dict[int, int]:
    parts = {c: max(1, k * size // n) for c, size in sizes.items()}

    def owed(c: int) -> int:  # in units of 1/n, so that ties are exact
        return k * sizes[c] - parts[c] * n

    while (left := k - sum(parts.values())) != 0:
        if left > 0:
            parts[max(sizes, key=lambda c: (owed(c), -c))] += 1
        else:  # the classes raised to one took more than there was: the most favoured of the others give back
            parts[min((c for c in sizes if parts[c] > 1), key=lambda c: (owed(c), -c))] -= 1
    return parts
