"""Lanes that meet each other: their sums and products.

    total(x)                    the sum over lanes
    dot(sums, x, y)             sums + x y, where sums has fewer lanes
    pair_sums(a, b)             neighbours added up: log2(n) rounds turn n values of n lanes into their n totals
    products_until(x), products_after(x)            running products

All by fixed trees: the same on every call.
"""

from __future__ import annotations

from llvmlite import ir
from numba.extending import intrinsic

from separatrix.recurrence.kernels.vectors import CONTRACT, INT, constant, pick, pieces


@intrinsic
def total(typingctx, x):
    """The sum over lanes, as a float."""

    def build(context, builder, sig, args):
        value = args[0]
        while value.type.count > 1:
            value = builder.fadd(*pieces(builder, value, value.type.count // 2))  # halves on top of each other
        return builder.extract_element(value, ir.Constant(INT, 0))

    return x.element(x), build


@intrinsic
def dot(typingctx, sums, x, y):
    """sums + x y, where sums has fewer lanes: those of x y that lie `count(sums)` apart are added up."""

    def build(context, builder, sig, args):
        sums, x, y = args
        for a, b in zip(pieces(builder, x, sums.type.count), pieces(builder, y, sums.type.count)):
            sums = builder.fadd(builder.fmul(a, b, flags=CONTRACT), sums, flags=CONTRACT)
        return sums

    return sums(sums, x, y), build


@intrinsic
def pair_sums(typingctx, a, b):
    """(a_0 + a_1, a_2 + a_3, ..., b_0 + b_1, ...): log2(n) rounds of it turn n values of n lanes into their n totals, in order."""

    def build(context, builder, sig, args):
        even, odd = (pick(builder, *args, list(range(start, 2 * a.count, 2))) for start in (0, 1))
        return builder.fadd(even, odd)

    return a(a, b), build


def _products(builder, x, onto):
    """Every lane times all lanes before it (onto 1) or after it (onto -1), by doubling."""
    lanes, ones = x.type.count, constant(x.type, 1.0)
    apart = 1
    while apart < lanes:
        x = builder.fmul(x, pick(builder, x, ones, [i - onto * apart if 0 <= i - onto * apart < lanes else lanes for i in range(lanes)]))
        apart *= 2
    return x


@intrinsic
def products_until(typingctx, x):
    """(x_0, x_0 x_1, x_0 x_1 x_2, ...)"""
    return x(x), lambda context, builder, sig, args: _products(builder, args[0], 1)


@intrinsic
def products_after(typingctx, x):
    """(..., x_{n-2} x_{n-1}, x_{n-1}, 1)"""

    def build(context, builder, sig, args):
        later = list(range(1, x.count + 1))
        return _products(builder, pick(builder, args[0], constant(args[0].type, 1.0), later), -1)

    return x(x), build
