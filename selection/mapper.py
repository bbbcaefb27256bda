"""Where selection problems are solved: in this process, or elsewhere with the same answers."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import perf_counter
from typing import Protocol, runtime_checkable

import numpy as np

from selection.blocks import Block, View
from selection.distances import largest_norm
from selection.greedi import Partition, Placed, deal, draw_sample, rounds
from selection.problem import Picks, Problem
from selection.proxies import Int64
from selection.sharing import Holders, by_the_first, common
from selection.works import Held, Options, Pieces, Result, Work, perform

_OPTIONS = ("measure", "solver", "epsilon", "memory", "limit")


class Mapper(Protocol):
    """Solves independent problems; the answers depend on the problems alone."""

    def map(self, problems: Sequence[Problem], partition: Partition | None = None) -> tuple[list[Picks], float]:
        """The picks of every problem, in their order, and the seconds of the busiest of those who computed them.

        With a partition, the largest problem is divided into its parts, the others in proportion to their size.
        """
        ...


@runtime_checkable
class SharedMapper(Mapper, Protocol):
    """Solves problems whose examples several processes hold: each asks the same, with the part that it holds."""

    def map_shared(
        self, problems: Sequence[Problem], partition: Partition | None, holders: Holders
    ) -> tuple[list[Picks], float]:
        """What `map` would answer to the whole problems, for every process."""
        ...


class Store(Protocol):
    """Where blocks of examples are kept."""

    def hold(self, block: View) -> Held:
        """Keep a block, and say what it is known by."""
        ...


class Shards(Store, Protocol):
    """Those who keep blocks and do the works of a selection on them."""

    def perform(self, works: Sequence[Work]) -> list[Result]:
        """Do works, in any order and anywhere; the results in the order of the works."""
        ...


class SerialMapper:
    """Solves problems in this process, on `threads` threads (by default one for each processor)."""

    def __init__(self, threads: int | None = None):
        self.threads = threads or os.cpu_count() or 1

    def map(self, problems: Sequence[Problem], partition: Partition | None = None) -> tuple[list[Picks], float]:
        start = perf_counter()
        shards = LocalShards(self.threads)
        picks = run([place(problem, shards, share) for problem, share in divided(problems, partition)], shards)
        return picks, perf_counter() - start

    def map_shared(
        self, problems: Sequence[Problem], partition: Partition | None, holders: Holders
    ) -> tuple[list[Picks], float]:
        """Rank 0 is given everybody's blocks, and solves."""
        start = perf_counter()
        shards = LocalShards(self.threads, copying=True)
        placed = [place(problem, shards, share) for problem, share in divided(problems, partition)]
        parts = holders.gather(placed)
        picks = by_the_first(holders, lambda: run(together(parts), shards))
        return picks, perf_counter() - start


class LocalShards:
    """This process: blocks are kept as they are, or, to be sent elsewhere, copied out of what they are a part of."""

    def __init__(self, threads: int, *, copying: bool = False):
        self.threads = threads
        self.copying = copying

    def hold(self, block: View) -> Held:
        return block.block() if self.copying else block

    def perform(self, works: Sequence[Work]) -> list[Result]:
        """Side by side where there are several works for the threads, the largest first."""
        if self.threads == 1 or len(works) < 2 * self.threads:
            return [perform(work, _block, self.threads, 1) for work in works]
        order = sorted(range(len(works)), key=lambda place: -works[place].cost)
        with ThreadPoolExecutor(self.threads) as pool:
            done = pool.map(lambda at: perform(works[at], _block, 1, self.threads), order)
            results = dict(zip(order, done, strict=True))
        return [results[at] for at in range(len(works))]


def _block(held: Block | View) -> Block:
    return held.block()


def divided(problems: Sequence[Problem], partition: Partition | None) -> list[tuple[Problem, Partition]]:
    """Each problem with its share of a partition."""
    partition = partition or Partition()
    largest = max(problem.count for problem in problems)
    shares = [-(-partition.parts * problem.count // largest) for problem in problems]
    return [
        (problem, replace(partition, parts=max(1, min(share, problem.count // 2))))
        for problem, share in zip(problems, shares, strict=True)
    ]


def place(problem: Problem, store: Store, partition: Partition) -> Placed:
    """Deal the examples of a problem out to blocks, and give these to the store.

    Of a problem of which only a part is here, each block is a piece: None where none of its examples is here.
    """
    if problem.candidates is not None:
        raise ValueError("candidates: a problem for a mapper picks from all of its examples")
    n = problem.count
    places = np.arange(n) if problem.places is None else problem.places
    weights = np.ones(len(places)) if problem.weights is None else problem.weights
    everything = View(places, problem.residuals, problem.embeddings, weights, problem.rows)

    def hold(part: Int64) -> Held | None:
        if problem.places is not None:
            _, part = common(places, part)
        if not len(part):
            return None
        return store.hold(everything if len(part) == len(places) else everything.some(part))

    parts = [np.arange(n)] if partition.parts == 1 else deal(n, partition.parts, problem.seed)
    sampled = partition.sampled(n, problem.budget)
    sample = None
    if partition.parts > 1 and sampled < n:
        sample = hold(draw_sample(n, sampled, problem.seed))
    return Placed(
        blocks=tuple(hold(part) for part in parts),
        sizes=tuple(len(part) for part in parts),
        sample=sample,
        sampled=sampled,
        options=Options(problem.objective, {name: getattr(problem, name) for name in _OPTIONS}),
        budget=problem.budget,
        tolerance=problem.tolerance,
        partition=partition,
        seed=problem.seed,
        c1=2.0 * largest_norm(problem.residuals, problem.embeddings, problem.rows) if len(parts) > 1 else None,
    )


def together(parts: Sequence[Sequence[Placed]]) -> list[Placed]:
    """The whole problems, of what each of several processes has placed of them."""
    return [_whole(pieces) for pieces in zip(*parts, strict=True)]


def _whole(parts: Sequence[Placed]) -> Placed:
    def joined(pieces: Sequence[Held | None]) -> Held | None:
        there = tuple(piece for piece in pieces if piece is not None)
        return Pieces(there) if there else None

    return replace(
        parts[0],
        blocks=tuple(joined(pieces) for pieces in zip(*(part.blocks for part in parts), strict=True)),
        sample=joined([part.sample for part in parts]),
        c1=None if parts[0].c1 is None else max(part.c1 for part in parts if part.c1 is not None),
    )


def run(problems: Sequence[Placed], shards: Shards) -> list[Picks]:
    """Solve problems in step: in each round the works of all of them are done together."""
    going = {at: rounds(placed) for at, placed in enumerate(problems)}
    wanted = {at: next(steps) for at, steps in going.items()}
    picks: dict[int, Picks] = {}
    while wanted:
        results = iter(shards.perform([work for works in wanted.values() for work in works]))
        answers = {at: [next(results) for _ in works] for at, works in wanted.items()}
        wanted = {}
        for at, answer in answers.items():
            try:
                wanted[at] = going[at].send(answer)
            except StopIteration as end:
                picks[at] = end.value
    return [picks[at] for at in range(len(problems))]
