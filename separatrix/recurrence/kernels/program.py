"""The interpreter of `instructions`, as one kernel.

Dispatching an instruction takes some nanoseconds, where a call of torch takes microseconds: what a network's step of one token mostly
consists of. Here are the loop and what moves, adds up and multiplies rows; `pointwise` has the rest.
"""

from __future__ import annotations

from separatrix.recurrence.kernels.across import total
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.instructions import (
    ADD,
    EVERY_OTHER,
    GATHER,
    IN_TURN,
    PRODUCT,
    RUNS,
    SUBTRACT_PRODUCTS,
    SUM,
    SUM_ROWS,
    WEIGHTED,
    WHERE,
    WORDS,
)
from separatrix.recurrence.kernels.lanes import count, get, load, load_first, rest, store_first
from separatrix.recurrence.kernels.pairs import pairs_high, pairs_low, real_part
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.pointwise import choice, one_operand, two_operands, two_products


@shared
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
            elif operation == EVERY_OTHER:
                every_other(memory, out, inner, get(tables, table))
            elif operation == IN_TURN:
                in_turn(memory, out, inner, get(tables, table), get(tables, table + 1))
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
def every_other(memory, out, inner, a):
    zero = rest(memory)
    W = count(zero)
    for j in range(0, inner, W):
        at, n = a + 2 * j, 2 * (inner - j) - 1
        store_first(memory, out + j, real_part(load_first(zero, memory, at, n), load_first(zero, memory, at + W, n - W)), inner - j)


@compiled
def in_turn(memory, out, inner, a, b):
    zero = rest(memory)
    W = count(zero)
    for j in range(0, inner, W):
        at, n = out + 2 * j, inner - j
        x, y = load_first(zero, memory, a + j, n), load_first(zero, memory, b + j, n)
        store_first(memory, at, pairs_low(x, y), 2 * n)
        store_first(memory, at + W, pairs_high(x, y), 2 * n - W)


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
