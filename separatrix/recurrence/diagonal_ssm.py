"""Time-invariant diagonal state spaces, one per channel: S4D and DSS.

    h_t = a h_{t-1} + u_t            a [D, N] complex, |a| <= 1; one of each conjugate pair                        (1)
    y_t = 2 Re(sum_n c_n h_t[n]) + skip u_t                                                                       (2)

a is the discretised eigenvalue and c carries both B and C (`init`, `discretize`). The output is a convolution of u with
K_l = 2 Re(sum_n c_n a_n^l).

Paper    Gu et al. 2022 (S4D), arXiv:2206.11893; Gupta et al. 2022 (DSS), arXiv:2203.14343.
"""

from __future__ import annotations

from torch import Tensor

from separatrix.recurrence.checks import (
    along_time,
    complex_of,
    expect_axes,
    expect_numbers,
    expect_real,
    expect_reset,
    expect_shape,
    working_dtype,
)
from separatrix.recurrence.plan import form, run


def diagonal_ssm(u: Tensor, a: Tensor, c: Tensor, skip: Tensor | None = None, initial_state: Tensor | None = None,
                 reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """h_t = a h_{t-1} + u_t,  y_t = 2 Re(sum_n c_n h_t[n]) + skip u_t.

    u [B, T, D], a, c [D, N], skip [D], initial_state [B, D, N], reset [B, T] bool  ->  y [B, T, D], final state [B, D, N] complex.
    """
    expect_numbers("u", u, a=a, c=c, skip=skip, initial_state=initial_state)
    expect_real(u=u, skip=skip)
    expect_axes("u", u, "batch, time, channels")
    expect_axes("a", a, "channels, state")
    batch, time, channels = u.shape
    expect_shape("a", a, (channels, a.shape[1]), "channels, state")
    expect_shape("c", c, a.shape, "channels, state")
    if skip is not None:
        expect_shape("skip", skip, (channels,), "channels")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (batch, *a.shape), "batch, channels, state")
    expect_reset(reset, batch, time)
    return run("diagonal_ssm", time, u, a, c, skip, initial_state, reset)


@form
def diagonal_ssm_recurrent(u: Tensor, a: Tensor, c: Tensor, skip: Tensor | None = None, initial_state: Tensor | None = None,
                           reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Equations (1) and (2), read aloud."""
    dtype, (u, a, c, h) = u.dtype, enter(u, a, c, initial_state)
    steps = u.unsqueeze(-1).unbind(1)
    clears = None if reset is None else reset[..., None, None].unbind(1)
    reads = []
    for t in range(len(steps)):
        h = h if clears is None else h.masked_fill(clears[t], 0)
        h = a * h + steps[t]
        reads.append(2 * (c * h).sum(-1).real)
    return leave(along_time(reads, u), u, skip, dtype), h


def enter(u: Tensor, a: Tensor, c: Tensor, initial_state: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """u, a, c and the first state in the working precision."""
    real = working_dtype(u, a, c)
    a, c = a.to(complex_of(real)), c.to(complex_of(real))
    h = a.new_zeros(u.shape[0], *a.shape) if initial_state is None else initial_state.to(a.dtype)
    return u.to(real), a, c, h


def leave(y: Tensor, u: Tensor, skip: Tensor | None, dtype) -> Tensor:
    return (y if skip is None else y + skip.to(y.dtype) * u).to(dtype)
