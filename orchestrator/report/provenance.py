"""Where the numbers come from: commits, hardware, hosts, versions, data and hashes."""

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.report.comparisons import Cell, Comparison
from orchestrator.report.results import Results

NO_COMMIT = "not a checkout"
UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Source:
    """What one cell's numbers come from."""

    cell: Cell
    commits: tuple[str, ...]
    hardware: tuple[str, ...]


@dataclass(frozen=True)
class Provenance:
    """What all numbers of a report come from; several values where trials differ, in order of appearance."""

    commits: tuple[str, ...]
    hardware: tuple[str, ...]
    hosts: tuple[str, ...]
    versions: dict[str, tuple[str, ...]]
    data: tuple[str, ...]
    sources: tuple[Source, ...]
    concurrent: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where trials that are compared differ in what they ran with."""
        said = []
        if len(self.commits) > 1:
            said.append(f"The results come from {len(self.commits)} commits: {', '.join(self.commits)}.")
        if len(self.hardware) > 1:
            said.append(f"The results come from different hardware: {'; '.join(self.hardware)}.")
        differing = [f"{name} ({', '.join(found)})" for name, found in self.versions.items() if len(found) > 1]
        if differing:
            said.append(f"The results come from different versions of {', '.join(differing)}.")
        return tuple(said)


def provenance(results: Results, comparisons: tuple[Comparison, ...]) -> Provenance:
    """Gather what the finished trials ran with; a trial without a times file counts as not recorded."""
    finished = [outcome for outcome in results.outcomes if outcome.result is not None]
    times = [outcome.times for outcome in finished if outcome.times is not None]
    names = sorted({name for one in times for name in one.versions})
    cells = {cell.cell_hash: cell for comparison in comparisons for cell in comparison.cells}
    data = []
    for outcome in finished:
        if outcome.result is not None:
            seen, name = outcome.result.data, outcome.result.spec.dataset.name
            height, width, channels = seen.image_shape
            data.append(
                f"{name}: {seen.train:,} training and {seen.test:,} test images, {len(seen.classes)} classes, "
                f"{height}x{width}x{channels}, fingerprint {seen.fingerprint}"
            )
    return Provenance(
        commits=_distinct(commit for cell in cells.values() for commit in _commits(cell)),
        hardware=_distinct(hardware for cell in cells.values() for hardware in _hardware(cell)),
        hosts=_distinct(one.host for one in times),
        versions={name: _distinct(one.versions[name] for one in times if name in one.versions) for name in names},
        data=_distinct(data),
        sources=tuple(Source(cell, _distinct(_commits(cell)), _distinct(_hardware(cell))) for cell in cells.values()),
        concurrent=any(one.concurrent for one in times),
    )


def _commits(cell: Cell) -> Iterable[str]:
    for outcome in cell.outcomes:
        if outcome.result is not None:
            yield (outcome.times.commit or NO_COMMIT) if outcome.times else UNKNOWN


def _hardware(cell: Cell) -> Iterable[str]:
    for outcome in cell.outcomes:
        if outcome.result is not None:
            yield outcome.times.hardware if outcome.times else UNKNOWN


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
