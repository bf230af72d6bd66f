"""Diagonal plus rank one beyond the table of roads.py: ragged sizes around the kernel's lanes and chunks, and the rules it contains."""

import pytest
import torch
from torch.nn.functional import normalize

from separatrix.recurrence import delta_rule, dplr, linear_attention
from separatrix.recurrence.dplr import dplr_chunked, dplr_fused, dplr_recurrent
from tests.agree import agree, gradient
from tests.recurrence.roads import decay, randn


def example(T: int, K: int, V: int, B: int = 2, H: int = 1) -> tuple:
    kappa = normalize(randn(B, T, H, K), dim=-1)
    gate = torch.rand(B, T, H, K, dtype=torch.float64)
    state = randn(B, H, K, V)
    return randn(B, T, H, K), decay(B, T, H, K), randn(B, T, H, K) / K**0.5, randn(B, T, H, V), -kappa, kappa * gate, 1.0, state


@pytest.mark.parametrize("K, V", [(1, 1), (31, 70), (65, 33)])
@pytest.mark.parametrize("T", [1, 16, 17, 40])
def test_no_size_is_special(T: int, K: int, V: int):
    """One less and one more than whole registers and whole chunks, resets on their edges."""
    reset = torch.zeros(2, T, dtype=torch.bool)
    reset[0, ::16] = True
    reset[1, T // 2] = True
    values = (*example(T, K, V), reset)
    for fast in (dplr_fused, dplr_chunked):
        agree(fast, dplr_recurrent, values, torch.float32)
        agree(gradient(fast), gradient(dplr_recurrent), values, torch.float32, 6, "one number nudged once is a noisy ruler")


def test_without_a_rank_one_part_it_is_linear_attention():
    r, w, k, v, a, b, _, state = example(40, 5, 4)
    for got, want in zip(dplr(r, w, k, v, 0 * a, b, state, scale=0.5), linear_attention(r, k, v, w, 0.5, state)):
        torch.testing.assert_close(got, want)


def test_the_gated_delta_rule_is_one_of_its_rules():
    q, g, k, v, _, _, _, state = example(40, 5, 4)
    k, beta = normalize(k, dim=-1), 2 * torch.rand(2, 40, 1, dtype=torch.float64)
    write = k * beta.unsqueeze(-1)
    for got, want in zip(dplr(q, g, write, v, -g.exp() * k, write, state, scale=0.5), delta_rule(q, k, v, beta, g, 0.5, state)):
        torch.testing.assert_close(got, want)


def test_the_gradient_of_a_strong_decay_keeps_its_digits():
    """It is one product, not the difference of two running sums: that would be all rounding where a step forgets by exp(-30)."""
    r, w, k, v, a, b, scale, state = example(200, 8, 8)
    w = torch.where(w < -5, -30.0, w / 100)
    values = (r, w, k, v, a, b, scale, state)
    wide = [x.clone().requires_grad_() if isinstance(x, torch.Tensor) else x for x in values]
    single = [x.float().requires_grad_() if isinstance(x, torch.Tensor) else x for x in values]
    (want,) = torch.autograd.grad(dplr_recurrent(*wide)[0].square().sum(), wide[1])
    (got,) = torch.autograd.grad(dplr_fused(*single)[0].square().sum(), single[1])
    strong = w == -30
    torch.testing.assert_close(got[strong].double(), want[strong], rtol=1e-3, atol=0)
