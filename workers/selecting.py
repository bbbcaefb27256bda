"""When the loop selects, what it selects, and what is recorded of it."""

import io
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from selection.budgets import subset_size
from selection.mapper import Mapper
from selection.proxies import Int64
from selection.select import Selection
from selection.sharing import Holders
from selection.strategies import STRATEGIES, Candidates, Request, largest_losses, random_ids
from specs import TrialSpec
from workers.data import TrainingSet
from workers.records import SelectionRecord
from workers.views import Float, Views, loss_weights, make_views


@dataclass(frozen=True)
class Chosen:
    """The current augmented set S: ids in pick order, and the weights s*gamma; None where S is not weighted."""

    ids: Int64
    weights: Float | None


class Chooser:
    """Decides, for one trial, which examples are augmented in which epoch."""

    def __init__(self, spec: TrialSpec, examples: TrainingSet, holders: Holders | None = None):
        self.spec = spec
        self.holders = holders  # the processes that select together
        self.examples = examples
        self.size: int | None = None
        if spec.needs_size() and spec.selection.tolerance is None:
            self.size = subset_size(len(examples.ids), fraction=spec.selection.fraction, budget=spec.selection.budget)

    def due(self, epoch: int) -> str | None:
        """The strategy that selects before epoch `epoch` (counted from 0), or None where nothing is due."""
        chosen = self.spec.selection
        if chosen.strategy == "none":
            return None
        if chosen.strategy == "full":
            return "full" if epoch == 0 else None
        warmup = 0 if chosen.strategy == "random" else chosen.warmup_epochs
        if epoch < warmup:
            return "random" if epoch % chosen.every == 0 else None
        if (epoch - warmup) % chosen.every or self.used_from(chosen.strategy, epoch) >= self.spec.training.epochs:
            return None
        return chosen.strategy

    def used_from(self, strategy: str, epoch: int) -> int:
        """The epoch from which on a selection due before `epoch` is used: `lag` later where it overlaps with training.

        Before the first epoch there is no S to go on with, so the selection made there blocks.
        """
        waits = epoch == 0 or not self.needs_proxies(strategy) or self.spec.selection.mode == "blocking"
        return epoch if waits else epoch + self.spec.selection.lag

    def harvests(self, epoch: int) -> bool:
        """Whether epoch `epoch` is to keep its logits, for a selection due right after it."""
        if not self.spec.harvests():
            return False
        following = self.due(epoch + 1)
        return following is not None and self.needs_proxies(following)

    @staticmethod
    def needs_proxies(strategy: str) -> bool:
        """Whether a strategy selects by losses or gradients."""
        return STRATEGIES[strategy].needs_proxies

    def needs_embeddings(self, strategy: str) -> bool:
        """Whether a strategy's proxies have the last layer's input in them."""
        return strategy == "coreset" and self.spec.selection.proxy == "last_layer"

    def select(self, strategy: str, candidates: Candidates, epoch: int, mapper: Mapper) -> Selection:
        """Select S anew."""
        request = Request(self.spec.selection, self.size, self.spec.seed, epoch, mapper, self.holders)
        return STRATEGIES[strategy].select(candidates, request)

    def chosen(self, strategy: str, selection: Selection) -> Chosen:
        """S with its loss weights: gamma counts for coresets; the other sets, warm-up's too, are not weighted."""
        if strategy != "coreset":
            return Chosen(selection.ids, None)
        weights = loss_weights(selection.weights, len(self.examples.ids), self.spec.selection.weights)
        return Chosen(selection.ids, weights)

    def views(self, chosen: Chosen | None, epoch: int) -> Views:
        """The images of epoch `epoch` (counted from 0), ordered by (id, copy)."""
        regime, augmentation = self.spec.training.regime, self.spec.augmentation
        everything = self.examples.ids
        main = np.zeros(0, np.int64)
        if regime == "random+augmented" or (regime == "subset" and chosen is None):
            assert self.size is not None
            drawn = epoch - epoch % self.spec.selection.every
            main = random_ids(everything, self.size, self.spec.seed, drawn, purpose=1)
        if chosen is None:  # strategy none
            subset = main if regime == "subset" else np.zeros(0, np.int64)
            return make_views(regime, everything, main, subset, None, copies=0, in_place=False)
        return make_views(
            regime,
            everything,
            main,
            chosen.ids,
            chosen.weights,
            copies=augmentation.copies,
            in_place=augmentation.placement == "in_place",
        )

    def record(
        self,
        strategy: str,
        selection: Selection,
        candidates: Candidates,
        epoch: int,
        staleness: float | None = None,
    ) -> SelectionRecord:
        """What is kept of a selection asked for before `epoch`, beside its ids and weights."""
        ids = selection.ids
        overlap = mislabelled = None
        if candidates.losses is not None:
            overlap = float(np.isin(ids, largest_losses(candidates, len(ids))).mean())
        if self.spec.dataset.label_noise:
            rows = np.searchsorted(self.examples.ids, ids)
            wrong = self.examples.labels[rows] != self.examples.clean_labels[rows]
            mislabelled = float(wrong.mean())
        return SelectionRecord(
            epoch=epoch,
            strategy=strategy,
            size=len(ids),
            value=_finite(selection.value),
            gradient_error=_finite(selection.gradient_error),
            overlap_max_loss=overlap,
            mislabelled=mislabelled,
            used_from=self.used_from(strategy, epoch),
            staleness=staleness,
        )


def selection_bytes(selection: Selection) -> bytes:
    """A selection as NPZ: ids, weights (gamma), gains, in pick order. The same selection gives the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, ids=selection.ids, weights=selection.weights, gains=selection.gains)
    return buffer.getvalue()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


class Waiting:
    """Splits the time a selection took into computing it and standing still for it."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self.start

    def split(self, selection: Selection) -> tuple[float, float]:
        """(seconds of computing, seconds of waiting beyond that)."""
        elapsed = self.elapsed()
        computing = min(selection.seconds, elapsed)
        return computing, elapsed - computing


def chosen_state(chosen: Chosen | None) -> dict[str, Any] | None:
    """S as it goes into a checkpoint."""
    if chosen is None:
        return None
    return {"ids": chosen.ids.tolist(), "weights": None if chosen.weights is None else chosen.weights.tolist()}


def chosen_from_state(state: dict[str, Any] | None) -> Chosen | None:
    """S as it comes out of a checkpoint."""
    if state is None:
        return None
    weights = state["weights"]
    return Chosen(np.array(state["ids"], np.int64), None if weights is None else np.array(weights, np.float64))
