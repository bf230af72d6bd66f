"""A step of a network as one kernel: an interpreter of a short program over one array of numbers.

    memory                 constants, inputs, results, in the program's precision
    code                   (operation, out, rows, inner, table, flags, extra), WORDS integers after each other for every instruction
    tables                 where rows begin, in memory

A pointwise instruction makes `rows` rows of `inner` numbers, one behind the other from `out` on; row r of its operand number p begins at
tables[table + p rows + r] and runs on by itself, or is one number for the whole row when bit p of `flags` is set. So broadcasting costs
nothing and any operand whose rows are contiguous is read where it lies. Dispatching an instruction takes some nanoseconds, where a
call of torch takes microseconds: what a network's step of one token mostly consists of.

`weights` holds the right-hand sides of products in panels as wide as a `Lanes` value, padded by zeros, so that a product with a vector is
nothing but multiply-adds on rows read in order.
"""

from __future__ import annotations

import math

from numba import njit, types
from numba.extending import overload

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.exponential import exp
from separatrix.recurrence.kernels.gates import sigmoid, softplus, tanh
from separatrix.recurrence.kernels.lanes import count, get, load, load_first, one_register, rest, splat, store_first, total, where_negative
from separatrix.recurrence.kernels.parallel import spawn

WORDS = 7

# One operand, one result; those before ERF also on lanes.
COPY, NEGATIVE, EXP, SIGMOID, TANH, SILU, SOFTPLUS, LOG_SIGMOID, ERF, GELU, LOG, SQRT, RSQRT, RECIPROCAL, COS, SIN, ABS, NOT = range(18)
# Two operands; those before POWER also on lanes.
ADD, SUBTRACT, MULTIPLY, DIVIDE, POWER, MAXIMUM, MINIMUM, GREATER, LESS, EQUAL = range(20, 30)
# Three: where the first is not 0 the second, else the third. Four: a b + c d, a b - c d.
WHERE, ADD_PRODUCTS, SUBTRACT_PRODUCTS = 30, 31, 32
# By an index for each number; by the first and the last index of each run of numbers; sums along rows; sums of rows; products with
# `weights`; products of two operands, whose right one lies in rows or in columns.
GATHER, RUNS, SUM, SUM_ROWS, WEIGHTED, PRODUCT, DOTS = range(40, 47)


@compiled
def play(first, last, code, tables, memory, weights, fed, every, seen, inputs, heard):
    """The program, once for each t in range(first, last).

    After each, fed[i] = (from, to, n) carries results to where inputs are; every `every`-th time the first of these results is kept in
    `seen`. Before each, inputs[t] is written to memory from heard on, when heard >= 0.
    """
    for t in range(first, last):
        if heard >= 0:
            for i in range(inputs.shape[1]):
                memory[heard + i] = inputs[t, i]
        for i in range(0, len(code), WORDS):
            operation, out, rows, inner = code[i], code[i + 1], code[i + 2], code[i + 3]
            table, flags, extra = code[i + 4], code[i + 5], code[i + 6]
            if operation < ADD:
                one_operand(operation, memory, out, rows, inner, tables, table, flags)
            elif operation < WHERE:
                two_operands(operation, memory, out, rows, inner, tables, table, flags)
            elif operation == WHERE:
                choice(memory, out, rows, inner, tables, table, flags)
            elif operation <= SUBTRACT_PRODUCTS:
                two_products(operation, memory, out, rows, inner, tables, table, flags)
            elif operation == GATHER:
                for j in range(inner):
                    memory[out + j] = memory[get(tables, table + j)]
            elif operation == RUNS:
                runs(memory, out, rows, tables, table)
            elif operation == SUM:
                sums(memory, out, rows, inner, tables, table)
            elif operation == SUM_ROWS:
                sums_of_rows(memory, out, rows, extra, inner, tables, table)
            elif operation == WEIGHTED:
                weighted(memory, out, rows, inner, tables, table, weights, flags, extra)
            elif operation == PRODUCT:
                product(memory, out, rows, extra, inner, tables, table)
            else:
                dots(memory, out, rows, extra, inner, tables, table)
        for i in range(fed.shape[0]):
            run(memory, fed[i, 0], fed[i, 2], memory, fed[i, 1])
        if seen.shape[0] > 0 and (t + 1) % every == 0:
            row = (t + 1) // every - 1
            for j in range(seen.shape[1]):
                seen[row, j] = memory[fed[0, 1] + j]


@njit(cache=True, nogil=True)
def play_shared(team, threads, first, last, args):
    spawn(play, team, threads, first, last, args)


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
    if operation >= POWER:
        step_a, step_b = 0 if flags & 1 else 1, 0 if flags & 2 else 1
        for r in range(rows):
            a, b, o = get(tables, table + r), get(tables, table + rows + r), out + r * inner
            for j in range(inner):
                memory[o + j] = scalars(operation, memory[a + j * step_a], memory[b + j * step_b])
    elif 2 * inner <= count(zero):  # of wide lanes most would be masked, which costs more than the arithmetic
        two_rows(one_register(memory), operation, memory, out, rows, inner, tables, table, flags)
    else:
        two_rows(zero, operation, memory, out, rows, inner, tables, table, flags)


