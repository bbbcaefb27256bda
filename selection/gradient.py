"""How well a weighted subset stands in for the full gradient: the left side of Eq. 8."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from selection.compiling import kernel
from selection.distances import Float64
from selection.proxies import Float32, Proxies
from selection.sharing import Share, common
from selection.threads import Crew

_PIECE = 1 << 20  # numbers in float64 at a time


def gradient_error(proxies: Proxies, members: npt.NDArray[Any], weights: Float64) -> float:
    """||sum_V g - sum_S w g|| / ||sum_V g|| for rows `members` with weights w; nan where sum_V g is zero."""
    n = len(proxies.ids)
    every = _gradient(proxies, np.arange(n), np.ones(n) if proxies.weights is None else proxies.weights)
    return _error(every, _gradient(proxies, members, weights))


def shared_gradient_error(proxies: Proxies | None, share: Share, members: npt.NDArray[Any], weights: Float64) -> float:
    """The same where several processes hold the proxies: sums of the parts cross, in order of rank.

    proxies  of the examples held here, None for none
    members  places among all examples
    """
    sums: Any = (0.0, 0.0)
    if proxies is not None:
        which, rows = common(share.rows, members)
        m = len(proxies.ids)
        sums = _gradient(proxies, np.arange(m), np.ones(m)), _gradient(proxies, rows, weights[which])
    parts = share.holders.gather(sums)
    return _error(sum(part[0] for part in parts), sum(part[1] for part in parts))


def _error(every: Float64, some: Float64) -> float:
    norm = float(np.linalg.norm(every))
    if norm == 0.0:
        return float("nan")
    return float(np.linalg.norm(every - some)) / norm


def _gradient(proxies: Proxies, rows: npt.NDArray[Any], weights: Float64) -> Float64:
    """sum w g over some rows, a piece of them at a time: pieces and order depend on nothing else."""
    step = max(1, _PIECE // proxies.residuals.shape[1])
    pieces = [slice(start, start + step) for start in range(0, len(rows), step)]
    if proxies.embeddings is not None:
        parts = [
            _outer(proxies.residuals[rows[piece]] * weights[piece, None], proxies.embeddings[rows[piece]])
            for piece in pieces
        ]
        return np.asarray(np.sum(parts, axis=0))
    sums = np.zeros((len(pieces), proxies.residuals.shape[1]))

    def work(first: int, last: int) -> None:
        for piece, total in zip(pieces[first:last], sums[first:last], strict=True):
            _sum(proxies.residuals, rows[piece], weights[piece], total)

    with Crew(os.cpu_count() or 1) as crew:
        crew.share(len(pieces), 1, work)
    return np.asarray(sums.sum(axis=0))


@kernel
def _sum(residuals, rows, weights, total):  # type: ignore[no-untyped-def]
    """total += sum_i w_i g_i, (C,)."""
    for i in range(len(rows)):
        row, weight = residuals[rows[i]], weights[i]
        for c in range(len(total)):
            total[c] += np.float64(row[c]) * weight


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
