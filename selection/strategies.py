"""The ways of choosing which examples to augment, behind one protocol."""

import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from selection.gradient import gradient_error, shared_gradient_error
from selection.mapper import Mapper, SerialMapper
from selection.proxies import Float32, Int64, Proxies
from selection.randomness import draw_words, stream_seed
from selection.select import Selection, select
from selection.sharing import Holders, Share
from specs.selection import Selection as SelectionSpec

NAN = float("nan")


@dataclass(frozen=True)
class Candidates:
    """The ground set as a strategy sees it; rows in ascending order of id.

    ids, labels (n,); losses (n,) and residuals (m, C), embeddings (m, D) only where the strategy asks for them.
    rows (m,): whose residuals and embeddings these are, where other processes hold the others'; None: everybody's.
    Raises ValueError where ids do not ascend.
    """

    ids: Int64
    labels: Int64
    losses: Float32 | None = None
    residuals: Float32 | None = None
    embeddings: Float32 | None = None
    rows: Int64 | None = None

    def __post_init__(self) -> None:
        falls = np.flatnonzero(np.diff(self.ids) <= 0)
        if len(falls):
            row = int(falls[0]) + 1
            raise ValueError(
                f"ids should ascend, without repeats; row {row} has {self.ids[row]} after {self.ids[row - 1]}"
            )

    def proxies(self) -> Proxies | None:
        """The gradient proxies held here; None where there are none. Needs the residuals."""
        if self.residuals is None:
            raise ValueError("these candidates came without residuals")
        if self.rows is None:
            return Proxies(self.ids, self.residuals, self.labels, self.embeddings)
        if not len(self.rows):
            return None
        return Proxies(self.ids[self.rows], self.residuals, self.labels[self.rows], self.embeddings)

    def share(self, holders: Holders | None) -> Share | None:
        """What this process holds of the whole; None where it holds all."""
        if self.rows is None:
            return None
        if holders is None:
            raise ValueError("these candidates are a part of the whole; the others' holders should be named")
        return Share(self.ids, self.labels, self.rows, holders)


@dataclass(frozen=True)
class Request:
    """What is asked of a strategy."""

    spec: SelectionSpec
    size: int | None  # k; None with a tolerance
    seed: int
    epoch: int  # epochs done
    mapper: Mapper = field(default_factory=SerialMapper)
    holders: Holders | None = None  # the processes that ask this together, where the candidates are shared among them


class Strategy(Protocol):
    """Chooses S from the candidates. The answer depends on candidates and request alone."""

    needs_proxies: bool

    def select(self, candidates: Candidates, request: Request) -> Selection:
        """The selection; random, largest-loss and full sets have weights of one."""
        ...


class RandomSubset:
    """A uniformly random k-subset, drawn anew for every (seed, epoch)."""

    needs_proxies = False

    def select(self, candidates: Candidates, request: Request) -> Selection:
        start = time.perf_counter()
        ids = random_ids(candidates.ids, _size(request, candidates), request.seed, request.epoch, purpose=0)
        return _unweighted(ids, candidates, request, start)


class MaxLoss:
    """The k examples of largest loss (Kuchnik and Smith, 2018), selected anew each time; ties by the smaller id."""

    needs_proxies = True

    def select(self, candidates: Candidates, request: Request) -> Selection:
        start = time.perf_counter()
        return _unweighted(largest_losses(candidates, _size(request, candidates)), candidates, request, start)


class Coreset:
    """Weighted medoids in gradient space, class by class: the paper's method."""

    needs_proxies = True

    def select(self, candidates: Candidates, request: Request) -> Selection:
        spec = request.spec
        return select(
            candidates.proxies(),
            budget=request.size,
            tolerance=spec.tolerance,
            objective=spec.objective,
            solver=spec.solver,
            epsilon=spec.epsilon,
            partitions=spec.partitions,
            alpha=spec.alpha,
            sample=spec.sample,
            per_class=spec.per_class,
            seed=stream_seed(request.seed, "selection", request.epoch, 3),  # 0 to 2: other draws of this stream
            mapper=request.mapper,
            share=candidates.share(request.holders),
        )


class Full:
    """Everything."""

    needs_proxies = False

    def select(self, candidates: Candidates, request: Request) -> Selection:
        return _unweighted(candidates.ids, candidates, request, time.perf_counter())


STRATEGIES: dict[str, Strategy] = {
    "random": RandomSubset(),
    "max_loss": MaxLoss(),
    "coreset": Coreset(),
    "full": Full(),
}


def random_ids(ids: Int64, size: int, seed: int, epoch: int, purpose: int) -> Int64:
    """A uniformly random subset, ascending: the `size` ids with the smallest draws. One draw for each purpose."""
    words = draw_words(seed, "selection", epoch, purpose, ids)
    return np.sort(ids[np.argsort(words, kind="stable")[:size]])


def largest_losses(candidates: Candidates, size: int) -> Int64:
    """The ids of the largest losses, descending; ties by the smaller id."""
    if candidates.losses is None:
        raise ValueError("these candidates came without losses")
    unordered = np.flatnonzero(np.isnan(candidates.losses))
    if len(unordered):
        raise ValueError(f"losses must be numbers; the loss of id {candidates.ids[unordered[0]]} is nan")
    return candidates.ids[np.argsort(-candidates.losses, kind="stable")[:size]]


def _size(request: Request, candidates: Candidates) -> int:
    n = len(candidates.ids)
    if request.size is None or not 1 <= request.size <= n:
        raise ValueError(f"size = {request.size}: strategy {request.spec.strategy} needs at least 1, at most n = {n}")
    return request.size


def _unweighted(ids: Int64, candidates: Candidates, request: Request, start: float) -> Selection:
    error = NAN
    if candidates.residuals is not None:
        weights = np.full(len(ids), len(candidates.ids) / len(ids))
        members, share = np.searchsorted(candidates.ids, ids), candidates.share(request.holders)
        proxies = candidates.proxies()
        if share is not None:
            error = shared_gradient_error(proxies, share, members, weights)
        elif proxies is not None:
            error = gradient_error(proxies, members, weights)
    return Selection(
        ids=ids,
        weights=np.ones(len(ids)),
        gains=np.full(len(ids), NAN),
        value=NAN,
        seconds=time.perf_counter() - start,
        waited=0.0,
        gradient_error=error,
    )
