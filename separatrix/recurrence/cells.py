"""Gated and simple recurrent cells, each with the structure of its Jacobian.

    Elman         h' = tanh(U h + x)                                                                    dense     (1)
    GRU           r, z = σ(U_r h + x_r), σ(U_z h + x_z),  n = tanh(x_n + r (U_n h + d)),  h' = z h + (1 - z) n  dense     (2)
    LSTM          i, f, o = σ(U h + x),  g = tanh(U_g h + x_g),  c' = f c + i g,  h' = o tanh(c')       dense     (3)
    DiagonalGRU   z, r = σ(A_z h + x_z), σ(A_r h + x_r),  n = tanh(A_n r h + x_n),  h' = (1 - z) h + z n   diagonal  (4)
    DiagonalLSTM  f = σ(A_f h + C_f c + x_f),  g = tanh(A_g h + x_g),  c' = f c + (1 - f) g,
                  o = σ(A_o h + C_o c' + x_o),  h' = o tanh(c')                                         blocks    (5)

x is what comes in, projected: W x_t + b, one part a gate in the order written here. (2) and (3) are torch's cells in torch's order, with
d its `bias_hn`. (4) and (5) have diagonal weights on the state, so their Jacobians are diagonal, or a 2 x 2 block a channel: channels
mix in the projections of the layers around them. In (5) input and forget gate are coupled and both gates look at the memory. The state of
an LSTM is h and then c.

Paper    Elman 1990, doi:10.1207/s15516709cog1402_1; Cho et al. 2014, arXiv:1406.1078; Hochreiter and Schmidhuber 1997,
         doi:10.1162/neco.1997.9.8.1735; Danieli et al. 2025 (ParaRNN), arXiv:2510.21450, for (4) and (5).
Departs  ParaRNN keeps c before h.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from separatrix.recurrence.blocks import DiagonalBlocks
from separatrix.recurrence.cell import Cell, Kernel, Operands, cell_scan_recurrent
from separatrix.recurrence.dense import Dense
from separatrix.recurrence.diagonal import Diagonal
from separatrix.recurrence.forcing import Forced
from separatrix.recurrence.fused import operators
from separatrix.recurrence.plan import recorded, single
from separatrix.recurrence.plrnn import PLRNN, DendriticPLRNN, ShallowPLRNN
from separatrix.recurrence.transition import Transition
from separatrix.recurrence.twins import twin


def gates(x: Tensor, count: int) -> tuple[Tensor, ...]:
    return x.unflatten(-1, (count, -1)).unbind(-2)


def rows(scale: Tensor, U: Tensor) -> Tensor:
    """diag(scale) U, a matrix for every step.   scale [..., N], U [N, N] -> [..., N, N]"""
    return scale.unsqueeze(-1) * U


def kernel_may_step(h: Tensor, x: Tensor, *parameters: Tensor) -> bool:
    """Whether the compiled cell may take this step: an x for every state, float32 on the CPU, and nothing that needs derivatives of it."""
    inputs = (h, x, *parameters)
    return h.shape[:-1] == x.shape[:-1] and not recorded(inputs) and single(inputs)


@dataclass(frozen=True)
class Elman(Cell):
    """h' = tanh(U h + x).   U [N, N]; x [..., N]

    Paper    Elman 1990, doi:10.1207/s15516709cog1402_1.
    """

    U: Tensor

    @property
    def size(self) -> int:
        return self.U.shape[1]

    @property
    def width(self) -> int:
        return self.U.shape[0]

    def operands(self) -> Operands:
        return Operands("elman", self.U)

    def step(self, h: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(h @ self.U.T + x)

    def linearize(self, h: Tensor, x: Tensor) -> tuple[Tensor, Transition]:
        new = self.step(h, x)
        return new, Dense(rows(1 - new * new, self.U))


@dataclass(frozen=True)
class GRU(Cell):
    """r, z = σ(U_r h + x_r), σ(U_z h + x_z),  n = tanh(x_n + r (U_n h + d)),  h' = z h + (1 - z) n.

    U [3 N, N] for r, z, n, d [N]; x [..., 3 N]. torch's cell in torch's order, d its `bias_hn`.

    Paper    Cho et al. 2014, arXiv:1406.1078.
    """

    U: Tensor
    d: Tensor

    @property
    def size(self) -> int:
        return self.U.shape[1]

    @property
    def width(self) -> int:
        return self.U.shape[0]

    def operands(self) -> Operands:
        return Operands("gru", self.U, vectors=(self.d,))

    def parts(self, h: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        (r, z, n), (from_r, from_z, m) = gates(x, 3), gates(h @ self.U.T, 3)
        r, z, m = torch.sigmoid(r + from_r), torch.sigmoid(z + from_z), m + self.d
        return r, z, m, torch.tanh(n + r * m)

    def step(self, h: Tensor, x: Tensor) -> Tensor:
        _, z, _, n = self.parts(h, x)
        return n + z * (h - n)

    def linearize(self, h: Tensor, x: Tensor) -> tuple[Tensor, Transition]:
        r, z, m, n = self.parts(h, x)
        U_r, U_z, U_n = self.U.unflatten(0, (3, -1))
        through = (1 - z) * (1 - n * n)
        jacobian = rows((h - n) * z * (1 - z), U_z) + rows(through * r, U_n) + rows(through * m * r * (1 - r), U_r) + torch.diag_embed(z)
        return n + z * (h - n), Dense(jacobian)


@dataclass(frozen=True)
class LSTM(Cell):
    """i, f, o = σ(U h + x),  g = tanh(U_g h + x_g),  c' = f c + i g,  h' = o tanh(c').

    U [4 N, N] for i, f, g, o; x [..., 4 N], state [..., 2 N]: h, then c. torch's cell in torch's order.

    Paper    Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735.
    """

    U: Tensor

    @property
    def size(self) -> int:
        return 2 * self.U.shape[1]

    @property
    def width(self) -> int:
        return self.U.shape[0]

    def operands(self) -> Operands:
        return Operands("lstm", self.U)

    def parts(self, state: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        h, c = state.chunk(2, dim=-1)
        i, f, g, o = gates(x + h @ self.U.T, 4)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        return i, f, g, o, c, f * c + i * g

    def step(self, state: Tensor, x: Tensor) -> Tensor:
        *_, o, _, c = self.parts(state, x)
        return torch.cat([o * c.tanh(), c], dim=-1)

    def linearize(self, state: Tensor, x: Tensor) -> tuple[Tensor, Transition]:
        i, f, g, o, before, c = self.parts(state, x)
        s = c.tanh()
        U_i, U_f, U_g, U_o = self.U.unflatten(0, (4, -1))
        c_by_h = rows(before * f * (1 - f), U_f) + rows(g * i * (1 - i), U_i) + rows(i * (1 - g * g), U_g)
        read = o * (1 - s * s)
        h_by_h = rows(s * o * (1 - o), U_o) + rows(read, c_by_h)
        left, right = torch.cat([h_by_h, c_by_h], dim=-2), torch.cat([torch.diag_embed(read * f), torch.diag_embed(f)], dim=-2)
        return torch.cat([o * s, c], dim=-1), Dense(torch.cat([left, right], dim=-1))


@dataclass(frozen=True)
class DiagonalGRU(Cell):
    """z, r = σ(A_z h + x_z), σ(A_r h + x_r),  n = tanh(A_n r h + x_n),  h' = (1 - z) h + z n, every A a diagonal.

    A [3, N] for z, r, n; x [..., 3 N].

    Paper    Danieli et al. 2025 (ParaRNN), arXiv:2510.21450.
    """

    A: Tensor

    @property
    def size(self) -> int:
        return self.A.shape[1]

    @property
    def width(self) -> int:
        return self.A.numel()

    def kernel(self) -> Kernel:
        return lambda x, state, reset: operators().diagonal_gru(x, self.A, state, reset)

    def parts(self, h: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z, r, n = gates(x, 3)
        z, r = torch.sigmoid(torch.addcmul(z, self.A[0], h)), torch.sigmoid(torch.addcmul(r, self.A[1], h))
        return z, r, torch.tanh(torch.addcmul(n, self.A[2], r * h))

    def step(self, h: Tensor, x: Tensor) -> Tensor:
        z, _, n = self.parts(h, x)
        return torch.addcmul(h, z, n - h)

    def linearize(self, h: Tensor, x: Tensor) -> tuple[Tensor, Transition]:
        if kernel_may_step(h, x, self.A):
            value, jacobian = operators().diagonal_gru_linearized(h, x, self.A)
            return value, Diagonal(jacobian)
        z, r, n = self.parts(h, x)
        gap, kept = n - h, 1 - z
        through = z * torch.addcmul(self.A[2], self.A[2] * n, n, value=-1)  # z (1 - n²) A_n
        by_n = torch.addcmul(r, self.A[1] * h, torch.addcmul(r, r, r, value=-1))  # r + h r (1 - r) A_r
        jacobian = kept * torch.addcmul(torch.ones_like(self.A[0]), z * self.A[0], gap) + through * by_n
        return torch.addcmul(h, z, gap), Diagonal(jacobian)


@dataclass(frozen=True)
class DiagonalLSTM(Cell):
    """f = σ(A_f h + C_f c + x_f),  g = tanh(A_g h + x_g),  c' = f c + (1 - f) g,  o = σ(A_o h + C_o c' + x_o),  h' = o tanh(c').

    A [3, N] for f, g, o, C [2, N] for f, o, all diagonals; x [..., 3 N], state [..., 2 N]: h, then c.

    Paper    Danieli et al. 2025 (ParaRNN), arXiv:2510.21450.
    """

    A: Tensor
    C: Tensor

    @property
    def size(self) -> int:
        return 2 * self.A.shape[1]

    @property
    def width(self) -> int:
        return self.A.numel()

    def kernel(self) -> Kernel:
        return lambda x, state, reset: operators().diagonal_lstm(x, self.A, self.C, state, reset)

    def parts(self, state: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        h, before = state.chunk(2, dim=-1)
        f, g, o = gates(x, 3)
        f, g = torch.sigmoid(self.A[0] * h + self.C[0] * before + f), torch.tanh(self.A[1] * h + g)
        c = g + f * (before - g)
        return f, g, torch.sigmoid(self.A[2] * h + self.C[1] * c + o), before, c

    def step(self, state: Tensor, x: Tensor) -> Tensor:
        *_, o, _, c = self.parts(state, x)
        return torch.cat([o * c.tanh(), c], dim=-1)

    def linearize(self, state: Tensor, x: Tensor) -> tuple[Tensor, Transition]:
        if kernel_may_step(state, x, self.A, self.C):
            value, jacobian = operators().diagonal_lstm_linearized(state, x, self.A, self.C)
            return value, DiagonalBlocks(jacobian)
        f, g, o, before, c = self.parts(state, x)
        s = c.tanh()
        forget = (before - g) * f * (1 - f)
        c_by_c = f + forget * self.C[0]
        c_by_h = forget * self.A[0] + (1 - f) * (1 - g * g) * self.A[1]
        gate = s * o * (1 - o)
        read = o * (1 - s * s) + gate * self.C[1]
        entries = [gate * self.A[2] + read * c_by_h, read * c_by_c, c_by_h, c_by_c]
        return torch.cat([o * s, c], dim=-1), DiagonalBlocks(torch.stack(entries, dim=-2).unflatten(-2, (2, 2)))


# What the kernels of cells compute: the loop.


@twin("diagonal_gru")
def diagonal_gru_in_torch(x: Tensor, A: Tensor, state: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    return cell_scan_recurrent(DiagonalGRU(A), x, state, reset)


@twin("diagonal_lstm")
def diagonal_lstm_in_torch(x: Tensor, A: Tensor, C: Tensor, state: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    return cell_scan_recurrent(DiagonalLSTM(A, C), x, state, reset)


@twin("dense_cell")
def dense_cell_in_torch(kind, x, W, V, vectors, slopes, shifts, linear, clipped, observed, state, reset) -> tuple[Tensor, Tensor]:
    """Of the cell whose `operands()` these are."""
    given: tuple[Tensor, ...] = () if vectors is None else vectors.unbind()
    cell: Cell
    if kind != "plrnn":
        cell = {"elman": Elman, "gru": GRU, "lstm": LSTM}[kind](W, *given)
    elif V is not None:
        assert shifts is not None
        cell = ShallowPLRNN(given[0], W, given[1], V, shifts[0], clipped)
    elif slopes is not None:
        assert shifts is not None
        cell = DendriticPLRNN(given[0], W, given[1], slopes, shifts.T, clipped)
    else:
        cell = PLRNN(given[0], W, given[1], linear)
    return cell_scan_recurrent(Forced(cell, observed) if observed else cell, x, state, reset)
