"""Longhorn beyond the table of roads.py: the minimum it promises, any step size, ragged sizes of the kernel."""

import pytest
import torch

from separatrix.recurrence import OPERATIONS, longhorn, longhorn_diagonal
from tests.agree import agree, gradient
from tests.recurrence.roads import randn


def test_a_step_is_the_minimum_it_promises():
    """The gradient of |s - S|² + β (k·s - x)² vanishes at the new state."""
    q, k, x, S = randn(2, 1, 4), randn(2, 1, 4), randn(2, 1, 3), randn(2, 3, 4)
    beta = 10 * torch.rand(2, 1, 3, dtype=torch.float64)
    s = longhorn(q, k, x, beta, S)[1].requires_grad_()
    loss = (s - S).square().sum() + (beta[:, 0] * ((s @ k[:, 0].unsqueeze(-1)).squeeze(-1) - x[:, 0]).square()).sum()
    (slope,) = torch.autograd.grad(loss, s)
    assert slope.abs().max() < 1e-12


@pytest.mark.parametrize("rule", [longhorn, longhorn_diagonal])
def test_no_step_size_makes_it_explode(rule):
    """β = 1e6 and long keys: the state stays as large as targets demand, where an explicit step would multiply it by -1e8."""
    q, k, x = torch.randn(1, 500, 8), 10 * torch.randn(1, 500, 8), torch.randn(1, 500, 4)
    _, final = rule(q, k, x, torch.full((1, 500, 4), 1e6))
    assert final.isfinite().all() and final.norm() < 10


@pytest.mark.parametrize("operation", ["longhorn", "longhorn_diagonal"])
@pytest.mark.parametrize("D, N", [(1, 1), (31, 3), (150, 17)])
@pytest.mark.parametrize("T", [1, 32, 33, 70])
def test_no_size_is_special(operation: str, T: int, D: int, N: int):
    """One less and one more than whole registers and whole chunks, resets on their edges."""
    forms = OPERATIONS[operation]
    reset = torch.zeros(2, T, dtype=torch.bool)
    reset[0, ::32] = True
    reset[1, T // 2] = True
    values = (randn(2, T, N), randn(2, T, N) / N**0.5, randn(2, T, D), randn(2, T, D).exp(), randn(2, D, N), reset)
    agree(forms["fused"], forms["recurrent"], values, torch.float32)
    why = "one number nudged once is a noisy ruler"
    agree(gradient(forms["fused"]), gradient(forms["recurrent"]), values, torch.float32, 6, why)
