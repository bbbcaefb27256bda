"""Where selection problems are solved: in this process, or elsewhere with the same answers."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import perf_counter
from typing import Protocol

import numpy as np

from selection.blocks import Block, View
from selection.distances import largest_norm
from selection.greedi import Partition, Placed, deal, draw_sample, rounds
from selection.problem import Picks, Problem
from selection.works import Held, Options, Result, Work, perform

_OPTIONS = ("measure", "solver", "epsilon", "memory", "limit")


class Mapper(Protocol):
    """Solves independent problems; the answers depend on the problems alone."""

    def map(self, problems: Sequence[Problem], partition: Partition | None = None) -> tuple[list[Picks], float]:
        """The picks of every problem, in their order, and the seconds of the busiest of those who computed them.

        With a partition, the largest problem is divided into its parts, the others in proportion to their size.
        """
        ...


class Shards(Protocol):
    """Those who keep blocks of examples and do the works of a selection on them."""

    def hold(self, block: View) -> Held:
        """Keep a block, and say what it is known by."""
        ...

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


class LocalShards:
    """This process: blocks are kept as they are."""

    def __init__(self, threads: int):
        self.threads = threads

    def hold(self, block: View) -> Held:
        return block

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


def place(problem: Problem, shards: Shards, partition: Partition) -> Placed:
    """Deal the examples of a problem out to blocks, and give these to the shards."""
    if problem.candidates is not None:
        raise ValueError("candidates: a problem for a mapper picks from all of its examples")
    n = problem.count
    weights = np.ones(n) if problem.weights is None else problem.weights
    everything = View(np.arange(n), problem.residuals, problem.embeddings, weights, problem.rows)
    parts = [np.arange(n)] if partition.parts == 1 else deal(n, partition.parts, problem.seed)
    sampled = n if problem.budget is None else partition.sampled(n, problem.budget)
    sample = None
    if partition.parts > 1 and sampled < n:
        sample = shards.hold(everything.some(draw_sample(n, sampled, problem.seed)))
    return Placed(
        blocks=tuple(shards.hold(everything if len(parts) == 1 else everything.some(part)) for part in parts),
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
