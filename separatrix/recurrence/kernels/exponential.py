"""Powers of lanes: 2**(x y) by rounding to the nearest integer and a polynomial for what is left, and x**y by the logarithm.

    x y = n + r, |r| <= 1/2          2**(x y) = 2**n p(r)                                                          (1)
    x = 2**n m, 1/2 <= m² < 2        log2 x = n + (2 / ln 2) (s + s³/3 + s⁵/5 + ...),  s = (m - 1) / (m + 1)         (2)

The product is never rounded by itself where the machine fuses multiply-adds, so exp(x) = 2**(x log2 e) loses nothing to a large |x|.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, fill, load_first, splat, store
from separatrix.recurrence.kernels.vectors import CONTRACT, INT, constant, llvm_call, pick, pieces, suffix

LOG2E = np.float32(1.4426950408889634)

# 2**r on [-1/2, 1/2] with 2**0 = 1 exactly: minimax by linear programming, relative error 8.1e-8 before rounding.
EXP2 = (1.32746334e-3, 9.67196168e-3, 5.55067837e-2, 2.40222353e-1, 6.93147062e-1, 1.0)
_ROOT_HALF = 0x3F3504F3  # the bits of sqrt(1/2)
_ROUND = 12582912.0  # 1.5 * 2**23: adding it leaves the nearest integer in the low bits of a float32


@intrinsic
def exp2_of(typingctx, x, y):
    """2**(x y) of float32 lanes for x y <= 127, 0 below 2**-125; to 2e-7 where multiply-adds are fused: the product is not rounded."""

    def build(context, builder, sig, args):
        x, y = args
        vector = x.type
        magic = constant(vector, _ROUND)
        whole = builder.fsub(_fuse(builder, x, y, magic), magic)
        r = _fuse(builder, x, y, builder.fneg(whole))
        p = constant(vector, EXP2[0])
        for c in EXP2[1:]:
            p = builder.fadd(builder.fmul(p, r, flags=CONTRACT), constant(vector, c), flags=CONTRACT)
        return _scaled(context, builder, p, whole)

    return x(x, y), build


@compiled
def exp(x):
    """e**x for x <= 88, 0 below -86.6, a NaN stays a NaN."""
    return exp2_of(x, splat(x, LOG2E))


@intrinsic
def log2(typingctx, x):
    """Of float32 lanes, by (2), to 2e-7 of what it is or of 1; of 0 it is -127, and of what is no positive number nothing in particular."""

    def build(context, builder, sig, args):
        vector = args[0].type
        ints, one = ir.VectorType(INT, vector.count), constant(vector, 1.0)
        bits, shift = builder.bitcast(args[0], ints), constant(ir.VectorType(INT, vector.count), 23)
        n = builder.ashr(builder.sub(bits, constant(ints, _ROOT_HALF)), shift)
        m = builder.bitcast(builder.sub(bits, builder.shl(n, shift)), vector)
        s = builder.fdiv(builder.fsub(m, one), builder.fadd(m, one))
        square = builder.fmul(s, s)
        p = constant(vector, 1 / 9)
        for k in (7, 5, 3, 1):
            p = _fuse(builder, p, square, constant(vector, 1 / k))
        return _fuse(builder, builder.fmul(s, constant(vector, 2 * float(LOG2E))), p, builder.sitofp(n, vector))

    return x(x), build


@compiled
def power(x, y):
    """x**y of x >= 0, for results from 2**-125, below which they are 0, to 2**127; an x of 0 counts as 2**-127."""
    return exp2_of(log2(x), splat(x, y))


@compiled
def row_decays(log_decay, at, n, out):
    """out[:n] = exp(log_decay[at : at + n]); out has room for whole lanes."""
    zero = fill(WIDTH, ZERO)
    for i in range(0, n, WIDTH):
        store(out, i, exp(load_first(zero, log_decay, at + i, n - i)))


def _fuse(builder, x, y, z):
    """x y + z with one rounding where the machine has such an instruction, else with two."""
    return llvm_call(builder, f"llvm.fmuladd.{suffix(x.type)}", x.type, x, y, z)


def _scaled(context, builder, p, whole):
    """p 2**whole for |p| about 1 and whole a float with an integer value; 0 below 2**-125, whatever p is then."""
    vector = p.type
    keep = builder.fcmp_unordered(">=", whole, constant(vector, -125.0))  # a NaN is kept
    if vector.count % 16 == 0 and "+avx512f" in context.codegen().magic_tuple()[2].split(","):
        parts = [
            llvm_call(
                builder,
                "llvm.x86.avx512.mask.scalef.ps.512",
                piece.type,
                piece,
                exponent,
                constant(piece.type, 0.0),
                builder.bitcast(mask, ir.IntType(16)),
                ir.Constant(INT, 4),
            )
            for piece, exponent, mask in zip(pieces(builder, p, 16), pieces(builder, whole, 16), pieces(builder, keep, 16))
        ]
        return _join(builder, parts)
    ints, high = ir.VectorType(INT, vector.count), constant(vector, 127.0)
    shifted = builder.fadd(builder.select(builder.fcmp_ordered(">", whole, high), high, whole), constant(vector, _ROUND))
    bits = builder.add(builder.bitcast(p, ints), builder.shl(builder.bitcast(shifted, ints), constant(ints, 23)))
    return builder.select(keep, builder.bitcast(bits, vector), constant(vector, 0.0))


def _join(builder, parts):
    while len(parts) > 1:
        parts = [pick(builder, a, b, list(range(2 * a.type.count))) for a, b in zip(parts[::2], parts[1::2])]
    return parts[0]
