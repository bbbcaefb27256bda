"""What trials cost in time: speed-ups over full augmentation, and the wall-clock of selections."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from orchestrator.report.comparisons import Cell, Comparison
from orchestrator.report.statistics import Summary, summarise
from workers.records import TrialTimes


def training_seconds(times: TrialTimes) -> float:
    """Seconds a trial trained for: augmentation, steps, proxies, selection and waiting for it, without evaluation."""
    return sum(epoch.training_time for epoch in times.epochs)


@dataclass(frozen=True)
class SpeedUps:
    """How many times as fast as full augmentation the cells of a comparison were trained.

    by_cell   by cell hash, over the trials that can be compared; cells without such a trial are not in it
    compared  the ids of those trials
    """

    by_cell: Mapping[str, Summary]
    compared: frozenset[str]

    def of(self, cell: Cell) -> Summary | None:
        """A cell's speed-up, over its trials; None where it has none."""
        return self.by_cell.get(cell.cell_hash)


def speed_ups(comparison: Comparison) -> SpeedUps:
    """Full augmentation's mean training time over that of each trial, selection included.

    Only trials that ran alone on their device count, on either side, and only against the same hardware.
    """
    alone = {cell.cell_hash: [times for times in cell.times if not times.concurrent] for cell in comparison.cells}
    found: dict[str, Summary] = {}
    compared: set[str] = set()
    for cell in comparison.cells:
        full = comparison.beside("full", cell.size)
        reference = _mean_by_hardware(alone[full.cell_hash]) if full else {}
        comparable = [times for times in alone[cell.cell_hash] if times.hardware in reference]
        compared |= {times.trial_id for times in comparable}
        summary = summarise([reference[times.hardware] / training_seconds(times) for times in comparable])
        if summary is not None:
            found[cell.cell_hash] = summary
    return SpeedUps(found, frozenset(compared))


def _mean_by_hardware(trials: list[TrialTimes]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {}
    for times in trials:
        seconds.setdefault(times.hardware, []).append(training_seconds(times))
    return {hardware: float(np.mean(spent)) for hardware, spent in seconds.items()}


@dataclass(frozen=True)
class SelectionCost:
    """What one selection takes on average, in seconds, over all selections of a cell's finished trials."""

    cell: Cell
    selections: int  # of all its trials, without those drawn at random in a warm-up
    proxies: float  # losses and gradients: the forward pass, or what harvesting took
    solving: float  # choosing by them, while training stood still
    waiting: float  # training stood still beyond that
    background: float  # choosing by them, beside training
    share: float  # of training time that proxies, solving and waiting took, 0 to 1

    @property
    def concurrent(self) -> bool:
        """Whether other trials ran beside any of the cell's."""
        return any(times.concurrent for times in self.cell.times)


def selection_costs(comparison: Comparison) -> list[SelectionCost]:
    """The cost of selecting by losses or gradients, for each cell that does and has times."""
    costs = []
    for cell in comparison.cells:
        timed = [outcome for outcome in cell.outcomes if outcome.result is not None and outcome.times is not None]
        selections = [one for outcome in timed if outcome.result is not None for one in outcome.result.selections]
        count = sum(one.strategy == cell.strategy for one in selections)  # a warm-up's are random, and cost nothing
        if cell.strategy not in ("max_loss", "coreset") or not count:
            continue
        epochs = [epoch for outcome in timed if outcome.times is not None for epoch in outcome.times.epochs]
        proxies, solving = sum(epoch.proxies for epoch in epochs), sum(epoch.selection for epoch in epochs)
        waiting, background = sum(epoch.stall for epoch in epochs), sum(epoch.background for epoch in epochs)
        training = sum(epoch.training_time for epoch in epochs)
        costs.append(
            SelectionCost(
                cell,
                count,
                proxies / count,
                solving / count,
                waiting / count,
                background / count,
                (proxies + solving + waiting) / training,
            )
        )
    return costs
