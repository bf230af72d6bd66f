"""DeltaNet and Gated DeltaNet: a matrix state that is corrected instead of added to.

    S_t = exp(g_t) (I - β_t k_t k_tᵀ) S_{t-1} + β_t k_t v_tᵀ,  o_t = S_tᵀ q_t / sqrt(K),  |q_t| = |k_t| = 1         (1)

β in (0, 1) erases part of what the state holds along k before it writes; β in (0, 2) may also reflect it (eigenvalue 1 - β < 0), and
reflections are what lets the layer count. g = 0 is DeltaNet; g_t = -exp(a) softplus(w.x_t + b) with an output gate is Gated DeltaNet.

Paper    Yang et al. 2024, arXiv:2406.06484; Yang et al. 2024, arXiv:2412.06464 (gated); Grazzi et al. 2024, arXiv:2411.12537 (β up to 2).
Cost     O(T K V) a head; the state is [batch, heads, K, V] and the convolution's last d_conv - 1 inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from separatrix.mixers.convolution import ShortConvolution
from separatrix.mixers.door import expect_input, parts
from separatrix.mixers.initial import RecurrenceParameter, decay_log, linear, step_bias
from separatrix.mixers.norm import RMSNorm
from separatrix.mixers.settings import expect_divides, expect_flag
from separatrix.recurrence import Householder, State, delta_rule
from separatrix.recurrence.checks import expect_count, expect_positive


class DeltaNet(nn.Module):
    """DeltaNet: erase what the state holds under a key, then write.    x [B, T, D] -> y [B, T, D], h [B, H, K, V]

        S_t = (I - β_t k_t k_tᵀ) S_{t-1} + β_t k_t v_tᵀ,  o_t = S_tᵀ q_t / sqrt(K),  |q_t| = |k_t| = 1,  y = W_o norm(o)

    Paper    Yang et al. 2024, arXiv:2406.06484; Grazzi et al. 2024, arXiv:2411.12537 (negative eigenvalues).

    d_model               D, channels in and out.
    n_heads               H.
    d_head                K, dimensions of a head's key; None for D / H.
    expand_v              a head's value has V = expand_v K dimensions.
    d_conv                steps the short convolution sees.
    gated                 whether the state also fades and the output has a gate (`GatedDeltaNet` says how).
    negative_eigenvalues  β in (0, 2) instead of (0, 1): eigenvalues in [-1, 1].
    """

    def __init__(
        self,
        d_model: int,
        *,
        n_heads: int = 4,
        d_head: int | None = None,
        expand_v: float = 1.0,
        d_conv: int = 4,
        gated: bool = False,
        negative_eigenvalues: bool = False,
        generator: Generator | None = None,
    ):
        super().__init__()
        self.d_key = expect_divides("n_heads", n_heads, "d_model", d_model) if d_head is None else expect_count("d_head", d_head)
        self.d_value = expect_count("expand_v * d_head", round(expect_positive("expand_v", expand_v) * self.d_key))
        self.d_model, self.n_heads, self.reach = (
            expect_count("d_model", d_model),
            expect_count("n_heads", n_heads),
            2.0 if expect_flag("negative_eigenvalues", negative_eigenvalues) else 1.0,
        )
        keys, values = n_heads * self.d_key, n_heads * self.d_value
        self.widths = [2 * keys + values, n_heads] + ([n_heads, values] if expect_flag("gated", gated) else [])
        self.in_proj = linear(d_model, sum(self.widths), generator=generator)
        self.conv1d = ShortConvolution(self.widths[0], d_conv, bias=False, generator=generator)
        self.A_log = self.dt_bias = None
        if gated:
            self.A_log = RecurrenceParameter(decay_log(n_heads, generator))
            self.dt_bias = RecurrenceParameter(step_bias(n_heads, (1e-3, 1e-1), generator))
        self.norm = RMSNorm(self.d_value)
        self.out_proj = linear(values, d_model, generator=generator)

    def select(self, x: Tensor, tail: Tensor | None, reset: Tensor | None):
        """q, k [B, T, H, K], v [B, T, H, V], beta, log_decay [B, T, H], z [B, T, H, V], tail [B, d_conv - 1, :]"""
        qkv, beta, *gates = self.in_proj(x).split(self.widths, dim=-1)
        qkv, tail = self.conv1d(qkv, tail, reset)
        keys = self.n_heads * self.d_key
        qk, v = qkv.split([2 * keys, self.widths[0] - 2 * keys], dim=-1)
        qk = qk.unflatten(-1, (2 * self.n_heads, self.d_key))
        # Smooth at zero, where a division by the norm has no gradient; |k| stays just below one.
        q, k = (qk * torch.rsqrt((qk * qk).sum(-1, keepdim=True) + 1e-6)).chunk(2, dim=-2)
        beta = self.reach * torch.sigmoid(beta.to(v.dtype))
        log_decay = z = None
        if self.A_log is not None:
            log_decay = -torch.exp(self.A_log) * F.softplus(gates[0].to(v.dtype) + self.dt_bias)
            z = gates[1].unflatten(-1, (self.n_heads, self.d_value))
        return q, k, v.unflatten(-1, (self.n_heads, self.d_value)), beta, log_decay, z, tail

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        expect_input(x, self.d_model, self.in_proj.weight, reset)
        h, tail = parts(state, x.shape[0], h=(self.n_heads, self.d_key, self.d_value), conv=self.conv1d.tail_shape)
        q, k, v, beta, log_decay, z, tail = self.select(x, tail, reset)
        o, h = delta_rule(q, k, v, beta, log_decay, initial_state=h, reset=reset)
        return self.out_proj(self.norm(o.to(self.norm.weight.dtype), z).flatten(-2)), State(h=h, conv=tail)

    def transition(self, x: Tensor, state: State | None = None) -> Householder:
        """exp(g_t)(I - β_t k_t k_tᵀ), on the key axis of h; the convolution's tail, a window of the input, has none.    [B, T, H]"""
        expect_input(x, self.d_model, self.in_proj.weight)
        _, tail = parts(state, x.shape[0], h=(self.n_heads, self.d_key, self.d_value), conv=self.conv1d.tail_shape)
        _, k, _, beta, log_decay, _, _ = self.select(x, tail, None)
        return Householder(k, beta, log_decay)


class GatedDeltaNet(DeltaNet):
    """Gated DeltaNet: a DeltaNet whose state also fades, with an output gate.    x [B, T, D] -> y [B, T, D], h [B, H, K, V]

        S_t = exp(g_t) (I - β_t k_t k_tᵀ) S_{t-1} + β_t k_t v_tᵀ,  g_t = -exp(a) softplus(w.x_t + b),  y = W_o [norm(o) silu(z)]

    Paper    Yang et al. 2024, arXiv:2412.06464.

    Arguments as in `DeltaNet`, of which this is the name for gated=True.
    """

    def __init__(
        self,
        d_model: int,
        *,
        n_heads: int = 4,
        d_head: int | None = None,
        expand_v: float = 1.0,
        d_conv: int = 4,
        negative_eigenvalues: bool = False,
        generator: Generator | None = None,
    ):
        super().__init__(
            d_model,
            n_heads=n_heads,
            d_head=d_head,
            expand_v=expand_v,
            d_conv=d_conv,
            gated=True,
            negative_eigenvalues=negative_eigenvalues,
            generator=generator,
        )
