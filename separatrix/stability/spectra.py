"""Eigenvalues of the transitions a layer makes along its data.

    h_t = A_t h_{t-1} + x_t         λ(A_t), all t           memory of a mode in steps: -1 / log|λ|               (1)

Where the eigenvalues of an input-dependent layer lie is a matter of the data: weights alone do not say. Each A_t has its own
eigenvectors, so that (1) is how long a mode would last if its A_t stayed; how long the layer does remember is `memory.py`.

Paper    Strogatz 1994, Nonlinear Dynamics and Chaos, Addison-Wesley, ch. 10; Orvieto et al. 2023, arXiv:2303.06349 (the unit circle).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from separatrix.recurrence import Transition
from separatrix.recurrence.checks import expect_count, expect_tensor
from separatrix.stability.number import Number


class Eigenvalues(NamedTuple):
    """The eigenvalues that were visited, ready to be drawn over the unit circle.

    It does not say that the layer is stable when all are inside (products of stable matrices may grow when A_t does not commute),
    nor where the eigenvalues go on other data.

    Paper    Strogatz 1994, Nonlinear Dynamics and Chaos, ch. 10; Orvieto et al. 2023, arXiv:2303.06349 (the unit circle).
    """

    values: Tensor  # [M] complex128, at most `keep` of them, evenly spread over all, and the one of largest modulus
    memory: Tensor  # [M] steps, infinite on and outside the unit circle
    largest: Number  # largest modulus over all eigenvalues
    median: Number  # median modulus, low and high the range of the middle nine tenths
    outside: Number  # share of the eigenvalues beyond the unit circle by more than rounding
    negative: Number  # share with negative real part: modes that can alternate, and count
    norm: Number  # largest spectral norm of one step: what one step can add to any state


def eigenvalues_along(transition: Transition, *, keep: int = 20_000) -> Eigenvalues:
    """All eigenvalues of a transition with leading axes [B, T, ...].

    keep   how many to return for drawing; the numbers use all of them.

    Paper    Strogatz 1994, Nonlinear Dynamics and Chaos, ch. 10; Orvieto et al. 2023, arXiv:2303.06349 (the unit circle).
    Raises   ValueError without a step, for keep < 1 and eigenvalues that are not finite; TypeError unless transition is a Transition.
    """
    expect_transition(transition)
    expect_count("keep", keep, 1)
    with torch.no_grad():
        values = transition.spectrum().detach().cpu().flatten()  # a Mamba layer makes millions: kept in their own precision
        norm = transition.norm().detach()
    if values.numel() == 0:
        raise ValueError("the transition has no steps. Pass one made from a sequence of at least one sample.")
    modulus = values.abs()
    bad = int((~torch.isfinite(modulus)).sum())
    if bad:
        raise ValueError(f"{bad} of {len(values)} eigenvalues are not finite: the transition holds NaN or infinite values.")
    how = f"{len(values):,} eigenvalues along the data"
    ends = [float(modulus.kthvalue(1 + int(q * (len(modulus) - 1))).values) for q in (0.05, 0.5, 0.95)]
    spread = torch.linspace(0, len(values) - 1, min(keep, len(values)), dtype=torch.float64).round().long()
    # The largest stays: without it a drawing would say of all eigenvalues what holds for most.
    spread[(spread - modulus.argmax()).abs().argmin()] = modulus.argmax()
    kept = values[spread].to(torch.complex128)
    rounding = 8 * torch.finfo(torch.float32).eps  # layers keep their recurrence in float32
    return Eigenvalues(
        values=kept,
        memory=memory_steps(kept),
        largest=Number(float(modulus.max()), "measured", how=how),
        median=Number(ends[1], "measured", ends[0], ends[2], how=how),
        outside=Number(float((modulus > 1 + rounding).double().mean()), "measured", how=how),
        negative=Number(float((values.real < 0).double().mean()), "measured", how=how),
        norm=Number(float(norm.max()), "measured", how=f"over {norm.numel():,} transitions along the data"),
    )


def expect_transition(transition: Transition) -> None:
    if not isinstance(transition, Transition):
        raise TypeError(f"transition is a {type(transition).__name__}, expected a Transition, such as layer.transition(x) returns.")


def memory_steps(eigenvalues: Tensor) -> Tensor:
    """-1 / log|λ|, the steps a mode needs to shrink to 1/e; infinite for |λ| >= 1, zero for λ = 0.    [...] -> [...]

    Paper    Strogatz 1994, Nonlinear Dynamics and Chaos, ch. 10; Orvieto et al. 2023, arXiv:2303.06349 (the unit circle).
    Raises   ValueError for NaN; TypeError unless eigenvalues is a tensor.
    """
    expect_tensor("eigenvalues", eigenvalues)
    if bool(torch.isnan(eigenvalues).any()):
        raise ValueError("eigenvalues holds NaN: such a mode neither fades nor stays. Find out where it comes from first.")
    rate = -eigenvalues.abs().double().log()
    return torch.where(rate > 0, 1 / rate.clamp(min=torch.finfo(torch.float64).tiny), torch.inf)
