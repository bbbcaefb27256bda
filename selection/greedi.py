"""Partitioned greedy: GreeDi (Mirzasoleiman et al., 2013), in as many rounds as it takes for no process to hold all.

A ground set is dealt out at random to m parts; each part picks q of its own by greedy; greedy on the union of their
picks, with gains over the ground set or a random sample of it, gives the answer. Where the union is more than one
process should hold, the picks are dealt out at random again, to fewer parts, each weighing the examples that it stands
for, and picked from again: a tree of accumulation. The coordinator sees rows, gains and counts; blocks go from shard to
shard.

With q = k, one round, gains over all, and the best local result competing, the value is at least
(1 - 1/e) / min(sqrt(k), m) of the best (GreeDi), and (1 - 1/e) / 2 in expectation over the partition (Barbosa et al.,
2015). The guarantee lapses where q < k (alpha < m, or the union capped at n/4), where gains are over a sample, and with
several rounds; how much is lost is measured in benchmarks/.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from selection.covering import Covered
from selection.problem import Objective, Picks
from selection.proxies import Int64
from selection.randomness import draw_words, stream_seed
from selection.works import Cover, Held, Medoids, Options, Result, Solve, Solved, Work

SAMPLE = 50_000  # examples over which the union's gains are reckoned, or 10 k where that is more
Rounds = Generator[list[Work], list[Result], Picks]


@dataclass(frozen=True)
class Partition:
    """How a problem is divided.

    parts     m
    alpha     each part picks q = min(k, ceil(alpha k / m)); the union has n/4 members at most, but never below k
    sample    examples over which the union's gains are reckoned, all in one process; None: max(50,000, 10 k), or all
              where that is fewer. With a tolerance they put the union in order; how many of it are needed is
              reckoned over all examples, part by part
    capacity  the most candidates that one process holds; above it, a further round. With a tolerance there is none:
              too many candidates are refused, since fewer might not reach it
    """

    parts: int = 1
    alpha: float = 4.0
    sample: int | None = None
    capacity: int = 1_000_000

    def __post_init__(self) -> None:
        for name, least in (("parts", 1), ("capacity", 2), ("sample", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                option = "partitions" if name == "parts" else name  # as `select` calls it
                raise ValueError(f"{option} = {value!r}: should be a whole number, at least {least}")
        if not 1 <= self.alpha < math.inf:
            raise ValueError(f"alpha = {self.alpha}: should be at least 1, and finite")

    def local(self, k: int, n: int, parts: int) -> int:
        """q."""
        fitting = max(-(-k // parts), n // (4 * parts))
        return min(k, math.ceil(self.alpha * k / parts), fitting)

    def sampled(self, n: int, k: int | None) -> int:
        """How many examples the union's gains are reckoned over."""
        wanted = max(SAMPLE, 10 * (k or 0)) if self.sample is None else self.sample
        return min(n, wanted)


@dataclass(frozen=True)
class Placed:
    """A problem whose data lie in blocks, here or elsewhere."""

    blocks: tuple[Held, ...]  # one a part
    sizes: tuple[int, ...]
    sample: Held | None  # the examples of the union's gains; None: all blocks
    sampled: int
    options: Options
    budget: int | None
    tolerance: float | None
    partition: Partition
    seed: int
    c1: float | None  # None where there is one block: its solver knows

    @property
    def count(self) -> int:
        """n."""
        return sum(self.sizes)

    @property
    def cost(self) -> float:
        """In pairs of examples."""
        return float(sum(size * size for size in self.sizes))


def deal(rows: int, parts: int, seed: int) -> list[Int64]:
    """A random partition of the places 0 .. rows - 1, in parts of equal size up to one; each ascending."""
    order = np.argsort(draw_words(seed, "selection", 0, np.arange(rows)), kind="stable")
    return [np.sort(part) for part in np.array_split(order, parts)]


def draw_sample(rows: int, size: int, seed: int) -> Int64:
    """A random sample of the places, ascending."""
    order = np.argsort(draw_words(seed, "selection", 1, np.arange(rows)), kind="stable")
    return np.sort(order[:size])


