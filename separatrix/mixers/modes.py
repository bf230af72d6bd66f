"""Between real channels and complex modes.

A real system with complex eigenvalues is kept as modes, one of each conjugate pair. B takes channels to modes, C takes modes back and
keeps the real part. Complex parameters are stored as pairs (re, im) of reals, so that a change of dtype, an optimizer step or a
checkpoint treats them as any other parameter, and one real matrix product does the work.

Paper    Smith et al. 2022, arXiv:2208.04933 (conjugate symmetry).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def into_modes(B: Tensor, x: Tensor) -> Tensor:
    """B x, complex.    B [N, 2, D] as (re, im), x [B, T, D] -> [B, T, N]"""
    rows = F.linear(x, B.flatten(0, 1))
    if rows.dtype in (torch.bfloat16, torch.float16):
        rows = rows.float()  # autocast may multiply in bfloat16; the modes themselves are kept in float32
    return torch.view_as_complex(rows.unflatten(-1, (-1, 2)))


def out_of_modes(C: Tensor, h: Tensor) -> Tensor:
    """Re(C h).    C [D, N, 2] as (re, im), h [B, T, N] complex -> [B, T, D]"""
    return F.linear(torch.view_as_real(torch.conj_physical(h)).flatten(-2), C.flatten(1))


def as_pairs(parameter: Tensor) -> Tensor:
    """Complex numbers as real (re, im) pairs on a new last axis, a copy."""
    return torch.view_as_real(parameter.resolve_conj()).clone()
