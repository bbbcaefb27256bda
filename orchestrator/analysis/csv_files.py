"""The CSV files of an analysis."""

from collections.abc import Iterator
from typing import Any

from orchestrator.analysis.summary import Analysis, RangeSummary, summaries
from orchestrator.report.csv_files import csv_bytes
from orchestrator.report.statistics import Summary

_MEASURED = (
    "relative",
    "difference",
    "left",
    "left_largest",
    "right",
    "right_largest",
    "along",
    "shrunk",
    "lemma_left",
    "lemma_right",
)


def csv_files(analysis: Analysis) -> dict[str, bytes]:
    """File name: contents. Angles are in degrees, changes are shares (0.01: one percent), indices count from 1.

    ranges.csv           mean and sample deviation in every range, over all draws of all trials (`RangeSummary`)
    draws.csv            the same of every single draw
    singular_values.csv  every singular value, and both sides of Lemma 4.1
    """
    return {
        "ranges.csv": _ranges(analysis),
        "draws.csv": csv_bytes(
            [
                "augmentation",
                "trial",
                "seed",
                "draw",
                "range",
                "first",
                "last",
                *_MEASURED[:-3],
                "norm",
            ],
            _draws(analysis),
        ),
        "singular_values.csv": csv_bytes(
            [
                "augmentation",
                "trial",
                "seed",
                "index",
                "singular",
                "augmented_mean",
                "shrunk",
                "norm_mean",
                "lemma_left",
                "lemma_left_error",
                "lemma_right",
            ],
            _singular_values(analysis),
        ),
    }


def _ranges(analysis: Analysis) -> bytes:
    columns = [f"{name}{ending}" for name in _MEASURED for ending in ("", "_std")]
    header = ["augmentation", "range", "first", "last", "sigma_first", "sigma_last", "trials", "draws", *columns]
    rows = []
    for perturbation in analysis.perturbations:
        for one in summaries(analysis, perturbation):
            place = [perturbation.name, one.place + 1, one.indices[0] + 1, one.indices[1], one.largest, one.smallest]
            rows.append([*place, len(analysis.trials), analysis.settings.draws, *_numbers(one)])
    return csv_bytes(header, rows)


def _numbers(one: RangeSummary) -> Iterator[float | None]:
    for name in _MEASURED:
        found: Summary = getattr(one, name)
        yield from (found.mean, found.std)


def _draws(analysis: Analysis) -> Iterator[list[Any]]:
    for perturbation in analysis.perturbations:
        for trial, draws in zip(analysis.trials, analysis.of(perturbation), strict=True):
            identity = [perturbation.name, trial.trial.id, trial.trial.spec.seed]
            for number in range(len(draws.comparisons)):
                for place, (first, last) in enumerate(draws.ranges):
                    yield [
                        *identity,
                        number + 1,
                        place + 1,
                        first + 1,
                        last,
                        draws.relative[number, place],
                        draws.difference[number, place],
                        *draws.left[number, place],
                        *draws.right[number, place],
                        draws.along[number, place],
                        draws.norms[number],
                    ]


def _singular_values(analysis: Analysis) -> Iterator[list[Any]]:
    for perturbation in analysis.perturbations:
        for trial, draws in zip(analysis.trials, analysis.of(perturbation), strict=True):
            identity = [perturbation.name, trial.trial.id, trial.trial.spec.seed]
            means, norm, sides = draws.augmented.mean(axis=0), draws.norms.mean(), draws.lemma
            columns = (draws.singular, means, sides.shrunk, sides.left, sides.error, sides.right)
            for index, (value, mean, shrunk, left, error, right) in enumerate(zip(*columns, strict=True)):
                yield [*identity, index + 1, value, mean, shrunk, norm, left, error, right]
