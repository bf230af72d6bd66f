"""Companion systems: the kernel and the last state by power series, the closed loop, the published numbers."""

import pytest
import torch
from torch import Tensor

from separatrix.recurrence import (
    OPERATIONS,
    Companion,
    companion_closed_loop,
    companion_kernel,
    companion_ssm,
    companion_state,
    long_convolution,
)
from separatrix.recurrence.companion import normalised
from tests import golden
from tests.recurrence.roads import randn


def close(got: Tensor, want: Tensor, rtol: float = 1e-11) -> None:
    torch.testing.assert_close(got, want, rtol=rtol, atol=rtol * float(want.abs().max()) if want.numel() else 0)


def naive_kernel(a: Tensor, b: Tensor, c: Tensor, length: int) -> Tensor:
    taps = []
    for _ in range(length):
        taps.append((c * b).sum(-1))
        b = Companion(a).apply(b)
    return torch.stack(taps, dim=-1) if taps else b[..., :0]


@pytest.mark.parametrize("N", [1, 2, 7, 64])
@pytest.mark.parametrize("length", [0, 1, 2, 5, 64, 1000])
def test_the_kernel_is_that_of_the_powers(N: int, length: int):
    a, b, c = normalised(randn(3, N)), randn(3, N), randn(3, N)
    want = naive_kernel(a, b, c, length)
    close(companion_kernel(a, b, c, length), want)
    leaves = [x.requires_grad_() for x in (a.clone(), b.clone(), c.clone())]
    weight = randn(3, length)
    got = torch.autograd.grad((companion_kernel(*leaves, length) * weight).sum(), leaves)
    exact = torch.autograd.grad((naive_kernel(*leaves, length) * weight).sum(), leaves, allow_unused=True, materialize_grads=True)
    for one, other in zip(got, exact):
        close(one, other, 1e-9)


def test_a_growing_kernel_and_single_precision():
    a, b, c = torch.tensor([[0.2, -1.3, 2.2]]).double(), randn(1, 3), randn(1, 3)  # roots outside the disc
    close(companion_kernel(a, b, c, 50), naive_kernel(a, b, c, 50), 1e-9)
    single = companion_kernel(*(x.float() for x in (normalised(a), b, c)), 500)
    assert single.dtype is torch.float32
    close(single.double(), naive_kernel(*(x.float().double() for x in (normalised(a), b, c)), 500), 1e-6)


@pytest.mark.parametrize("T", [0, 1, 3, 40, 200])
def test_the_operation_is_its_convolution_and_ends_in_its_state(T: int):
    a, b, c, u = normalised(randn(3, 5)), randn(3, 5), randn(3, 5), randn(2, T, 3)
    y, final = companion_ssm(u, a, b, c)
    close(y, long_convolution(companion_kernel(a, b, c, max(T, 1)), u)[0])
    close(companion_state(a, b, u), final)


def test_normalised_coefficients_have_no_root_outside_the_disc():
    assert (Companion(normalised(randn(200, 9))).spectrum().abs() <= 1 + 1e-12).all()
    assert torch.equal(normalised(torch.zeros(2, 3)), torch.zeros(2, 3))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_the_reference_numbers(dtype: torch.dtype, tolerance: float):
    case = golden.load("spacetime_companion")
    a, b, c, k, plain_a, plain_k, u = (case.inputs[key].to(dtype) for key in ("a", "b", "c", "k", "plain_a", "plain_k", "u"))
    want, an = case.outputs, normalised(a)
    close(companion_kernel(an, b, c, u.shape[1]).double(), want["K"], tolerance)
    close(companion_state(an, b, u).double(), want["state"], tolerance)
    for form in OPERATIONS["companion_ssm"]:
        y, state = OPERATIONS["companion_ssm"][form](u, an, b, c)
        close(y.double(), want["y"], tolerance)
        close(state.double(), want["state"], tolerance)
    horizon = want["closed_y"].shape[1]
    y, v = companion_closed_loop(an, normalised(b), normalised(c), normalised(k), state, horizon)
    close(y.double(), want["closed_y"], tolerance)
    close((v * k.abs().sum(-1)).double(), want["closed_u"], tolerance)
    plain = companion_state(plain_a, b, u)
    close(plain.double(), want["plain_state"], tolerance)
    y, v = companion_closed_loop(plain_a, b, c, plain_k, plain, horizon)
    close(y.double(), want["plain_closed_y"], tolerance)
    close(v.double(), want["plain_closed_u"], tolerance)


def test_the_closed_loop_is_the_open_one_fed_with_its_prediction():
    a, b, c, k, h = normalised(randn(3, 5)), randn(3, 5), randn(3, 5), randn(3, 5) / 5, randn(2, 3, 5)
    y, u = companion_closed_loop(a, b, c, k, h, 8)
    close(u[:, 0], (k * h).sum(-1))
    again, _ = companion_ssm(u, a, b, c, h)
    close(again[:, :-1], y[:, 1:])
    assert companion_closed_loop(a, b, c, k, h, 0)[0].shape == (2, 0, 3)
    with pytest.raises(ValueError, match=r"^k is \[4, 5\], expected \[channels, state\]"):
        companion_closed_loop(a, b, c, randn(4, 5), h, 8)


@pytest.mark.parametrize("T", [60, 300, 2000])
def test_responses_that_grow_are_right_to_the_last_tap(T: int):
    """Largest roots of 2, 0.9, 0.995 and 1.3 side by side. An FFT alone leaves the roundings of the largest tap everywhere."""
    a = torch.tensor([[0.2, 1.9], [0.27, 0.6], [-0.99, 1.9], [0.0, 1.3]], dtype=torch.float64)
    b, c, u = randn(4, 2), randn(4, 2), randn(2, T, 4)
    taps, want = companion_kernel(a, b, c, T), naive_kernel(a, b, c, T)
    inside = want.isfinite() & (want.abs() < 1e300)
    torch.testing.assert_close(taps[inside], want[inside], rtol=1e-10, atol=1e-10)
    assert taps[~inside].abs().amin().item() > 1e299 if T > 1000 else inside.all()
    last = companion_ssm(u, a, b, c)[1]
    if T < 1000:
        size = last.abs().amax(-1, keepdim=True)
        close(companion_state(a, b, u) / size, last / size)


def test_a_closed_loop_of_short_numbers_runs_in_full_precision():
    a, b, c, k, state = (x.to(torch.bfloat16) for x in (normalised(randn(3, 4)), randn(3, 4), randn(3, 4), randn(3, 4) / 9, randn(2, 3, 4)))
    for got, want in zip(*(companion_closed_loop(*(x.to(dtype) for x in (a, b, c, k, state)), 50) for dtype in (a.dtype, torch.float64))):
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)  # float32 for 50 steps; bfloat16 would be off by 4e-3


@pytest.mark.parametrize("batch, channels", [(0, 3), (2, 0)])
def test_nothing_in_nothing_out(batch: int, channels: int):
    a, b, c = (randn(channels, 4).requires_grad_() for _ in range(3))
    taps, state = companion_kernel(a, b, c, 5), companion_state(a, b, randn(batch, 6, channels))
    assert taps.shape == (channels, 5) and state.shape == (batch, channels, 4)
    (taps.sum() + state.sum()).backward()
    with pytest.raises(ValueError, match="the state axis has size 0, expected at least 1"):
        companion_kernel(a[:, :0], b[:, :0], c[:, :0], 5)
