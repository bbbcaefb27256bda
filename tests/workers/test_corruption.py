"""Corruption on purpose: exact sizes, uniform noise, and draws that depend on seed and id alone."""

from typing import Any

import numpy as np
import pytest

from specs.dataset import Dataset
from workers.data import DataError, ImageData, ImageSet, TrainingSet, corrupt
from workers.data.images import Decoded, describe


def data(*per_class: int) -> ImageData:
    """One-pixel images; classes interleaved as far as they go."""
    labels = np.repeat(np.arange(len(per_class)), per_class)
    labels = np.random.default_rng(0).permutation(labels)
    part = ImageSet(np.zeros((len(labels), 1, 1, 1), np.uint8), labels)
    return describe(Decoded(part, part, tuple(f"class {n}" for n in range(len(per_class)))), "here")


def corrupted(images: ImageData, seed: int = 3, **options: Any) -> TrainingSet:
    return corrupt(Dataset(name="digits", **options), images, seed)


def equal(a: TrainingSet, b: TrainingSet) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("ids", "labels", "clean_labels"))


def test_nothing_asked_nothing_changed() -> None:
    images = data(4, 5, 6)
    examples = corrupted(images)
    np.testing.assert_array_equal(examples.ids, np.arange(15))
    np.testing.assert_array_equal(examples.labels, images.train.labels)
    np.testing.assert_array_equal(examples.clean_labels, images.train.labels)


ALL = {"train_per_class": 40, "imbalance_factor": 5.0, "label_noise": 0.3}


def test_same_seed_same_draws_another_seed_others() -> None:
    images = data(50, 60, 70)
    assert equal(corrupted(images, **ALL), corrupted(images, **ALL))
    assert not np.array_equal(corrupted(images, 3, **ALL).ids, corrupted(images, 4, **ALL).ids)


def test_ids_ascend_and_clean_labels_are_theirs() -> None:
    images = data(50, 60, 70)
    examples = corrupted(images, **ALL)
    assert (np.diff(examples.ids) > 0).all()
    np.testing.assert_array_equal(examples.clean_labels, images.train.labels[examples.ids])


class TestTrainPerClass:
    def test_sizes(self) -> None:
        examples = corrupted(data(5, 9, 7), train_per_class=5)
        assert np.bincount(examples.labels).tolist() == [5, 5, 5]

    def test_a_smaller_subset_lies_in_a_larger_one(self) -> None:
        images = data(50, 50)
        few, many = (corrupted(images, train_per_class=size).ids for size in (10, 20))
        assert set(few) < set(many)

    def test_a_class_with_fewer_is_refused(self) -> None:
        with pytest.raises(DataError, match=r"train_per_class = 6: class 'class 1' has only 5 .* allowed: at most 5"):
            corrupted(data(9, 5, 7), train_per_class=6)

    def test_every_example_is_as_likely(self) -> None:
        images = data(10, 10)
        chosen = np.zeros(20)
        for seed in range(600):
            chosen[corrupted(images, seed, train_per_class=3).ids] += 1
        # Binomial(600, 0.3): mean 180, deviation 11.2.
        assert np.abs(chosen - 180).max() < 4 * 11.3


class TestImbalance:
    def test_sizes_fall_exponentially(self) -> None:
        examples = corrupted(data(100, 100, 100), imbalance_factor=100.0)
        assert np.bincount(examples.labels).tolist() == [100, 10, 1]

    def test_each_class_shrinks_from_its_own_size(self) -> None:
        examples = corrupted(data(40, 80, 20), imbalance_factor=4.0)
        assert np.bincount(examples.labels).tolist() == [40, 40, 5]

    def test_at_least_one_is_left(self) -> None:
        assert np.bincount(corrupted(data(9, 9), imbalance_factor=1000.0).labels).tolist() == [9, 1]

    def test_comes_after_train_per_class(self) -> None:
        images = data(90, 90)
        examples = corrupted(images, train_per_class=10, imbalance_factor=2.0)
        assert np.bincount(examples.labels).tolist() == [10, 5]
        assert set(examples.ids) < set(corrupted(images, train_per_class=10).ids)


class TestLabelNoise:
    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.77])
    def test_exactly_so_many_are_wrong(self, share: float) -> None:
        examples = corrupted(data(33, 40, 50), label_noise=share)
        assert (examples.labels != examples.clean_labels).sum() == round(share * 123)

    def test_counts_what_is_left_after_the_other_corruptions(self) -> None:
        examples = corrupted(data(50, 60, 70), **ALL)
        assert (examples.labels != examples.clean_labels).sum() == round(0.3 * len(examples))

    def test_uniform_over_the_other_classes(self) -> None:
        examples = corrupted(data(*[3000] * 4), label_noise=0.8)
        table = np.zeros((4, 4))
        np.add.at(table, (examples.clean_labels, examples.labels), 1)
        # Of each class about 2,400 are relabelled, 800 to each other one: deviation below 28.
        off_diagonal = table[~np.eye(4, dtype=bool)]
        assert np.abs(off_diagonal - 800).max() < 4.5 * 28

    def test_less_noise_is_part_of_more(self) -> None:
        images = data(100, 100, 100)
        some, more = (corrupted(images, label_noise=share) for share in (0.2, 0.4))
        noisy = some.labels != some.clean_labels
        np.testing.assert_array_equal(some.labels[noisy], more.labels[noisy])

    def test_which_are_noisy_has_nothing_to_do_with_which_are_kept(self) -> None:
        images = data(1000, 1000)
        noisy = corrupted(images, label_noise=0.5)
        kept = corrupted(images, train_per_class=500)
        share = (noisy.labels != noisy.clean_labels)[kept.ids].mean()
        assert abs(share - 0.5) < 0.05  # one set of draws for both would give 1

    def test_a_class_left_empty_is_refused(self) -> None:
        images = data(2, 1)  # one of three is relabelled: in a third of all draws class 1's only example
        refused = 0
        for seed in range(300):
            try:
                assert set(corrupted(images, seed, label_noise=0.34).labels) == {0, 1}
            except DataError as error:
                assert "dataset.label_noise = 0.34" in str(error)  # noqa: PT017 - only some draws raise
                assert "class 'class 1'" in str(error)  # noqa: PT017
                refused += 1
        assert 70 <= refused <= 130
