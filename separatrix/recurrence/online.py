"""HiPPO-LegS as it was meant: all of the past, evenly, while the past grows.

    c'(t) = (A c + B u) / t           c_n(t) = ∫₀¹ g_n(x) u(t x) dx,  g_n = sqrt(2n+1) P_n(2x - 1)                     (1)
    c_k = a_k c_{k-1} + b_k u_k       one sample more, (a_k, b_k) = (A, B) over the logarithmic time log k - log(k-1)   (2)

In the time log t, (1) is time-invariant: the zero-order hold of (2) is exact for a signal that is constant between samples, the
bilinear rule takes 1/k for the logarithm. Nothing is forgotten, only blurred, and no timescale has to be known.

Paper    Gu et al. 2020, arXiv:2008.07669.
Departs  the exact hold is the default; the paper steps (1) by Euler or the bilinear rule.
Cost     O(T N²) and a matrix to invert (or to exponentiate) per step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from separatrix.recurrence.autocast import outside_autocast
from separatrix.recurrence.basis import legendre
from separatrix.recurrence.checks import (
    along_time,
    expect_axes,
    expect_count,
    expect_numbers,
    expect_parts,
    expect_real,
    expect_reset,
    expect_shape,
    expect_whole,
    working_dtype,
)
from separatrix.recurrence.discretize import Discretization, bilinear_matrix, zoh_matrix
from separatrix.recurrence.hippo import legs_on
from separatrix.recurrence.resets import cleared

Online = tuple[Tensor, Tensor]  # c [B, D, N], and how many samples it has heard [B] int64


@outside_autocast
def legs_online(
    u: Tensor, n: int, discretize: Discretization = zoh_matrix, initial_state: Online | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Online]:
    """HiPPO-LegS, sample by sample: c_k = a_k c_{k-1} + b_k u_k, the step of c' = (A c + B u) / t over log k - log(k-1).

    u [B, T, D], reset [B, T] bool  ->  c [B, T, D, N], final state.

    discretize   zoh_matrix or bilinear_matrix.

    Paper    Gu et al. 2020, arXiv:2008.07669.
    Raises   ValueError for shapes that do not fit and n below 1; TypeError unless u and the state hold real floats, reset bool.
    """
    expect_numbers("u", u)
    expect_real(u=u)
    expect_axes("u", u, "batch, time, channels")
    expect_count("n", n, 1)
    batch, time, channels = u.shape
    expect_reset(reset, batch, time)
    if initial_state is None:
        rest = u.new_zeros(batch, channels, n, dtype=working_dtype(u))
        initial_state = rest, torch.zeros(batch, dtype=torch.int64, device=u.device)
    expect_parts("initial_state", initial_state, "coefficients, count")
    c, heard = initial_state
    expect_numbers("u", u, **{"initial_state's coefficients": c})
    expect_real(**{"initial_state's coefficients": c})
    expect_whole("initial_state's count", heard)
    expect_shape("initial_state's coefficients", c, (batch, channels, n), "batch, channels, state")
    expect_shape("initial_state's count", heard, (batch,), "batch")
    dtype = working_dtype(u, c)
    c, states = c.to(dtype), []
    for t in range(time):
        c, heard = cleared(c, reset, t), cleared(heard, reset, t) + 1
        a, b = (x.to(dtype) for x in legs_step(n, heard, discretize))
        c = c @ a.mT + u[:, t].to(dtype).unsqueeze(-1) * b.unsqueeze(-2)
        states.append(c)
    return along_time(states, u.new_zeros(batch, 0, channels, n, dtype=dtype)), (c, heard)


def legs_step(n: int, k: Tensor, discretize: Discretization = zoh_matrix) -> tuple[Tensor, Tensor]:
    """(a_k, b_k) of (2) for the k-th sample, k = 1, 2, ...   k [...] int -> [..., N, N], [..., N] float64"""
    A, B, _ = legs_on(k.device, n)
    if discretize is bilinear_matrix:
        return bilinear_matrix(A, B.expand(*k.shape, n), 1 / k.double())
    a, b = discretize(A.expand(*k.shape, n, n), B.expand(*k.shape, n), torch.log1p(1 / (k - 1).clamp(min=1).double()))
    # an infinite logarithmic time before the first sample: whatever it is, it is all that has been heard
    first = (k == 1).unsqueeze(-1)
    constant = torch.zeros_like(B)
    constant[0] = 1
    return a.masked_fill(first.unsqueeze(-1), 0), torch.where(first, constant, b)


def recall(c: Tensor, x: Tensor) -> Tensor:
    """The signal that c remembers, at the fractions x of the past: 0 its beginning, 1 the present.   c [..., N], x [X] -> [..., X]"""
    return c @ legendre(c.shape[-1], 2 * x.double() - 1).to(c.dtype).T
