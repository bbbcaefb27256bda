"""The pieces of work that a selection is made of, each for one process."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from selection.blocks import Block, join
from selection.covering import Covered, cover
from selection.greedy import solve
from selection.problem import Float64, Objective, Problem
from selection.proxies import Int64
from selection.randomness import draw_words
from selection.threads import Crew

Held = Any  # a block, or what stands for one that lies elsewhere
Medoids = tuple[tuple[Held, Int64], ...]


@dataclass(frozen=True)
class Pieces:
    """A block whose examples are held in several places."""

    held: tuple[Held, ...]


@dataclass(frozen=True)
class Options:
    """What is the same for all the works of a problem: the fields of `Problem` but its data and its budget."""

    objective: Objective
    fields: dict[str, Any]


@dataclass(frozen=True)
class Solve:
    """Pick from the join of some blocks.

    candidates  blocks that may be picked from, too, without counting as something to cover; where there are any,
                nothing else may be picked
    scatter     give the picked examples back in this many blocks, dealt out at random by `seed`, weighing the examples
                that they stand for
    """

    blocks: tuple[Held, ...]
    candidates: tuple[Held, ...]
    options: Options
    budget: int | None
    tolerance: float | None
    seed: int
    scatter: int
    cost: float  # in pairs of examples, to share works out by
    offset: int = 0  # the block that gets the first of them


@dataclass(frozen=True)
class Cover:
    """Value medoids on the examples of one block.

    medoids   blocks of them, one after another, each with the rows of its members as picked; one is held at a time
    """

    block: Held
    medoids: Medoids
    objective: Objective
    c1: float
    cost: float
    scatter: int = 0


@dataclass(frozen=True)
class Solved:
    """rows: places in the ground set, as picked."""

    rows: Int64
    gains: Float64
    counts: Float64
    seconds: float


Work = Solve | Cover
Result = tuple[Solved | Covered, list[Held]]


def perform(
    work: Work, fetch: Callable[[Held], Block], threads: int, sharing: int = 1
) -> tuple[Solved | Covered, list[Block]]:
    """Do one piece of work: its answer, and the blocks it gives back; `sharing` share the memory."""
    start = perf_counter()
    if isinstance(work, Cover):
        medoids = (_ordered(_fetched((held,), fetch), order) for held, order in work.medoids)
        with Crew(threads) as crew:
            covered = cover(_fetched((work.block,), fetch), medoids, work.objective, work.c1, crew)
        return replace(covered, seconds=perf_counter() - start), []
    examples = _fetched(work.blocks, fetch)
    allowed = None
    if work.candidates:
        candidates = _fetched(work.candidates, fetch)
        allowed = candidates.rows
        examples = join([examples, candidates.weighing(np.zeros(len(allowed)))])
        allowed = np.searchsorted(examples.rows, allowed)
    plain = bool((examples.weights == 1).all())
    problem = Problem(
        examples.residuals,
        examples.embeddings,
        work.options.objective,
        work.budget,
        work.tolerance,
        weights=None if plain else examples.weights,
        candidates=allowed,
        seed=work.seed,
        **(work.options.fields | {"limit": work.options.fields["limit"] // sharing}),
    )
    picks = solve(problem, threads)
    solved = Solved(examples.rows[picks.order], picks.gains, picks.counts, 0.0)
    blocks = scattered(examples.some(np.sort(picks.order)), solved, work) if work.scatter else []
    return replace(solved, seconds=perf_counter() - start), blocks


def _ordered(block: Block, order: Int64) -> Block:
    sorter = np.argsort(block.rows)
    return block.some(sorter[np.searchsorted(block.rows, order, sorter=sorter)])


def _fetched(blocks: tuple[Held, ...], fetch: Callable[[Held], Block]) -> Block:
    """The join of some blocks."""
    pieces = [piece for held in blocks for piece in (held.held if isinstance(held, Pieces) else (held,))]
    return join([fetch(piece) for piece in pieces])


def scattered(picked: Block, solved: Solved, work: Solve) -> list[Block]:
    """The picked examples, weighing whom they stand for, dealt out at random to blocks of equal size."""
    order = np.argsort(solved.rows)
    picked = picked.weighing(solved.counts[order])
    place = np.empty(len(order), np.int64)
    place[np.argsort(draw_words(work.seed, "selection", work.scatter, picked.rows))] = np.arange(len(order))
    place += work.offset
    return [picked.some(np.flatnonzero(place % work.scatter == part)) for part in range(work.scatter)]
