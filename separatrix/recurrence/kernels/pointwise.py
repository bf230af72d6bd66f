"""The pointwise instructions of a program: f(a), f(a, b), ... on rows that broadcast.

Letters and layout as in `instructions`. In single precision the usual functions run on lanes; what is rare, and all of double precision
but the arithmetic, goes number by number.
"""

from __future__ import annotations

import math

from numba import types
from numba.extending import overload

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.exponential import exp
from separatrix.recurrence.kernels.gates import sigmoid, softplus, tanh
from separatrix.recurrence.kernels.instructions import (
    ABS,
    ADD,
    ADD_PRODUCTS,
    COPY,
    COS,
    DIVIDE,
    ERF,
    EXP,
    GELU,
    GREATER,
    LESS,
    LOG,
    LOG1P,
    LOG_SIGMOID,
    MAXIMUM,
    MINIMUM,
    MULTIPLY,
    NEGATIVE,
    POWER,
    RECIPROCAL,
    RSQRT,
    SIGMOID,
    SILU,
    SIN,
    SOFTPLUS,
    SQRT,
    SUBTRACT,
    TANH,
)
from separatrix.recurrence.kernels.lanes import (
    count,
    get,
    load_first,
    one_register,
    rest,
    splat,
    store_first,
    where_equal,
    where_greater,
    where_negative,
)


@compiled
def one_operand(operation, memory, out, rows, inner, tables, table, flags):
    for r in range(rows):
        a, o = get(tables, table + r), out + r * inner
        if flags & 1:
            y = scalar(operation, memory[a])
            for j in range(inner):
                memory[o + j] = y
        elif operation < ERF:
            row_of(operation, memory, a, o, inner)
        else:
            for j in range(inner):
                memory[o + j] = scalar(operation, memory[a + j])


def row_of(operation, memory, a, o, n):
    """memory[o : o + n] = f(memory[a : a + n]): on lanes in single precision, number by number in double."""


@overload(row_of)
def _row_of(operation, memory, a, o, n):
    if memory.dtype == types.float32:
        return lambda operation, memory, a, o, n: row_on_lanes(operation, memory, a, o, n)

    def one_by_one(operation, memory, a, o, n):
        for j in range(n):
            memory[o + j] = scalar(operation, memory[a + j])

    return one_by_one


@compiled
def row_on_lanes(operation, memory, a, o, n):
    zero = rest(memory)
    for j in range(0, n, count(zero)):
        x = load_first(zero, memory, a + j, n - j)
        if operation == COPY:
            y = x
        elif operation == NEGATIVE:
            y = zero - x
        elif operation == EXP:
            y = where_negative(splat(x, 88.72) - x, splat(x, math.inf), exp(x))
        elif operation == SIGMOID:
            y = sigmoid(x)
        elif operation == TANH:
            y = tanh(x)
        elif operation == SILU:
            y = x * sigmoid(x)
        elif operation == SOFTPLUS:
            y = softplus(x)[0]
        else:
            y = zero - softplus(zero - x)[0]
        store_first(memory, o + j, y, n - j)


@compiled
def scalar(operation, x):
    if operation == COPY:
        return x
    if operation == NEGATIVE:
        return -x
    if operation == EXP:
        return math.exp(x)
    if operation == SIGMOID:
        return logistic(x)
    if operation == TANH:
        return math.tanh(x)
    if operation == SILU:
        return x * logistic(x)
    if operation == SOFTPLUS:
        return x if x > 20 else math.log1p(math.exp(x))  # torch's own threshold: the two differ by 2e-9 there
    if operation == LOG_SIGMOID:
        return min(x, 0.0) - math.log1p(math.exp(-abs(x)))
    if operation == ERF:
        return math.erf(x)
    if operation == GELU:
        return 0.5 * x * (1.0 + math.erf(x * math.sqrt(0.5)))
    if operation == LOG:
        return math.log(x)
    if operation == LOG1P:
        return math.log1p(x)
    if operation == SQRT:
        return math.sqrt(x)
    if operation == RSQRT:
        return 1.0 / math.sqrt(x)
    if operation == RECIPROCAL:
        return 1.0 / x
    if operation == COS:
        return math.cos(x)
    if operation == SIN:
        return math.sin(x)
    if operation == ABS:
        return abs(x)
    return 1.0 if x == 0 else 0.0


