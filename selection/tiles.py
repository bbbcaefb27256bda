"""Costs of a tile of pairs: the kernels beneath every solver, compiled for the processor at hand.

Squared distances are sums of squared differences, never differences of Gram matrices: close points far from the origin
keep their digits. Each sum runs over the coordinates in one order, by fused multiply-adds, wherever the pair stands
in a tile: the same pair has the same float32 cost in every tile, memory mode, thread, process and machine.
"""

import numpy as np
from numba import types
from numba.extending import intrinsic

from selection.compiling import inlined, inner

FOURS = 4  # coordinates summed at a time: points have a multiple of it
_DEPTH = 64  # coordinates whose part of a tile stays in the cache; a multiple of FOURS
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
    """out[i, at + j] = sum_c (x_ci - y_cj)^2, four rows at a time so that each y is loaded once for four sums."""
    dim, width, height = len(points), right - left, bottom - top
    for i in range(height):
        out[i, at : at + width] = np.float32(0.0)
    for start in range(0, dim, _DEPTH):
        stop = min(start + _DEPTH, dim)
        quads = height // 4 * 4
        for i in range(0, quads, 4):
            r0, r1 = out[i, at : at + width], out[i + 1, at : at + width]
            r2, r3 = out[i + 2, at : at + width], out[i + 3, at : at + width]
            p0, p1, p2, p3 = points[:, top + i], points[:, top + i + 1], points[:, top + i + 2], points[:, top + i + 3]
            for c in range(start, stop, FOURS):
                a0, a1, a2, a3 = p0[c], p0[c + 1], p0[c + 2], p0[c + 3]
                b0, b1, b2, b3 = p1[c], p1[c + 1], p1[c + 2], p1[c + 3]
                c0, c1, c2, c3 = p2[c], p2[c + 1], p2[c + 2], p2[c + 3]
                e0, e1, e2, e3 = p3[c], p3[c + 1], p3[c + 2], p3[c + 3]
                y0, y1 = columns[c, left:right], columns[c + 1, left:right]
                y2, y3 = columns[c + 2, left:right], columns[c + 3, left:right]
                for j in range(width):
                    v0, v1, v2, v3 = y0[j], y1[j], y2[j], y3[j]
                    r0[j] = _fours(v0 - a0, v1 - a1, v2 - a2, v3 - a3, r0[j])
                    r1[j] = _fours(v0 - b0, v1 - b1, v2 - b2, v3 - b3, r1[j])
                    r2[j] = _fours(v0 - c0, v1 - c1, v2 - c2, v3 - c3, r2[j])
                    r3[j] = _fours(v0 - e0, v1 - e1, v2 - e2, v3 - e3, r3[j])
        for i in range(quads, height):
            r0, p0 = out[i, at : at + width], points[:, top + i]
            for c in range(start, stop, FOURS):
                a0, a1, a2, a3 = p0[c], p0[c + 1], p0[c + 2], p0[c + 3]
                y0, y1 = columns[c, left:right], columns[c + 1, left:right]
                y2, y3 = columns[c + 2, left:right], columns[c + 3, left:right]
                for j in range(width):
                    r0[j] = _fours(y0[j] - a0, y1[j] - a1, y2[j] - a2, y3[j] - a3, r0[j])


@inlined
def _fours(d0, d1, d2, d3, total):  # type: ignore[no-untyped-def]
    return _fma(d3, d3, _fma(d2, d2, _fma(d1, d1, _fma(d0, d0, total))))


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
