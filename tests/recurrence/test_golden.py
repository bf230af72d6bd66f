"""Every form of every operation gives the published implementations' numbers.

CASES is the table: a case of tests/golden, the operation that computes it, and how the paper's letters become its arguments. A row is
tested by being there, in every form that OPERATIONS lists: outputs, final states, and the gradients of both losses.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence import OPERATIONS, kaczmarz_step
from separatrix.recurrence.plan import objection
from tests import golden

Pair = tuple[Tensor, Tensor]

# relative to the largest number of the reference: (outputs, gradients)
TOLERANCE = {torch.float64: (1e-10, 1e-10), torch.float32: (1e-5, 1e-4)}


def mamba1(scan, u, delta, A, Bm, Cm, D, delta_bias, z=None, h0=None) -> Pair:
    return scan(u, delta, A, Bm, Cm, D, z, delta_bias, True, h0)


def mamba2_ssd(ssd, x, dt, A, Bm, Cm, D, dt_bias, z=None, h0=None) -> Pair:
    return ssd(x, dt, A, Bm, Cm, D, z, dt_bias, True, h0)


def gla(attention, q, k, v, g, S0=None) -> Pair:
    return attention(q, k, v, g, None, S0)


def retention(attention, q, k, v) -> Pair:
    fade = torch.log1p(-(2.0 ** (-5 - torch.arange(q.shape[2], dtype=q.dtype))))
    return attention(q, k, v, fade.expand(q.shape[:3]))


def hgrn2(attention, q, f, i, lb, S0=None) -> Pair:
    keep = lb + (1 - lb) * f.sigmoid()
    return attention(F.silu(q), 1 - keep, i, keep.log(), None, S0)


def lightnet(attention, q, k, v, S0=None, z0=None) -> Pair:
    before = torch.full_like(k[:, :1], -torch.inf) if z0 is None else z0.unsqueeze(1)
    z = torch.cat([before, k], dim=1).logcumsumexp(1)
    return attention(q, (k - z[:, 1:]).exp(), v, z[:, :-1] - z[:, 1:], None, S0)


def rwkv6(attention, r, k, v, w, u, S0=None) -> Pair:
    return attention(r, k, v, w, 1.0, S0, None, u)


def deltanet(rule, q, k, v, beta, g=None, S0=None) -> Pair:
    return rule(q, k, v, beta, g, None, S0)


def rwkv7(rule, r, w, k, v, a, b, S0=None) -> Pair:
    return rule(r, w, k, v, a, b, 1.0, S0)


def kaczmarz(rule, q, k, v, eta, g, S0=None) -> Pair:
    return rule(q, k, v, kaczmarz_step(k, eta), g, 1.0, S0)


def log_linear(attention, q, k, v, g, lam) -> Pair:
    return attention(q, k, v, g, lam)


def gated_deltaproduct(product, q, k, v, beta, g, S0=None) -> Pair:
    return product(q, k, v, beta, g, None, S0)


def longhorn(rule, q, k, x, beta, S0=None) -> Pair:
    return rule(q, k, x, beta, S0)


def hgrn(scan, x, g, h0=None) -> Pair:
    return scan(g.exp(), x, h0)


def diag_scan(scan, a, b, h0) -> Pair:
    return scan(a, b, h0)


def lru(scan, u, nu_log, theta_log, Bre, Bim, Cre, Cim, D, x0re, x0im):
    a = torch.polar((-nu_log.exp()).exp(), theta_log.exp())
    gain = (1 - a.abs().square()).sqrt()
    x, last = scan(a, gain * (u.to(a.dtype) @ torch.complex(Bre, Bim).T), torch.complex(x0re, x0im))
    return (x @ torch.complex(Cre, Cim).T).real + D * u, last.real, last.imag


def rglru(scan, x, Wi, Wr, bi, br, lam, h0=None) -> Pair:
    blocks = x.unflatten(-1, (Wi.shape[0], -1)).unsqueeze(-2)
    r, i = ((((blocks @ W).squeeze(-2)) + b).flatten(-2).sigmoid() for W, b in ((Wr, br), (Wi, bi)))
    a = (-8 * F.softplus(lam) * r).exp()
    gain = (1 - a.square()).sqrt()
    if h0 is None:
        gain = torch.cat([torch.ones_like(gain[:, :1]), gain[:, 1:]], dim=1)
    return scan(a, gain * i * x, h0)


def mingru(scan, zg, hh, h0) -> Pair:
    return scan(1 - zg.sigmoid(), zg.sigmoid() * hh, h0)


def minlstm(scan, f, i, hh, h0) -> Pair:
    f, i = f.sigmoid(), i.sigmoid()
    return scan(f / (f + i), i / (f + i) * hh, h0)


def positive(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x + 0.5, x.sigmoid())


def mingru_log(scan, zg, hh, h0) -> Pair:
    return mingru(scan, zg, positive(hh), positive(h0))


def minlstm_log(scan, f, i, hh, h0) -> Pair:
    return minlstm(scan, f, i, positive(hh), positive(h0))


def sdssm(scan, Adict, Bw, Wsel, bsel, h0, u) -> Pair:
    return scan(u @ Wsel.T + bsel, Adict.movedim(-1, 0), u @ Bw.T, h0)


CASES: dict[str, tuple[str, Callable]] = {
    "mamba1": ("selective_scan", mamba1),
    "mamba2_ssd": ("ssd", mamba2_ssd),
    "gla": ("linear_attention", gla),
    "simple_gla": ("linear_attention", gla),
    "retention": ("linear_attention", retention),
    "hgrn2": ("linear_attention", hgrn2),
    "lightnet": ("linear_attention", lightnet),
    "rwkv6": ("linear_attention", rwkv6),
    "deltanet": ("delta_rule", deltanet),
    "gated_deltanet": ("delta_rule", deltanet),
    "kda": ("delta_rule", deltanet),
    "kaczmarz": ("delta_rule", kaczmarz),
    "gated_deltaproduct_n2": ("delta_product", gated_deltaproduct),
    "gated_deltaproduct_n3": ("delta_product", gated_deltaproduct),
    "longhorn_exact": ("longhorn", longhorn),
    "longhorn_diag": ("longhorn_diagonal", longhorn),
    "hgrn": ("diagonal_scan", hgrn),
    "diag_scan": ("diagonal_scan", diag_scan),
    "lru": ("diagonal_scan", lru),
    "rglru": ("diagonal_scan", rglru),
    "mingru": ("diagonal_scan", mingru),
    "mingru_log": ("diagonal_scan", mingru_log),
    "minlstm": ("diagonal_scan", minlstm),
    "minlstm_log": ("diagonal_scan", minlstm_log),
    "rwkv7": ("dplr", rwkv7),
    "log_linear_attn": ("log_linear_attention", log_linear),
    "sdssm": ("dictionary_scan", sdssm),
}

ROWS = [
    pytest.param(case, name, form, dtype, id=f"{name}-{form}-{str(dtype)[6:]}")
    for case, (operation, _) in CASES.items()
    for name in golden.names(case)
    for form in OPERATIONS[operation]
    for dtype in TOLERANCE
    if form != "fused" or objection(operation, (torch.zeros(1, 1, 1, dtype=dtype),)) is None
]


@pytest.mark.parametrize("case, name, form, dtype", ROWS)
def test_every_form_gives_the_reference_numbers(case: str, name: str, form: str, dtype: torch.dtype):
    operation, letters = CASES[case]
    reference = golden.load(name)
    inputs = {key: cast(x, dtype).requires_grad_() for key, x in reference.inputs.items()}
    parts = ("o", "state_re", "state_im") if case == "lru" else ("o", "state")
    expect_reference(reference, inputs, dict(zip(parts, letters(willing(operation, form), **inputs))), dtype)


def expect_reference(reference: golden.Case, inputs: dict[str, Tensor], outputs: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Every output that the reference has, and its gradients to `inputs`."""
    closer, close = TOLERANCE[dtype]
    for part in outputs:
        if part not in reference.outputs:
            continue
        assert error(outputs[part], reference.outputs[part], dtype) < closer, part
        if part not in reference.weights:
            continue
        loss = (outputs[part].real * cast(reference.weights[part], dtype)).sum()
        gradients = torch.autograd.grad(loss, list(inputs.values()), retain_graph=True, allow_unused=True)
        for key, gradient in zip(inputs, gradients):
            expected = reference.gradients[part].get(key)
            if expected is not None:
                assert gradient is not None, f"{part} does not depend on {key}"
                assert error(gradient, expected, dtype) < close, f"d {part} / d {key}"


def willing(operation: str, form: str) -> Callable:
    """The form, or a skip that repeats its objection to these tensors."""

    def call(*arguments):
        why = objection(operation, arguments) if form == "fused" else None
        if why:
            pytest.skip(why)
        return OPERATIONS[operation][form](*arguments)

    return call


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to((torch.complex128 if dtype is torch.float64 else torch.complex64) if x.is_complex() else dtype)


def error(got: Tensor, want: Tensor, dtype: torch.dtype) -> float:
    """The largest difference against the largest number, or against the smallest that `dtype` can hold (gradients of 1e-126 exist)."""
    assert got.shape == want.shape
    return float((got.detach().to(want.dtype) - want).abs().max() / want.abs().max().clamp(min=torch.finfo(dtype).tiny))


def test_no_case_is_empty():
    assert all(golden.names(case) for case in CASES)
