"""Time-invariant diagonal state spaces, one per channel: S4D and DSS.

    h_t = a h_{t-1} + u_t            a [D, N] complex, |a| <= 1; one of each conjugate pair                        (1)
    y_t = 2 Re(sum_n c_n h_t[n]) + skip u_t                                                                       (2)

a is the discretised eigenvalue and c carries both B and C (`init`, `discretize`). The output is a convolution of u with
K_l = 2 Re(sum_n c_n a_n^l).

Paper    Gu et al. 2022 (S4D), arXiv:2206.11893; Gupta et al. 2022 (DSS), arXiv:2203.14343.
"""

from __future__ import annotations

import torch
from torch import Tensor

from separatrix.recurrence.checks import (
    along_time,
    complex_of,
    expect_axes,
    expect_numbers,
    expect_real,
    expect_reset,
    expect_shape,
    expect_some,
    working_dtype,
)
from separatrix.recurrence.convolution import toeplitz
from separatrix.recurrence.fused import double, operators, will_differentiate
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared
from separatrix.recurrence.twins import twin


def diagonal_ssm(
    u: Tensor, a: Tensor, c: Tensor, skip: Tensor | None = None, initial_state: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """h_t = a h_{t-1} + u_t,  y_t = 2 Re(sum_n c_n h_t[n]) + skip u_t.

    u [B, T, D], a, c [D, N], skip [D], initial_state [B, D, N], reset [B, T] bool  ->  y [B, T, D], final state [B, D, N] complex.

    Paper    Gu et al. 2022 (S4D), arXiv:2206.11893; Gupta et al. 2022 (DSS), arXiv:2203.14343.
    Raises   ValueError for shapes that do not fit; TypeError unless all are floats or complex, u and skip real, reset bool.
    """
    expect_numbers("u", u, a=a, c=c, skip=skip, initial_state=initial_state)
    expect_real(u=u, skip=skip)
    expect_axes("u", u, "batch, time, channels")
    expect_axes("a", a, "channels, state")
    batch, time, channels = u.shape
    expect_shape("a", a, (channels, a.shape[1]), "channels, state")
    expect_some(channels=channels, state=a.shape[1])
    expect_shape("c", c, a.shape, "channels, state")
    if skip is not None:
        expect_shape("skip", skip, (channels,), "channels")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (batch, *a.shape), "batch, channels, state")
    expect_reset(reset, batch, time)
    return run("diagonal_ssm", time, u, a, c, skip, initial_state, reset)


