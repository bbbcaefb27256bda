"""Counter-based draws: golden values, uniformity, independence of streams and counters."""

import itertools
from typing import get_args

import numpy as np
import pytest
from scipy import stats

from selection.randomness import Stream, draw_integers, draw_uniform, draw_words, stream_seed

STREAMS = get_args(Stream)
GOLDEN = {
    "words": ["0x957c29840e74e85f", "0x6682530818345ce1", "0x3211c90b30172854"],
    "largest seed": "0x69c9d98a86c5cd1e",
    "uniform": 0.2966463988812049,
    "integers": [7, 9, 0, 6, 6, 9, 7, 4],
    "seeds": [
        8032761961425047217,
        5966319613121260002,
        8803504786556533005,
        6989017798180981890,
        5185626455892168368,
        5601178888732612738,
    ],
}


def test_draws_on_record() -> None:
    words = draw_words(0, "selection", 3, np.arange(3))
    assert [hex(word) for word in words] == GOLDEN["words"]
    assert hex(int(draw_words(2**63 - 1, "order", 0))) == GOLDEN["largest seed"]
    assert draw_uniform(7, "augmentation", 1, 2, 3) == GOLDEN["uniform"]
    assert draw_integers(7, "corruption", 10, np.arange(8)).tolist() == GOLDEN["integers"]
    assert [stream_seed(1, stream, 4) for stream in STREAMS] == GOLDEN["seeds"]


@pytest.mark.parametrize("stream", STREAMS)
def test_uniform_over_ids(stream: Stream) -> None:
    sample = draw_uniform(5, stream, 1, np.arange(50_000))
    assert 0 <= sample.min() < sample.max() < 1
    assert stats.kstest(sample, "uniform").pvalue > 0.001
    assert stats.kstest(draw_uniform(5, stream, np.arange(50_000), 1), "uniform").pvalue > 0.001
    assert abs(np.corrcoef(sample[:-1], sample[1:])[0, 1]) < 0.02  # neighbouring ids


def test_every_bit_is_fair() -> None:
    words = draw_words(5, "order", np.arange(20_000))
    bits = (words[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert (np.abs(bits.mean(axis=0) - 0.5) < 5 * 0.5 / np.sqrt(20_000)).all()


def test_neighbouring_seeds_streams_and_counters_are_unrelated() -> None:
    ids = np.arange(10, 5010)
    samples = [draw_uniform(seed, stream, epoch, ids) for seed in (0, 1) for stream in STREAMS for epoch in (0, 1)]
    samples += [draw_uniform(0, "order", ids, 0), draw_uniform(0, "order", ids), draw_uniform(0, "order", 0, 0, ids)]
    for one, other in itertools.combinations(samples, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.08
        assert not (one == other).any()


def test_integers_are_uniform() -> None:
    sample = draw_integers(2, "corruption", 7, np.arange(21_000))
    assert stats.chisquare(np.bincount(sample, minlength=7)).pvalue > 0.001
    assert sample.dtype == np.int64
    assert (draw_integers(2, "corruption", 1, np.arange(100)) == 0).all()


def test_counters_broadcast_and_each_element_stands_alone() -> None:
    ids, copies = np.array([4, 9, 1000]), np.arange(2)
    grid = draw_words(3, "augmentation", 6, ids[:, None], copies)
    assert grid.shape == (3, 2)
    for row, column in np.ndindex(3, 2):
        assert grid[row, column] == draw_words(3, "augmentation", 6, int(ids[row]), int(copies[column]))
    assert draw_words(3, "augmentation").shape == ()


def test_words_do_not_collide_over_ids() -> None:
    assert len(np.unique(draw_words(1, "selection", 2, np.arange(100_000)))) == 100_000


def test_seeds_fit_every_generator() -> None:
    seeds = [stream_seed(seed, "initialisation", counter) for seed in (0, 1, 2**63 - 1) for counter in range(100)]
    assert len(set(seeds)) == 300
    assert all(0 <= seed < 2**63 for seed in seeds)
