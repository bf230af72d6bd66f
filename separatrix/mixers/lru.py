"""LRU: the linear recurrent unit, a diagonal complex recurrence that needs no continuous time.

    λ = exp(-exp(ν) + i exp(θ)),  γ = sqrt(1 - |λ|²)                                                               (1)
    h_t = λ h_{t-1} + γ B x_t,    y_t = Re(C h_t) + D x_t                                                          (2)

|λ| < 1 whatever ν is; λ begins uniform in a ring, and γ gives every mode unit variance under white input however slow it is.

Paper    Orvieto et al. 2023, arXiv:2303.06349.
Departs  γ follows λ in training; in the paper it is a parameter that begins there.
Cost     O(T N D); the state is [batch, d_state] complex.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from separatrix.mixers.door import complex_parts, expect_input
from separatrix.mixers.initial import RecurrenceParameter, linear
from separatrix.mixers.modes import widened
from separatrix.mixers.remembered import Remembered
from separatrix.mixers.settings import expect_pair
from separatrix.recurrence import Diagonal, State, init, lru_gain, mimo_ssm
from separatrix.recurrence.checks import expect_count, expect_positive


class LRU(nn.Module):
    """Linear recurrent unit: complex modes in a ring, mixed in and out of the channels.    x [B, T, D] -> y [B, T, D], h [B, N] complex

        h_t = λ h_{t-1} + γ B x_t,  λ = exp(-exp(ν) + i exp(θ)),  γ = sqrt(1 - |λ|²),  y = GLU(gelu(Re(C h) + D x))

    Paper    Orvieto et al. 2023, arXiv:2303.06349.

    d_model    D, channels in and out.
    d_state    N, complex modes.
    ring       smallest and largest |λ| at initialization; a mode of modulus |λ| remembers about 1/(1 - |λ|) steps.
    max_phase  largest angle of λ at initialization, radians a step: small angles for slow signals.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 64,
        ring: tuple[float, float] = (0.9, 0.999),
        max_phase: float = 2 * math.pi,
        generator: Generator | None = None,
    ):
        super().__init__()
        low, high = expect_pair("ring", ring, "(smallest, largest) modulus")
        if not 0 <= low <= high < 1:
            raise ValueError(f"ring is {ring} but must be (smallest, largest) modulus with 0 <= smallest <= largest < 1.")
        expect_positive("max_phase", max_phase)
        self.d_model, self.d_state = expect_count("d_model", d_model), expect_count("d_state", d_state)
        eigenvalues = init.ring(d_state, low, high, max_phase, generator)
        usual = torch.get_default_dtype()
        self.nu_log = RecurrenceParameter(torch.log(-torch.log(eigenvalues.abs().clamp_min(1e-6))).to(usual))
        self.theta_log = RecurrenceParameter(torch.log(eigenvalues.angle().remainder(2 * math.pi).clamp_min(1e-6)).to(usual))
        self.B = nn.Parameter(torch.randn(d_state, 2, d_model, generator=generator) * (2 * d_model) ** -0.5)
        self.C = nn.Parameter(torch.randn(d_model, d_state, 2, generator=generator) * d_state**-0.5)
        self.D = RecurrenceParameter(torch.randn(d_model, generator=generator))
        self.out_proj = linear(d_model, 2 * d_model, bias=True, generator=generator)
        self.remembered: Remembered[tuple[Tensor, Tensor]] = Remembered()

    def eigenvalues(self) -> tuple[Tensor, Tensor]:
        """λ complex and γ = sqrt(1 - |λ|²) real, the same for all channels.    [N]"""
        return self.remembered(self.work_out, self.nu_log, self.theta_log)

    def work_out(self) -> tuple[Tensor, Tensor]:
        rate, angle = (torch.exp(p) for p in widened(self.nu_log, self.theta_log))
        modulus = torch.exp(-rate)
        return torch.complex(modulus * torch.cos(angle), modulus * torch.sin(angle)), lru_gain(-rate)

    def respond(self, x: Tensor, h: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The linear system alone, y = Re(C h) + D x.    x [B, T, D] -> y [B, T, D], h [B, N]"""
        eigenvalues, gain = self.eigenvalues()
        return mimo_ssm(x, eigenvalues, gain, self.B, self.C, self.D, h, reset, conjugate=False)

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        expect_input(x, self.d_model, self.C, reset)
        (h,) = complex_parts(state, x.shape[0], h=(self.d_state,))
        y, h = self.respond(x, h, reset)
        return F.glu(self.out_proj(F.gelu(y)), dim=-1), State(h=h)

    def transition(self, x: Tensor, state: State | None = None) -> Diagonal:
        """λ at every step; it does not depend on x.    [B, T, N]"""
        expect_input(x, self.d_model, self.C)
        return Diagonal(self.eigenvalues()[0].expand(*x.shape[:2], -1))
