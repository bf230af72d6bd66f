"""A tile: ROWS rows of lanes in registers, and the matrix products that it makes fast.

    t = through(t, A, at, row, step, B, b, stride, n)          t[r] += sum_i A[at + r row + i step] B[b + i stride :]

A is read one number at a time, so its layout is free and a transpose costs nothing; B is read in lanes. Each number and each load of
lanes meets a whole row or column of the tile, so the multiply-adds set the pace and not the loads: nine tenths of the machine's peak
for products of 16 x 64 x 64 from the cache.

Matrices here are scratch: rows padded to whole lanes (`padded`) and to whole tiles, starting on a cache line.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, fill, load, load_first, store, store_first, vector_of
from separatrix.recurrence.kernels.vectors import CONTRACT, address_of, broadcast, constant, number_at

# Two registers wide, and enough rows that independent multiply-adds hide their latency: 8 of 16 registers, or 16 of 32.
LANES = WIDTH // 2
ROWS = 8 if WIDTH == 64 else 4


def _rows(build_row, tile_value, builder, order=None):
    """The tile with each row r replaced by build_row(r, row)."""
    for r in order or range(tile_value.type.count):
        tile_value = builder.insert_value(tile_value, build_row(r, builder.extract_value(tile_value, r)), r)
    return tile_value


def _index(builder, start, *terms):
    """start + the sum of count stride over the terms (count, stride)."""
    for count, stride in terms:
        start = builder.add(start, builder.mul(stride, ir.Constant(stride.type, count)))
    return start


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
            value = builder.load(address_of(context, builder, sig.args[1], array, start, vector_of(like.dtype)))
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
            place = address_of(context, builder, sig.args[0], array, start, vector_of(rows.dtype))
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
            factor = broadcast(builder, x.type, number_at(context, builder, sig.args[1], array, start))
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
            return builder.fmul(broadcast(builder, before.type, number_at(context, builder, sig.args[1], array, start)), before)

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
def plus(typingctx, rows, more, factor):
    """rows[r] + factor more[r]"""

    def build(context, builder, sig, args):
        value, others, factor = args

        def row(r, before):
            other = builder.extract_value(others, r)
            product = builder.fmul(broadcast(builder, before.type, factor), other, flags=CONTRACT)
            return builder.fadd(product, before, flags=CONTRACT)

        return _rows(row, value, builder)

    return rows(rows, rows, types.float32), build


@intrinsic
def solved(typingctx, rows, array, at, row, step, factor, first, next):
    """x with x[r] = rows[r] + sum_{s < r} array[at + r row + s step] factor[first + s next] x[s], from the first row to the last."""

    def build(context, builder, sig, args):
        value, array, at, row, step, factor, first, following = args

        for s in range(rows.count):
            known = builder.extract_value(value, s)
            weight = number_at(context, builder, sig.args[5], factor, _index(builder, first, (s, following)))
            known = builder.fmul(broadcast(builder, known.type, weight), known)
            for r in range(s + 1, rows.count):
                weight = number_at(context, builder, sig.args[1], array, _index(builder, at, (r, row), (s, step)))
                product = builder.fmul(broadcast(builder, known.type, weight), known, flags=CONTRACT)
                value = builder.insert_value(value, builder.fadd(product, builder.extract_value(value, r), flags=CONTRACT), r)
        return value

    index = types.intp
    return rows(rows, array, index, index, index, factor, index, index), build


@intrinsic
def triangle(typingctx, rows, array, at, row, step, x, b, stride):
    """rows[r] + sum_{s <= r} array[at + r row + s step] x[b + s stride :]: no row meets what comes after it."""

    def build(context, builder, sig, args):
        value, array, at, row, step, x, b, stride = args

        for s in range(value.type.count):
            known = builder.load(address_of(context, builder, sig.args[5], x, _index(builder, b, (s, stride)), value.type.element))
            known.align = 4
            for r in range(s, value.type.count):
                weight = number_at(context, builder, sig.args[1], array, _index(builder, at, (r, row), (s, step)))
                product = builder.fmul(broadcast(builder, known.type, weight), known, flags=CONTRACT)
                value = builder.insert_value(value, builder.fadd(product, builder.extract_value(value, r), flags=CONTRACT), r)
        return value

    index = types.intp
    return rows(rows, array, index, index, index, x, index, index), build


@intrinsic
def after_each(typingctx, rows, before, decay, keys, at, stride, factors, first):
    """rows[s] = decay[s] rows[s - 1] + factors[first + s] keys[at + s stride :], where `before` comes before rows[0]."""

    def build(context, builder, sig, args):
        value, row, decay, keys, at, stride, factors, first = args
        for s in range(rows.count):
            number = ir.Constant(at.type, s)
            a = broadcast(builder, row.type, number_at(context, builder, sig.args[2], decay, number))
            factor = broadcast(builder, row.type, number_at(context, builder, sig.args[6], factors, builder.add(first, number)))
            key = builder.load(address_of(context, builder, sig.args[3], keys, builder.add(at, builder.mul(stride, number)), row.type))
            key.align = 4
            row = builder.fadd(builder.fmul(factor, key, flags=CONTRACT), builder.fmul(a, row), flags=CONTRACT)
            value = builder.insert_value(value, row, s)
        return value

    return rows(rows, before, decay, keys, types.intp, types.intp, factors, types.intp), build


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
