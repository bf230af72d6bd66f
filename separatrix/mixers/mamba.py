"""Mamba: a selective state space; the input chooses how long each state lasts.

    u = silu(conv(W_u x)),  z = W_z x,  (r, B, C) = W u,  Δ_t = softplus(W_Δ r_t + b)                              (1)
    h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t,  y_t = W_o [(C_t . h_t + D u_t) silu(z_t)]                             (2)

A large step forgets and writes, a small one skips the token. Parameters are named as in the published checkpoints.

Paper    Gu and Dao 2023, arXiv:2312.00752.
Cost     O(T expand D N); the state is [batch, expand D, N] and the convolution's last d_conv - 1 inputs.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from separatrix.mixers.convolution import ShortConvolution
from separatrix.mixers.door import expect_input, parts
from separatrix.mixers.initial import RecurrenceParameter, linear, step_bias
from separatrix.mixers.remembered import Remembered
from separatrix.recurrence import Diagonal, State, selective_scan
from separatrix.recurrence.checks import expect_count


class StepProjection(nn.Module):
    """W_Δ and b of (1). Not an nn.Linear: whoever re-initialises all of those would lose the step sizes.    r [..., rank] -> [..., E]"""

    def __init__(self, rank: int, channels: int, dt_range: tuple[float, float], generator: Generator | None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, rank).uniform_(-(rank**-0.5), rank**-0.5, generator=generator))
        self.bias = RecurrenceParameter(step_bias(channels, dt_range, generator))

    def forward(self, r: Tensor) -> Tensor:
        return F.linear(r, self.weight)  # the scan adds the bias, in float32


class Mamba(nn.Module):
    """Mamba: decay, input and output of a diagonal state chosen by the input.    x [B, T, D] -> y [B, T, D], h [B, E, N]

        h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t,  y_t = W_o [(C_t . h_t + D u_t) silu(z_t)],  u = silu(conv(W_u x))

    Paper    Gu and Dao 2023, arXiv:2312.00752.

    d_model   D, channels in and out.
    d_state   N, states of each inner channel.
    expand    inner channels E = expand D.
    d_conv    steps the short convolution sees.
    dt_rank   rank of the step projection; None for D / 16, rounded up.
    dt_range  shortest and longest step Δ at initialization; a state lasts about 1 / (Δ n) steps, n = 1 .. N.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 16,
        expand: int = 2,
        d_conv: int = 4,
        dt_rank: int | None = None,
        dt_range: tuple[float, float] = (1e-3, 1e-1),
        generator: Generator | None = None,
    ):
        super().__init__()
        inner = expect_count("expand", expand) * expect_count("d_model", d_model)
        rank = math.ceil(d_model / 16) if dt_rank is None else expect_count("dt_rank", dt_rank)
        self.d_model, self.d_state, self.d_inner, self.dt_rank = d_model, expect_count("d_state", d_state), inner, rank
        self.in_proj = linear(d_model, 2 * inner, generator=generator)
        self.conv1d = ShortConvolution(inner, d_conv, generator=generator)
        self.x_proj = linear(inner, rank + 2 * d_state, generator=generator)
        self.dt_proj = StepProjection(rank, inner, dt_range, generator)
        self.A_log = RecurrenceParameter(torch.arange(1.0, d_state + 1).log().repeat(inner, 1))
        self.D = RecurrenceParameter(torch.ones(inner))
        self.out_proj = linear(inner, d_model, generator=generator)
        self.remembered: Remembered[tuple[Tensor]] = Remembered()

    def rates(self) -> Tensor:
        """A, negative whatever its parameter is.    [E, N]"""
        return self.remembered(lambda: (-torch.exp(self.A_log),), self.A_log)[0]

    def select(self, x: Tensor, tail: Tensor | None, reset: Tensor | None) -> tuple[Tensor, ...]:
        """What x chooses; the step before its bias and softplus.    u, delta, z [B, T, E], B, C [B, T, N], tail [B, d_conv - 1, E]"""
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u, tail = self.conv1d(u, tail, reset)
        r, B, C = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return u, self.dt_proj(r), B, C, z, tail

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        expect_input(x, self.d_model, self.in_proj.weight, reset)
        h, tail = parts(state, x.shape[0], h=(self.d_inner, self.d_state), conv=self.conv1d.tail_shape)
        u, delta, B, C, z, tail = self.select(x, tail, reset)
        y, h = selective_scan(u, delta, self.rates(), B, C, self.D, z, self.dt_proj.bias, True, h, reset)
        return self.out_proj(y), State(h=h, conv=tail)

    def transition(self, x: Tensor, state: State | None = None) -> Diagonal:
        """exp(Δ_t A) of h; the convolution's tail is a window of the input and has none.    [B, T, E, N]"""
        expect_input(x, self.d_model, self.in_proj.weight)
        _, tail = parts(state, x.shape[0], h=(self.d_inner, self.d_state), conv=self.conv1d.tail_shape)
        delta = F.softplus(self.select(x, tail, None)[1].to(self.A_log.dtype) + self.dt_proj.bias)
        return Diagonal(torch.exp(delta[..., None] * self.rates()))
