"""Trials gathered into cells by cell hash, and cells into tables of strategy by size."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import ValidationError

from orchestrator.report.results import Outcome, Results
from orchestrator.report.statistics import GainShare, Summary, gain_share, summarise
from specs import TrialSpec, cell_hash
from specs.expansion import OWN_AXES
from specs.identity import always_counts
from specs.selection import Selection, Strategy
from workers.records import TrialEntry, TrialResult, TrialTimes

STRATEGIES: tuple[str, ...] = get_args(Strategy)
Point = tuple[tuple[str, Any], ...]  # (dotted field, value) of the axes other than strategy, size and seed


@dataclass(frozen=True)
class Cell:
    """All repeats of one trial: what is averaged. `size` is empty where S has no size."""

    strategy: str
    size: str
    cell_hash: str
    point: Point
    outcomes: tuple[Outcome, ...]  # by seed
    share: GainShare | None = None

    @property
    def results(self) -> tuple[TrialResult, ...]:
        """Results of the finished trials, by seed."""
        return tuple(outcome.result for outcome in self.outcomes if outcome.result is not None)

    @property
    def times(self) -> tuple[TrialTimes, ...]:
        """Times of the finished trials, by seed."""
        return tuple(outcome.times for outcome in self.outcomes if outcome.result and outcome.times)

    @property
    def accuracy(self) -> Summary | None:
        """Test accuracy after the last epoch, 0 to 1, over the finished trials."""
        return summarise([result.test_accuracy for result in self.results])

    def by_seed(self) -> dict[int, float]:
        """Test accuracy after the last epoch by seed."""
        return {result.spec.seed: result.test_accuracy for result in self.results}


@dataclass(frozen=True)
class Comparison:
    """One table: cells by strategy and size that agree on every other axis."""

    point: Point
    cells: tuple[Cell, ...]  # by strategy, then size

    @property
    def sizes(self) -> tuple[str, ...]:
        """The sizes in ascending order; cells without a size stand beside them."""
        return tuple(sorted({cell.size for cell in self.cells} - {""}, key=_size_order))

    @property
    def strategies(self) -> tuple[str, ...]:
        """The strategies that were run."""
        return tuple(name for name in STRATEGIES if any(cell.strategy == name for cell in self.cells))

    @property
    def has_reference(self) -> bool:
        """Whether shares of full's gain can be asked for at all."""
        return {"none", "full"} <= set(self.strategies)

    def at(self, strategy: str, size: str) -> Cell | None:
        """The cell of exactly this strategy and size."""
        return next((cell for cell in self.cells if (cell.strategy, cell.size) == (strategy, size)), None)

    def beside(self, strategy: str, size: str) -> Cell | None:
        """The cell to hold against others of this size: of the same size, else the one without a size."""
        return self.at(strategy, size) or self.at(strategy, "")


def compare(results: Results) -> tuple[Comparison, ...]:
    """One comparison for each combination of the axes other than strategy, size and seed.

    A cell also stands in the comparisons along axes that have no effect on it: `random` is the same for every
    objective. Cells of different hashes never merge. A comparison whose cells all stand in another is left out.
    Time is about linear in the cells, but for axes that may have no effect.
    """
    axes = _varying(results)
    gathered: dict[str, list[Outcome]] = {}
    for outcome in results.outcomes:
        gathered.setdefault(outcome.entry.cell_hash, []).append(outcome)
    cells = [_cell(outcomes, axes) for outcomes in gathered.values()]
    blocks: dict[str, list[Cell]] = {}  # by what always has an effect: cells of two blocks are never the same
    for cell in cells:
        always = [pair for pair in cell.point if always_counts(pair[0])]
        blocks.setdefault(_canonical(always), []).append(cell)
    return tuple(comparison for block in blocks.values() for comparison in _compare(block))


def _compare(cells: Sequence[Cell]) -> Iterator[Comparison]:
    points = {_canonical(cell.point): cell.point for cell in cells}
    groups = [
        [cell for cell in cells if _canonical(cell.point) == key or _same_at(cell, point)]
        for key, point in points.items()
    ]
    hashes = [{cell.cell_hash for cell in members} for members in groups]
    for place, (point, members, own) in enumerate(zip(points.values(), groups, hashes, strict=True)):
        if own not in hashes[:place] and not any(own < other for other in hashes):
            yield _comparison(point, members)


def axis_values(entry: TrialEntry) -> dict[str, Any]:
    """A trial's place on the axes; a swept `selection` section counts as its fields, defaults included."""
    values = dict(entry.point)
    if "selection" in values:
        section = Selection.model_validate(values.pop("selection")).model_dump(mode="json")
        values |= {f"selection.{field}": value for field, value in section.items()}
    return {field: value for field, value in values.items() if field not in OWN_AXES}


def value_text(value: Any) -> str:
    """An axis value as one word, or as JSON where it is more than that."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _varying(results: Results) -> tuple[str, ...]:
    seen: dict[str, set[str]] = {}
    places = [axis_values(outcome.entry) for outcome in results.outcomes]
    for field in dict.fromkeys(field for place in places for field in place):
        seen[field] = {_canonical(place.get(field)) for place in places}
    return tuple(field for field, values in seen.items() if len(values) > 1)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _cell(outcomes: Iterable[Outcome], axes: Iterable[str]) -> Cell:
    ordered = tuple(sorted(outcomes, key=lambda outcome: outcome.entry.seed))
    entry = ordered[0].entry
    values = axis_values(entry)
    point = tuple((axis, values.get(axis)) for axis in axes)
    return Cell(entry.strategy, entry.size, entry.cell_hash, point, ordered)


def _same_at(cell: Cell, point: Point) -> bool:
    """Whether a cell's trials would be the very same at another point: its axes have no effect on them."""
    if not cell.results:
        return False
    data = cell.results[0].spec.model_dump()
    for field, value in point:
        *sections, last = field.split(".")
        where = data
        for section in sections:
            where = where[section]
        where[last] = value
    try:
        return cell_hash(TrialSpec.model_validate(data)) == cell.cell_hash
    except ValidationError:  # these values do not go together, so no trial has them
        return False


def _comparison(point: Point, cells: list[Cell]) -> Comparison:
    places = [(cell.strategy, cell.size) for cell in cells]
    told_apart = [
        replace(cell, size=f"{cell.size} ({cell.cell_hash})") if places.count(place) > 1 else cell
        for cell, place in zip(cells, places, strict=True)
    ]
    told_apart.sort(key=lambda cell: (STRATEGIES.index(cell.strategy), _size_order(cell.size)))
    bare = Comparison(point, tuple(told_apart))
    return replace(bare, cells=tuple(replace(cell, share=_share(bare, cell)) for cell in bare.cells))


def _share(comparison: Comparison, cell: Cell) -> GainShare | None:
    none, full = comparison.beside("none", cell.size), comparison.beside("full", cell.size)
    if cell.strategy in ("none", "full") or none is None or full is None:
        return None
    return gain_share(cell.by_seed(), none.by_seed(), full.by_seed())


def _size_order(size: str) -> tuple[int, float, str]:
    """Fractions, then budgets, both ascending, then tolerances from the loosest, which picks the fewest."""
    number = re.match(r"(ξ=)?([0-9.eE+-]+)(%?)", size)
    if number is None:
        return 3 if size else -1, 0.0, size
    value = float(number[2])
    if number[1]:
        return 2, -value, size
    return (0 if number[3] else 1), value, size
