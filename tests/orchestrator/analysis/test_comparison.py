"""Angles and norms against rotations made by hand."""

import numpy as np
import pytest
import torch

from orchestrator.analysis.comparison import Comparison, chance_angle, compare, decompose, rank, split
from orchestrator.analysis.factoring import lower_factor

VALUES = np.array([8.0, 4.0, 2.0, 1.0])
LEFT = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4))).Q
RIGHT = np.linalg.qr(np.random.default_rng(2).standard_normal((9, 6))).Q  # the last two are outside of the row space
SINGLY = ((0, 1), (1, 2), (2, 3), (3, 4))


def turned(vectors: np.ndarray, one: int, other: int, degrees: float) -> np.ndarray:
    """The vectors with two of them rotated in their plane."""
    angle = np.radians(degrees)
    moved = vectors.copy()
    moved[:, one] = np.cos(angle) * vectors[:, one] + np.sin(angle) * vectors[:, other]
    moved[:, other] = np.cos(angle) * vectors[:, other] - np.sin(angle) * vectors[:, one]
    return moved


def product(left: np.ndarray, values: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.asarray(left @ np.diag(values) @ right[:, :4].T)


def compared(moved: np.ndarray, ranges: tuple[tuple[int, int], ...]) -> Comparison:
    plain = torch.from_numpy(product(LEFT, VALUES, RIGHT))
    both = torch.cat([plain, torch.from_numpy(moved)])
    return compare(decompose(lower_factor([plain]), 9), lower_factor(both.split(2, dim=1)), ranges)


@pytest.mark.parametrize("degrees", [35.0, 1e-8])
def test_a_rotation_of_left_vectors_is_found_where_it_is(degrees: float) -> None:
    found = compared(product(turned(LEFT, 1, 2, degrees), VALUES, RIGHT), SINGLY)
    expected = [0, degrees, degrees, 0]
    np.testing.assert_allclose(found.left[:, 0], expected, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(found.left[:, 1], expected, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(found.right, 0, atol=1e-12)
    np.testing.assert_allclose(found.singular, VALUES, rtol=1e-14)


def test_a_rotation_out_of_the_row_space_turns_one_right_subspace() -> None:
    found = compared(product(LEFT, VALUES, turned(RIGHT, 3, 5, 20)), SINGLY)
    np.testing.assert_allclose(found.right[:, 0], [0, 0, 0, 20], atol=1e-12)
    np.testing.assert_allclose(found.left, 0, atol=1e-12)


def test_a_rotation_within_a_range_turns_nothing() -> None:
    moved = product(turned(LEFT, 0, 1, 35), VALUES, turned(RIGHT, 0, 1, -70))
    found = compared(moved, ((0, 2), (2, 4)))
    np.testing.assert_allclose(found.left, 0, atol=1e-12)
    np.testing.assert_allclose(found.right, 0, atol=1e-12)


def test_a_range_gives_mean_and_largest_of_its_angles() -> None:
    found = compared(product(turned(LEFT, 1, 2, 35), VALUES, RIGHT), ((0, 2), (2, 4)))
    np.testing.assert_allclose(found.left, [[17.5, 35], [17.5, 35]], atol=1e-12)


def test_the_perturbation_is_measured_along_each_left_vector() -> None:
    change = np.random.default_rng(3).standard_normal((4, 9))
    found = compared(product(LEFT, VALUES, RIGHT) + change, SINGLY)
    assert found.norm == pytest.approx(np.linalg.norm(change, 2), rel=1e-13)
    np.testing.assert_allclose(found.along, np.linalg.norm(LEFT.T @ change, axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.singular, np.linalg.svd(product(LEFT, VALUES, RIGHT) + change)[1], rtol=1e-13)


def test_ranges_are_equal_and_cover_everything() -> None:
    assert split(300, 3) == ((0, 100), (100, 200), (200, 300))
    ranges = split(47, 10)
    assert [a for a, _ in ranges[1:]] == [b for _, b in ranges[:-1]]
    assert (ranges[0][0], ranges[-1][1]) == (0, 47)
    assert {b - a for a, b in ranges} == {4, 5}
    with pytest.raises(ValueError, match="7 singular values cannot be split into 8 ranges; allowed: 1 to 7"):
        split(7, 8)


def test_zeros_are_not_counted() -> None:
    assert rank(np.array([5.0, 1.0, 1e-12, 1e-17]), 100) == 3
    assert rank(np.array([5.0, 1.0, 1e-12, 1e-17]), 10_000) == 2


def test_chance_is_the_angle_of_subspaces_that_have_nothing_in_common_but_their_size() -> None:
    ranges = ((0, 2), (0, 50), (0, 100))
    few, half, all_of_it = found = chance_angle(ranges, 100, seed=0)
    assert 80 < few < 90
    assert 40 < half < 50  # uniform in 0..90 in the limit
    assert all_of_it == pytest.approx(0, abs=1e-6)
    assert chance_angle(ranges, 100, seed=0).tolist() == found.tolist()
