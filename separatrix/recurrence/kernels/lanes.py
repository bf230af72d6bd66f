"""Explicit SIMD in Numba: a value of many floats that lives in vector registers.

Plain Numba loops over arrays cannot keep running sums in registers, because heap arrays may alias and every multiply-add goes through
memory. A `Lanes` value is an LLVM vector: `a * load(S, i) + b` on it is one fused multiply-add per register, written as arithmetic.

    x = fill(WIDTH, np.float32(0))          WIDTH lanes of one number; every other value takes its type from `like=x`
    x = load(x, array, i)                   lanes from array[i:], unaligned; load_first(x, array, i, n) reads n of them, the rest are 0
    store(array, i, x)                      and store_first(array, i, x, n)
    + - * /                                 lanes with lanes or with a float; multiply-adds are fused where the machine can (`contract`)

More of them are in `across` (sums and products of lanes), `exponential`, `gates`, `pairs` (complex numbers), `tile` (rows of lanes) and
`transpose`.

WIDTH spans several registers on purpose: independent multiply-adds hide each other's latency. LLVM splits the vector into whatever the
machine has (four zmm, eight ymm), so the same kernel runs on every CPU that Numba knows.
`llvm.fma` is avoided: without hardware FMA it would call a library function per lane.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, models, overload, register_model

from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.vectors import (
    CONTRACT,
    INT,
    address_of,
    broadcast,
    constant,
    first_lanes,
    llvm_call,
    number_at,
    suffix,
)

# Four zmm registers with AVX-512 (32 registers: room for five such values); without it half as many lanes, to avoid spilling. Asked of
# what Numba compiles for, which NUMBA_CPU_FEATURES may set: machine code on disk is found by that, and must have the lanes that we count.
WIDTH = 64 if "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2] else 32

ZERO = np.float32(0)


class Lanes(types.Type):
    """`count` floats of one type, held in registers."""

    def __init__(self, count: int, element: types.Float):
        self.count, self.element = count, element
        super().__init__(name=f"lanes({count}, {element})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, lanes):
        super().__init__(manager, lanes, vector_of(lanes))


def vector_of(lanes: Lanes) -> ir.VectorType:
    """What such a value is to LLVM."""
    return ir.VectorType(ir.FloatType() if lanes.element == types.float32 else ir.DoubleType(), lanes.count)


def _bytes(lanes: Lanes) -> int:
    return lanes.element.bitwidth // 8


@intrinsic(prefer_literal=True)
def fill(typingctx, count, x):
    """`count` lanes (a literal), each x."""
    lanes = Lanes(count.literal_value, x)
    return lanes(count, x), lambda context, builder, sig, args: broadcast(builder, vector_of(lanes), args[1])


@intrinsic
def splat(typingctx, like, x):
    """Every lane x, converted to the element type of `like`."""

    def build(context, builder, sig, args):
        return broadcast(builder, vector_of(like), context.cast(builder, args[1], sig.args[1], like.element))

    return like(like, x), build


@intrinsic
def load(typingctx, like, array, index):
    """As many lanes as `like` from array[index :], which must hold them all."""

    def build(context, builder, sig, args):
        value = builder.load(address_of(context, builder, array, args[1], args[2], vector_of(like)))
        value.align = _bytes(like)
        return value

    return like(like, array, types.intp), build


@intrinsic
def store(typingctx, array, index, value):
    """The lanes of `value` into array[index :], which must have room for them all."""

    def build(context, builder, sig, args):
        builder.store(args[2], address_of(context, builder, array, args[0], args[1], vector_of(value))).align = _bytes(value)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), build


@intrinsic
def _load_masked(typingctx, like, array, index, n):
    def build(context, builder, sig, args):
        vector = vector_of(like)
        address = address_of(context, builder, array, args[1], args[2], vector)
        return llvm_call(
            builder,
            f"llvm.masked.load.{suffix(vector)}.p0",
            vector,
            address,
            ir.Constant(INT, _bytes(like)),
            first_lanes(builder, vector, args[3]),
            constant(vector, 0.0),
        )

    return like(like, array, types.intp, types.intp), build


@intrinsic
def _store_masked(typingctx, array, index, value, n):
    def build(context, builder, sig, args):
        vector = vector_of(value)
        address = address_of(context, builder, array, args[0], args[1], vector)
        llvm_call(
            builder,
            f"llvm.masked.store.{suffix(vector)}.p0",
            ir.VoidType(),
            args[2],
            address,
            ir.Constant(INT, _bytes(value)),
            first_lanes(builder, vector, args[3]),
        )
        return context.get_dummy_value()

    return types.void(array, types.intp, value, types.intp), build


@intrinsic
def get(typingctx, array, index):
    """array[index] of a contiguous array, for index >= 0: Numba's own indexing spends three instructions on negative ones."""

    def build(context, builder, sig, args):
        return number_at(context, builder, array, *args)

    return array.dtype(array, types.intp), build


