"""Facility location straight from its definition, in float64, slow: what the solver is held against."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selection import Proxies
from selection.randomness import draw_uniform

Float64 = npt.NDArray[np.float64]
OBJECTIVES = ("frobenius", "distance", "rbf")
PROXIES = ("residual", "last_layer")


def residuals(n: int, classes: int, seed: int) -> Float64:
    """softmax(logits) - onehot(label) of random logits and labels, (n, classes)."""
    logits = 6.0 * draw_uniform(seed, "selection", 1, np.arange(n)[:, None], np.arange(classes))
    labels = (classes * draw_uniform(seed, "selection", 2, np.arange(n))).astype(int)
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True) - np.eye(classes)[labels]


def embeddings(n: int, width: int, seed: int) -> Float64:
    """Inputs of a last layer after a ReLU, (n, width): about a third are zero."""
    return np.maximum(0.0, 1.5 * draw_uniform(seed, "selection", 3, np.arange(n)[:, None], np.arange(width)) - 0.5)


def proxies(kind: str, n: int, seed: int, classes: int = 4, width: int = 5) -> Proxies:
    """Proxies of one class, with ids 0 to n - 1."""
    h = embeddings(n, width, seed) if kind == "last_layer" else None
    return Proxies(np.arange(n), residuals(n, classes, seed), np.zeros(n, int), h)


@dataclass(frozen=True)
class Definition:
    """phi(d_ij), phi_0, and d_ij itself."""

    costs: Float64
    empty: float
    distances: Float64

    def value(self, members: Any) -> float:
        """The drop from the empty set."""
        return float((self.empty - self.least(members)).sum())

    def least(self, members: Any) -> Float64:
        """m_i."""
        return np.minimum(self.costs[:, list(members)].min(axis=1, initial=self.empty), self.empty)

    def gains(self, members: Any) -> Float64:
        """The marginal gain of every example."""
        return np.maximum(0.0, self.least(members)[:, None] - self.costs).sum(axis=0)

    def best(self, k: int) -> float:
        """The largest value of any k members."""
        return max(self.value(members) for members in itertools.combinations(range(len(self.costs)), k))

    def counts(self, members: Any) -> Float64:
        """How many examples have each member as their nearest; ties to the smaller."""
        order = np.sort(members)
        nearest = order[np.argmin(self.costs[:, order], axis=1)]
        return np.array([(nearest == member).sum() for member in members])


def outer(proxies: Proxies) -> Float64:
    """The gradient proxies in full, one row an example."""
    g = proxies.residuals.astype(np.float64)
    if proxies.embeddings is None:
        return g
    h = np.concatenate([proxies.embeddings.astype(np.float64), np.ones((len(g), 1))], axis=1)
    return np.asarray((g[:, :, None] * h[:, None, :]).reshape(len(g), -1))


def definition(proxies: Proxies, objective: str) -> Definition:
    """The objective on the proxies as they are after rounding to float32."""
    points = outer(proxies)
    c1 = 2.0 * float(np.sqrt(np.square(points).sum(axis=1)).max())
    squares = np.array([np.square(points - point).sum(axis=1) for point in points])
    distances = np.sqrt(squares)
    if objective == "frobenius":
        return Definition(squares, c1**2, distances)
    if objective == "distance":
        return Definition(distances, c1, distances)
    return Definition(-np.expm1(-distances / points.shape[1]), 1.0, distances)