@form
def diagonal_ssm_recurrent(u, a, c, skip=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equations (1) and (2), read aloud."""
    dtype, (u, a, c, h) = u.dtype, enter(u, a, c, initial_state)
    steps = u.unsqueeze(-1).unbind(1)
    reads = []
    for t in range(len(steps)):
        h = cleared(h, reset, t)
        h = a * h + steps[t]
        reads.append(2 * (c * h).sum(-1).real)
    return leave(along_time(reads, u), u, skip, dtype), h


@twin("diagonal_ssm")
@form(mixes=True)
def diagonal_ssm_chunked(u, a, c, skip=None, initial_state=None, reset=None, chunk=None) -> tuple[Tensor, Tensor]:
    """Inside a chunk the Toeplitz matrix of the kernel, between chunks the state."""
    dtype, (u, a, c, h) = u.dtype, enter(u, a, c, initial_state)
    # with resets every chunk of every sequence has a matrix of its own, so the chunks are short
    chunk = chunk or (64 if reset is None else 16)
    whole = u.shape[1] - u.shape[1] % chunk
    outputs = []
    for part, steps in ((slice(0, whole), chunk), (slice(whole, None), u.shape[1] - whole)):
        y, h = _in_chunks(u[:, part], a, c, h, None if reset is None else reset[:, part], steps)
        outputs.append(y)
    return leave(torch.cat(outputs, dim=1), u, skip, dtype), h


@form(mixes=True)
def diagonal_ssm_dense(u, a, c, skip=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """One Toeplitz matrix over all steps: a single chunk."""
    return diagonal_ssm_chunked(u, a, c, skip, initial_state, reset, chunk=max(1, u.shape[1]))


@form(refuses=double)
def diagonal_ssm_fused(u, a, c, skip=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    a, c = a.to(torch.complex64), c.to(torch.complex64)
    through = u.new_zeros(u.shape[2], dtype=torch.float32) if skip is None else skip.float()
    state = a.new_zeros(u.shape[0], *a.shape) if initial_state is None else initial_state.to(torch.complex64)
    if u.shape[1] == 0:
        return u, state
    inputs = (u.float(), a, c, through, state)
    y, final, _ = operators().diagonal_ssm(*inputs, reset, will_differentiate(*inputs))
    return y.to(u.dtype), final


def _in_chunks(u: Tensor, a: Tensor, c: Tensor, h: Tensor, reset: Tensor | None, steps: int) -> tuple[Tensor, Tensor]:
    """y [B, T, D] and the last state, for T a multiple of `steps`.

    Letters of the sums: i chunk, s and t steps, k state, r real or imaginary part.
    """
    if u.shape[1] == 0:
        return u, h
    x, powers = u.unflatten(1, (-1, steps)), powers_of(a, steps + 1)
    matrix, writes, decay, clears = toeplitz(_kernel(powers[..., :steps], c), steps), x, powers[..., steps], None
    if reset is None:
        y = torch.einsum("dts,bisd->bitd", matrix, x)
    else:
        segment = reset.unflatten(1, (-1, steps)).cumsum(2)
        other = (segment.unsqueeze(-1) != segment.unsqueeze(-2)).unsqueeze(2)
        # selected, not multiplied by zero: a NaN before a reset ends there
        y = (matrix * x.mT.unsqueeze(-2)).masked_fill(other, 0).sum(-1).mT
        writes = x.masked_fill((segment != segment[..., -1:]).unsqueeze(-1), 0)
        clears = (segment[..., -1] > 0).T[..., None, None]
    write = torch.einsum("dksr,bisd->ibdkr", torch.view_as_real(powers[..., :steps].flip(-1)), writes)
    states = []
    for i, written in enumerate(torch.view_as_complex(write.contiguous())):
        states.append(h)
        h = decay * (h if clears is None else h.masked_fill(clears[i], 0)) + written
    read = torch.view_as_real((2 * c.unsqueeze(-1) * powers[..., 1:]).conj_physical())
    answer = torch.einsum("bidkr,dktr->bitd", torch.view_as_real(torch.stack(states, dim=1)), read)
    if reset is not None:
        answer = answer.masked_fill((segment > 0).unsqueeze(-1), 0)
    return (y + answer).flatten(1, 2), h


def ssm_kernel(a: Tensor, c: Tensor, length: int) -> Tensor:
    """K_l = 2 Re(sum_n c_n a_n^l), the response to a unit pulse.   a, c [D, N] -> [D, L]

    a^(mi + j) is a product of two powers, and the sum over n a matrix product of √L rows and √L columns: no state x length tensor.
    """
    doublings = ((max(length, 1) - 1).bit_length() + 1) // 2
    right, stride = powers_of(a, 1 << doublings), a
    for _ in range(doublings):
        stride = stride * stride
    left = c.unsqueeze(-1) * powers_of(stride, -(-length // (1 << doublings)))
    # the real part of a complex product, in real numbers
    left, right = torch.cat([left.real, -left.imag], dim=-2), torch.cat([right.real, right.imag], dim=-2)
    return 2 * (left.mT @ right).flatten(-2)[..., :length]


def _kernel(powers: Tensor, c: Tensor) -> Tensor:
    return 2 * (c.unsqueeze(-2) @ powers).squeeze(-2).real


def powers_of(a: Tensor, count: int) -> Tensor:
    """1, a, a², ... by doubling: no logarithm, so a = 0 is a number like any other.   [...] -> [..., count]"""
    powers = torch.ones_like(a).unsqueeze(-1)
    factor = a.unsqueeze(-1)
    while powers.shape[-1] < count:
        powers = torch.cat([powers, powers * factor], dim=-1)
        factor = factor * factor
    return powers[..., :count]


def enter(u: Tensor, a: Tensor, c: Tensor, initial_state: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """u, a, c and the first state in the working precision."""
    real = working_dtype(u, a, c, initial_state)
    a, c = a.to(complex_of(real)), c.to(complex_of(real))
    h = a.new_zeros(u.shape[0], *a.shape) if initial_state is None else initial_state.to(a.dtype)
    return u.to(real), a, c, h


def leave(y: Tensor, u: Tensor, skip: Tensor | None, dtype: torch.dtype) -> Tensor:
    return (y if skip is None else y + skip.to(y.dtype) * u).to(dtype)
