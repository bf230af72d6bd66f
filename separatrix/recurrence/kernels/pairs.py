"""Complex numbers in registers: real parts in lanes, imaginary parts in lanes of their own.

    x = rest_of(array)          zeros of the kind that an array holds: `Pairs` where its numbers are complex, `Lanes` where they are real
    a * x + y, conj(x)          as for numbers; conj of what is real is itself

`load_first`, `store_first` and `count` count complex numbers too, so a kernel is written once for both. In memory they are stored
(re, im, re, im, ...): taken apart on the way in and put together again on the way out.
"""

from __future__ import annotations

import operator

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, make_attribute_wrapper, models, overload, register_model

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.lanes import WIDTH, Lanes, count, load_first, rest, store_first, vector_of
from separatrix.recurrence.kernels.vectors import constant, pick


class Pairs(types.Type):
    """`count` complex numbers."""

    def __init__(self, parts: Lanes):
        self.parts, self.count = parts, parts.count
        super().__init__(name=f"pairs({parts.name})")


@register_model(Pairs)
class _PairsModel(models.StructModel):
    def __init__(self, manager, pairs):
        super().__init__(manager, pairs, [("re", pairs.parts), ("im", pairs.parts)])


make_attribute_wrapper(Pairs, "re", "re")
make_attribute_wrapper(Pairs, "im", "im")


@intrinsic
def pair(typingctx, re, im):
    kind = Pairs(re)

    def build(context, builder, sig, args):
        value = cgutils.create_struct_proxy(kind)(context, builder)
        value.re, value.im = args
        return value._getvalue()

    return kind(re, im), build


@intrinsic
def _parts_at_rest(typingctx, array):
    """As `rest`, for the parts of an array's complex numbers."""
    element = array.dtype.underlying_float
    lanes = Lanes(WIDTH * 32 // element.bitwidth, element)
    return lanes(array), lambda context, builder, sig, args: constant(vector_of(lanes), 0.0)


def rest_of(array):
    """Zeros like the numbers of an array."""


@overload(rest_of)
def _rest_of(array):
    if isinstance(array.dtype, types.Complex):
        return lambda array: pair(_parts_at_rest(array), _parts_at_rest(array))
    return lambda array: rest(array)


def conj(x):
    """The conjugate."""


@overload(conj)
def _conj(x):
    return (lambda x: pair(x.re, _negative(x.im))) if isinstance(x, Pairs) else (lambda x: x)


@intrinsic
def _negative(typingctx, x):
    return x(x), lambda context, builder, sig, args: builder.fneg(args[0])


@overload(operator.add)
def _add(a, b):
    if isinstance(a, Pairs) and isinstance(b, Pairs):
        return lambda a, b: pair(a.re + b.re, a.im + b.im)


@overload(operator.mul)
def _multiply(a, b):
    if isinstance(a, Pairs) and isinstance(b, Pairs):
        return lambda a, b: pair(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re)


@compiled
def _load(part, array, i, n):
    low, high = load_first(part, array, i, 2 * n), load_first(part, array, i + count(part) // 2, 2 * n - count(part))
    return pair(real_part(low, high), imag_part(low, high))


@overload(load_first)
def _load_first(like, array, index, n):
    if isinstance(like, Pairs):
        return lambda like, array, index, n: _load(like.re, array, index, n)


@compiled
def _store(array, i, value, n):
    store_first(array, i, pairs_low(value.re, value.im), 2 * n)
    store_first(array, i + count(value) // 2, pairs_high(value.re, value.im), 2 * n - count(value))


@overload(store_first)
def _store_first(array, index, value, n):
    if isinstance(value, Pairs):
        return lambda array, index, value, n: _store(array, index, value, n)


@intrinsic
def real_part(typingctx, a, b):
    """Of complex numbers stored (re, im, re, im, ...) in a then b: the real parts."""
    return a(a, b), lambda context, builder, sig, args: pick(builder, *args, list(range(0, 2 * a.count, 2)))


@intrinsic
def imag_part(typingctx, a, b):
    return a(a, b), lambda context, builder, sig, args: pick(builder, *args, list(range(1, 2 * a.count, 2)))


@intrinsic
def pairs_low(typingctx, re, im):
    """(re_0, im_0, re_1, im_1, ...), first half."""
    n = re.count
    return re(re, im), lambda context, builder, sig, args: pick(builder, *args, [i // 2 + n * (i % 2) for i in range(n)])


@intrinsic
def pairs_high(typingctx, re, im):
    n = re.count
    return re(re, im), lambda context, builder, sig, args: pick(builder, *args, [n // 2 + i // 2 + n * (i % 2) for i in range(n)])


@intrinsic
def real_twice(typingctx, x):
    """(re_0, re_0, re_1, re_1, ...) of complex numbers stored in x."""
    return x(x), lambda context, builder, sig, args: pick(builder, args[0], args[0], [i - i % 2 for i in range(x.count)])


@intrinsic
def imag_twice(typingctx, x):
    return x(x), lambda context, builder, sig, args: pick(builder, args[0], args[0], [i - i % 2 + 1 for i in range(x.count)])
