"""Statistics of the report against values worked out by hand."""

import pytest

from orchestrator.report.statistics import gain_share, summarise

NONE = {0: 0.80, 1: 0.82, 2: 0.84}
FULL = {0: 0.90, 1: 0.92, 2: 0.94}


def test_mean_and_sample_deviation() -> None:
    summary = summarise([0.88, 0.89, 0.93])
    assert summary is not None
    assert summary.n == 3
    assert summary.mean == pytest.approx(0.90)
    assert summary.std == pytest.approx(0.0007**0.5)  # (0.02^2 + 0.01^2 + 0.03^2) / 2


def test_one_value_has_no_deviation_and_none_has_no_summary() -> None:
    single = summarise([0.5])
    assert single is not None
    assert (single.n, single.mean, single.std) == (1, 0.5, None)
    assert summarise([]) is None


def test_share_is_a_ratio_of_means_with_the_seeds_resampled_together() -> None:
    # Full gains 0.1 with every seed, so a resample's share is the mean of three draws from 0.8, 0.7 and 0.9.
    # All three draws alike has a chance of 1/27, more than 2.5 %: the interval runs from 0.7 to 0.9.
    found = gain_share({0: 0.88, 1: 0.89, 2: 0.93}, NONE, FULL)
    assert found is not None
    assert found.n == 3
    assert (found.share, found.low, found.high) == pytest.approx((0.8, 0.7, 0.9))


def test_seeds_are_paired_so_that_what_moves_all_alike_leaves_no_uncertainty() -> None:
    shift = {0: 0.0, 1: 0.3, 2: -0.2}
    none = {seed: 0.5 + by for seed, by in shift.items()}
    cell = {seed: 0.55 + by for seed, by in shift.items()}
    full = {seed: 0.6 + by for seed, by in shift.items()}
    found = gain_share(cell, none, full)
    assert found is not None
    assert (found.share, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_only_seeds_that_all_three_have_count() -> None:
    found = gain_share({0: 0.88, 1: 0.89, 7: 0.1}, NONE, {**FULL, 9: 0.0})
    assert found is not None
    assert found.n == 2
    assert found.share == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("none", "full"),
    [
        ({0: 0.80}, {0: 0.90}),  # one seed
        ({0: 0.8, 1: 0.8, 2: 0.8}, {0: 0.8, 1: 0.8, 2: 0.8}),  # no gain, no spread
        ({0: 0.8, 1: 0.8, 2: 0.8}, {0: 0.7, 1: 0.7, 2: 0.7}),  # full is worse
        ({0: 0.8, 1: 0.8, 2: 0.8}, {0: 0.9, 1: 0.8, 2: 0.81}),  # mean 0.037, standard error 0.032
    ],
)
def test_share_is_blank_without_a_gain_of_full_that_stands_out(none: dict[int, float], full: dict[int, float]) -> None:
    assert gain_share({0: 0.85, 1: 0.85, 2: 0.85}, none, full) is None


def test_interval_alone_is_blank_where_a_resample_has_no_ratio() -> None:
    none = dict.fromkeys(range(4), 0.8)
    full = {0: 0.799, 1: 0.9, 2: 0.9, 3: 0.9}  # mean gain 0.075, standard error 0.025; seed 0 drawn 4 times: 1/256
    found = gain_share(dict.fromkeys(range(4), 0.85), none, full)
    assert found is not None
    assert found.share == pytest.approx(0.05 / 0.07475)
    assert (found.low, found.high) == (None, None)
