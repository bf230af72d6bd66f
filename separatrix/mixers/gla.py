"""Gated linear attention: a matrix state that fades along each key dimension as the input says.

    S_t = diag(exp g_t) S_{t-1} + k_t v_tᵀ,  o_t = S_tᵀ q_t / sqrt(K),  g_t = log sigmoid(W_2 W_1 x_t + b) / τ      (1)
    y_t = W_o [norm(o_t) silu(z_t)]                                                                                (2)

q, k, v, z and W_1 x are one matrix product. τ = 16 keeps decays near one when training begins.

Paper    Yang et al. 2023, arXiv:2312.06635.
Cost     O(T K V) a head; the state is [batch, heads, K, V].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from separatrix.mixers.door import expect_input, parts
from separatrix.mixers.initial import RecurrenceParameter, linear
from separatrix.mixers.norm import RMSNorm
from separatrix.mixers.settings import expect_divides
from separatrix.recurrence import Diagonal, State, linear_attention
from separatrix.recurrence.checks import expect_count, expect_positive


class GatedLinearAttention(nn.Module):
    """Gated linear attention: each key dimension of a matrix state fades at its own rate.    x [B, T, D] -> y [B, T, D], h [B, H, K, V]

        S_t = diag(exp g_t) S_{t-1} + k_t v_tᵀ,  o_t = S_tᵀ q_t / sqrt(K),  y = W_o [norm(o) silu(z)]

    Paper    Yang et al. 2023, arXiv:2312.06635.

    d_model    D, channels in and out.
    n_heads    H.
    expand_k   all heads' keys together have expand_k D dimensions.
    expand_v   all heads' values together have expand_v D dimensions.
    gate_rank  rank of the projection that sets the decays.
    slowness   τ; decays begin near exp(-0.7 / τ), a memory of about 1.4 τ steps.
    """

    def __init__(
        self,
        d_model: int,
        *,
        n_heads: int = 4,
        expand_k: float = 0.5,
        expand_v: float = 1.0,
        gate_rank: int = 16,
        slowness: float = 16.0,
        generator: Generator | None = None,
    ):
        super().__init__()
        self.d_model, self.slowness = expect_count("d_model", d_model), expect_positive("slowness", slowness)
        keys, values = (round(expect_positive(name, expand) * d_model) for name, expand in (("expand_k", expand_k), ("expand_v", expand_v)))
        self.d_key = expect_divides("n_heads", n_heads, "expand_k * d_model", keys)
        self.d_value = expect_divides("n_heads", n_heads, "expand_v * d_model", values)
        self.n_heads = n_heads
        self.widths = [keys, keys, values, values, expect_count("gate_rank", gate_rank)]
        self.in_proj = linear(d_model, sum(self.widths), generator=generator)
        self.decay_proj = linear(gate_rank, keys, generator=generator)
        self.decay_bias = RecurrenceParameter(torch.zeros(keys))
        self.norm = RMSNorm(self.d_value)
        self.out_proj = linear(values, d_model, generator=generator)

    def select(self, x: Tensor) -> tuple[Tensor, ...]:
        """q, k, log_decay [B, T, H, K], v, z [B, T, H, V]"""
        q, k, v, z, r = self.in_proj(x).split(self.widths, dim=-1)
        # float32 under autocast: rounding a log decay to bfloat16 is an error that a long memory adds up.
        log_decay = F.logsigmoid(self.decay_proj(r).to(self.decay_bias.dtype) + self.decay_bias) / self.slowness
        keys, values = (self.n_heads, self.d_key), (self.n_heads, self.d_value)
        return q.unflatten(-1, keys), k.unflatten(-1, keys), log_decay.unflatten(-1, keys), v.unflatten(-1, values), z.unflatten(-1, values)

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        expect_input(x, self.d_model, self.in_proj.weight, reset)
        (h,) = parts(state, x.shape[0], h=(self.n_heads, self.d_key, self.d_value))
        q, k, log_decay, v, z = self.select(x)
        o, h = linear_attention(q, k, v, log_decay, initial_state=h, reset=reset)
        return self.out_proj(self.norm(o.to(self.norm.weight.dtype), z).flatten(-2)), State(h=h)

    def transition(self, x: Tensor, state: State | None = None) -> Diagonal:
        """exp(g_t), on the key axis of the state.    [B, T, H, K]"""
        expect_input(x, self.d_model, self.in_proj.weight)
        return Diagonal(torch.exp(self.select(x)[2]))
