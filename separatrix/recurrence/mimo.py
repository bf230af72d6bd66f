"""One diagonal state space for all channels together: S5, LRU.

    h_t = a_t h_{t-1} + b_t (B u_t)             modes, one of each conjugate pair, h [N] complex                     (1)
    y_t = 2 Re(C h_t) + D u_t                   Re(C h_t) for modes that are not half of a pair                      (2)

a and b are what `discretize` makes of the eigenvalues and of 1. Samples that are not evenly spaced have a and b of their own,
zoh(Λ, 1, Δ_t Δ): exact as long as u is held. In both directions, the modes also run from the end of the sequence to its start, and are
read by a C of their own.

Paper    Smith et al. 2022, arXiv:2208.04933 (S5); Orvieto et al. 2023, arXiv:2303.06349 (LRU).
Cost     O(T N D); the states of all steps exist, [batch, time, modes], as wide as u.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence.checks import expect_axes, expect_numbers, expect_real, expect_reset, expect_shape, expect_tensor
from separatrix.recurrence.diagonal import diagonal_scan
from separatrix.recurrence.plan import runs_as


@runs_as("diagonal_scan")
def mimo_ssm(
    u: Tensor,
    a: Tensor,
    b: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    conjugate: bool = True,
    C_backward: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """h_t = a_t h_{t-1} + b_t (B u_t),  y_t = 2 Re(C h_t) + D u_t: one diagonal state space for all channels.

    u [B, T, D], a, b [N] or [B, T, N], B [N, D], C [D', N], D [D] or [D', D], initial_state [B, N], reset [B, T] bool
    ->  y [B, T, D'], final state [B, N] complex. B and C are complex or, as a layer keeps them, pairs: B [N, 2, D], C [D', N, 2].

    conjugate    whether every mode stands for two.
    C_backward   [D', N]: what the modes that come from the end are read with; they start at rest, and anew before the end of each
                 packed sequence. The output is then no longer causal, and the final state is that of the forward direction.

    Paper    Smith et al. 2022 (S5), arXiv:2208.04933; Orvieto et al. 2023 (LRU), arXiv:2303.06349.
    Raises   ValueError for shapes that do not fit; TypeError unless all are floats or complex, u and D real, reset bool.
    """
    expect_numbers("u", u, a=a, b=b, B=B, C=C, D=D, initial_state=initial_state, C_backward=C_backward)
    expect_real(u=u, D=D)
    expect_axes("u", u, "batch, time, channels")
    for name, x in (("a", a), ("b", b), ("B", B), ("C", C)):
        expect_tensor(name, x)
    if B.ndim == 0 or C.ndim == 0:
        raise ValueError(f"B is {list(B.shape)} and C is {list(C.shape)}, expected [modes, channels] and [outputs, modes], or pairs")
    (batch, time, channels), modes = u.shape, B.shape[0]
    expect_shape("B", B, (modes, channels) if B.is_complex() else (modes, 2, channels), "modes, channels")
    for name, x in (("a", a), ("b", b)):
        expect_shape(name, x, (modes,) if x.ndim == 1 else (batch, time, modes), "modes or batch, time, modes")
    for name, read in (("C", C), ("C_backward", C_backward)):
        if read is not None:
            expect_shape(name, read, (C.shape[0], modes) if read.is_complex() else (C.shape[0], modes, 2), "outputs, modes")
    if D is not None:
        alone = D.ndim == 1 and C.shape[0] == channels
        expect_shape("D", D, (channels,) if alone else (C.shape[0], channels), "channels" if alone else "outputs, channels")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (batch, modes), "batch, modes")
    expect_reset(reset, batch, time)
    drive = b * into_modes(B, u)
    h, final = diagonal_scan(a, drive, initial_state, reset)
    y = out_of_modes(C, h)
    if C_backward is not None:
        ends = None if reset is None else F.pad(reset[:, 1:], (0, 1)).flip(1)
        back, _ = diagonal_scan(a if a.ndim == 1 else a.flip(1), drive.flip(1), None, ends)
        y = y + out_of_modes(C_backward, back.flip(1))
    y = 2 * y if conjugate else y
    if D is not None:
        y = y + (D * u if D.ndim == 1 else u @ D.T)
    return y if y.dtype is u.dtype else y.to(u.dtype), final


def into_modes(B: Tensor, x: Tensor) -> Tensor:
    """B x, complex, as one real matrix product.   B [N, D] complex or [N, 2, D] as (re, im), x [B, T, D] -> [B, T, N]"""
    rows = _linear(x, (torch.view_as_real(B).transpose(1, 2) if B.is_complex() else B).flatten(0, 1))
    if rows.dtype in (torch.bfloat16, torch.float16):
        rows = rows.float()  # autocast may multiply in bfloat16; the modes themselves are kept in float32
    return torch.view_as_complex(rows.unflatten(-1, (-1, 2)))


def out_of_modes(C: Tensor, h: Tensor) -> Tensor:
    """Re(C h), as one real matrix product.   C [D, N] complex or [D, N, 2] as (re, im), h [B, T, N] complex -> [B, T, D]"""
    return _linear(torch.view_as_real(torch.conj_physical(h)).flatten(-2), (torch.view_as_real(C) if C.is_complex() else C).flatten(1))


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    """F.linear in the wider precision of the two."""
    if x.dtype is not weight.dtype:
        dtype = torch.promote_types(x.dtype, weight.dtype)
        x, weight = x.to(dtype), weight.to(dtype)
    return F.linear(x, weight)
