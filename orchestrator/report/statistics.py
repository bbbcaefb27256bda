"""Mean and deviation over seeds, and the share of full augmentation's gain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Summary:
    """n values in short. `std` is the sample standard deviation (n - 1), None for a single value."""

    n: int
    mean: float
    std: float | None


@dataclass(frozen=True)
class GainShare:
    """A share of full augmentation's gain (1: all of it) over n seeds, and its 95 % interval where it has one."""

    share: float
    low: float | None
    high: float | None
    n: int


def summarise(values: Sequence[float]) -> Summary | None:
    """Mean and sample standard deviation; None of nothing."""
    if not values:
        return None
    data = np.asarray(values, dtype=np.float64)
    return Summary(data.size, float(data.mean()), float(data.std(ddof=1)) if data.size > 1 else None)


def gain_share(cell: Mapping[int, float], none: Mapping[int, float], full: Mapping[int, float]) -> GainShare | None:
    """(mean(cell) - mean(none)) / (mean(full) - mean(none)), a ratio of means over the seeds all three have.

    Arguments map seeds to accuracies. The interval is a percentile bootstrap: seeds are drawn with replacement, the
    same for all three, 10,000 times with a fixed seed. None with fewer than two seeds in common, and where full's
    gain is not positive or is below two standard errors of its paired difference: the ratio would be noise over
    noise. `low` and `high` are None where full gains nothing in some resample, which has no ratio.
    """
    seeds = sorted(cell.keys() & none.keys() & full.keys())
    n = len(seeds)
    if n < 2:
        return None
    base = np.array([none[seed] for seed in seeds])
    gain = np.array([cell[seed] for seed in seeds]) - base
    full_gain = np.array([full[seed] for seed in seeds]) - base
    error = full_gain.std(ddof=1) / np.sqrt(n)
    if full_gain.mean() <= 0 or full_gain.mean() < 2 * error:
        return None
    share = float(gain.mean() / full_gain.mean())
    drawn = np.random.default_rng(BOOTSTRAP_SEED).integers(0, n, (RESAMPLES, n))
    below = full_gain[drawn].mean(axis=1)
    if (below <= 0).any():
        return GainShare(share, None, None, n)
    low, high = np.percentile(gain[drawn].mean(axis=1) / below, [2.5, 97.5])
    return GainShare(share, float(low), float(high), n)
