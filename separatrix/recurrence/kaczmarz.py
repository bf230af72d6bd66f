"""Kaczmarz linear attention: the delta rule whose step is measured against the key.

    β_t = η_t / (|k_t|² + ε)          0 <= η <= 2                                                                  (1)

η = 1 solves Sᵀ k_t = v_t exactly, whatever the length of k_t; any η up to 2 leaves I - β k kᵀ a contraction, so keys need no
normalisation. With a decay the state fades before the step, as in `delta_rule`.

Paper    Kaczmarz 1937; as a layer, Kaczmarz Linear Attention (P063 of the map).
"""

from __future__ import annotations

from torch import Tensor

from separatrix.recurrence.checks import expect_number


def kaczmarz_step(k: Tensor, eta: Tensor, eps: float = 1e-6) -> Tensor:
    """The β that `delta_rule` takes.   k [..., K], eta [...] -> [...]"""
    expect_number("k", k)
    return eta / (k.square().sum(-1) + eps)
