"""The stochastic solver's samples of candidates (Mirzasoleiman et al., 2015)."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selection.problem import Problem
from selection.proxies import Int64
from selection.randomness import draw_words


@dataclass(frozen=True)
class Sampler:
    """Draws (c/k) ln(1/epsilon) of c candidates at every step; without a k, c ln(1/epsilon) / (step + 1)."""

    seed: int
    ratio: float
    by_step: bool

    @classmethod
    def of(cls, problem: Problem, candidates: int) -> "Sampler | None":
        """A problem's, or None where its solver takes no samples."""
        if problem.solver != "stochastic":
            return None
        ratio = candidates * math.log(1 / problem.epsilon)
        by_step = problem.budget is None
        return cls(problem.seed, ratio if problem.budget is None else ratio / problem.budget, by_step)

    def draw(self, left: npt.NDArray[Any], step: int) -> Int64:
        """Those of the candidates left that have the smallest draws of (seed, step, place), ascending. Never empty."""
        places = np.flatnonzero(left)
        size = max(1, math.ceil(self.ratio / (step + 1) if self.by_step else self.ratio))
        if size >= len(places):
            return places
        words = draw_words(self.seed, "selection", step, places)  # distinct
        return np.sort(places[np.argpartition(words, size - 1)[:size]])
