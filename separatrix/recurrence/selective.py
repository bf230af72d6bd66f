"""The selective scan of Mamba: a diagonal state per channel whose step size, input and output are chosen by the input.

    Δ_t = softplus(delta_t + delta_bias)                                                                          (1)
    h_t[d, n] = exp(Δ_t[d] A[d, n]) h_{t-1}[d, n] + Δ_t[d] B_t[n] u_t[d]                                           (2)
    y_t[d] = sum_n C_t[n] h_t[d, n] + D[d] u_t[d]              y_t <- y_t silu(z_t)                                (3)

For complex A one of each conjugate pair is kept and the sum in (3) is 2 Re(.). B is discretised by Euler (Δ B), as in the paper's code.

Paper    Gu and Dao 2023, arXiv:2312.00752.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence.checks import (
    along_time,
    complex_of,
    expect_at_least_zero,
    expect_at_most_zero,
    expect_axes,
    expect_numbers,
    expect_real,
    expect_reset,
    expect_shape,
    expect_tensor,
    readable,
    working_dtype,
)
from separatrix.recurrence.diagonal import diagonal_matrix, diagonal_scan_chunked
from separatrix.recurrence.fused import float32, operators, real_single, state_or_rest, will_differentiate
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared, filled, parted
from separatrix.recurrence.twins import twin


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t,  y_t = (C_t h_t + D u_t) silu(z_t).

    u, delta, z [B, T, D], A [D, N] with real part <= 0, B, C [B, T, N], D, delta_bias [D], initial_state [B, D, N],
    reset [B, T] bool  ->  y [B, T, D], final state [B, D, N] (complex where A is).

    Paper    Gu and Dao 2023 (Mamba), arXiv:2312.00752.
    Raises   ValueError for shapes that do not fit, A > 0 or a step below 0 (CPU); TypeError unless all are floats or complex, reset bool.
    """
    expect_numbers("u", u, delta=delta, A=A, B=B, C=C, D=D, z=z, delta_bias=delta_bias, initial_state=initial_state)
    for name, x in (("A", A), ("B", B), ("C", C)):
        expect_tensor(name, x)
    expect_real(u=u, delta=delta, D=D, z=z, delta_bias=delta_bias)
    if not (A.is_complex() or B.is_complex() or C.is_complex()):
        expect_real(initial_state=initial_state)
    expect_axes("u", u, "batch, time, channels")
    expect_axes("A", A, "channels, state")
    batch, time, channels = u.shape
    state = A.shape[1]
    expect_shape("delta", delta, u.shape, "batch, time, channels")
    expect_shape("A", A, (channels, state), "channels, state")
    expect_shape("B", B, (batch, time, state), "batch, time, state")
    expect_shape("C", C, (batch, time, state), "batch, time, state")
    for name, vector in (("D", D), ("delta_bias", delta_bias)):
        if vector is not None:
            expect_shape(name, vector, (channels,), "channels")
    if z is not None:
        expect_shape("z", z, u.shape, "batch, time, channels")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (batch, channels, state), "batch, channels, state")
    expect_reset(reset, batch, time)
    expect_at_most_zero("the real part of A" if A.is_complex() else "A", A.real if A.is_complex() else A)
    if not delta_softplus and readable(delta):
        expect_at_least_zero(*(("delta", delta) if delta_bias is None else ("delta + delta_bias", delta + delta_bias)))
    return run("selective_scan", time, u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state, reset)


@form
def selective_scan_recurrent(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, initial_state=None, reset=None
) -> tuple[Tensor, Tensor]:
    """Equations (2) and (3), read aloud."""
    dtype, (u, delta, A, B, C, h) = u.dtype, enter(u, delta, A, B, C, delta_bias, delta_softplus, initial_state)
    steps, writes = delta.unsqueeze(-1).unbind(1), (delta * u).unsqueeze(-1).unbind(1)
    inputs, outputs = B.unsqueeze(-2).unbind(1), C.unsqueeze(-1).unbind(1)
    reads = []
    for t in range(len(steps)):
        h = cleared(h, reset, t)
        h = (steps[t] * A).exp() * h + writes[t] * inputs[t]
        reads.append((h @ outputs[t]).squeeze(-1))
    return leave(along_time(reads, u.to(h.dtype)), u, D, z, dtype), h


