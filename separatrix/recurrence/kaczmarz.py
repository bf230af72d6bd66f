"""Kaczmarz linear attention: the delta rule whose step is measured against the key.

    β_t = η_t / (|k_t|² + ε)          0 <= η <= 2                                                                  (1)

η = 1 solves Sᵀ k_t = v_t exactly, whatever the length of k_t; any η up to 2 leaves I - β k kᵀ a contraction, so keys need no
normalisation. With a decay the state fades before the step, as in `delta_rule`.

Paper    Kaczmarz 1937, Bull. Int. Acad. Pol. Sci. Lett. A 35:355; as a layer, Kaczmarz Linear Attention 2026.
"""

from __future__ import annotations

from torch import Tensor

from separatrix.recurrence.checks import expect_at_least_zero, expect_numbers, expect_real, expect_shape, working_dtype


def kaczmarz_step(k: Tensor, eta: Tensor, eps: float = 1e-6) -> Tensor:
    """The β that `delta_rule` takes.   k [..., K], eta [...] -> [...] in the working precision: |k|² leaves half precision at 256.

    Paper    Kaczmarz 1937, Bull. Int. Acad. Pol. Sci. Lett. A 35:355; as a layer, Kaczmarz Linear Attention 2026.
    Raises   ValueError for shapes that do not fit, eps < 0, eta < 0 or NaN on the CPU; TypeError unless all are real floats.
    """
    expect_numbers("k", k, eta=eta)
    expect_real(k=k, eta=eta)
    if k.ndim == 0:
        raise ValueError("k is [], expected [..., key]")
    expect_shape("eta", eta, tuple(k.shape[:-1]), "...")
    expect_at_least_zero("eta", eta)
    if not eps >= 0:
        raise ValueError(f"eps is {eps}, expected 0 or more")
    working = working_dtype(k, eta)
    return eta.to(working) / (k.to(working).square().sum(-1) + eps)
