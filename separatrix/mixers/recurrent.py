"""LSTM and GRU, the baselines: recurrences that are not linear in their state.

The kernels are torch's, but for what `cell_scan` does better on a CPU: a GRU while its weights stay in the cache, and both where a graph is
made of a call, since torch's would be written out step by step there. A layer adds what every mixer promises: batch first, a state that is
a value, resets inside the sequence (for torch's kernels it is cut where any row resets), and float32 under autocast. Parameters are named
as in torch.nn. There is no `transition`: the Jacobian of a gated cell depends on the state it is at.

Paper    Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735 (LSTM); Cho et al. 2014, arXiv:1406.1078 (GRU).
Cost     O(T D²), one step after another; the state is [batch, d_model], twice for the LSTM.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from separatrix.mixers.door import expect_input, parts
from separatrix.recurrence import GRU as GRUCell
from separatrix.recurrence import LSTM as LSTMCell
from separatrix.recurrence import State, cell_scan
from separatrix.recurrence.autocast import full_precision
from separatrix.recurrence.checks import expect_count

# Weights of more numbers than this leave the cache between steps; then torch's products over the whole batch are as good as our kernel.
CACHED = 2**18

WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")

Carried = tuple[Tensor, ...]  # h, or h and c, each [B, D]


class GatedCells(nn.Module, ABC):
    """One layer of cells whose gates hear the input and the state, every parameter uniform in +-1/sqrt(d_model), as torch has them.

    W, U [gates D, D], b, d [gates D]    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0
    """

    def __init__(self, d_model: int, gates: int, generator: Generator | None):
        super().__init__()
        self.size = d_model
        for name in WEIGHTS:
            shape = (gates * d_model, d_model) if name.startswith("weight") else (gates * d_model,)
            values = torch.empty(shape).uniform_(-(d_model**-0.5), d_model**-0.5, generator=generator)
            self.register_parameter(name, nn.Parameter(values))

    @property
    def weights(self) -> list[Tensor]:
        return [getattr(self, name) for name in WEIGHTS]  # by name: one may be parametrized

    @abstractmethod
    def scan(self, x: Tensor, carried: Carried, reset: Tensor | None) -> tuple[Tensor, Carried]:
        """Along x by `cell_scan`, whose inputs are all that comes from outside: W x + b, and the biases that are only added to it."""

    @abstractmethod
    def advance(self, x: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        """Along x, at least one step, by torch."""

    def scans(self, x: Tensor) -> bool:
        """Whether `scan` takes these steps, or torch."""
        return x.is_cpu and x.dtype is torch.float32 and torch.compiler.is_compiling()

    def forward(self, x: Tensor, carried: Carried, reset: Tensor | None) -> tuple[Tensor, Carried]:
        """The cells along x, cleared at the resets.    x [B, T, D]"""
        if self.scans(x):
            return self.scan(x, carried, reset)
        T = x.shape[1]
        cuts: list[int] = [] if reset is None or T == 0 else [int(t) for t in reset.any(0).nonzero()]
        outputs = []
        for begin, end in zip([0, *cuts], [*cuts, T]):
            if reset is not None and begin in cuts:
                carried = tuple(part.masked_fill(reset[:, begin, None], 0) for part in carried)
            if begin < end:
                y, carried = self.advance(x[:, begin:end], carried)
                outputs.append(y)
        return (torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0] if outputs else x), carried


class LSTMCells(GatedCells):
    def scan(self, x: Tensor, carried: Carried, reset: Tensor | None) -> tuple[Tensor, Carried]:
        W, U, b, d = self.weights
        states, final = cell_scan(LSTMCell(U), F.linear(x, W, b + d), torch.cat(carried, dim=1), reset)
        h, c = final.chunk(2, dim=1)
        return states[..., : self.size], (h.clone(), c.clone())

    def advance(self, x: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        if x.shape[1] == 1:  # torch's fused LSTM packs its weights anew at every call: ten times the price of the step itself
            h, c = torch.lstm_cell(x[:, 0], carried, *self.weights)
            return h.unsqueeze(1), (h, c)
        before = [part.unsqueeze(0).contiguous() for part in carried]
        y, h, c = torch.lstm(x, before, self.weights, True, 1, 0.0, self.training, False, True)
        return y, (h.squeeze(0), c.squeeze(0))


class GRUCells(GatedCells):
    def scans(self, x: Tensor) -> bool:
        return super().scans(x) or (x.is_cpu and x.dtype is torch.float32 and x.shape[1] > 1 and self.weights[1].numel() <= CACHED)

    def scan(self, x: Tensor, carried: Carried, reset: Tensor | None) -> tuple[Tensor, Carried]:
        W, U, b, d = self.weights
        gates, proposal = d.split([2 * self.size, self.size])
        y, h = cell_scan(GRUCell(U, proposal), F.linear(x, W, b + F.pad(gates, (0, self.size))), carried[0], reset)
        return y, (h,)

    def advance(self, x: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        y, h = torch.gru(x, carried[0].unsqueeze(0).contiguous(), self.weights, True, 1, 0.0, self.training, False, True)
        return y, (h.squeeze(0),)


def along(cells: GatedCells, x: Tensor, carried: tuple[Tensor | None, ...], reset: Tensor | None) -> tuple[Tensor, Carried]:
    """From rest where nothing is carried. A state must not be rounded because the layer around it is under autocast."""
    like = cells.weights[0]
    begun = tuple(like.new_zeros(x.shape[0], cells.size) if part is None else part.to(like.dtype) for part in carried)
    return full_precision(cells, x.to(like.dtype), begun, reset)


class LSTM(nn.Module):
    """Long short-term memory: a gated cell with a memory beside its output.    x [B, T, D] -> y [B, T, D], h, c [B, D]

        c_t = σ(f_t) c_{t-1} + σ(i_t) tanh(g_t),  h_t = σ(o_t) tanh(c_t),  (i, f, g, o)_t = W x_t + U h_{t-1} + b,  y = h

    Paper    Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735.

    d_model  D, channels in, cells and channels out.
    """

    def __init__(self, d_model: int, *, generator: Generator | None = None):
        super().__init__()
        self.d_model = expect_count("d_model", d_model)
        self.cells = LSTMCells(d_model, 4, generator)

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        expect_input(x, self.d_model, self.cells.weights[0], reset)
        y, (h, c) = along(self.cells, x, parts(state, x.shape[0], h=(self.d_model,), c=(self.d_model,)), reset)
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
        self.cells = GRUCells(d_model, 3, generator)

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        expect_input(x, self.d_model, self.cells.weights[0], reset)
        y, (h,) = along(self.cells, x, parts(state, x.shape[0], h=(self.d_model,)), reset)
        return y, State(h=h)