def rounds(placed: Placed) -> Rounds:
    """The works of a problem, round after round; their results are sent back in. Returns the picks."""
    if len(placed.blocks) == 1:
        work = Solve(placed.blocks, (), placed.options, placed.budget, placed.tolerance, placed.seed, 0, placed.cost)
        [(solved, _)] = yield [work]
        assert isinstance(solved, Solved)
        return Picks(solved.rows, solved.gains, solved.counts, solved.seconds)
    locals_, seconds = yield from _local_picks(placed)
    if len(locals_) == 1:
        picks = yield from _pick_from_union(placed, locals_[0])
    else:  # k members are more than one process holds: every part picks its share
        picks = yield from _pick_shares(placed, locals_)
    return replace(picks, seconds=seconds + picks.seconds)


@dataclass(frozen=True)
class _Union:
    """Candidates in blocks, and the whole solutions among them (as many members as are asked for)."""

    blocks: tuple[Held, ...]
    size: int
    whole: tuple[Medoids, ...] = ()


def _local_picks(placed: Placed) -> Generator[list[Work], list[Result], tuple[list[_Union], float]]:
    """Rounds of local picks, until the union fits one process, or shares of k do."""
    partition, k, n = placed.partition, placed.budget, placed.count
    groups: list[tuple[tuple[Held, ...], int]] = [
        ((block,), size) for block, size in zip(placed.blocks, placed.sizes, strict=True)
    ]
    seconds, level = 0.0, 0
    while True:
        level += 1
        quota = None if k is None else partition.local(k, n, len(groups))
        expected = sum(size if quota is None else min(size, quota) for _, size in groups)
        further = 1 if k is None or expected <= partition.capacity else -(-expected // partition.capacity)
        further = min(further, len(groups) - 1)
        works: list[Work] = [
            Solve(
                blocks,
                (),
                placed.options,
                None if quota is None else min(size, quota),
                None if placed.tolerance is None else _share(placed, size),
                stream_seed(placed.seed, "selection", 2, level, place),
                further,
                float(size * size),
                offset=0 if quota is None else sum(min(before, quota) for _, before in groups[:place]),
            )
            for place, (blocks, size) in enumerate(groups)
        ]
        results = yield works
        seconds += max(answer.seconds for answer, _ in results)
        solved = [answer for answer, _ in results if isinstance(answer, Solved)]
        if further == 1:
            whole = tuple(
                ((held[0], answer.rows),)
                for (answer, held) in results
                if level == 1 and isinstance(answer, Solved) and k is not None and len(answer.rows) == k
            )
            union, size = tuple(held[0] for _, held in results), sum(len(answer.rows) for answer in solved)
            if k is None and size > partition.capacity:
                raise ValueError(
                    f"capacity = {partition.capacity}: to keep the tolerance of {placed.tolerance}, the {len(groups)} "
                    f"parts picked {size} candidates, which one process has to hold; raise capacity or tolerance, or "
                    "ask for a budget"
                )
            return [_Union(union, size, whole)], seconds
        groups = [
            (tuple(held[place] for _, held in results), _dealt(solved, further, place)) for place in range(further)
        ]
        assert k is not None
        if further * partition.capacity < partition.alpha * k or k > partition.capacity:
            return [_Union(blocks, size) for blocks, size in groups], seconds


def _dealt(solved: Sequence[Solved], parts: int, place: int) -> int:
    """How many candidates a part gets, dealt out one after another."""
    total = sum(len(answer.rows) for answer in solved)
    return total // parts + (place < total % parts)


def _share(placed: Placed, size: int) -> float:
    """The tolerance of a part, such that all parts together keep that of the whole."""
    assert placed.tolerance is not None
    share = size / placed.count
    squared = "frobenius" in (placed.options.fields["measure"], placed.options.objective)
    return placed.tolerance * (math.sqrt(share) if squared else share)


def _pick_from_union(placed: Placed, union: _Union) -> Rounds:
    """Greedy on the union, against the best of the local results that have k members; valued on everything.

    To keep a tolerance where gains are over a sample, the whole union is put in order, and cut where everything says.
    """
    ground = placed.blocks if placed.sample is None else (placed.sample,)
    cut = placed.tolerance is not None and placed.sample is not None
    works: list[Work] = [
        Solve(
            ground,
            union.blocks,
            placed.options,
            union.size if cut else placed.budget,
            None if cut else placed.tolerance,
            placed.seed,
            1,
            float(placed.sampled * union.size),
        )
    ]
    c1, objective = placed.c1, placed.options.objective
    assert c1 is not None
    works += [
        Cover(block, medoids, objective, c1, float(_members(medoids) * placed.sampled))
        for medoids in union.whole
        for block in ground
    ]
    (solved, held), *valued = yield works
    assert isinstance(solved, Solved)
    seconds = solved.seconds + sum(answer.seconds for answer, _ in valued)
    rows = solved.rows
    if cut:
        kept, spent = yield from _kept(placed, held[0], rows)
        rows, seconds = rows[:kept], seconds + spent
    contestants: list[Medoids] = [((held[0], rows),)]
    if union.whole:
        values = [answer.gains.sum() for answer, _ in valued]
        local = [sum(values[start : start + len(ground)]) for start in range(0, len(values), len(ground))]
        contestants.append(union.whole[int(np.argmax(local))])
    best: Picks | None = None
    for medoids in contestants:
        picks = yield from _value(placed, medoids)
        seconds += picks.seconds
        if best is None or picks.gains.sum() > best.gains.sum():
            best = picks
    assert best is not None
    return replace(best, seconds=seconds)


def _kept(placed: Placed, held: Held, rows: Int64) -> Generator[list[Work], list[Result], tuple[int, float]]:
    """How many picks, from the first on, keep the tolerance over the whole ground set; all, if none of fewer does."""
    assert placed.tolerance is not None
    measure = placed.options.objective if placed.options.fields["measure"] == "objective" else "frobenius"
    covered = yield from _covered(placed, ((held, rows),), measure)
    left = float(sum(part.left for part in covered)) + np.zeros(len(rows))
    gains = np.sum([part.gains for part in covered], axis=0)
    left[:-1] += np.cumsum(gains[:0:-1])[::-1]
    bound = placed.tolerance**2 if measure == "frobenius" else placed.tolerance
    kept = int(np.argmax(left <= bound)) + 1 if left[-1] <= bound else len(rows)
    return kept, max(part.seconds for part in covered)


def _pick_shares(placed: Placed, parts: Sequence[_Union]) -> Rounds:
    """Every part picks its share of k from its candidates; together they are the answer."""
    assert placed.budget is not None
    total = sum(part.size for part in parts)
    ends = [placed.budget * sum(part.size for part in parts[: place + 1]) // total for place in range(len(parts))]
    works: list[Work] = [
        Solve(
            part.blocks,
            (),
            placed.options,
            end - start,
            None,
            stream_seed(placed.seed, "selection", 3, place),
            1,
            float(part.size**2),
        )
        for place, (part, start, end) in enumerate(zip(parts, [0, *ends], ends, strict=False))
        if end > start
    ]
    results = yield works
    seconds = max(answer.seconds for answer, _ in results)
    medoids = tuple((held[0], answer.rows) for answer, held in results if isinstance(answer, Solved))
    picks = yield from _value(placed, medoids)
    return replace(picks, seconds=seconds + picks.seconds)


def _value(placed: Placed, medoids: Medoids) -> Rounds:
    """The picks with their gains and counts over the whole ground set."""
    covered = yield from _covered(placed, medoids, placed.options.objective)
    return Picks(
        np.concatenate([rows for _, rows in medoids]),
        np.sum([part.gains for part in covered], axis=0),
        np.sum([part.counts for part in covered], axis=0),
        max(part.seconds for part in covered),
    )


def _covered(
    placed: Placed, medoids: Medoids, objective: Objective
) -> Generator[list[Work], list[Result], list[Covered]]:
    """What medoids are worth on every block of the ground set."""
    assert placed.c1 is not None
    results = yield [
        Cover(block, medoids, objective, placed.c1, float(size * _members(medoids)))
        for block, size in zip(placed.blocks, placed.sizes, strict=True)
    ]
    return [answer for answer, _ in results if isinstance(answer, Covered)]


def _members(medoids: Medoids) -> int:
    return sum(len(rows) for _, rows in medoids)