@compiled
def logistic(x):
    e = math.exp(-abs(x))
    return (1.0 if x >= 0 else e) / (1.0 + e)  # relative precision where it vanishes; e keeps a NaN


@compiled
def read(zero, memory, a, j, n, fixed):
    """Lanes of an operand's row that begins at a, from its number j on; one number for all where it is fixed."""
    return splat(zero, get(memory, a)) if fixed else load_first(zero, memory, a + j, n)


@compiled
def two_operands(operation, memory, out, rows, inner, tables, table, flags):
    zero = rest(memory)
    if operation == POWER:
        step_a, step_b = 0 if flags & 1 else 1, 0 if flags & 2 else 1
        for r in range(rows):
            a, b, o = get(tables, table + r), get(tables, table + rows + r), out + r * inner
            for j in range(inner):
                memory[o + j] = memory[a + j * step_a] ** memory[b + j * step_b]
    elif 2 * inner <= count(zero):  # of wide lanes most would be masked, which costs more than the arithmetic
        two_rows(one_register(memory), operation, memory, out, rows, inner, tables, table, flags)
    else:
        two_rows(zero, operation, memory, out, rows, inner, tables, table, flags)


@compiled
def two_rows(zero, operation, memory, out, rows, inner, tables, table, flags):
    one = splat(zero, 1.0)
    for r in range(rows):
        a, b = get(tables, table + r), get(tables, table + rows + r)
        for j in range(0, inner, count(zero)):
            n = inner - j
            x, y = read(zero, memory, a, j, n, flags & 1), read(zero, memory, b, j, n, flags & 2)
            if operation == ADD:
                z = x + y
            elif operation == SUBTRACT:
                z = x - y
            elif operation == MULTIPLY:
                z = x * y
            elif operation == DIVIDE:
                z = x / y
            elif operation == MAXIMUM:
                z = where_greater(x, y, x, where_equal(x, x, y, x))
            elif operation == MINIMUM:
                z = where_greater(y, x, x, where_equal(x, x, y, x))
            elif operation == GREATER:
                z = where_greater(x, y, one, zero)
            elif operation == LESS:
                z = where_greater(y, x, one, zero)
            else:
                z = where_equal(x, y, one, zero)
            store_first(memory, out + r * inner + j, z, n)


@compiled
def choice(memory, out, rows, inner, tables, table, flags):
    zero = rest(memory)
    for r in range(rows):
        c, a, b = get(tables, table + r), get(tables, table + rows + r), get(tables, table + 2 * rows + r)
        for j in range(0, inner, count(zero)):
            n = inner - j
            given, x, y = (
                read(zero, memory, c, j, n, flags & 1),
                read(zero, memory, a, j, n, flags & 2),
                read(zero, memory, b, j, n, flags & 4),
            )
            store_first(memory, out + r * inner + j, where_equal(given, zero, y, x), n)


@compiled
def two_products(operation, memory, out, rows, inner, tables, table, flags):
    zero = rest(memory)
    if 2 * inner <= count(zero):  # of wide lanes most would be masked, which costs more than the arithmetic
        products_of_rows(one_register(memory), operation, memory, out, rows, inner, tables, table, flags)
    else:
        products_of_rows(zero, operation, memory, out, rows, inner, tables, table, flags)


@compiled
def products_of_rows(zero, operation, memory, out, rows, inner, tables, table, flags):
    for r in range(rows):
        a, b = get(tables, table + r), get(tables, table + rows + r)
        c, d = get(tables, table + 2 * rows + r), get(tables, table + 3 * rows + r)
        for j in range(0, inner, count(zero)):
            n = inner - j
            x, y = read(zero, memory, a, j, n, flags & 1), read(zero, memory, b, j, n, flags & 2)
            z, w = read(zero, memory, c, j, n, flags & 4), read(zero, memory, d, j, n, flags & 8)
            if operation == ADD_PRODUCTS:
                store_first(memory, out + r * inner + j, x * y + z * w, n)
            else:
                store_first(memory, out + r * inner + j, x * y - z * w, n)
