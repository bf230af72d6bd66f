"""S4D: a diagonal state space for every channel.

    x' = A x + B u,  y = 2 Re(C x) + D u,  sampled with step Δ:   h_t = a h_{t-1} + u_t,  y_t = 2 Re(c . h_t) + D u_t      (1)

with (a, b) = zoh(A, Δ) or bilinear(A, Δ) and c = b C; only the product of B and C is seen, so C is kept and B is folded into it. The
convolution of the papers is never formed: (1) runs as a scan. What makes it learn is where A begins: LegS, Lin and Inv follow HiPPO.

Paper    Gu et al. 2022, arXiv:2206.11893 (S4D); Gupta et al. 2022, arXiv:2203.14343 (diagonal is enough).
Cost     O(T D N); the state is [batch, d_model, d_state/2] complex.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from separatrix.mixers.door import complex_parts, expect_input
from separatrix.mixers.initial import RecurrenceParameter, linear, log_uniform, on_the_host
from separatrix.mixers.modes import as_pairs, widened
from separatrix.mixers.remembered import Remembered
from separatrix.mixers.settings import expect_even, expect_function
from separatrix.recurrence import Diagonal, State, diagonal_ssm
from separatrix.recurrence.checks import expect_count
from separatrix.recurrence.discretize import bilinear, zoh
from separatrix.recurrence.init import s4d_inv, s4d_legs, s4d_lin, s4d_random, s4d_real


class S4D(nn.Module):
    """S4D: N/2 damped oscillators listen to every channel.    x [B, T, D] -> y [B, T, D], h [B, D, N/2] complex

        h_t = a h_{t-1} + x_t,  a = exp(Δ A),  y = GLU(W gelu(2 Re(c . h) + D x))

    Paper    Gu et al. 2022, arXiv:2206.11893.

    d_model     D, channels in and out.
    d_state     N, state size of a channel: N/2 conjugate pairs.
    init        where A begins, a function of `recurrence.init`: s4d_legs, s4d_lin, s4d_inv, s4d_real, s4d_random.
    discretize  from A to one step, a function of `recurrence.discretize`: zoh or bilinear.
    dt_range    shortest and longest step Δ of a channel at initialization; it remembers 1 / (Δ |Re A|) steps, 2 / Δ for s4d_legs.
    """

    named: ClassVar[dict[str, dict[str, Any]]] = {
        "init": {"legs": s4d_legs, "lin": s4d_lin, "inv": s4d_inv, "real": s4d_real, "random": s4d_random},
        "discretize": {"zoh": zoh, "bilinear": bilinear},
    }

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 64,
        init: Callable[..., tuple[Tensor, Tensor]] = s4d_legs,
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
        expect_function("init", init, "s4d_lin")
        random = {"generator": generator} if "generator" in inspect.signature(init).parameters else {}
        A, B = on_the_host(init, d_state, **random)
        C = torch.randn(d_model, d_state // 2, dtype=torch.complex64, generator=generator)
        usual = torch.get_default_dtype()
        self.log_dt = RecurrenceParameter(log_uniform((d_model,), dt_range, generator))
        self.log_A_real = RecurrenceParameter((-A.real).log().to(usual).repeat(d_model, 1))
        self.A_imag = RecurrenceParameter(A.imag.to(usual).repeat(d_model, 1))
        self.C = nn.Parameter(as_pairs(C * B.to(C.dtype)).to(usual))
        self.D = RecurrenceParameter(torch.randn(d_model, generator=generator))
        self.out_proj = linear(d_model, 2 * d_model, bias=True, generator=generator)
        self.remembered: Remembered[tuple[Tensor, Tensor]] = Remembered()

    def step(self) -> tuple[Tensor, Tensor]:
        """The discrete system of every channel: a, and c = b C.    [D, N/2]"""
        return self.remembered(self.work_out, self.log_dt, self.log_A_real, self.A_imag, self.C)

    def work_out(self) -> tuple[Tensor, Tensor]:
        """The real part of A is negative whatever its parameter is."""
        log_dt, log_A_real, A_imag, C = widened(self.log_dt, self.log_A_real, self.A_imag, self.C)
        return self.discretize(torch.complex(-torch.exp(log_A_real), A_imag), torch.view_as_complex(C), torch.exp(log_dt)[:, None])

    def respond(self, x: Tensor, h: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The linear system alone, y = 2 Re(c . h) + D x.    x [B, T, D] -> y [B, T, D], h [B, D, N/2]"""
        a, c = self.step()
        return diagonal_ssm(x, a, c, self.D, h, reset)

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        expect_input(x, self.d_model, self.C, reset)
        (h,) = complex_parts(state, x.shape[0], h=(self.d_model, self.d_state // 2))
        y, h = self.respond(x, h, reset)
        return F.glu(self.out_proj(F.gelu(y)), dim=-1), State(h=h)

    def transition(self, x: Tensor, state: State | None = None) -> Diagonal:
        """a at every step; it does not depend on x.    [B, T, D, N/2]"""
        expect_input(x, self.d_model, self.C)
        return Diagonal(self.step()[0].expand(*x.shape[:2], -1, -1))
