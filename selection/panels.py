"""Squared distances between two panels of points: the innermost kernel, written in the processor's vectors.

A panel holds LANES points coordinate by coordinate. Of two of them, the sums of all pairs stay in registers while the
coordinates go by, one vector of sums for each point of the first; what a compiler makes of plain loops loads and stores
each sum again and again, and takes 1.5 times as long where there are many coordinates.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.core.errors import TypingError
from numba.extending import intrinsic

from selection.compiling import inner, kernel
from selection.proxies import Float32

_FEATURES = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
LANES = 16 if "+avx512f" in _FEATURES else 8  # so many sums, and two vectors more, fit the registers
DEPTH = 256  # coordinates at most of a panel: two of them stay in the cache


@inner
def pack(columns, start, stop, left, panels):  # type: ignore[no-untyped-def]
    """panels[p, c, l] = coordinate start + c, below stop, of point left + LANES p + l; columns (C, n)."""
    for c in range(stop - start):
        row = columns[start + c, left : left + len(panels) * LANES]
        for p in range(len(panels)):
            for lane in range(LANES):
                panels[p, c, lane] = row[p * LANES + lane]


@kernel
def pack_all(columns, pieces):  # type: ignore[no-untyped-def]
    """Pack whole points, zeros behind the last. pieces (pieces of coordinates, panels, coordinates, LANES)."""
    dim, n = columns.shape
    whole, depth = n // LANES, pieces.shape[2]
    for piece in range(len(pieces)):
        start, stop = piece * depth, min((piece + 1) * depth, dim)
        pack(columns, start, stop, np.int64(0), pieces[piece, :whole])
        for c in range(stop - start if whole < pieces.shape[1] else 0):
            for lane in range(LANES):
                at = whole * LANES + lane
                pieces[piece, whole, c, lane] = columns[start + c, at] if at < n else np.float32(0.0)


def pieces_shape(columns: Float32) -> tuple[int, int, int, int]:
    """Of what `pack_all` fills: pieces of equal depth, so that little is left empty."""
    dim, n = columns.shape
    pieces = -(-dim // DEPTH)
    return pieces, -(-n // LANES), -(-dim // pieces), LANES


@inner
def packed_squares(pieces, dim, top, bottom, left, right, out):  # type: ignore[no-untyped-def]
    """out[i, j] = sum_c (x_c,left+j - x_c,top+i)^2; top and left multiples of LANES, out with room for whole panels."""
    most = pieces.shape[2]
    for piece in range(len(pieces)):
        depth, panels = min(most, dim - piece * most), pieces[piece]
        for j in range(left, right, LANES):
            for i in range(top, bottom, LANES):
                add_squares(panels, i // LANES, panels, j // LANES, depth, out, i - top, j - left, piece == 0)


@intrinsic
def add_squares(typing, rows, q, columns, p, depth, out, i, j, fresh):  # type: ignore[no-untyped-def]
    """out[i + k, j + l] += sum_c (columns[p, c, l] - rows[q, c, k])^2 for c < depth; where fresh, out is not read.

    Fused, and one c after another: each sum has the bits of a plain loop. depth is at least 1.
    """
    for array, ndim in ((rows, 3), (columns, 3), (out, 2)):
        if not (isinstance(array, types.Array) and array.dtype == types.float32 and array.ndim == ndim):
            raise TypingError(f"should be a float32 array of {ndim} dimensions; got {array}")
    whole = types.int64
    signature = types.void(rows, whole, columns, whole, whole, out, whole, whole, types.boolean)
    return signature, _add_squares


def _add_squares(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
    number, address = ir.FloatType(), ir.IntType(64)
    vector = ir.VectorType(number, LANES)
    fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{LANES}f32")
    rows, q, columns, p, depth, out, i, j, fresh = arguments
    rows, columns, out = (
        context.make_array(kind)(context, builder, value)
        for kind, value in zip(
            (signature.args[0], signature.args[2], signature.args[5]), (rows, columns, out), strict=True
        )
    )

    def constant(value):  # type: ignore[no-untyped-def]
        return ir.Constant(address, value)

    def at(place, offset, kind):  # type: ignore[no-untyped-def]
        return builder.inttoptr(builder.add(place, constant(offset)), kind.as_pointer())

    def panel(array, number_of_it):  # type: ignore[no-untyped-def]
        stride = cgutils.unpack_tuple(builder, array.strides, 3)[0]
        return builder.add(builder.ptrtoint(array.data, address), builder.mul(number_of_it, stride))

    def load(place, offset, kind):  # type: ignore[no-untyped-def]
        value = builder.load(at(place, offset, kind))
        value.align = 4
        return value

    stride = cgutils.unpack_tuple(builder, out.strides, 2)[0]
    corner = builder.add(builder.ptrtoint(out.data, address), builder.mul(j, constant(4)))
    lines = [builder.add(corner, builder.mul(builder.add(i, constant(k)), stride)) for k in range(LANES)]
    first, second = panel(rows, q), panel(columns, p)
    zeros = ir.Constant(vector, [0.0] * LANES)
    before = [builder.select(fresh, zeros, load(line, 0, vector)) for line in lines]
    entry, loop, done = builder.block, builder.append_basic_block("c"), builder.append_basic_block("summed")
    builder.branch(loop)
    builder.position_at_end(loop)
    c = builder.phi(address)
    sums = [builder.phi(vector) for _ in range(LANES)]
    offset = builder.mul(c, constant(4 * LANES))
    here, there = builder.add(first, offset), builder.add(second, offset)
    theirs = load(there, 0, vector)
    after = []
    for k in range(LANES):
        mine = builder.insert_element(
            ir.Constant(vector, ir.Undefined), load(here, 4 * k, number), ir.Constant(ir.IntType(32), 0)
        )
        mine = builder.shuffle_vector(mine, mine, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))
        difference = builder.fsub(theirs, mine)
        after.append(builder.call(fma, [difference, difference, sums[k]]))
    following = builder.add(c, constant(1))
    for phi, begun, carried in zip([c, *sums], [constant(0), *before], [following, *after], strict=True):
        phi.add_incoming(begun, entry)
        phi.add_incoming(carried, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, done)
    builder.position_at_end(done)
    for line, value in zip(lines, after, strict=True):
        builder.store(value, at(line, 0, vector)).align = 4
    return context.get_dummy_value()
