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

    def block(self) -> "Block":
        """Itself: what is held may also be a `View`."""
        return self

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


@dataclass(frozen=True)
class View:
    """A block that is not copied out of the arrays it is a part of, before it is needed.

    rows        (n,) its examples' places in the ground set, ascending
    index       (n,) their rows in the arrays; None: they are the arrays' rows
    """

    rows: Int64
    residuals: Float32
    embeddings: Float32 | None
    weights: Float64
    index: Int64 | None

    def some(self, places: Int64) -> "View":
        """Some of its examples."""
        index = places if self.index is None else self.index[places]
        return View(self.rows[places], self.residuals, self.embeddings, self.weights[places], index)

    def block(self) -> Block:
        """The block itself, copied."""
        if self.index is None:
            return Block(self.rows, self.residuals, self.embeddings, self.weights)
        embeddings = None if self.embeddings is None else self.embeddings[self.index]
        return Block(self.rows, self.residuals[self.index], embeddings, self.weights)
