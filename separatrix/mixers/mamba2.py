"""Mamba-2: one decay a head, so that a chunk of the recurrence is a few matrix products.

    (z, xBC, Δ) = W_i x_in,  (x, B, C) = silu(conv(xBC)),  Δ_t = softplus(Δ_t + b)                                 (1)
    h_t = exp(Δ_t A) h_{t-1} + Δ_t x_t B_tᵀ,  y_t = W_o norm[(h_t C_t + D x_t) silu(z_t)]                          (2)

h is a matrix [d_head, d_state] a head; heads of one group share B and C and are normalised together. Parameters are named as in the
published checkpoints.

Paper    Dao and Gu 2024, arXiv:2405.21060.
Cost     O(T expand D N); the state is [batch, heads, d_head, d_state] and the convolution's last d_conv - 1 inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from separatrix.mixers.convolution import ShortConvolution
from separatrix.mixers.door import expect_input, parts
from separatrix.mixers.initial import RecurrenceParameter, decay_log, linear, step_bias
from separatrix.mixers.norm import RMSNorm
from separatrix.mixers.settings import expect_divides
from separatrix.recurrence import Scalar, State, ssd
from separatrix.recurrence.checks import expect_count


class Mamba2(nn.Module):
    """Mamba-2: a matrix state a head that fades by one number a step.    x [B, T, D] -> y [B, T, D], h [B, H, P, N]

        h_t = exp(Δ_t A) h_{t-1} + Δ_t x_t B_tᵀ,  y_t = W_o norm[(h_t C_t + D x_t) silu(z_t)],  (x, B, C) = silu(conv(W x_in))

    Paper    Dao and Gu 2024, arXiv:2405.21060.

    d_model   D, channels in and out.
    d_state   N, columns of the state of a head.
    d_head    P, inner channels of a head; expand D / P heads.
    expand    inner channels as a multiple of D.
    n_groups  groups of heads that share B and C and a norm.
    d_conv    steps the short convolution sees.
    dt_range  shortest and longest step Δ at initialization; a head's state lasts 1 / (Δ |A|) steps, |A| from 1 to 16.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 64,
        d_head: int = 64,
        expand: int = 2,
        n_groups: int = 1,
        d_conv: int = 4,
        dt_range: tuple[float, float] = (1e-3, 1e-1),
        generator: Generator | None = None,
    ):
        super().__init__()
        inner = expect_count("expand", expand) * expect_count("d_model", d_model)
        heads = expect_divides("d_head", d_head, "expand * d_model", inner)
        expect_divides("n_groups", n_groups, "the number of heads", heads)
        self.d_model, self.d_state, self.d_inner, self.d_head = d_model, expect_count("d_state", d_state), inner, d_head
        self.n_heads, self.n_groups = heads, n_groups
        convolved = inner + 2 * n_groups * d_state
        self.in_proj = linear(d_model, inner + convolved + heads, generator=generator)
        self.conv1d = ShortConvolution(convolved, d_conv, generator=generator)
        self.dt_bias = RecurrenceParameter(step_bias(heads, dt_range, generator))
        self.A_log = RecurrenceParameter(decay_log(heads, generator))
        self.D = RecurrenceParameter(torch.ones(heads))
        self.norm = RMSNorm(inner, groups=n_groups)
        self.out_proj = linear(inner, d_model, generator=generator)

    def select(self, x: Tensor, tail: Tensor | None, reset: Tensor | None) -> tuple[Tensor, ...]:
        """What x chooses, Δ before bias and softplus.    x, z [B, T, H, P], dt [B, T, H], B, C [B, T, G, N], tail [B, d_conv - 1, :]"""
        shared = self.n_groups * self.d_state
        z, xBC, dt = self.in_proj(x).split([self.d_inner, self.d_inner + 2 * shared, self.n_heads], dim=-1)
        xBC, tail = self.conv1d(xBC, tail, reset)
        x, B, C = xBC.split([self.d_inner, shared, shared], dim=-1)
        heads, groups = (self.n_heads, self.d_head), (self.n_groups, self.d_state)
        return x.unflatten(-1, heads), dt, B.unflatten(-1, groups), C.unflatten(-1, groups), z.unflatten(-1, heads), tail

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        expect_input(x, self.d_model, self.in_proj.weight, reset)
        h, tail = parts(state, x.shape[0], h=(self.n_heads, self.d_head, self.d_state), conv=self.conv1d.tail_shape)
        u, dt, B, C, z, tail = self.select(x, tail, reset)
        y, h = ssd(u, dt, -torch.exp(self.A_log), B, C, self.D, z, self.dt_bias, True, h, reset)
        return self.out_proj(self.norm(y.flatten(-2).to(self.norm.weight.dtype))), State(h=h, conv=tail)

    def transition(self, x: Tensor, state: State | None = None) -> Scalar:
        """exp(Δ_t A) of h; the convolution's tail is a window of the input and has none.    [B, T, H]"""
        expect_input(x, self.d_model, self.in_proj.weight)
        _, tail = parts(state, x.shape[0], h=(self.n_heads, self.d_head, self.d_state), conv=self.conv1d.tail_shape)
        dt = F.softplus(self.select(x, tail, None)[1].to(self.A_log.dtype) + self.dt_bias)
        return Scalar(torch.exp(dt * -torch.exp(self.A_log)), self.d_state)