@twin("selective_scan")
@form
def selective_scan_chunked(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, initial_state=None, reset=None, chunk=64
) -> tuple[Tensor, Tensor]:
    """A tree of pairs inside each chunk, the state between them; [chunk, D, N] numbers are alive at a time, not [T, D, N]."""
    dtype, (u, delta, A, B, C, h) = u.dtype, enter(u, delta, A, B, C, delta_bias, delta_softplus, initial_state)
    reads = []
    for start in range(0, u.shape[1], chunk):
        now = slice(start, start + chunk)
        a = (delta[:, now].unsqueeze(-1) * A).exp()
        x = (delta[:, now] * u[:, now]).unsqueeze(-1) * B[:, now].unsqueeze(-2)
        states, h = diagonal_scan_chunked(a, x, h, None if reset is None else reset[:, now])
        reads.append((states @ C[:, now].unsqueeze(-1)).squeeze(-1))
    return leave(torch.cat(reads, dim=1) if reads else u.to(h.dtype), u, D, z, dtype), h


@form(mixes=True)
def selective_scan_dense(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, initial_state=None, reset=None
) -> tuple[Tensor, Tensor]:
    """One attention matrix per channel, M[t, s] = sum_n C_t[n] exp(A[n] (Δ_{s+1} + ... + Δ_t)) Δ_s B_s[n], applied to u."""
    dtype, (u, delta, A, B, C, h) = u.dtype, enter(u, delta, A, B, C, delta_bias, delta_softplus, initial_state)
    if u.shape[1] == 0:
        return u.to(dtype), h
    a = (delta.unsqueeze(-1) * A).exp()
    passed = diagonal_matrix(a)
    written = torch.cat([h.unsqueeze(1), delta.unsqueeze(-1) * B.unsqueeze(-2)], dim=1)
    x = torch.cat([h.unsqueeze(1), written[:, 1:] * u.unsqueeze(-1)], dim=1)
    if reset is None:
        attention = torch.einsum("btn,btsdn,bsdn->bdts", C, passed[:, :, 1:], written[:, 1:])
        y = (attention @ u.to(attention.dtype).transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2)
        y = y + torch.einsum("btn,btdn,bdn->btd", C, passed[:, :, 0], h)
        return leave(y, u, D, z, dtype), (passed[:, -1] * x).sum(1)
    states = filled(passed * x.unsqueeze(1), parted(reset), 0).sum(2)
    return leave((states @ C.unsqueeze(-1)).squeeze(-1), u, D, z, dtype), states[:, -1].clone()


@form(refuses=real_single, pays_from=1)
def selective_scan_fused(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, initial_state=None, reset=None
) -> tuple[Tensor, Tensor]:
    """For a real A. The step's softplus and the output's gate are part of the kernel."""
    if D is None or delta_bias is None:
        nothing = u.new_zeros(u.shape[2], dtype=torch.float32)
        D, delta_bias = nothing if D is None else D, nothing if delta_bias is None else delta_bias
    inputs = float32(u, delta, A, B, C, D, z, delta_bias)
    state = state_or_rest(initial_state, u.shape[0], *A.shape)
    if u.shape[1] == 0:
        return u, state
    y, final, _ = operators().selective_scan(*inputs, delta_softplus, state, reset, will_differentiate(*inputs, state))
    return y.to(u.dtype), final


def enter(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, delta_bias: Tensor | None, delta_softplus: bool, initial_state: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """u, Δ, A, B, C and the first state in the working precision."""
    real = working_dtype(u, delta, A, B, C, delta_bias, initial_state)
    any_complex = A.is_complex() or B.is_complex() or C.is_complex()
    working = complex_of(real) if any_complex else real
    u, delta = u.to(real), delta.to(real)
    if delta_bias is not None:
        delta = delta + delta_bias.to(real)
    if delta_softplus:
        delta = F.softplus(delta)
    A, B, C = A.to(working), B.to(working), C.to(working)
    h = A.new_zeros(u.shape[0], *A.shape) if initial_state is None else initial_state.to(working)
    return u, delta, A, B, C, h


def leave(y: Tensor, u: Tensor, D: Tensor | None, z: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The skip and the gate, then back to the dtype of the input."""
    if y.is_complex():
        y = 2 * y.real
    if D is not None:
        y = y + D.to(y.dtype) * u
    if z is not None:
        y = y * F.silu(z.to(y.dtype))
    return y.to(dtype)
