"""A program (`kernels/instructions.py`) in the making, laid out in one memory.

A tensor is known here by where its numbers are: a float64 tensor of addresses in the shape of the tensor it stands for, complex128 where
that is complex (the address of the real part + i that of the imaginary part). So everything that only moves numbers about (views, slices,
concatenation, real and imaginary parts) is done by torch itself on the addresses, now, and costs nothing when the program runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from separatrix.recurrence.kernels import instructions as machine
from separatrix.recurrence.kernels.lanes import WIDTH

CONSTANT = 2**40  # addresses from here on are those of constants, which get a place in memory when an instruction reads them
SUMS = {machine.ADD: machine.ADD_PRODUCTS, machine.SUBTRACT: machine.SUBTRACT_PRODUCTS}
LINE = 16  # numbers; every block begins on a cache line
SHORT = 8  # rows shorter than this are worth copying behind one another


class Assembler:
    """A program in the making: its instructions and what its memory holds at the start."""

    def __init__(self, dtype: torch.dtype):
        self.precision = dtype
        self.dtype = {torch.float32: np.float32, torch.float64: np.float64}[dtype]
        self.lanes = WIDTH * 4 // np.dtype(self.dtype).itemsize
        self.size = 0
        self.blocks: list[tuple[int, int]] = []
        self.constants: list[np.ndarray] = []
        self.starts = [CONSTANT]
        self.numbers: dict[float, Tensor] = {}
        self.code: list[tuple[int, ...]] = []
        self.tables: list[np.ndarray] = []
        self.products: dict[int, tuple[Tensor, Tensor, Tensor]] = {}  # a, b, and a b, by where it begins
        self.panels: list[np.ndarray] = []
        self.packed = 0

    # -- memory ------------------------------------------------------------------------------------------------------------------------

    def reserve(self, shape: Sequence[int]) -> Tensor:
        """Room for a real tensor."""
        start, n = self.size, prod(shape)
        self.blocks.append((start, n))
        self.size += n + 1  # a gap, so that nobody takes two blocks for one row
        return torch.arange(start, start + n, dtype=torch.float64).reshape(tuple(shape))

    def constant(self, value: Tensor) -> Tensor:
        """Numbers that are there before the program starts."""
        if value.is_complex():
            return torch.complex(self.constant(value.real), self.constant(value.imag))
        numbers = value.detach().numpy().astype(self.dtype).ravel()
        self.constants.append(np.pad(numbers, (0, 1)))  # a gap, as in `reserve`
        self.starts.append(self.starts[-1] + len(numbers) + 1)
        return torch.arange(self.starts[-2], self.starts[-1] - 1, dtype=torch.float64).reshape(value.shape)

    def number(self, value: float) -> Tensor:
        if value not in self.numbers:
            self.numbers[value] = self.constant(torch.tensor(float(value), dtype=torch.float64))
        return self.numbers[value]

    def known(self, a: Tensor) -> Tensor | None:
        """The numbers at these addresses, if all are constant."""
        if a.numel() == 0 or not bool((a >= CONSTANT).all()):
            return None
        first, last = np.searchsorted(self.starts, [float(a.min()), float(a.max())], side="right") - 1
        numbers = np.concatenate(self.constants[first : last + 1])  # of all constants only those it lies in
        return torch.from_numpy(numbers[address_list(a) - self.starts[first]]).reshape(a.shape)

    # -- instructions ------------------------------------------------------------------------------------------------------------------

    def emit(self, operation: int, out: Tensor, rows: int, inner: int, table: np.ndarray, flags: int = 0, extra: int = 0) -> Tensor:
        self.code.append((operation, int(out.flatten()[0]), rows, inner, flags, extra))
        self.tables.append(np.ascontiguousarray(table, np.int64).ravel())
        return out

    def pointwise(self, operation: int, *operands: Tensor) -> Tensor:
        """f(a, b, ...) on real tensors that broadcast."""
        if operation in SUMS and (factors := [self.factors(a) for a in operands]) != [None, None]:
            one = self.number(1.0)
            return self.pointwise(SUMS[operation], *(x for a, ab in zip(operands, factors) for x in (ab or (a, one))))
        out = self.reserve(torch.broadcast_shapes(*(a.shape for a in operands)))
        if out.numel() == 0:
            return out
        apart = [a.broadcast_to(out.shape) for a in operands]
        read = [address_list(a) for a in apart]
        inner = row_length(out.shape, read)
        if inner < min(SHORT, out.numel()):
            if order := as_they_lie(apart, inner):
                out = self.pointwise(operation, *(a.permute(order) for a in apart)).permute(np.argsort(order).tolist())
                return self.multiplied(out, apart) if operation == machine.MULTIPLY else out
            near = [a if row_length(out.shape, [address_list(a)]) >= SHORT else self.gathered(a) for a in apart]
            read = [address_list(a) for a in near]
            inner = row_length(out.shape, read)
        rows = [a.reshape(-1, inner) for a in read]
        flags = sum(1 << p for p, a in enumerate(rows) if inner > 1 and (a[:, 0] == a[:, 1]).all())
        if operation == machine.MULTIPLY:
            self.multiplied(out, apart)
        return self.emit(operation, out, len(rows[0]), inner, np.stack([a[:, 0] for a in rows]), flags)

    def multiplied(self, out: Tensor, factors: Sequence[Tensor]) -> Tensor:
        self.products[int(out.flatten()[0])] = (factors[0], factors[1], out)
        return out

    def factors(self, a: Tensor) -> tuple[Tensor, Tensor] | None:
        """The a and b whose product this is, the whole of it; if nobody else reads it, it is not computed."""
        found = self.products.get(int(a.flatten()[0])) if a.numel() else None
        return found[:2] if found and torch.equal(found[2], a) else None

    def gathered(self, a: Tensor) -> Tensor:
        """A copy whose numbers lie behind one another, in order."""
        out, read = self.reserve(a.shape), address_list(a)
        if out.numel() == 0:
            return out
        inner = row_length(a.shape, [read])
        if inner >= SHORT:
            rows = read.reshape(-1, inner)
            return self.emit(machine.COPY, out, len(rows), inner, rows[:, 0], int((rows[:, 0] == rows[:, 1]).all()))
        first = np.flatnonzero(np.diff(read, prepend=read[0] - 2) != 1)
        if len(read) >= SHORT * len(first):
            last = read[np.append(first[1:], len(read)) - 1]
            return self.emit(machine.RUNS, out, len(first), out.numel(), np.concatenate([read[first], last]))
        return self.emit(machine.GATHER, out, 1, out.numel(), read)

    def parted(self, pairs: Tensor) -> Tensor:
        """The complex numbers that lie in one block of pairs [..., 2], as in a tensor of torch; the parts in blocks of their own."""

        def part(a: Tensor) -> Tensor:
            out = self.reserve(a.shape)
            return self.emit(machine.EVERY_OTHER, out, 1, out.numel(), address_list(a)[:1]) if out.numel() else out

        return torch.complex(*map(part, pairs.unbind(-1)))

    def paired(self, a: Tensor) -> Tensor:
        """The other way."""
        out = self.reserve((*a.shape, 2))
        parts = [part if (np.diff(address_list(part)) == 1).all() else self.gathered(part) for part in (a.real, a.imag)]
        if out.numel():
            self.emit(machine.IN_TURN, out, 1, a.numel(), np.concatenate([address_list(part)[:1] for part in parts]))
        return out

    def settled(self, a: Tensor, beyond: int) -> Tensor:
        """The same real numbers behind one another at addresses from `beyond` on."""
        there = address_list(a)
        return a if (np.diff(there) == 1).all() and (there >= beyond).all() and (there < CONSTANT).all() else self.gathered(a)

    def in_rows(self, a: Tensor) -> Tensor:
        """The same numbers with the last axis contiguous: as they lie, or copied."""
        return a if a.shape[-1] <= 1 or bool((a.diff(dim=-1) == 1).all()) else self.gathered(a)

    def summed(self, a: Tensor, axes: Sequence[int]) -> Tensor:
        """The sum over some axes, which go."""
        kept = [i for i in range(a.ndim) if i not in axes]
        shape = [a.shape[i] for i in kept]
        if prod(shape) == 0:
            return self.reserve(shape)
        added = prod(a.shape[i] for i in axes)
        rows = a.permute([*kept, *axes]).reshape(prod(shape), added)
        if rows.shape[0] > 1 and added and contiguous_below(rows, inner := shape[-1]):  # sums of rows that lie as they are wanted
            starts = address_list(rows).reshape(-1, inner, added)[:, 0]
            return self.emit(machine.SUM_ROWS, self.reserve(shape), len(starts), inner, starts, 0, added)
        rows = self.in_rows(rows)
        starts = address_list(rows[:, 0]) if added else np.zeros(len(rows), np.int64)
        return self.emit(machine.SUM, self.reserve(shape), len(rows), added, starts)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """[M, K] times [K, N], both in memory."""
        out = self.reserve((a.shape[0], b.shape[1]))
        if out.numel() == 0:
            return out
        a = self.in_rows(a)
        if b.shape[0] > 1 and bool((b.diff(dim=0) == 1).all()):
            starts = np.concatenate([address_list(a[:, :1]), address_list(b[:1])])
            return self.emit(machine.DOTS, out, a.shape[0], b.shape[1], starts, 0, a.shape[1])
        b = self.in_rows(b)
        starts = np.concatenate([address_list(a[:, :1]), address_list(b[:, :1])])
        return self.emit(machine.PRODUCT, out, a.shape[0], b.shape[1], starts, 0, a.shape[1])

    def weighted(self, a: Tensor, matrix: Tensor) -> Tensor:
        """[M, K] times a constant [K, N], packed in panels."""
        K, N = matrix.shape
        out = self.reserve((a.shape[0], N))
        if out.numel() == 0:
            return out
        wide = -(-N // self.lanes) * self.lanes
        padded = torch.nn.functional.pad(matrix, (0, wide - N)).numpy()
        begin, self.packed = self.packed, self.packed + padded.size
        self.panels.append(padded.reshape(K, -1, self.lanes).transpose(1, 0, 2).ravel())
        return self.emit(machine.WEIGHTED, out, a.shape[0], N, address_list(self.in_rows(a)[:, :1]), begin, K)

    # -- the result --------------------------------------------------------------------------------------------------------------------

    def assemble(self, kept: Sequence[int]) -> Assembled:
        """What the kernel takes. Blocks share memory when one is read for the last time before the other is written.

        kept  where blocks begin that nothing else may lie on: inputs and outputs.
        """
        starts = np.array([start for start, _ in self.blocks])

        def block_of(addresses: Any) -> Any:
            return np.searchsorted(starts, addresses, side="right") - 1

        written = [int(block_of(out)) for _, out, *_ in self.code]
        read = [np.unique(block_of(table[table < CONSTANT])) for table in self.tables]
        last = dict.fromkeys(block_of(kept).tolist(), len(self.code))
        alive = []
        for i in reversed(range(len(self.code))):
            if written[i] in last:  # else nobody wants it
                alive.append(i)
                for block in read[i].tolist():
                    last.setdefault(block, i)
        alive.reverse()
        places, used = self.share(last, {written[i]: i for i in alive})
        moves = places - starts
        tables = np.concatenate([np.empty(0, np.int64), *(self.tables[i] for i in alive)])
        mine = tables < CONSTANT
        tables[mine] += moves[block_of(tables[mine])]
        which = np.searchsorted(self.starts, tables, side="right") - 1
        constants = [np.empty(0, self.dtype)]
        for c in np.unique(which[which >= 0]).tolist():
            tables[which == c] += used - self.starts[c]
            constants.append(self.constants[c])
            used += len(self.constants[c])
        code, entry = [], 0
        for i in alive:
            operation, out, rows, inner, flags, extra = self.code[i]
            code.append((operation, out + moves[written[i]], rows, inner, entry, flags, extra))
            entry += len(self.tables[i])
        memory = np.zeros(used, self.dtype)
        memory[used - sum(map(len, constants)) :] = np.concatenate(constants)
        return Assembled(
            np.array(code, np.int64).ravel(), tables, memory, np.concatenate([memory[:0], *self.panels]),
            [int(address + moves[block_of(address)]) for address in kept],
        )  # fmt: skip

    def share(self, last: dict[int, int], first: dict[int, int]) -> tuple[np.ndarray, int]:
        """A place for every block that is used, and the end of the last: each takes the first gap it fits in while it is alive."""
        places = np.zeros(len(self.blocks), np.int64)
        taken: list[tuple[int, int, int]] = []  # (place, end, last instruction that reads it)
        end = 0
        for block, begin in sorted(((block, first.get(block, -1)) for block in last), key=lambda pair: pair[1]):
            taken = sorted(held for held in taken if held[2] >= begin)
            size = -(-self.blocks[block][1] // LINE) * LINE
            gap = 0
            for place, stop, _ in taken:
                if place - gap >= size:
                    break
                gap = max(gap, stop)
            places[block] = gap
            taken.append((gap, gap + size, last[block]))
            end = max(end, gap + size)
        return places, end


class Assembled(NamedTuple):
    """See `kernels/instructions.py`; `kept` is where the blocks lie that were to be kept."""

    code: np.ndarray
    tables: np.ndarray
    memory: np.ndarray
    weights: np.ndarray
    kept: list[int]


def address_list(addresses: Tensor) -> np.ndarray:
    return addresses.numpy().astype(np.int64).ravel()


def row_length(shape: Sequence[int], operands: Sequence[np.ndarray]) -> int:
    """The longest n such that each of the operands, all of one shape, is made of rows of n that go on by one address or stay at one."""
    n = 1
    for size in (prod(shape[axis:]) for axis in reversed(range(len(shape)))):
        if size > n and not all(steady(a.reshape(-1, size)) for a in operands):
            break
        n = max(n, size)
    return n


def as_they_lie(operands: Sequence[Tensor], inner: int) -> list[int] | None:
    """The order of axes in which the first operand that is no broadcast lies in memory, where that makes rows longer than `inner`."""
    for a in operands:
        strides = [int(a.select(i, 1).flatten()[0] - a.flatten()[0]) if n > 1 else 0 for i, n in enumerate(a.shape)]
        if all(stride > 0 for stride, n in zip(strides, a.shape) if n > 1):
            order = sorted(range(a.ndim), key=lambda i: -strides[i])
            longer = row_length([a.shape[i] for i in order], [address_list(b.permute(order)) for b in operands]) > inner
            return order if longer and order != list(range(a.ndim)) else None
    return None


def steady(rows: np.ndarray) -> bool:
    steps = np.diff(rows, axis=1)
    return bool((steps == 1).all() or (steps == 0).all())


def contiguous_below(rows: Tensor, inner: int) -> bool:
    """Whether the sums [..., inner], one a row, add numbers that lie side by side: in runs worth a loop."""
    if inner < SHORT:
        return False
    block = rows.reshape(-1, inner, rows.shape[1])
    return bool((block.diff(dim=1) == 1).all())
