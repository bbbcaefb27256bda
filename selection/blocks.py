"""Blocks of examples: what a shard keeps, and what it joins to a problem."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selection.problem import Float64
from selection.proxies import Float32, Int64


@dataclass(frozen=True)
class Block:
    """Some examples of a ground set.

    rows        (n,) their places in the ground set
    residuals   (n, C)
    embeddings  (n, D), or None
    weights     (n,) >= 0: how much each counts as something to cover
    """

    rows: Int64
    residuals: Float32
    embeddings: Float32 | None
    weights: Float64

    def some(self, places: Int64) -> "Block":
        """A copy of some of its examples."""
        embeddings = None if self.embeddings is None else self.embeddings[places]
        return Block(self.rows[places], self.residuals[places], embeddings, self.weights[places])

    def weighing(self, weights: Float64) -> "Block":
        """The same examples with other weights."""
        return Block(self.rows, self.residuals, self.embeddings, weights)


def join(blocks: Sequence[Block]) -> Block:
    """One block of several, in ascending order of their rows; of a row that comes twice, the heavier."""
    if len(blocks) == 1 and (np.diff(blocks[0].rows) > 0).all():
        return blocks[0]
    rows = np.concatenate([block.rows for block in blocks])
    weights = np.concatenate([block.weights for block in blocks])
    order = np.lexsort((-weights, rows))
    order = order[np.diff(rows[order], prepend=-1) > 0]
    embeddings = None
    if blocks[0].embeddings is not None:
        embeddings = np.concatenate([block.embeddings for block in blocks if block.embeddings is not None])[order]
    residuals = np.concatenate([block.residuals for block in blocks])[order]
    return Block(rows[order], residuals, embeddings, weights[order])
