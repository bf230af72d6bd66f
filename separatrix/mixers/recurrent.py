"""LSTM and GRU, the baselines: recurrences that are not linear in their state.

torch.nn keeps the parameters and the kernels, but for a GRU on a CPU, where `cell_scan` is faster while the weights stay in the cache. A
layer here adds what every mixer promises: batch first, a state that is a value, resets inside the sequence (the sequence is cut where any
row resets), and float32 under autocast. There is no `transition`: the Jacobian of a gated cell depends on the state it is at.

Paper    Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735 (LSTM); Cho et al. 2014, arXiv:1406.1078 (GRU).
Cost     O(T D²), one step after another; the state is [batch, d_model], twice for the LSTM.
"""

from __future__ import annotations

from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from separatrix.mixers.door import expect_input, parts
from separatrix.recurrence import GRU as GRUCell
from separatrix.recurrence import State, cell_scan
from separatrix.recurrence.autocast import full_precision
from separatrix.recurrence.checks import expect_count

# Weights of more numbers than this leave the cache between steps; then torch's products over the whole batch are as good as our kernel.
CACHED = 2**18

Cells = TypeVar("Cells", nn.LSTM, nn.GRU)


def uniform_cells(kind: type[Cells], d_model: int, generator: Generator | None) -> Cells:
    """One layer of cells with every entry uniform in +-1/sqrt(d_model), as torch does."""
    cells = kind(d_model, d_model, batch_first=True, device="meta").to_empty(device=torch.get_default_device())
    for parameter in cells.parameters():
        nn.init.uniform_(parameter, -(d_model**-0.5), d_model**-0.5, generator=generator)
    return cells


def weight(cells: Cells) -> Tensor:
    return cast("Tensor", cells.weight_hh_l0)


def zero_state(cells: Cells, batch: int) -> Tensor:
    return weight(cells).new_zeros(batch, cells.hidden_size)


def advance(cells: Cells, x: Tensor, carried: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The cells along x, at least one step."""
    if isinstance(cells, nn.LSTM):
        if x.shape[1] == 1:  # torch's fused LSTM packs its weights anew at every call: ten times the price of the step itself
            weights = (cells.weight_ih_l0, cells.weight_hh_l0, cells.bias_ih_l0, cells.bias_hh_l0)
            h, c = torch.lstm_cell(x[:, 0], carried, *cast("tuple[Tensor, ...]", weights))
            return h.unsqueeze(1), (h, c)
        y, (h, c) = cells(x, (carried[0].unsqueeze(0).contiguous(), carried[1].unsqueeze(0).contiguous()))
        return y, (h.squeeze(0), c.squeeze(0))
    W, U, b, d = cast("tuple[Tensor, ...]", (cells.weight_ih_l0, cells.weight_hh_l0, cells.bias_ih_l0, cells.bias_hh_l0))
    if x.is_cpu and x.dtype is torch.float32 and x.shape[1] > 1 and U.numel() <= CACHED:
        gates, proposal = d.split([2 * cells.hidden_size, cells.hidden_size])
        y, h = cell_scan(GRUCell(U, proposal), F.linear(x, W, b + F.pad(gates, (0, cells.hidden_size))), carried[0])
        return y, (h,)
    y, h = cells(x, carried[0].unsqueeze(0).contiguous())
    return y, (h.squeeze(0),)


def run_cells(cells: Cells, x: Tensor, carried: tuple[Tensor, ...], reset: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The cells along x, cleared at the resets.    x [B, T, D], carried: (h,) or (h, c), each [B, D]"""
    T = x.shape[1]
    cuts: list[int] = [] if reset is None or T == 0 else [int(t) for t in reset.any(0).nonzero()]
    outputs = []
    for begin, end in zip([0, *cuts], [*cuts, T]):
        if reset is not None and begin in cuts:
            carried = tuple(part.masked_fill(reset[:, begin, None], 0) for part in carried)
        if begin < end:
            y, carried = advance(cells, x[:, begin:end], carried)
            outputs.append(y)
    return (torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0] if outputs else x), carried


def in_full_precision(cells: Cells, x: Tensor, carried: tuple[Tensor, ...], reset: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A state must not be rounded because the layer around it is under autocast."""
    dtype = weight(cells).dtype
    return full_precision(run_cells, cells, x.to(dtype), tuple(part.to(dtype) for part in carried), reset)


class LSTM(nn.Module):
    """Long short-term memory: a gated cell with a memory beside its output.    x [B, T, D] -> y [B, T, D], h, c [B, D]

        c_t = σ(f_t) c_{t-1} + σ(i_t) tanh(g_t),  h_t = σ(o_t) tanh(c_t),  (i, f, g, o)_t = W x_t + U h_{t-1} + b,  y = h

    Paper    Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735.

    d_model  D, channels in, cells and channels out.
    """

    def __init__(self, d_model: int, *, generator: Generator | None = None):
        super().__init__()
        self.d_model = expect_count("d_model", d_model)
        self.cells = uniform_cells(nn.LSTM, d_model, generator)

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        expect_input(x, self.d_model, weight(self.cells), reset)
        h, c = parts(state, x.shape[0], h=(self.d_model,), c=(self.d_model,))
        carried = tuple(zero_state(self.cells, x.shape[0]) if part is None else part for part in (h, c))
        y, (h, c) = in_full_precision(self.cells, x, carried, reset)
        return y, State(h=h, c=c)


class GRU(nn.Module):
    """Gated recurrent unit: a cell that interpolates between its state and a proposal.    x [B, T, D] -> y [B, T, D], h [B, D]

        h_t = σ(z_t) h_{t-1} + (1 - σ(z_t)) tanh(W x_t + b + σ(r_t) (U h_{t-1} + d)),  (z, r)_t = W' x_t + U' h_{t-1} + b',  y = h

    Paper    Cho et al. 2014, arXiv:1406.1078.

    d_model  D, channels in, cells and channels out.
    """

    def __init__(self, d_model: int, *, generator: Generator | None = None):
        super().__init__()
        self.d_model = expect_count("d_model", d_model)
        self.cells = uniform_cells(nn.GRU, d_model, generator)

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        expect_input(x, self.d_model, weight(self.cells), reset)
        (h,) = parts(state, x.shape[0], h=(self.d_model,))
        y, (h,) = in_full_precision(self.cells, x, (zero_state(self.cells, x.shape[0]) if h is None else h,), reset)
        return y, State(h=h)
