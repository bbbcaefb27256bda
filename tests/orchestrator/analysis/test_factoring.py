"""The triangular factor against matrices whose decomposition is known."""

import numpy as np
import pytest
import torch

from orchestrator.analysis.comparison import rank
from orchestrator.analysis.factoring import lower_factor


def orthonormal(rows: int, columns: int, seed: int) -> torch.Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(rows, columns, dtype=torch.float64, generator=stream)).Q


def known(values: torch.Tensor, columns: int) -> torch.Tensor:
    """A matrix with these singular values."""
    rows = len(values)
    return orthonormal(rows, rows, 1) @ torch.diag(values) @ orthonormal(columns, rows, 2).T


def slabs(matrix: torch.Tensor, width: int) -> list[torch.Tensor]:
    return list(matrix.split(width, dim=1))


@pytest.mark.parametrize("width", [1, 3, 20, 77, 400])
def test_has_the_singular_values_and_left_vectors_of_the_whole(width: int) -> None:
    values = torch.linspace(9, 1, 20, dtype=torch.float64)
    matrix = known(values, 300)
    lower = lower_factor(slabs(matrix, width))
    assert lower.shape == (20, 20)
    assert torch.equal(lower, lower.tril())
    torch.testing.assert_close(torch.linalg.svdvals(lower), values, rtol=1e-13, atol=0)
    torch.testing.assert_close(lower @ lower.T, matrix @ matrix.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [4, 11])
def test_a_matrix_with_fewer_columns_than_rows(width: int) -> None:
    matrix = known(torch.linspace(5, 1, 8, dtype=torch.float64), 8).T @ torch.eye(8, dtype=torch.float64)
    tall = torch.cat([matrix, matrix], dim=0)
    lower = lower_factor(slabs(tall, width))
    assert lower.shape == (16, 8)
    torch.testing.assert_close(torch.linalg.svdvals(lower), torch.linalg.svdvals(tall))


def test_small_singular_values_survive_which_a_gram_matrix_loses() -> None:
    values = 10.0 ** torch.arange(0, -12, -1, dtype=torch.float64)
    matrix = known(values, 500)
    found = torch.linalg.svdvals(lower_factor(slabs(matrix, 60)))
    torch.testing.assert_close(found, values, rtol=0, atol=1e-15)
    gram = torch.linalg.eigvalsh(matrix @ matrix.T).flip(0).clamp(min=0).sqrt()
    assert (gram - values).abs().max() > 1e-10


def test_the_rank_of_a_low_rank_matrix_is_found() -> None:
    values = torch.zeros(30, dtype=torch.float64)
    values[:7] = torch.linspace(3, 1, 7, dtype=torch.float64)
    found = torch.linalg.svdvals(lower_factor(slabs(known(values, 200), 45))).numpy()
    assert rank(found, 200) == 7
    np.testing.assert_allclose(found[:7], values[:7], rtol=1e-13)


def test_nothing_has_no_factor() -> None:
    with pytest.raises(ValueError, match="without columns"):
        lower_factor([])
