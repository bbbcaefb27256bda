"""How well a weighted subset stands in for the full gradient: the left side of Eq. 8."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from selection.compiling import kernel
from selection.distances import Float64
from selection.proxies import Proxies
from selection.threads import Crew


def gradient_error(proxies: Proxies, members: npt.NDArray[Any], weights: Float64) -> float:
    """||sum_V g - sum_S w g|| / ||sum_V g|| for rows `members` with weights w; nan where sum_V g is zero."""
    every = _gradient(proxies, slice(None), np.ones(len(proxies.ids)) if proxies.weights is None else proxies.weights)
    norm = float(np.linalg.norm(every))
    if norm == 0.0:
        return float("nan")
    return float(np.linalg.norm(every - _gradient(proxies, members, weights))) / norm


def _gradient(proxies: Proxies, rows: Any, weights: Float64) -> Float64:
    residuals = proxies.residuals[rows].astype(np.float64) * weights[:, None]
    if proxies.embeddings is None:
        return np.asarray(residuals.sum(axis=0))
    inputs = np.concatenate([proxies.embeddings[rows].astype(np.float64), np.ones((len(weights), 1))], axis=1)
    columns = np.ascontiguousarray(residuals.T)
    total = np.zeros((len(columns), inputs.shape[1]))
    with Crew(os.cpu_count() or 1) as crew:
        crew.share(len(columns), 1, lambda start, stop: _outer_sum(columns[start:stop], inputs, total[start:stop]))
    return total


@kernel
def _outer_sum(columns, inputs, total):  # type: ignore[no-untyped-def]
    """total += sum_i g_i ⊗ h_i, (C, D). Not BLAS, whose sums depend on the number of its threads."""
    for c in range(len(columns)):
        row = total[c]
        for i in range(len(inputs)):
            factor, values = columns[c, i], inputs[i]
            for d in range(len(row)):
                row[d] += factor * values[d]
