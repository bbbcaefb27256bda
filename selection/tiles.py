"""Costs of a tile of pairs: the kernels beneath every solver, compiled for the processor at hand.

Squared distances are sums of squared differences, never differences of Gram matrices: close points far from the origin
keep their digits. Each sum runs over the coordinates in one order, by fused multiply-adds, wherever the pair stands
in a tile: the same pair has the same float32 cost in every tile, memory mode, thread, process and machine.
"""

import numpy as np
from numba import types
from numba.extending import intrinsic

from selection.compiling import inner
from selection.panels import DEPTH, LANES, add_squares, pack

FOURS = 4  # coordinates of a row summed at a time: points have a multiple of it
_CANCELLED = 0.02  # an outer product's distance below this share of its terms is computed again in float64
_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)  # few bits: its small multiples are exact
_LN2_LOW = np.float32(-2.12194440e-4)
FROBENIUS, DISTANCE, RBF = 0, 1, 2


@intrinsic
def _fma(typing, a, b, c):  # type: ignore[no-untyped-def]
    """a * b + c, rounded once."""
    signature = types.float32(types.float32, types.float32, types.float32)
    return signature, lambda context, builder, signature, arguments: builder.fma(*arguments)


@intrinsic
def _power_of_two(typing, exponent):  # type: ignore[no-untyped-def]
    """2^exponent as float32, for whole exponents from -126 to 127."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        whole = context.get_value_type(types.int32)
        biased = builder.add(builder.fptosi(arguments[0], whole), whole(127))
        return builder.bitcast(builder.shl(biased, whole(23)), context.get_value_type(types.float32))

    return types.float32(types.float32), code


@inner
def tile_squares(  # type: ignore[no-untyped-def]
    points,
    norms,
    others,
    other_norms,
    top,
    bottom,
    columns,
    column_norms,
    more,
    more_norms,
    left,
    right,
    out,
    spare,
    at,
):
    """out[i, at + j] = squared distance of point top + i to column left + j, in float32.

    points (C, a) and others (D, a), or None, are the rows' proxies g and [h, 1]; columns (C, b) and more (D, b) those
    of the columns, C and D multiples of FOURS; norms their squared norms (float64). spare has the tile's shape.
    """
    _differences(points, top, bottom, columns, left, right, out, at)
    if others is not None:  # decided by type: without embeddings, what follows is not compiled
        _differences(others, top, bottom, more, left, right, spare, np.int64(0))
        outer_squares(
            points, norms, others, other_norms, top, bottom,
            columns, column_norms, more, more_norms, left, right, out, spare, at,
        )  # fmt: skip


@inner
def outer_squares(  # type: ignore[no-untyped-def]
    points,
    norms,
    others,
    other_norms,
    top,
    bottom,
    columns,
    column_norms,
    more,
    more_norms,
    left,
    right,
    out,
    spare,
    at,
):
    """What `tile_squares` does, once out and spare hold the squared distances of points and of others."""
    for i in range(bottom - top):
        a_i, b_i = norms[top + i], other_norms[top + i]
        row, other = out[i, at : at + right - left], spare[i]
        low = False
        for j in range(right - left):
            # ||Δa ⊗ b̄ + ā ⊗ Δb||^2, with ā and b̄ the means of the two: |ā|^2 = (a_i + a_j)/2 - da/4, and
            # Δa·ā = (a_i - a_j)/2
            a_j, b_j = column_norms[left + j], more_norms[left + j]
            da, db = np.float64(row[j]), np.float64(other[j])
            terms = 0.5 * (da * (b_i + b_j) + db * (a_i + a_j))
            square = terms - 0.5 * da * db + 0.5 * (a_i - a_j) * (b_i - b_j)
            cancelled = square < _CANCELLED * terms
            low |= cancelled
            row[j] = -1.0 if cancelled else square
        if low:
            for j in range(right - left):
                if row[j] < 0:
                    row[j] = _outer_square(points, others, top + i, columns, more, left + j)


@inner
def tile_costs(tile, height, at, width, objective, rate, empty):  # type: ignore[no-untyped-def]
    """Turn squared distances into phi(d), at most `empty`, in place: columns at .. at + width."""
    if objective == FROBENIUS:
        for i in range(height):
            row = tile[i, at : at + width]
            for j in range(width):
                row[j] = min(row[j], empty)
    elif objective == DISTANCE:
        for i in range(height):
            row = tile[i, at : at + width]
            for j in range(width):
                row[j] = min(np.sqrt(row[j]), empty)
    else:
        for i in range(height):
            row = tile[i, at : at + width]
            for j in range(width):
                row[j] = min(_one_minus_exp(np.sqrt(row[j]) * rate), empty)


@inner
def _one_minus_exp(x):  # type: ignore[no-untyped-def]
    """1 - exp(-x) for x >= 0, within two units in the last place of float32."""
    x = -min(x, np.float32(80.0))
    k = np.floor(_fma(x, _LOG2E, np.float32(0.5)))
    r = _fma(-k, _LN2_LOW, _fma(-k, _LN2_HIGH, x))
    p = _fma(r, np.float32(1 / 5040), np.float32(1 / 720))
    p = _fma(r, p, np.float32(1 / 120))
    p = _fma(r, p, np.float32(1 / 24))
    p = _fma(r, p, np.float32(1 / 6))
    p = _fma(r, p, np.float32(1 / 2))
    p = _fma(r * r, p, r)  # exp(r) - 1
    scale = _power_of_two(k)
    return _fma(-scale, p, np.float32(1.0) - scale)


@inner
def _differences(points, top, bottom, columns, left, right, out, at):  # type: ignore[no-untyped-def]
    """out[i, at + j] = sum_c (x_ci - y_cj)^2, by panels as far as they go, the rest row by row."""
    dim, width, height = len(points), right - left, bottom - top
    down, across = height // LANES, width // LANES
    if down and across:
        rows = np.empty((down, min(dim, DEPTH), LANES), np.float32)
        others = np.empty((across, min(dim, DEPTH), LANES), np.float32)
        for start in range(0, dim, DEPTH):
            stop = min(start + DEPTH, dim)
            pack(points, start, stop, top, rows)
            pack(columns, start, stop, left, others)
            for p in range(across):
                for q in range(down):
                    add_squares(rows, q, others, p, stop - start, out, q * LANES, at + p * LANES, start == 0)
    for i in range(height):
        done = across * LANES if i < down * LANES else 0
        if done < width:
            _row_differences(points, top + i, columns, left + done, right, out[i, at + done : at + width])


@inner
def _row_differences(points, i, columns, left, right, row):  # type: ignore[no-untyped-def]
    x, width = points[:, i], right - left
    row[:] = np.float32(0.0)
    for c in range(0, len(x), FOURS):
        a0, a1, a2, a3 = x[c], x[c + 1], x[c + 2], x[c + 3]
        y0, y1 = columns[c, left:right], columns[c + 1, left:right]
        y2, y3 = columns[c + 2, left:right], columns[c + 3, left:right]
        for j in range(width):
            d0, d1, d2, d3 = y0[j] - a0, y1[j] - a1, y2[j] - a2, y3[j] - a3
            row[j] = _fma(d3, d3, _fma(d2, d2, _fma(d1, d1, _fma(d0, d0, row[j]))))


@inner
def _outer_square(points, others, i, columns, more, j):  # type: ignore[no-untyped-def]
    """||a_i ⊗ b_i - a_j ⊗ b_j||^2 entry by entry, in float64: for the few pairs whose terms cancel."""
    total = 0.0
    for c in range(len(points)):
        a_i, a_j = np.float64(points[c, i]), np.float64(columns[c, j])
        for d in range(len(others)):
            difference = a_i * np.float64(others[d, i]) - a_j * np.float64(more[d, j])
            total += difference * difference
    return total
