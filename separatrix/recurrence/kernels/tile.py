"""A tile: ROWS rows of lanes in registers, and the matrix products that it makes fast.

    t = through(t, A, at, row, step, B, b, stride, n)          t[r] += sum_i A[at + r row + i step] B[b + i stride :]

A is read one number at a time, so its layout is free and a transpose costs nothing; B is read in lanes. Each number and each load of
lanes meets a whole row or column of the tile, so the multiply-adds set the pace and not the loads: nine tenths of the machine's peak
for products of 16 x 64 x 64 from the cache.

Matrices here are scratch: rows padded to whole lanes (`padded`) and to whole tiles, starting on a cache line.
"""

from __future__ import annotations

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.lanes import (
    CONTRACT,
    WIDTH,
    ZERO,
    _address,
    _broadcast,
    constant,
    fill,
    load,
    load_first,
    pick,
    store,
    store_first,
    vector_of,
)

# Two registers wide, and enough rows that independent multiply-adds hide their latency: 8 of 16 registers, or 16 of 32.
LANES = WIDTH // 2
ROWS = 8 if WIDTH == 64 else 4

# Transposes are done in squares of this size.
SQUARE = 8


def _rows(build_row, tile_value, builder, order=None):
    """The tile with each row r replaced by build_row(r, row)."""
    for r in order or range(tile_value.type.count):
        tile_value = builder.insert_value(tile_value, build_row(r, builder.extract_value(tile_value, r)), r)
    return tile_value


def _number(context, builder, array_type, array, index):
    return builder.load(builder.gep(context.make_array(array_type)(context, builder, array).data, [index]))


@intrinsic(prefer_literal=True)
def tile(typingctx, rows, like):
    """`rows` (a literal) rows of zeros."""
    kind = types.UniTuple(like, rows.literal_value)

    def build(context, builder, sig, args):
        vector = vector_of(like)
        return ir.Constant(ir.ArrayType(vector, kind.count), [constant(vector, 0.0)] * kind.count)

    return kind(rows, like), build


@intrinsic
def load_rows(typingctx, like, array, at, stride):
    """A tile as `like`, row r from array[at + r stride :]."""

    def build(context, builder, sig, args):
        rows, array, at, stride = args

        def row(r, _):
            start = builder.add(at, builder.mul(stride, ir.Constant(stride.type, r)))
            value = builder.load(_address(context, builder, sig.args[1], array, start, vector_of(like.dtype)))
            value.align = 4
            return value

        return _rows(row, rows, builder)

    return like(like, array, types.intp, types.intp), build


@intrinsic
def store_rows(typingctx, array, at, stride, rows):
    def build(context, builder, sig, args):
        array, at, stride, value = args
        for r in range(rows.count):
            start = builder.add(at, builder.mul(stride, ir.Constant(stride.type, r)))
            place = _address(context, builder, sig.args[0], array, start, vector_of(rows.dtype))
            builder.store(builder.extract_value(value, r), place).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, rows), build


@intrinsic
def outer(typingctx, sums, array, at, step, x):
    """sums[r] + array[at + r step] x"""

    def build(context, builder, sig, args):
        sums, array, at, step, x = args

        def row(r, before):
            start = builder.add(at, builder.mul(step, ir.Constant(step.type, r)))
            factor = _broadcast(builder, x.type, _number(context, builder, sig.args[1], array, start))
            return builder.fadd(builder.fmul(factor, x, flags=CONTRACT), before, flags=CONTRACT)

        return _rows(row, sums, builder)

    return sums(sums, array, types.intp, types.intp, x), build


@intrinsic
def scaled(typingctx, rows, array, at, step):
    """rows[r] array[at + r step]"""

    def build(context, builder, sig, args):
        value, array, at, step = args

        def row(r, before):
            start = builder.add(at, builder.mul(step, ir.Constant(step.type, r)))
            return builder.fmul(_broadcast(builder, before.type, _number(context, builder, sig.args[1], array, start)), before)

        return _rows(row, value, builder)

    return rows(rows, array, types.intp, types.intp), build


@intrinsic
def times(typingctx, rows, x):
    """rows[r] x[r] for a tile x, rows[r] x for lanes."""

    def build(context, builder, sig, args):
        each = isinstance(x, types.UniTuple)
        return _rows(lambda r, before: builder.fmul(before, builder.extract_value(args[1], r) if each else args[1]), args[0], builder)

    return rows(rows, x), build


