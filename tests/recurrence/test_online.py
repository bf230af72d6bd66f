"""LegS online, and the predictor that needs no training."""

import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.recurrence import dense_ssm, legs_online
from separatrix.recurrence.basis import legendre
from separatrix.recurrence.discretize import bilinear_matrix, zoh_matrix
from separatrix.recurrence.hippo import legs
from separatrix.recurrence.online import recall
from separatrix.recurrence.prophecy import prophecy


def smooth(time: int, cycles: float, rows: int = 2) -> Tensor:
    """Random sums of oscillations, at most `cycles` in the whole.   [rows, T, 1]"""
    f, phase, size = (torch.rand(rows, 1, 12, dtype=torch.float64) for _ in range(3))
    t = torch.arange(time, dtype=torch.float64)[:, None] / time
    return (size * torch.cos(2 * torch.pi * (cycles * f * t + phase))).sum(-1, keepdim=True)


def test_the_state_is_the_projection_of_all_samples():
    """c_n = ∫₀¹ u(kx) g_n(x) dx of the staircase, by Gauss-Legendre on every stair."""
    u = torch.randn(2, 30, 1, dtype=torch.float64)
    c, (last, heard) = legs_online(u, 12)
    nodes, weights = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(8))
    for k in (1, 2, 7, 30):
        x = (torch.arange(k, dtype=torch.float64)[:, None] + (nodes + 1) / 2) / k
        means = (legendre(12, 2 * x - 1) * weights[:, None] / 2).sum(1) / k  # [k, N]
        torch.testing.assert_close(c[:, k - 1], u[:, :k].mT @ means, rtol=1e-10, atol=1e-10)  # float64: up to thirty steps
    assert torch.equal(last, c[:, -1]) and heard.tolist() == [30, 30]


@pytest.mark.parametrize("rule, within", [(zoh_matrix, 0.02), (bilinear_matrix, 0.05)])
def test_it_recalls_all_of_the_past(rule, within: float):
    u = smooth(400, 4)
    c, _ = legs_online(u, 24, rule)
    x = torch.linspace(0.1, 0.95, 40, dtype=torch.float64)
    at = (x * 400 - 0.5).round().long()
    assert (recall(c[:, -1, 0], (at + 0.5) / 400) - u[:, at, 0]).abs().max() < within * u.abs().max()


def test_it_goes_on_where_it_stopped_and_starts_anew():
    u = torch.randn(2, 25, 3, dtype=torch.float64)
    whole, final = legs_online(u, 6)
    first, state = legs_online(u[:, :9], 6)
    second, state = legs_online(u[:, 9:], 6, initial_state=state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(state[0], final[0])
    reset = torch.zeros(2, 25, dtype=torch.bool)
    reset[1, 9] = True
    packed, (_, heard) = legs_online(u, 6, reset=reset)
    torch.testing.assert_close(packed[0], whole[0])
    torch.testing.assert_close(packed[1, 9:], legs_online(u[1:, 9:], 6)[0][0])
    assert heard.tolist() == [25, 16]
    assert legs_online(u[:, :0], 6)[0].shape == (2, 0, 3, 6)


def test_the_bilinear_rule_is_the_papers_step():
    """(1 - A/2k) c_k = (1 + A/2k) c_{k-1} + B/k u_k."""
    A, B, _ = legs(5)
    one = torch.eye(5, dtype=torch.float64)
    u = torch.randn(1, 6, 1, dtype=torch.float64)
    c, h = legs_online(u, 5, bilinear_matrix)[0], torch.zeros(5, dtype=torch.float64)
    for k in range(1, 7):
        h = torch.linalg.solve(one - A / (2 * k), (one + A / (2 * k)) @ h + B / k * u[0, k - 1, 0])
        torch.testing.assert_close(c[0, k - 1, 0], h)


def missed(n: int, u: Tensor, window: int, rule=bilinear_matrix) -> float:
    """Error of the prediction over that of persistence, after three windows."""
    y, _ = dense_ssm(u, *prophecy(n, window, rule))
    heard = slice(3 * window, -1)
    return float((y[:, heard] - u[:, 3 * window + 1 :]).norm() / (u[:, heard] - u[:, 3 * window + 1 :]).norm())


def test_prophecy_predicts_without_training():
    """Two cycles a window at most; its error is second order in the step: half the step, a quarter of it (of persistence's: half)."""
    u = smooth(600, 12)
    assert missed(16, u, 100) < 0.05 and missed(16, u, 100) < 0.1 * missed(8, u, 100)
    assert missed(32, u, 100, zoh_matrix) > 10 * missed(32, u, 100)
    torch.manual_seed(7)
    coarse = smooth(600, 12)
    torch.manual_seed(7)
    fine = smooth(1200, 12)
    assert 3 < missed(24, coarse, 100) / missed(24, fine, 200) < 5


def test_prophecy_reads_the_slope_of_a_line():
    """What every polynomial of the state's degree obeys: after a window of a straight line the next sample is on it."""
    u = torch.arange(600, dtype=torch.float64)[None, :, None] / 100
    y, _ = dense_ssm(u, *prophecy(6, 40))
    torch.testing.assert_close(y[:, 500:-1], u[:, 501:], rtol=1e-6, atol=1e-6)


def test_it_compiles():
    u = torch.randn(2, 5, 3)
    torch._dynamo.reset()
    compiled = torch.compile(lambda u: legs_online(u, 4)[0], backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(u), legs_online(u, 4)[0])


def test_another_default_device_changes_nothing():
    u = torch.randn(2, 5, 3)
    with torch.device("meta"):
        states, _ = legs_online(u, 4)
        recalled = recall(states, u[0, :, 0])
    assert torch.equal(states, legs_online(u, 4)[0]) and torch.equal(recalled, recall(states, u[0, :, 0]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_a_state_of_another_precision_goes_on(dtype: torch.dtype):
    u = torch.randn(2, 6, 3)
    c, (early, heard) = legs_online(u, 4)[0], legs_online(u[:, :3], 4)[1]
    rest, (final, _) = legs_online(u[:, 3:], 4, initial_state=(early.to(dtype), heard))
    assert rest.dtype == final.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    # float16 rounds at 0.0005
    torch.testing.assert_close(rest.float(), c[:, 3:], rtol=1e-2, atol=1e-2)
