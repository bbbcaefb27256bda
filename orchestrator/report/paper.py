"""A comparison laid out as the paper's table, with the published figures beside those measured here."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.report.comparisons import Cell, Comparison
from orchestrator.report.published import QUANTITIES, Figure, Published, Quantity, published
from orchestrator.report.results import Results
from orchestrator.report.setups import Difference, differences
from orchestrator.report.speed import SpeedUps, speed_ups
from specs import SweepSpec, load
from specs.paper import Exhibit

LABELS = {"none": "Weak only", "full": "Full", "random": "Random", "max_loss": "Max-loss", "coreset": "Coreset (Ours)"}


@dataclass(frozen=True)
class Measured:
    """A figure measured here, in the paper's units: %, for speed-ups times. `low` and `high` bound shares (95 %)."""

    value: float
    std: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Entry:
    """One place of a table: what was measured here, over `n` of `asked` trials, and what the paper has there."""

    strategy: str
    size: str
    here: Measured | None
    n: int
    asked: int  # 0 where the sweep has no such trials
    published: Figure | None

    @property
    def difference(self) -> float | None:
        """Here less published; None where one is missing. A published bound that is kept has no difference."""
        if self.here is None or self.published is None:
            return None
        if self.published.below and self.here.value < self.published.value:
            return None
        return self.here.value - self.published.value


@dataclass(frozen=True)
class PaperTable:
    """One quantity of an exhibit. `baselines` have no size; `rows` are entries by their label, in `columns`' order."""

    quantity: Quantity
    baselines: tuple[Entry, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Entry, ...]], ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All of them, row by row."""
        return (*self.baselines, *(entry for _, entries in self.rows for entry in entries))


@dataclass(frozen=True)
class Reproduction:
    """What a sweep reproduces, and where its set-up differs from that of the library's spec."""

    name: Exhibit
    published: Published
    differences: tuple[Difference, ...]

    def tables(self, comparison: Comparison, speed: SpeedUps | None = None) -> tuple[PaperTable, ...]:
        """A comparison in the paper's layout, one table for each quantity the paper gives.

        Speed-ups are of clocks: they are there only where `speed` is given.
        """
        return tuple(
            _table(self.published, quantity, comparison, speed)
            for quantity in QUANTITIES
            if self.published.of(quantity) and (quantity != "speedup" or speed is not None)
        )

    def timed_tables(self, comparison: Comparison) -> tuple[PaperTable, ...]:
        """The same with speed-ups."""
        return self.tables(comparison, speed_ups(comparison))


def reproduction(results: Results) -> Reproduction | None:
    """What a sweep says it reproduces; None where it says nothing."""
    if results.sweep.spec.get("reproduces") is None:
        return None
    here = SweepSpec.model_validate(results.sweep.spec)
    assert here.reproduces is not None
    there = load(here.reproduces)
    return Reproduction(here.reproduces, published()[here.reproduces], tuple(differences(here, there)))


def _table(source: Published, quantity: Quantity, comparison: Comparison, speed: SpeedUps | None) -> PaperTable:
    figures = source.of(quantity)
    unsized = [strategy for strategy, found in figures.items() if not isinstance(found, tuple)]
    sized = [strategy for strategy in figures if strategy not in unsized]
    own = [size for size in comparison.sizes if any(comparison.at(strategy, size) for strategy in sized)]
    sizes = [*source.sizes, *(size for size in own if size not in source.sizes)] if sized else []
    names = {size: f"{size} ({count})" for size, count in zip(source.sizes, source.per_class, strict=False)}

    def entry(strategy: str, size: str) -> Entry:
        cell = comparison.at(strategy, size)
        here = _measured(cell, quantity, speed) if cell else None
        n, asked = (len(cell.results), len(cell.outcomes)) if cell else (0, 0)
        return Entry(strategy, size, here, n, asked, source.at(quantity, strategy, size))

    by_strategy = {strategy: [entry(strategy, size) for size in sizes] for strategy in sized}
    labels = [LABELS[strategy] for strategy in sized]
    titles = [names.get(size, size) for size in sizes]
    return PaperTable(
        quantity,
        tuple(entry(strategy, "") for strategy in unsized),
        *_arranged(source, labels, titles, list(by_strategy.values())),
    )


def _arranged(
    source: Published, labels: Sequence[str], titles: Sequence[str], entries: Sequence[Sequence[Entry]]
) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[Entry, ...]], ...]]:
    """Columns and rows, either of which are strategies."""
    if source.rows == "sizes":
        turned = [tuple(row) for row in zip(*entries, strict=True)]
        return tuple(labels), tuple(zip(titles, turned, strict=True))
    return tuple(titles), tuple(zip(labels, map(tuple, entries), strict=True))


def _measured(cell: Cell, quantity: Quantity, speed: SpeedUps | None) -> Measured | None:
    if quantity == "share":
        share = cell.share
        if share is None:
            return None
        return Measured(
            share.share * 100,
            low=None if share.low is None else share.low * 100,
            high=None if share.high is None else share.high * 100,
        )
    summary = cell.accuracy if quantity == "accuracy" else speed.of(cell) if speed else None
    if summary is None:
        return None
    scale = 100 if quantity == "accuracy" else 1
    return Measured(summary.mean * scale, None if summary.std is None else summary.std * scale)