@intrinsic
def solved(typingctx, rows, array, at, row, step, factor, first, next):
    """x with x[r] = rows[r] + sum_{s < r} array[at + r row + s step] factor[first + s next] x[s], from the first row to the last."""

    def build(context, builder, sig, args):
        value, array, at, row, step, factor, first, following = args

        def index(start, *terms):
            for count, stride in terms:
                start = builder.add(start, builder.mul(stride, ir.Constant(stride.type, count)))
            return start

        for s in range(rows.count):
            known = builder.extract_value(value, s)
            weight = _number(context, builder, sig.args[5], factor, index(first, (s, following)))
            known = builder.fmul(_broadcast(builder, known.type, weight), known)
            for r in range(s + 1, rows.count):
                weight = _number(context, builder, sig.args[1], array, index(at, (r, row), (s, step)))
                product = builder.fmul(_broadcast(builder, known.type, weight), known, flags=CONTRACT)
                value = builder.insert_value(value, builder.fadd(product, builder.extract_value(value, r), flags=CONTRACT), r)
        return value

    index = types.intp
    return rows(rows, array, index, index, index, factor, index, index), build


@intrinsic
def after_each(typingctx, rows, before, decay, keys, at, stride, factors, first):
    """rows[s] = decay[s] rows[s - 1] + factors[first + s] keys[at + s stride :], where `before` comes before rows[0]."""

    def build(context, builder, sig, args):
        value, row, decay, keys, at, stride, factors, first = args
        for s in range(rows.count):
            number = ir.Constant(at.type, s)
            a = _broadcast(builder, row.type, _number(context, builder, sig.args[2], decay, number))
            factor = _broadcast(builder, row.type, _number(context, builder, sig.args[6], factors, builder.add(first, number)))
            key = builder.load(_address(context, builder, sig.args[3], keys, builder.add(at, builder.mul(stride, number)), row.type))
            key.align = 4
            row = builder.fadd(builder.fmul(factor, key, flags=CONTRACT), builder.fmul(a, row), flags=CONTRACT)
            value = builder.insert_value(value, row, s)
        return value

    return rows(rows, before, decay, keys, types.intp, types.intp, factors, types.intp), build


def _exchanges(n):
    """The steps of transposing n rows of n lanes, n = 4, 8, 16: rows r and r + apart become two mixtures of them, given as lanes of both.

    Within each group of four lanes neighbours, then pairs; then groups among each other. Rows 1 and 2 of every four come out exchanged.
    """
    groups = range(0, n, 4)
    yield 1, *([i + j for g in groups for i in (g, g + 1) for j in (first, n + first)] for first in (0, 2))
    yield 2, *([j + i for g in groups for j in (g, n + g) for i in (first, first + 1)] for first in (0, 2))
    apart = 4
    while apart < n:
        yield apart, *([g + i for g in range(first, 2 * n, 8) for i in range(4)] for first in (0, 4))
        apart *= 2


@intrinsic
def turned(typingctx, rows):
    """The transpose of a tile of as many rows as lanes."""

    def build(context, builder, sig, args):
        n = rows.count
        x = [builder.extract_value(args[0], r) for r in range(n)]
        for apart, near, far in _exchanges(n):
            y = list(x)
            for r in range(n):
                if not r & apart:
                    y[r], y[r + apart] = pick(builder, x[r], x[r + apart], near), pick(builder, x[r], x[r + apart], far)
            x = y
        value = args[0]
        for r in range(n):
            value = builder.insert_value(value, x[r ^ 3 if r % 4 in (1, 2) else r], r)
        return value

    return rows(rows), build


@compiled
def padded(n, to):
    return (n + to - 1) // to * to


@njit(nogil=True, inline="always")
def through(t, A, at, row, step, B, b, stride, n):
    """t[r] + sum_{i < n} A[at + r row + i step] B[b + i stride :]"""
    for i in range(n):
        t = outer(t, A, at + i * step, row, load(t[0], B, b + i * stride))
    return t


@compiled
def turn(source, at, stride, rows, columns, into, width):
    """into [columns, width] = source[at :] [rows, stride] transposed, by whole squares."""
    square = tile(SQUARE, fill(SQUARE, ZERO))
    for i in range(0, rows, SQUARE):
        for j in range(0, columns, SQUARE):
            store_rows(into, j * width + i, width, turned(load_rows(square, source, at + i * stride + j, stride)))


@compiled
def pack(source, at, stride, rows, n, factor, into, height, width):
    """into [height, width] = factor times `rows` rows of n numbers from source[at :], a stride apart; zeros around them."""
    zero = fill(LANES, ZERO)
    for r in range(height):
        for d in range(0, width, LANES):
            x = zero
            if r < rows:
                x = load_first(zero, source, at + r * stride + d, n - d) * factor
            store(into, r * width + d, x)


@compiled
def unpack(source, width, rows, n, factor, into, at, stride):
    """The inverse of `pack`: `rows` rows of n numbers, times a factor, to into[at :], a stride apart."""
    for r in range(rows):
        for d in range(0, n, LANES):
            store_first(into, at + r * stride + d, load(fill(LANES, ZERO), source, r * width + d) * factor, n - d)
