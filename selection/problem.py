"""What a solver is asked, and what it answers."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from selection.proxies import Float32, Int64

Float64 = npt.NDArray[np.float64]
Objective = Literal["frobenius", "distance", "rbf"]
Solver = Literal["exact", "lazy", "stochastic"]
Memory = Literal["auto", "dense", "blockwise"]
Measure = Literal["frobenius", "objective"]


@dataclass(frozen=True)
class Problem:
    """One facility-location problem: a class of examples, or a part of one; rows in ascending order of id.

    residuals   (n, C)
    embeddings  (n, D), or None where the proxies are the residuals alone
    rows        (n,) which rows of both are meant, ascending, copied when solved; None: all
    places      where only a part of the examples is held here: (m,) which of `size` they are, ascending, m being the
                number of rows; such a problem is for a mapper that shares it
    size        of the whole problem, where only a part is held here
    budget      exactly this many picks; or None, with a
    tolerance   xi: picks until what is left is at most this, one pick at least
    measure     what the tolerance bounds: frobenius: ||G_S||_F = sqrt(sum w min d^2), whatever the objective;
                objective: sum w min phi(d) itself, for frobenius its root
    solver      exact and lazy: the largest marginal gain at each step; stochastic: the largest of a random sample
    epsilon     stochastic: the sample has (n/k) ln(1/epsilon) candidates
    seed        stochastic: its draws are a function of (seed, step, row)
    weights     (n,) >= 0: how much each example counts as something to cover; None: 1 each
    candidates  rows that may be picked, ascending; None: all
    memory      dense: all costs are computed once and kept, 4 n^2 bytes; blockwise: computed again where needed
    limit       bytes that the solver may take beyond its input
    """

    residuals: Float32
    embeddings: Float32 | None
    objective: Objective
    budget: int | None
    tolerance: float | None
    measure: Measure = "frobenius"
    solver: Solver = "exact"
    epsilon: float = 0.01
    seed: int = 0
    weights: Float64 | None = None
    candidates: Int64 | None = None
    memory: Memory = "auto"
    limit: int = 2 << 30
    rows: Int64 | None = None
    places: Int64 | None = None
    size: int | None = None

    @property
    def count(self) -> int:
        """n."""
        if self.size is not None:
            return self.size
        return len(self.residuals) if self.rows is None else len(self.rows)

    def copied_out(self) -> "Problem":
        """The same problem, of all the rows of its arrays."""
        if self.rows is None:
            return self
        embeddings = None if self.embeddings is None else self.embeddings[self.rows]
        return replace(self, residuals=self.residuals[self.rows], embeddings=embeddings, rows=None)

    def __post_init__(self) -> None:
        most = self.count if self.candidates is None else len(self.candidates)
        if self.budget is not None and not 1 <= self.budget <= most:
            raise ValueError(
                f"budget = {self.budget}: should be at least 1 and at most {most}, the candidates there are"
            )


@dataclass(frozen=True)
class Picks:
    """A solved problem."""

    order: Int64  # rows, in the order they were picked
    gains: Float64  # drop of the objective at each pick
    counts: Float64  # gamma: the weight of the examples that have each pick as their nearest; sums to sum(weights)
    seconds: float = 0.0
