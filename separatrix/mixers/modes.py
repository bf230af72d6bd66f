"""Complex parameters are stored as pairs (re, im) of reals, so that a change of dtype, an optimizer step or a checkpoint treats them as any
other parameter. The recurrence takes them as they are (`recurrence.mimo_ssm`).
"""

from __future__ import annotations

import torch
from torch import Tensor


def as_pairs(parameter: Tensor) -> Tensor:
    """Complex numbers as real (re, im) pairs on a new last axis, a copy."""
    return torch.view_as_real(parameter.resolve_conj()).clone()


def widened(*parameters: Tensor) -> tuple[Tensor, ...]:
    """In float32 at least: there is no complex bfloat16."""
    return tuple(p.to(torch.promote_types(p.dtype, torch.float32)) for p in parameters)
