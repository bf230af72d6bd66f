"""Rows become columns: squares of SQUARE numbers by shuffles in registers, what is left over number by number.

    transpose(source, at, stride, rows, columns, into, to, width)      into[to + n width + m] = source[at + m stride + n]

`transpose_squares` is that for scratch, which is padded to whole squares; `transposed` is a tile in registers.
"""

from __future__ import annotations

from numba.extending import intrinsic

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.lanes import ZERO, fill
from separatrix.recurrence.kernels.tile import load_rows, store_rows, tile
from separatrix.recurrence.kernels.vectors import pick

SQUARE = 8


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
def transposed(typingctx, rows):
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
def transpose_squares(source, at, stride, rows, columns, into, width):
    """into [columns, width] = source[at :] [rows, stride] transposed; rows and columns count up to whole squares."""
    square = tile(SQUARE, fill(SQUARE, ZERO))
    for i in range(0, rows, SQUARE):
        for j in range(0, columns, SQUARE):
            store_rows(into, j * width + i, width, transposed(load_rows(square, source, at + i * stride + j, stride)))


@compiled
def transpose(source, at, stride, rows, columns, into, to, width):
    """into[to + n width + m] = source[at + m stride + n] for m < rows, n < columns, and nothing else is read or written."""
    square = tile(SQUARE, fill(SQUARE, ZERO))
    for m in range(0, rows, SQUARE):
        for n in range(0, columns, SQUARE):
            if m + SQUARE <= rows and n + SQUARE <= columns:
                store_rows(into, to + n * width + m, width, transposed(load_rows(square, source, at + m * stride + n, stride)))
            else:
                for row in range(m, min(m + SQUARE, rows)):
                    for column in range(n, min(n + SQUARE, columns)):
                        into[to + column * width + row] = source[at + row * stride + column]
