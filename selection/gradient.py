"""How well a weighted subset stands in for the full gradient: the left side of Eq. 8."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from selection.compiling import kernel
from selection.distances import Float64
from selection.proxies import Float32, Proxies
from selection.threads import Crew

_PIECE = 65_536  # rows in float64 at a time


def gradient_error(proxies: Proxies, members: npt.NDArray[Any], weights: Float64) -> float:
    """||sum_V g - sum_S w g|| / ||sum_V g|| for rows `members` with weights w; nan where sum_V g is zero."""
    n = len(proxies.ids)
    every = _gradient(proxies, np.arange(n), np.ones(n) if proxies.weights is None else proxies.weights)
    norm = float(np.linalg.norm(every))
    if norm == 0.0:
        return float("nan")
    return float(np.linalg.norm(every - _gradient(proxies, members, weights))) / norm


def _gradient(proxies: Proxies, rows: npt.NDArray[Any], weights: Float64) -> Float64:
    """sum w g over some rows, a piece of them at a time."""
    parts = []
    for start in range(0, len(rows), _PIECE):
        piece = rows[start : start + _PIECE]
        residuals = proxies.residuals[piece].astype(np.float64) * weights[start : start + _PIECE, None]
        parts.append(
            residuals.sum(axis=0) if proxies.embeddings is None else _outer(residuals, proxies.embeddings[piece])
        )
    return np.asarray(np.sum(parts, axis=0))


def _outer(residuals: Float64, embeddings: Float32) -> Float64:
    inputs = np.concatenate([embeddings.astype(np.float64), np.ones((len(embeddings), 1))], axis=1)
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