@compiled
def two_rows(zero, operation, memory, out, rows, inner, tables, table, flags):
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
            else:
                z = x / y
            store_first(memory, out + r * inner + j, z, n)


@compiled
def scalars(operation, x, y):
    if operation == POWER:
        return x**y
    if operation == MAXIMUM:
        return x if x > y or x != x else y
    if operation == MINIMUM:
        return x if x < y or x != x else y
    if operation == GREATER:
        true = x > y
    elif operation == LESS:
        true = x < y
    else:
        true = x == y
    return 1.0 if true else 0.0


@compiled
def choice(memory, out, rows, inner, tables, table, flags):
    step, step_a, step_b = 0 if flags & 1 else 1, 0 if flags & 2 else 1, 0 if flags & 4 else 1
    for r in range(rows):
        c, a, b = get(tables, table + r), get(tables, table + rows + r), get(tables, table + 2 * rows + r)
        for j in range(inner):
            memory[out + r * inner + j] = memory[a + j * step_a] if memory[c + j * step] != 0 else memory[b + j * step_b]


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


@compiled
def run(source, a, n, into, o):
    """into[o : o + n] = source[a : a + n], elsewhere."""
    zero = rest(source)
    for j in range(0, n, count(zero)):
        store_first(into, o + j, load_first(zero, source, a + j, n - j), n - j)


@compiled
def runs(memory, out, rows, tables, table):
    for r in range(rows):
        a = get(tables, table + r)
        n = get(tables, table + rows + r) - a + 1
        run(memory, a, n, memory, out)
        out += n


@compiled
def sums(memory, out, rows, inner, tables, table):
    """One number a row, the row's sum."""
    zero = rest(memory)
    for r in range(rows):
        a, s = get(tables, table + r), zero
        for j in range(0, inner, count(zero)):
            s = s + load_first(zero, memory, a + j, inner - j)
        memory[out + r] = total(s)


@compiled
def sums_of_rows(memory, out, rows, added, inner, tables, table):
    """Each of `rows` rows is the sum of `added` rows."""
    zero = rest(memory)
    for r in range(rows):
        for j in range(0, inner, count(zero)):
            s = zero
            for i in range(added):
                s = s + load_first(zero, memory, get(tables, table + r * added + i) + j, inner - j)
            store_first(memory, out + r * inner + j, s, inner - j)


@compiled
def weighted(memory, out, rows, inner, tables, table, weights, begin, keys):
    """Row r times a matrix [keys, inner] of `weights`, from `begin` on in panels: four rows at a time where there are as many."""
    zero = rest(memory)
    W = count(zero)
    for p in range((inner + W - 1) // W):
        panel, o, n = begin + p * keys * W, out + p * W, inner - p * W
        r = 0
        while r + 4 <= rows:
            a, b, c, d = (get(tables, table + r), get(tables, table + r + 1), get(tables, table + r + 2), get(tables, table + r + 3))
            x, y, z, w = zero, zero, zero, zero
            for k in range(keys):
                v = load(zero, weights, panel + k * W)
                x = x + v * get(memory, a + k)
                y = y + v * get(memory, b + k)
                z = z + v * get(memory, c + k)
                w = w + v * get(memory, d + k)
            store_first(memory, o + r * inner, x, n)
            store_first(memory, o + (r + 1) * inner, y, n)
            store_first(memory, o + (r + 2) * inner, z, n)
            store_first(memory, o + (r + 3) * inner, w, n)
            r += 4
        while r < rows:
            a, x = get(tables, table + r), zero
            for k in range(keys):
                x = x + load(zero, weights, panel + k * W) * get(memory, a + k)
            store_first(memory, o + r * inner, x, n)
            r += 1


@compiled
def product(memory, out, rows, keys, inner, tables, table):
    """[rows, keys] times [keys, inner], both rows in memory: the left ones come first in the table."""
    zero = rest(memory)
    for r in range(rows):
        a = get(tables, table + r)
        for j in range(0, inner, count(zero)):
            x = zero
            for k in range(keys):
                x = x + load_first(zero, memory, get(tables, table + rows + k) + j, inner - j) * get(memory, a + k)
            store_first(memory, out + r * inner + j, x, inner - j)


@compiled
def dots(memory, out, rows, keys, inner, tables, table):
    """As `product`, the right one given by its columns."""
    zero = rest(memory)
    for r in range(rows):
        a = get(tables, table + r)
        for j in range(inner):
            b, s = get(tables, table + rows + j), zero
            for k in range(0, keys, count(zero)):
                s = s + load_first(zero, memory, a + k, keys - k) * load_first(zero, memory, b + k, keys - k)
            memory[out + r * inner + j] = total(s)
