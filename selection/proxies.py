"""Stand-ins for per-example gradients: what selection works on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
LIGHTEST, HEAVIEST = 1e-100, 1e100  # of the weights above 0
_PIECE = 65_536  # rows looked at at a time


class ProxyError(ValueError):
    """Proxies that cannot be selected from; names the row."""


@dataclass(frozen=True)
class Proxies:
    """Gradient proxies of the ground set, one row an example. NumPy arrays or torch tensors (any device).

    ids         (n,) distinct integers: how you know your examples; ties go to the smaller
    residuals   (n, C) softmax(logits) - onehot(label): the loss's gradient w.r.t. the last layer's output
    labels      (n,) integers from 0: their classes; of no account where selection is not class by class
    embeddings  (n, D) the last layer's input h. With it the proxy is the gradient w.r.t. the last layer's
                weights and bias, g ⊗ [h, 1] (kept factored, never C*D numbers an example); without it, g.
    weights     (n,) how much each example counts as something to cover: 0, or 1e-100 to 1e100; 1 each if left out

    float64 and bfloat16 become float32. Raises ProxyError where lengths differ, ids repeat, a value is not finite or a
    weight is negative (naming the row).
    """

    ids: Int64
    residuals: Float32
    labels: Int64
    embeddings: Float32 | None = None
    weights: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", as_integers(self.ids, "ids"))
        object.__setattr__(self, "labels", as_integers(self.labels, "labels"))
        object.__setattr__(self, "residuals", _matrix(self.residuals, "residuals"))
        if self.embeddings is not None:
            object.__setattr__(self, "embeddings", _matrix(self.embeddings, "embeddings"))
        if self.weights is not None:
            object.__setattr__(self, "weights", _weights(self.weights))
        n = len(self.ids)
        if n == 0:
            raise ProxyError("the ground set is empty: ids has no rows")
        for name in ("residuals", "labels", "embeddings", "weights"):
            rows = getattr(self, name)
            if rows is not None and len(rows) != n:
                raise ProxyError(f"{name} has {len(rows)} rows, ids has {n}: one row an example is needed")
        values, counts = np.unique(self.ids, return_counts=True)
        if len(values) < n:
            first = int(np.argmax(counts > 1))
            raise ProxyError(f"ids repeat: {values[first]} stands {counts[first]} times")
        if self.labels.min() < 0:
            row = int(np.argmin(self.labels))
            raise ProxyError(f"labels are counted from 0; row {row} has {int(self.labels[row])}")

    def rows(self, index: npt.NDArray[Any]) -> "Proxies":
        """The proxies of some rows."""
        embeddings = None if self.embeddings is None else self.embeddings[index]
        weights = None if self.weights is None else self.weights[index]
        return Proxies(self.ids[index], self.residuals[index], self.labels[index], embeddings, weights)


def to_numpy(values: Any) -> npt.NDArray[Any]:
    """A NumPy array of an array or a torch tensor on any device, in any float format."""
    if hasattr(values, "detach"):
        tensor = values.detach().cpu()
        values = tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()
    return np.asarray(values)


def as_integers(values: Any, name: str) -> Int64:
    """A vector of int64. Raises ProxyError for other shapes and types."""
    array = to_numpy(values)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ProxyError(f"{name} should be a vector of integers; got {array.dtype} of shape {array.shape}")
    if array.dtype == np.uint64 and (array > np.iinfo(np.int64).max).any():
        raise ProxyError(f"{name} should fit into 64 signed bits; the largest is {array.max()}")
    return array.astype(np.int64, copy=False)


def _weights(values: Any) -> npt.NDArray[np.float64]:
    array = to_numpy(values)
    if array.ndim != 1 or not _is_real(array):
        raise ProxyError(f"weights should be a vector of real numbers; got {array.dtype} of shape {array.shape}")
    weights = array.astype(np.float64)
    refused = ~(np.isfinite(weights) & (weights >= 0))
    if refused.any():
        row = int(np.argmax(refused))
        raise ProxyError(f"weights must be finite and at least 0; row {row} has {array[row]}")
    extreme = (weights > 0) & ((weights < LIGHTEST) | (weights > HEAVIEST))  # sums of theirs would not fit float64
    if extreme.any():
        row = int(np.argmax(extreme))
        raise ProxyError(f"weights should be 0, or from {LIGHTEST:g} to {HEAVIEST:g}; row {row} has {weights[row]:g}")
    return weights


def _is_real(array: npt.NDArray[Any]) -> bool:
    return array.dtype.kind in "iuf" or array.dtype.name == "bfloat16"  # which NumPy's own floats do not include


def _matrix(values: Any, name: str) -> Float32:
    array = to_numpy(values)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ProxyError(f"{name} should have shape (n, columns); got {array.shape}")
    if not _is_real(array):
        raise ProxyError(f"{name} should be real numbers; got {array.dtype}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused next
        matrix = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.ones(len(matrix), bool)
    for start in range(0, len(matrix), _PIECE):
        finite[start : start + _PIECE] = np.isfinite(matrix[start : start + _PIECE]).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ProxyError(f"{name} must be finite (in float32); row {row} is not: {array[row][:8]}")
    return matrix
