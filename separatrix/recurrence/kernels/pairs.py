"""Complex numbers, stored (re, im, re, im, ...), taken apart in registers and put together again."""

from __future__ import annotations

from numba.extending import intrinsic

from separatrix.recurrence.kernels.vectors import pick


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
