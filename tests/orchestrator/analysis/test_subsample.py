"""Which classes and which examples: stable, nested, and refused with what is allowed."""

import numpy as np
import pytest

from orchestrator.analysis.subsample import find_classes, subsample
from orchestrator.errors import UserError
from workers.data import TrainingSet

NAMES = ("cat", "dog", "owl", "7", "0")
CLEAN = np.arange(500) % 5


def training_set(labels: np.ndarray = CLEAN) -> TrainingSet:
    return TrainingSet(np.arange(500), labels, CLEAN)


def test_classes_by_name_and_by_number() -> None:
    assert find_classes(["owl", "cat"], NAMES) == (2, 0)
    assert find_classes(["1", "2"], NAMES) == (1, 2)
    assert find_classes(["7", "0"], NAMES) == (3, 4)  # names of classes, before they are numbers
    assert find_classes([], NAMES) == (0, 1, 2)
    assert find_classes([], NAMES[:2]) == (0, 1)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["owll"], r"no class 'owll' \(did you mean 'owl'\?\); allowed: cat, dog, owl, 7, 0, or 0 to 4"),
        (["5"], "no class '5'; allowed"),
        (["-1"], "no class '-1'"),
        (["dog", "1"], "dog is named twice"),
    ],
)
def test_other_classes_are_refused(asked: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_classes(asked, NAMES)


def test_a_subsample_has_so_many_of_each_class_and_no_other() -> None:
    ids = subsample(training_set(), (0, 3), NAMES, 12, seed=5)
    assert (np.diff(ids) > 0).all()
    assert np.bincount(CLEAN[ids], minlength=5).tolist() == [12, 0, 0, 12, 0]


def test_a_subsample_is_a_function_of_the_seed_and_grows_by_adding() -> None:
    one = subsample(training_set(), (1, 2), NAMES, 10, seed=5)
    assert one.tolist() == subsample(training_set(), (2, 1), NAMES, 10, seed=5).tolist()
    assert set(one) < set(subsample(training_set(), (1, 2, 4), NAMES, 30, seed=5))
    assert set(one) != set(subsample(training_set(), (1, 2), NAMES, 10, seed=6))


def test_the_draw_is_the_same_everywhere() -> None:
    assert subsample(training_set(), (0,), NAMES, 4, seed=0).tolist() == [70, 270, 300, 365]


def test_wrong_labels_do_not_matter() -> None:
    noisy = training_set(np.roll(CLEAN, 1))
    assert subsample(noisy, (0,), NAMES, 9, seed=1).tolist() == subsample(training_set(), (0,), NAMES, 9, 1).tolist()


def test_a_class_too_small_is_named() -> None:
    with pytest.raises(UserError, match="--examples = 101: class owl has only 100 training examples"):
        subsample(training_set(), (2,), NAMES, 101, seed=0)
