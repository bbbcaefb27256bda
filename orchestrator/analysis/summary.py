"""What an analysis found, and its numbers by range of singular values."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orchestrator.analysis.comparison import Floats, Range
from orchestrator.analysis.perturbations import Perturbation
from orchestrator.analysis.spectrum import Draws
from orchestrator.preparation import PlannedTrial
from orchestrator.report.statistics import Summary, summarise


@dataclass(frozen=True)
class Settings:
    """What was asked: everything that the numbers depend on, beside the trials."""

    epoch: int
    classes: tuple[str, ...]
    examples: int  # of each class
    draws: int
    ranges: int
    seed: int


@dataclass(frozen=True)
class TrialSpectra:
    """One network: J has `rows` times `columns` numbers; one `Draws` for each augmentation, in their order."""

    trial: PlannedTrial
    rows: int
    columns: int
    draws: tuple[Draws, ...]

    @property
    def rank(self) -> int:
        return len(self.draws[0].singular)


@dataclass(frozen=True)
class Analysis:
    """The networks that were looked at, at least one: repeats that differ in their seeds alone."""

    settings: Settings
    trials: tuple[TrialSpectra, ...]

    @property
    def perturbations(self) -> tuple[Perturbation, ...]:
        return tuple(draws.perturbation for draws in self.trials[0].draws)

    def of(self, perturbation: Perturbation) -> tuple[Draws, ...]:
        """One augmentation's draws, trial by trial."""
        place = [one.name for one in self.perturbations].index(perturbation.name)
        return tuple(trial.draws[place] for trial in self.trials)


@dataclass(frozen=True)
class RangeSummary:
    """One range of singular values under one augmentation, over all draws of all trials (n = trials * draws).

    `shrunk` and the sides of Lemma 4.1 come from all draws of a trial together, so that their n is that of the trials.
    The sides are sums over the range, relative to the sum of sigma_i^2.
    """

    perturbation: Perturbation
    place: int  # from 0, the largest singular values
    indices: Range  # in the first trial
    largest: float  # sigma at the range's beginning, mean over trials
    smallest: float  # and at its end
    relative: Summary  # sigma~_i / sigma_i - 1
    difference: Summary  # sigma~_i - sigma_i
    left: Summary  # mean principal angle, degrees
    left_largest: Summary
    right: Summary
    right_largest: Summary
    along: Summary  # ||u_i^T E||
    shrunk: Summary  # p_i
    lemma_left: Summary
    lemma_right: Summary


def summaries(analysis: Analysis, perturbation: Perturbation) -> tuple[RangeSummary, ...]:
    """One augmentation's ranges, from the largest singular values to the smallest."""
    draws = analysis.of(perturbation)

    def pooled(values: Callable[[Draws], Floats], place: int) -> Summary:
        return _summary(np.concatenate([values(one)[:, place] for one in draws]))

    def by_trial(value: Callable[[Draws, slice], float], place: int) -> Summary:
        return _summary(np.array([value(one, slice(*one.ranges[place])) for one in draws]))

    return tuple(
        RangeSummary(
            perturbation=perturbation,
            place=place,
            indices=indices,
            largest=float(np.mean([one.singular[one.ranges[place][0]] for one in draws])),
            smallest=float(np.mean([one.singular[one.ranges[place][1] - 1] for one in draws])),
            relative=pooled(lambda one: one.relative, place),
            difference=pooled(lambda one: one.difference, place),
            left=pooled(lambda one: one.left[:, :, 0], place),
            left_largest=pooled(lambda one: one.left[:, :, 1], place),
            right=pooled(lambda one: one.right[:, :, 0], place),
            right_largest=pooled(lambda one: one.right[:, :, 1], place),
            along=pooled(lambda one: one.along, place),
            shrunk=by_trial(lambda one, part: float(one.lemma.shrunk[part].mean()), place),
            lemma_left=by_trial(lambda one, part: _share(one.lemma.left[part], one.singular[part]), place),
            lemma_right=by_trial(lambda one, part: _share(one.lemma.right[part], one.singular[part]), place),
        )
        for place, indices in enumerate(draws[0].ranges)
    )


def _share(squares: Floats, singular: Floats) -> float:
    return float(squares.sum() / (singular**2).sum())


def _summary(values: Floats) -> Summary:
    found = summarise(values.tolist())
    assert found is not None
    return found
