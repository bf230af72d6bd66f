"""S5: one diagonal state space for all channels together.

    h_t = a h_{t-1} + b (B x_t),   y_t = 2 Re(C h_t) + D x_t,   (a, b) = zoh(Λ, Δ) or bilinear(Λ, Δ)                (1)

Λ begins as the eigenvalues of HiPPO-LegS' normal part, in blocks, and B, C in that basis; every mode has a step Δ of its own. One of
each conjugate pair is kept.

Paper    Smith et al. 2022, arXiv:2208.04933.
Departs  the real part of Λ is -exp of its parameter, so training cannot make a mode unstable.
Cost     O(T N D); the state is [batch, d_state/2] complex.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from separatrix.mixers.door import complex_parts, expect_input
from separatrix.mixers.initial import RecurrenceParameter, linear, log_uniform, on_the_host
from separatrix.mixers.modes import as_pairs, widened
from separatrix.mixers.remembered import Remembered
from separatrix.mixers.settings import expect_divides, expect_even, expect_function
from separatrix.recurrence import Diagonal, State, mimo_ssm
from separatrix.recurrence.checks import expect_count
from separatrix.recurrence.discretize import bilinear, zoh
from separatrix.recurrence.init import s5


class S5(nn.Module):
    """S5: complex modes with steps of their own listen to all channels at once.    x [B, T, D] -> y [B, T, D], h [B, N/2] complex

        h_t = exp(Δ Λ) h_{t-1} + (exp(Δ Λ) - 1)/Λ (B x_t),  u = gelu(2 Re(C h) + D x),  y = u sigmoid(W u)

    Paper    Smith et al. 2022, arXiv:2208.04933.

    d_model     D, channels in and out.
    d_state     N, state size: N/2 conjugate pairs.
    blocks      HiPPO matrices of size N / blocks that Λ begins as.
    discretize  from Λ to one step, a function of `recurrence.discretize`: zoh or bilinear.
    dt_range    shortest and longest step Δ of a mode at initialization; it remembers about 2 / Δ steps.
    """

    named: ClassVar[dict[str, dict[str, Any]]] = {"discretize": {"zoh": zoh, "bilinear": bilinear}}

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 64,
        blocks: int = 1,
        discretize: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = zoh,
        dt_range: tuple[float, float] = (1e-3, 1e-1),
        generator: Generator | None = None,
    ):
        super().__init__()
        self.d_model, self.d_state, self.discretize = (
            expect_count("d_model", d_model),
            expect_even("d_state", d_state),
            expect_function("discretize", discretize, "zoh"),
        )
        expect_divides("2 * blocks", 2 * expect_count("blocks", blocks), "d_state", d_state)
        basis = on_the_host(s5, d_state, blocks)
        usual = torch.get_default_dtype()
        real_B = torch.randn(d_state, d_model, dtype=torch.float64, generator=generator) * d_model**-0.5
        real_C = torch.randn(d_model, d_state, dtype=torch.float64, generator=generator) * d_state**-0.5
        self.log_dt = RecurrenceParameter(log_uniform((d_state // 2,), dt_range, generator))
        self.log_A_real = RecurrenceParameter((-basis.W.real).log().to(usual))
        self.A_imag = RecurrenceParameter(basis.W.imag.to(usual))
        self.B = nn.Parameter(as_pairs(basis.V_inverse @ real_B.to(basis.V.dtype)).transpose(1, 2).contiguous().to(usual))
        self.C = nn.Parameter(as_pairs(real_C.to(basis.V.dtype) @ basis.V).to(usual))
        self.D = RecurrenceParameter(torch.randn(d_model, generator=generator))
        self.gate_proj = linear(d_model, d_model, bias=True, generator=generator)
        self.remembered: Remembered[tuple[Tensor, Tensor]] = Remembered()

    def step(self) -> tuple[Tensor, Tensor]:
        """The discrete system, (a, b) = zoh(Λ, Δ) or bilinear(Λ, Δ).    [N/2]"""
        return self.remembered(self.work_out, self.log_dt, self.log_A_real, self.A_imag)

    def work_out(self) -> tuple[Tensor, Tensor]:
        log_dt, log_A_real, A_imag = widened(self.log_dt, self.log_A_real, self.A_imag)
        dt = torch.exp(log_dt)
        return self.discretize(torch.complex(-torch.exp(log_A_real), A_imag), torch.ones_like(dt), dt)

    def respond(self, x: Tensor, h: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The linear system alone, y = 2 Re(C h) + D x.    x [B, T, D] -> y [B, T, D], h [B, N/2]"""
        a, b = self.step()
        return mimo_ssm(x, a, b, self.B, self.C, self.D, h, reset)

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        expect_input(x, self.d_model, self.C, reset)
        (h,) = complex_parts(state, x.shape[0], h=(self.d_state // 2,))
        y, h = self.respond(x, h, reset)
        y = F.gelu(y)
        return y * torch.sigmoid(self.gate_proj(y)), State(h=h)

    def transition(self, x: Tensor, state: State | None = None) -> Diagonal:
        """a at every step; it does not depend on x.    [B, T, N/2]"""
        expect_input(x, self.d_model, self.C)
        return Diagonal(self.step()[0].expand(*x.shape[:2], -1))