@intrinsic
def _fetch(typingctx, array, index):
    def build(context, builder, sig, args):
        address = address_of(context, builder, array, *args, ir.IntType(8))
        read, everywhere, data = (ir.Constant(INT, x) for x in (0, 3, 1))
        llvm_call(builder, "llvm.prefetch.p0", ir.VoidType(), address, read, everywhere, data)
        return context.get_dummy_value()

    return types.void(array, types.intp), build


@njit(nogil=True, inline="always")
def fetch(array, index, n):
    """Ask the memory for array[index : index + n] before it is read: the row of the next step is far from this one."""
    for i in range(0, n, 16):
        _fetch(array, index + i)


@njit(nogil=True)
def scratch(n):
    """n float32 that start on a cache line: loads of whole lanes that straddle two lines cost twice."""
    raw = np.empty(n + 16, np.float32)
    skip = (-raw.ctypes.data % 64) // 4
    return raw[skip : skip + n]


@intrinsic
def rest(typingctx, array):
    """Zeros in as many registers as WIDTH float32 take, of the element type of an array."""
    lanes = Lanes(WIDTH * 32 // array.dtype.bitwidth, array.dtype)
    return lanes(array), lambda context, builder, sig, args: constant(vector_of(lanes), 0.0)


@intrinsic
def one_register(typingctx, array):
    """Zeros in one register: for rows so short that more would mostly be masked."""
    lanes = Lanes(WIDTH * 8 // array.dtype.bitwidth, array.dtype)
    return lanes(array), lambda context, builder, sig, args: constant(vector_of(lanes), 0.0)


@intrinsic
def count(typingctx, like):
    """How many lanes, a constant."""
    return types.intp(like), lambda context, builder, sig, args: context.get_constant(types.intp, like.count)


def load_first(like, array, index, n):
    """Lanes from array[index : index + n]; lanes beyond n are 0 and not read."""


@overload(load_first)
def _load_first(like, array, index, n):
    if not isinstance(like, Lanes):
        return None
    return lambda like, array, index, n: load(like, array, index) if n >= count(like) else _load_masked(like, array, index, n)


def store_first(array, index, value, n):
    """The first n lanes into array[index : index + n]."""


@overload(store_first)
def _store_first(array, index, value, n):
    if not isinstance(value, Lanes):
        return None

    def build(array, index, value, n):
        if n >= count(value):
            store(array, index, value)
        else:
            _store_masked(array, index, value, n)

    return build


def _arithmetic(symbol, instruction):
    @intrinsic
    def lanewise(typingctx, a, b):
        return a(a, b), lambda context, builder, sig, args: getattr(builder, instruction)(*args, flags=CONTRACT)

    @overload(symbol)
    def build(a, b):
        match isinstance(a, Lanes), isinstance(b, Lanes):
            case True, True:
                return lambda a, b: lanewise(a, b)
            case True, False:
                return lambda a, b: lanewise(a, splat(a, b))
            case False, True:
                return lambda a, b: lanewise(splat(b, a), b)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
_arithmetic(operator.truediv, "fdiv")


@intrinsic
def magnitude(typingctx, x):
    """|x|"""
    return x(x), lambda context, builder, sig, args: llvm_call(builder, f"llvm.fabs.{suffix(args[0].type)}", args[0].type, args[0])


@intrinsic
def where_negative(typingctx, x, a, b):
    """a where x < 0, else b, also where x is a NaN."""

    def build(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<", args[0], constant(args[0].type, 0.0)), args[1], args[2])

    return a(x, a, b), build


def _where(condition):
    @intrinsic
    def where(typingctx, x, y, a, b):
        """a where the condition holds between x and y, else b; with a NaN it does not hold."""

        def build(context, builder, sig, args):
            return builder.select(builder.fcmp_ordered(condition, *args[:2]), *args[2:])

        return a(x, y, a, b), build

    return where


where_greater, where_equal = _where(">"), _where("==")


@intrinsic
def with_lane(typingctx, x, i, value):
    """x with lane i replaced. By a mask: a number written to memory and read back as lanes waits for the store."""

    def build(context, builder, sig, args):
        x, i, value = args
        ints = ir.VectorType(INT, x.type.count)
        here = builder.icmp_signed("==", ir.Constant(ints, list(range(x.type.count))), broadcast(builder, ints, builder.trunc(i, INT)))
        return builder.select(here, broadcast(builder, x.type, value), x)

    return x(x, types.intp, x.element), build
