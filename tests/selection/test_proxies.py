"""What counts as gradient proxies, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch

from selection import Proxies, ProxyError, select

N = 4
GOOD: dict[str, Any] = {
    "ids": np.array([7, 5, 3, 1]),
    "residuals": np.arange(12.0).reshape(N, 3),
    "labels": np.zeros(N, np.int64),
    "embeddings": np.ones((N, 2)),
}


def changed(name: str, row: int, value: float) -> Any:
    array = GOOD[name].copy()
    array[row] = value
    return array


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("residuals", np.zeros((3, 3)), "residuals has 3 rows, ids has 4"),
        ("labels", np.zeros(5, int), "labels has 5 rows, ids has 4"),
        ("embeddings", np.zeros((2, 2)), "embeddings has 2 rows, ids has 4"),
        ("residuals", changed("residuals", 2, np.nan), r"residuals must be finite \(in float32\); row 2 is not: \[nan"),
        ("residuals", changed("residuals", 1, -np.inf), "row 1 is not"),
        ("residuals", changed("residuals", 3, 1e39), r"row 3 is not: \[1\.e\+39"),
        ("embeddings", changed("embeddings", 0, np.inf), "embeddings must be finite .* row 0 is not"),
        ("residuals", np.zeros(N), r"residuals should have shape \(n, columns\); got \(4,\)"),
        ("residuals", np.zeros((N, 0)), r"residuals should have shape \(n, columns\); got \(4, 0\)"),
        ("residuals", np.zeros((N, 3), complex), "residuals should be real numbers; got complex128"),
        ("residuals", np.full((N, 3), "1.5"), "residuals should be real numbers; got <U3"),
        ("embeddings", np.zeros((N, 3), bool), "embeddings should be real numbers; got bool"),
        ("ids", np.arange(4.0), r"ids should be a vector of integers; got float64 of shape \(4,\)"),
        ("ids", np.arange(4).reshape(2, 2), "ids should be a vector of integers"),
        (
            "ids",
            np.array([2**63, 1, 2, 3], np.uint64),
            "ids should fit into 64 signed bits; the largest is 9223372036854775808",
        ),
        ("ids", np.array([4, 8, 4, 6]), "ids repeat: 4 stands 2 times"),
        ("ids", np.array([8, 8, 4, 4]), "ids repeat: 4 stands 2 times"),
        ("ids", np.array([9, 9, 9, 4]), "ids repeat: 9 stands 3 times"),
        ("labels", np.array([0, 1, -2, 0]), "labels are counted from 0; row 2 has -2"),
        ("labels", np.array([0.0, 1, 2, 0]), "labels should be a vector of integers; got float64"),
        ("weights", np.array([1, 0, -2, -3]), "weights must be finite and at least 0; row 2 has -2"),
        ("weights", np.array([1, 0.5, 2, np.nan]), "weights must be finite and at least 0; row 3 has nan"),
        ("weights", np.array([1, np.inf, 2, 3]), "weights must be finite and at least 0; row 1 has inf"),
        (
            "weights",
            np.array([1, 0, 5e-324, 3]),
            r"weights should be 0, or from 1e-100 to 1e\+100; row 2 has 4.94066e-324",
        ),
        ("weights", np.array([1, 1e300, 2, 3]), r"weights should be 0, or from 1e-100 to 1e\+100; row 1 has 1e\+300"),
        ("weights", np.ones(3), "weights has 3 rows, ids has 4"),
        ("weights", np.ones((N, 1)), r"weights should be a vector of real numbers; got float64 of shape \(4, 1\)"),
        ("weights", np.ones(N, bool), r"weights should be a vector of real numbers; got bool of shape \(4,\)"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ProxyError, match=message):
        Proxies(**{**GOOD, name: value})


def test_the_ground_set_is_not_empty() -> None:
    with pytest.raises(ProxyError, match="the ground set is empty"):
        Proxies(np.zeros(0, int), np.zeros((0, 3)), np.zeros(0, int))


def test_errors_of_proxies_are_value_errors() -> None:
    assert issubclass(ProxyError, ValueError)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int32])
def test_torch_tensors_of_any_format(dtype: torch.dtype) -> None:
    numbers = torch.arange(12).reshape(N, 3).to(dtype)  # small integers: exact in each of them
    proxies = Proxies(torch.tensor(GOOD["ids"]), numbers, torch.zeros(N, dtype=torch.int32), numbers[:, :2])
    assert proxies.residuals.dtype == np.float32
    assert proxies.residuals.tolist() == GOOD["residuals"].tolist()
    assert proxies.labels.dtype == proxies.ids.dtype == np.int64
    assert (
        select(proxies, budget=2).ids.tolist()
        == select(Proxies(**{**GOOD, "embeddings": numbers[:, :2]}), budget=2).ids.tolist()
    )


def test_tensors_of_a_running_graph_are_left_alone() -> None:
    residuals = torch.randn(N, 3, requires_grad=True)
    embeddings = (residuals * 2).T.contiguous().T  # not contiguous, with a history
    proxies = Proxies(torch.arange(N), residuals, torch.zeros(N, dtype=torch.long), embeddings)
    np.testing.assert_array_equal(proxies.embeddings, 2 * proxies.residuals)
    embeddings.sum().backward()
    assert residuals.grad is not None
    before = residuals.detach().clone()
    select(proxies, budget=2)
    assert torch.equal(residuals, before)


def test_rows_keep_together() -> None:
    part = Proxies(**GOOD).rows(np.array([3, 0]))
    assert part.ids.tolist() == [1, 7]
    assert part.residuals.tolist() == GOOD["residuals"][[3, 0]].tolist()
    assert part.embeddings is not None
    assert part.embeddings.shape == (2, 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64])
def test_weights_of_any_format(dtype: torch.dtype) -> None:
    proxies = Proxies(**GOOD, weights=torch.tensor([4, 0, 2, 1]).to(dtype))
    assert proxies.weights is not None
    assert proxies.weights.dtype == np.float64
    assert proxies.weights.tolist() == [4.0, 0.0, 2.0, 1.0]
    part = proxies.rows(np.array([3, 0]))
    assert part.weights is not None
    assert part.weights.tolist() == [1.0, 4.0]
    assert select(proxies, budget=2).weights.sum() == 7.0


def test_bfloat16_is_read_as_it_is() -> None:
    exact = torch.tensor([[0.1, -0.3], [1e-30, 2.0], [3e38, 0.0], [-1.0, 7.5]])
    rounded = exact.bfloat16()
    proxies = Proxies(torch.arange(N), rounded, torch.zeros(N, dtype=torch.int64), rounded)
    assert proxies.embeddings is not None
    assert proxies.residuals.tolist() == proxies.embeddings.tolist() == rounded.double().tolist()
    assert proxies.residuals.tolist() != exact.tolist()


@pytest.mark.parametrize("per_class", [True, False])
def test_a_class_has_someone_to_cover(per_class: bool) -> None:
    proxies = Proxies(**{**GOOD, "labels": np.array([0, 2, 2, 0])}, weights=np.array([1.0, 0.0, 0.0, 0.0]))
    if per_class:
        with pytest.raises(ValueError, match="weights: those of class 2 are all 0; at least one should be above 0"):
            select(proxies, budget=2)
    else:
        assert select(proxies, budget=2, per_class=False).weights.sum() == 1.0
