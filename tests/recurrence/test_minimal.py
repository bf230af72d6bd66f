"""Minimal gated networks in both spaces, and the gains of LRU and RG-LRU."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence import (
    OPERATIONS,
    diagonal_scan,
    log_min_gru,
    log_min_lstm,
    log_positive,
    log_scan,
    lru_gain,
    min_gru,
    min_lstm,
    positive,
    rg_lru,
)
from tests import golden
from tests.agree import agree, gradient
from tests.recurrence.roads import BATCH, randn

agree = partial(agree, factor=8, because="a handful of numbers, nudged once, is a noisy ruler")
FORMS = OPERATIONS["log_scan"]
TOLERANCE = {torch.float64: (1e-10, 1e-10), torch.float32: (1e-5, 1e-4)}


def in_logs(cell, *gates_and_h):
    *gates, hh, h0 = gates_and_h
    states, last = cell(*gates, log_positive(hh), log_positive(h0))
    return states.exp(), last.exp()


def made_positive(cell, *gates_and_h):
    *gates, hh, h0 = gates_and_h
    return cell(*gates, positive(hh), positive(h0))


def rglru(x, Wi, Wr, bi, br, lam, h0=None):
    blocks = x.unflatten(-1, (Wi.shape[0], -1)).unsqueeze(-2)
    r, i = (((blocks @ W).squeeze(-2) + b).flatten(-2).sigmoid() for W, b in ((Wr, br), (Wi, bi)))
    return rg_lru(x, r, i, lam, h0)


CASES = {
    "mingru": lambda zg, hh, h0: min_gru(zg, hh, h0),
    "minlstm": lambda f, i, hh, h0: min_lstm(f, i, hh, h0),
    "mingru_log": lambda zg, hh, h0: in_logs(log_min_gru, zg, hh, h0),
    "minlstm_log": lambda f, i, hh, h0: in_logs(log_min_lstm, f, i, hh, h0),
    "mingru_log ": lambda zg, hh, h0: made_positive(min_gru, zg, hh, h0),
    "minlstm_log ": lambda f, i, hh, h0: made_positive(min_lstm, f, i, hh, h0),
    "rglru": rglru,
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name, case", [(name, case) for case in CASES for name in golden.names(case.strip())])
def test_the_reference_numbers(name: str, case: str, dtype: torch.dtype):
    reference = golden.load(name)
    leaves = {key: x.to(dtype).requires_grad_() for key, x in reference.inputs.items()}
    closer, close = TOLERANCE[dtype]
    for part, y in zip(("o", "state"), CASES[case](**leaves)):
        assert error(y, reference.outputs[part]) < closer
        loss = (y * reference.weights[part].to(dtype)).sum()
        for key, grad in zip(leaves, torch.autograd.grad(loss, list(leaves.values()), retain_graph=True, allow_unused=True)):
            want = reference.gradients[part].get(key)
            if want is not None:
                assert error(grad, want) < close, f"d {part} / d {key}"


def error(got: Tensor, want: Tensor) -> float:
    return float((got.detach().double() - want).abs().max() / want.abs().max())


def test_gates_that_are_shut_to_the_last_digit():
    """σ(-1000) is 0 in every dtype, its logarithm is not."""
    shut = torch.full((1, 3, 1), -1000.0)
    h = torch.zeros(1, 1)
    states, last = log_min_gru(-shut, shut, h - 500)  # the state is replaced by exp(-1000), three times
    assert torch.equal(states, shut) and torch.equal(last, shut[:, 0])
    states, _ = log_min_gru(torch.full((1, 3, 1), 400.0), torch.full((1, 3, 1), -5000.0), h)  # a product of gates of exp(-400)
    assert torch.equal(states.flatten(), torch.tensor([-400.0, -800.0, -1200.0]))
    kept, _ = min_lstm(shut, shut, torch.full((1, 3, 1), 2.0), h)  # both gates shut: even halves, not 0/0
    assert torch.allclose(kept.flatten(), torch.tensor([1.0, 1.5, 1.75]))
    opened, _ = min_lstm(shut + 30, shut, torch.ones(1, 3, 1), h)
    assert 0 < opened[0, 0, 0] < 1e-12


ROADS = [
    (form, dtype) for form in FORMS for dtype in (torch.float64, torch.float32, torch.bfloat16) if (form, dtype) != ("fused", torch.float64)
]


@pytest.mark.parametrize("form, dtype", ROADS, ids=str)
@pytest.mark.parametrize("T", [0, 1, 2, 63, 64, 65])
def test_logarithms_of_a_diagonal_scan(form: str, dtype: torch.dtype, T: int):
    log_a, log_x, h = -randn(BATCH, T, 3).abs(), randn(BATCH, T, 3), randn(BATCH, 3)
    reset = torch.rand(BATCH, T) < 0.1

    def plain(log_a, log_x, h):
        states, last = diagonal_scan(log_a.exp(), log_x.exp(), h.exp(), reset)
        return states.log(), last.log()

    def logs(*values):
        return FORMS[form](*values, reset)

    agree(logs, plain, (log_a, log_x, h), dtype)
    if T:  # else exp and log of the state, which the plain road rounds, stand alone
        agree(gradient(logs), gradient(plain), (log_a, log_x, h), dtype)
    assert logs(log_a.to(dtype), log_x.to(dtype), h.to(dtype))[0].dtype is dtype


@pytest.mark.parametrize("form", FORMS)
def test_log_zero_is_a_number_like_any_other(form: str):
    log_a, log_x = torch.zeros(1, 5, 2), torch.zeros(1, 5, 2)
    log_x[0, :2], log_a[0, 3] = -torch.inf, -torch.inf
    leaves = [log_a.requires_grad_(), log_x.requires_grad_()]
    states, _ = FORMS[form](*leaves)
    assert torch.allclose(states.exp()[0, :, 0], torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0]))
    assert all(g.isfinite().all() for g in torch.autograd.grad(states[:, -1].sum(), leaves))


@pytest.mark.parametrize("form", [form for form in FORMS if form != "fused"])
def test_second_derivatives_and_cuts(form: str):
    leaves = [-randn(1, 5, 2).abs(), randn(1, 5, 2), randn(1, 2)]
    leaves = [x.requires_grad_() for x in leaves]
    assert torch.autograd.gradcheck(FORMS[form], leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(FORMS[form], leaves, fast_mode=True)
    a, x, h = leaves
    whole, last = log_scan(a, x, h)
    first, state = log_scan(a[:, :2], x[:, :2], h)
    second, end = log_scan(a[:, 2:], x[:, 2:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(end, last)


@pytest.mark.parametrize("width", [1, 33, 700])
def test_the_kernel_where_logs_are_far_apart(width: int):
    """Steps that forget by exp(-94) or everything, numbers of exp(30) beside exp(-30); cut where it likes."""
    T = 300
    a = torch.where(torch.rand(BATCH, T, width) < 0.1, -94.0, -0.01) * torch.rand(BATCH, T, width, dtype=torch.float64)
    values = (a, 10 * randn(BATCH, T, width), 10 + randn(BATCH, width))
    reset = torch.rand(BATCH, T) < 0.02
    fast, slow = (partial(FORMS[form], reset=reset) for form in ("fused", "recurrent"))
    agree(fast, slow, values, torch.float32)
    agree(gradient(fast), gradient(slow), values, torch.float32)

    def pieces(a, x, h):
        first, state = FORMS["fused"](a[:, : T // 2], x[:, : T // 2], h, reset[:, : T // 2])
        second, state = FORMS["fused"](a[:, T // 2 :], x[:, T // 2 :], state, reset[:, T // 2 :])
        return torch.cat([first, second], dim=1), state

    single = tuple(x.float() for x in values)
    assert all(torch.equal(got, want) for got, want in zip(pieces(*single), fast(*single)))


def test_the_kernel_is_seen_by_those_who_look():
    """Compiled, exported, differentiated twice: one function. A reset clears by selection: added up, a NaN would stay one."""
    values = -randn(1, 9, 2, 2).abs().float(), randn(1, 9, 2, 2).float(), randn(1, 2, 2).float()
    want = log_scan(*values)
    torch._dynamo.reset()
    for got, exact in zip(torch.compile(log_scan, backend="aot_eager", fullgraph=True)(*values), want):
        torch.testing.assert_close(got, exact)

    def second(form: str, dtype: torch.dtype) -> list[Tensor]:
        leaves = [x.to(dtype).requires_grad_() for x in values]
        h, last = FORMS[form](*leaves)
        first = torch.autograd.grad(h.square().sum() + last.sum(), leaves, create_graph=True)
        return list(torch.autograd.grad(sum(x.square().sum() for x in first), leaves))

    for got, exact in zip(second("fused", torch.float32), second("chunked", torch.float64)):
        # float32; a ruler of nudged logarithms, of which these are exponentials, would allow more
        torch.testing.assert_close(got, exact, rtol=1e-4, atol=1e-5, check_dtype=False)
    reset = torch.zeros(1, 9, dtype=torch.bool)
    reset[:, 4] = True
    spoilt, last = FORMS["fused"](values[0], values[1], torch.full_like(values[2], torch.nan), reset)
    whole, end = FORMS["fused"](*values, reset)
    assert spoilt[:, :4].isnan().all() and torch.equal(spoilt[:, 4:], whole[:, 4:]) and torch.equal(last, end)


def test_a_reset_is_a_restart():
    z, x, h = randn(2, 9, 3), randn(2, 9, 3), randn(2, 3)
    reset = torch.zeros(2, 9, dtype=torch.bool)
    reset[1, 4] = True
    lam = randn(3)
    cells = {
        "min_gru": lambda z, x, h, reset: min_gru(z, x, h, reset),
        "min_lstm": lambda z, x, h, reset: min_lstm(z, -z, x, h, reset),
        "log_min_gru": lambda z, x, h, reset: log_min_gru(z, x, h, reset),
        "rg_lru": lambda z, x, h, reset: rg_lru(x, z.sigmoid(), (-z).sigmoid(), lam, h, reset),
    }
    for cell in cells.values():
        packed, _ = cell(z, x, h, reset)
        whole, _ = cell(z, x, h, None)
        alone, _ = cell(z[1:, 4:], x[1:, 4:], None, None)
        torch.testing.assert_close(packed[0], whole[0])
        torch.testing.assert_close(packed[1, :4], whole[1, :4])
        torch.testing.assert_close(packed[1:, 4:], alone)


@pytest.mark.parametrize("form", FORMS)
def test_not_even_a_nan_passes_a_reset(form: str):
    reset = torch.zeros(BATCH, 20, dtype=torch.bool)
    reset[:, [9, 14]] = True
    clean = -randn(BATCH, 20, 5).abs().float(), randn(BATCH, 20, 5).float(), randn(BATCH, 5).float()
    broken = tuple(x.clone() for x in clean)
    broken[0][:, 3], broken[1][:, 7], broken[2][:] = torch.nan, torch.nan, torch.nan
    (got, last), (want, final) = (FORMS[form](*values, reset) for values in (broken, clean))
    assert got[:, :9].isnan().any() and torch.equal(got[:, 9:], want[:, 9:]) and torch.equal(last, final)


def test_the_gain_keeps_every_digit_of_a_slow_mode():
    rate = torch.logspace(-30, 2, 200, dtype=torch.float64)
    exact = lru_gain(-rate)
    assert torch.allclose(lru_gain(-rate.float()).double(), exact, rtol=3e-7)  # two and a half roundings
    slow = rate[rate < 1e-9]
    assert torch.allclose(lru_gain(-slow), (2 * slow).sqrt(), rtol=1e-9)
    still = torch.zeros(1, requires_grad=True)
    assert lru_gain(still).item() == 0 and torch.autograd.grad(lru_gain(still).sum(), still)[0].item() == 0


def test_the_gain_gives_unit_variance():
    a = torch.tensor([0.0, 0.5, 0.99])
    x = torch.randn(4, 20_000, 3, generator=torch.Generator().manual_seed(0))
    h, _ = diagonal_scan(a, lru_gain(a.log().clamp(min=-50)) * x)
    assert torch.allclose(h[:, 2000:].var((0, 1)), torch.ones(3), atol=0.1)


def test_the_door():
    z = randn(2, 5, 3)
    with pytest.raises(ValueError, match=r"^h_tilde is \[2, 4, 3\], expected \[batch, time, ...\] = \[2, 5, 3\]"):
        min_gru(z, z[:, :4])
    with pytest.raises(ValueError, match=r"^i is \[2, 4, 3\]"):
        min_lstm(z, z[:, :4], z)
    with pytest.raises(ValueError, match=r"^r is \[2, 4, 3\]"):
        rg_lru(z, z[:, :4], z, z[0, 0])
    with pytest.raises(TypeError, match=r"^log_a is torch.complex128, expected a real tensor"):
        log_scan(z + 0j, z)
    assert F.sigmoid(torch.tensor(-200.0)) == 0 and log_positive(torch.tensor(-200.0)) == -200


def test_no_imaginary_part_is_lost():
    x = torch.zeros(2, 3, 4)
    turning = x.to(torch.complex64)
    for call in (
        lambda: min_lstm(turning, x, x), lambda: min_lstm(x, turning, x), lambda: log_min_lstm(turning, x, x),
        lambda: min_gru(x, x, turning[:, 0]), lambda: min_lstm(x, x, x, turning[:, 0]),
    ):  # fmt: skip
        with pytest.raises(TypeError, match="complex64, expected a real tensor"):
            call()
