"""Which images an epoch trains on, and with which weights: the paper's regimes as tables of (id, copy, weight)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selection.proxies import Int64
from selection.randomness import draw_words
from specs.selection import Weighting
from specs.training import Regime

Float = npt.NDArray[np.float64]
BYTES = 80  # that making and shuffling an epoch's views takes at its peak, for each view


@dataclass(frozen=True)
class Views:
    """The images of an epoch, in the order in which they are trained on.

    ids (n,); copies (n,): 0 is the weakly augmented original, 1 to r the strongly augmented copies; weights (n,).
    """

    ids: Int64
    copies: Int64
    weights: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)


def make_views(
    regime: Regime,
    everything: Int64,
    main: Int64,
    selected: Int64,
    weights: Float | None,
    *,
    copies: int,
    in_place: bool,
) -> Views:
    """The views of an epoch, ordered by (id, copy).

    everything  (n,) ids of the whole training set
    main        (k,) ids of the random main set of `random+augmented`
    selected    (k,) ids of S
    weights     (k,) s*gamma, for S in the same order; None where S is not weighted
    copies      r; 0 where nothing is augmented
    in_place    whether copies replace their originals

    An original weighs 1, in `subset` s*gamma; a copy s*gamma/r where S is weighted, and 1 where it is not.
    A weighted S whose s*gamma are all 1 is still a weighted one: its copies weigh 1/r.
    """
    originals = {"subset": selected, "full+augmented": everything, "random+augmented": main}[regime]
    of_originals = weights if regime == "subset" and weights is not None else np.ones(len(originals))
    of_copies = np.ones(len(selected)) if weights is None else weights / max(copies, 1)
    if in_place and copies:
        kept = ~np.isin(originals, selected)
        originals, of_originals = originals[kept], of_originals[kept]
    ids = np.concatenate([originals, np.tile(selected, copies)]).astype(np.int64)
    numbers = np.concatenate([np.zeros(len(originals)), np.repeat(np.arange(1, copies + 1), len(selected))])
    loads = np.concatenate([of_originals, np.tile(of_copies, copies)]).astype(np.float32)
    order = np.lexsort((numbers, ids))
    return Views(ids[order], numbers[order].astype(np.int64), loads[order])


def loss_weights(counts: npt.NDArray[Any], n: int, weighting: Weighting) -> Float | None:
    """s*gamma for the members of a coreset: s = k/n (mean 1) or s = 1 (Eq. 10); None where weights are off."""
    if weighting == "off":
        return None
    scale = len(counts) / n if weighting == "mean_one" else 1.0
    return np.asarray(counts, dtype=np.float64) * scale


def shuffle(views: Views, seed: int, epoch: int, *, together: bool = False) -> Views:
    """The views in random order. Each view's place is its own draw: changing S does not reorder the others.

    `together`: the copies of an example come one after another, at the place of the first.
    """
    places = np.minimum(views.copies, 1) if together else views.copies
    order = np.argsort(draw_words(seed, "order", epoch, views.ids, places), kind="stable")
    return Views(views.ids[order], views.copies[order], views.weights[order])
