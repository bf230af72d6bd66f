"""Dtypes and devices: what a state is kept in, whatever the input, autocast or the defaults are."""

import pytest
import torch

from tests.agree import distance, nudge
from tests.mixers.cases import D, every_case, road


@pytest.fixture
def default_dtype():
    yield torch.set_default_dtype
    torch.set_default_dtype(torch.float32)


@every_case
@torch.no_grad()
def test_under_autocast_the_state_stays_in_float32(case):
    layer = case.build()
    x, reset, *rest = case.inputs(21, warm=0)
    exact = road(case, (), x, reset, *rest)[0]
    moved = road(case, (), *(nudge(part, torch.bfloat16, torch.Generator().manual_seed(1)) for part in (x, reset, *rest)))[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = layer(x.float())
        half, middle = layer(x[:, :10].float())
        resumed, _ = layer(x[:, 10:].float(), middle)
    assert all(part.dtype in (torch.float32, torch.complex64) for part in state.tensors().values())
    assert all(p.dtype == torch.float32 for p in layer.parameters())
    allowed = 3 * distance(moved, exact)
    assert distance(y, exact) <= allowed
    assert distance(torch.cat([half, resumed], dim=1), exact) <= allowed


@every_case
def test_gradients_flow_under_autocast(case):
    layer = case.build()
    x = torch.randn(2, 6, D, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = layer(x)
    y.float().square().sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@every_case
@pytest.mark.parametrize("T", [1, 4])
@torch.no_grad()
def test_a_state_in_another_precision_is_taken(case, T):
    layer, x = case.build(), torch.randn(2, 5 + T, D)
    _, state = layer(x[:, :5])
    double = state.map(lambda part: part.to(torch.complex128 if part.is_complex() else torch.float64))
    y, _ = layer(x[:, 5:], double)
    assert y.dtype is torch.float32
    torch.testing.assert_close(y, layer(x[:, 5:], state)[0])


@every_case
def test_a_layer_in_bfloat16_runs_and_learns(case):
    layer = case.build().bfloat16()
    x = torch.randn(2, 9, D, dtype=torch.bfloat16)
    y, _ = layer(x)
    half, state = layer(x[:, :5])
    rest, _ = layer(x[:, 5:], state)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(torch.cat([half, rest], 1), y, rtol=0.05, atol=0.05)  # bfloat16 rounds at 0.004, and the pieces elsewhere
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@every_case
def test_another_default_dtype_is_that_of_every_parameter(case, default_dtype):
    single, x = case.build(), torch.randn(2, 5, D)
    y = single(x)[0]
    default_dtype(torch.float64)
    layer = case.build()
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    layer(x.double())[0].sum().backward()
    assert torch.equal(single(x)[0], y)


@every_case
@torch.no_grad()
def test_a_layer_of_another_default_device_is_all_on_it(case):
    with torch.device("meta"):
        layer = case.build()
    assert {part.device.type for part in (*layer.parameters(), *layer.buffers())} == {"meta"}
    y, state = layer(torch.empty(2, 5, D, device="meta"))
    assert y.shape == (2, 5, D) and {part.device.type for part in (y, *state.tensors().values())} == {"meta"}


@every_case
@torch.no_grad()
def test_another_default_device_is_not_that_of_the_state(case):
    layer, x = case.build(), torch.randn(2, 5, D)
    y, state = layer(x)
    with torch.device("meta"):
        elsewhere, later = layer(x)
    assert torch.equal(elsewhere, y)
    assert all(torch.equal(part, later.tensors()[name]) for name, part in state.tensors().items())
