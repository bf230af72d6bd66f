"""The way to other packages' GPU kernels, on a machine that has neither: what is called, with what, and what happens when it is not there.

The packages are played by our own definitions under their names, with their layouts and their argument names.
"""

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from separatrix.recurrence import OPERATIONS, choose, cuda
from tests.agree import cast
from tests.recurrence.roads import ROWS


def play(monkeypatch, module: str, **functions) -> None:
    played = ModuleType(module)
    for name, function in functions.items():
        setattr(played, name, function)
    monkeypatch.setitem(sys.modules, module, played)


def without_heads_to_repeat(rule, *names):
    """A kernel of fla: one query and key a value head, everything after q, k, v by name, the final state only when asked for."""

    def kernel(q, k, v, *others, scale=None, initial_state=None, output_final_state=False, **named):
        assert q.shape[2] == v.shape[2] and output_final_state and initial_state.dtype is torch.float32
        arguments = dict(zip(names, others)) | {{"g": "log_decay"}.get(name, name): x for name, x in named.items() if name != "normalize"}
        assert arguments.get("log_decay") is None or arguments["log_decay"].dtype is torch.float32
        return rule(q=q, k=k, v=v, scale=scale, initial_state=initial_state, **arguments)

    return kernel


@pytest.fixture
def packages(monkeypatch):
    attention, delta = OPERATIONS["linear_attention"]["recurrent"], OPERATIONS["delta_rule"]["recurrent"]
    play(monkeypatch, "fla.ops.linear_attn", chunk_linear_attn=without_heads_to_repeat(attention))
    play(monkeypatch, "fla.ops.simple_gla", chunk_simple_gla=without_heads_to_repeat(attention))
    play(monkeypatch, "fla.ops.gla", chunk_gla=without_heads_to_repeat(attention))
    play(monkeypatch, "fla.ops.delta_rule", chunk_delta_rule=without_heads_to_repeat(delta, "beta"))
    play(monkeypatch, "fla.ops.gated_delta_rule", chunk_gated_delta_rule=without_heads_to_repeat(delta))
    play(monkeypatch, "fla.ops.kda", chunk_kda=without_heads_to_repeat(delta))

    def combined(x, dt, A, B, C, chunk_size, *, initial_states, return_final_states, **named):
        assert return_final_states and chunk_size > 0
        return OPERATIONS["ssd"]["recurrent"](x, dt, A, B, C, initial_state=initial_states, **named)

    def selective(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state):
        assert return_last_state and u.dtype == delta.dtype == B.dtype == C.dtype
        u, delta, B, C, z = (None if x is None else x.transpose(1, 2) for x in (u, delta, B, C, z))
        y, final = OPERATIONS["selective_scan"]["recurrent"](u, delta, A, B, C, D, z, delta_bias, delta_softplus)
        return y.transpose(1, 2), final

    play(monkeypatch, "mamba_ssm.ops.triton.ssd_combined", mamba_chunk_scan_combined=combined)
    play(monkeypatch, "mamba_ssm.ops.selective_scan_interface", selective_scan_fn=selective)


CALLS = [
    pytest.param(name, id=name)
    for name, row in ROWS.items()
    if row.operation in cuda.FORMS and not any(isinstance(x, Tensor) and x.is_complex() for x in row.example(2).values())
]


@pytest.mark.parametrize("name", CALLS)
def test_a_kernel_is_called_in_its_own_letters(packages, name: str):
    row = ROWS[name]
    arguments = {key: cast(x, torch.bfloat16) for key, x in row.example(9).items()}
    if row.operation == "selective_scan":
        arguments["initial_state"] = None
    _, spelled = cuda.FORMS[row.operation]
    got, want = spelled(**arguments), OPERATIONS[row.operation]["recurrent"](**arguments)
    for one, other in zip(got, want):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one.float(), other.float(), rtol=0.02, atol=0.02)  # bfloat16 rounds at 0.004, each form elsewhere


def on_a_gpu(operation: str, dtype: torch.dtype) -> tuple:
    row = next(row for row in ROWS.values() if row.operation == operation)
    arguments = {key: cast(x, dtype) for key, x in row.example(9).items()}
    with FakeTensorMode():
        return tuple(torch.empty(x.shape, dtype=x.dtype, device="cuda:0") if isinstance(x, Tensor) else x for x in arguments.values())


@pytest.mark.parametrize("operation", cuda.FORMS)
def test_without_a_package_the_chunked_form_runs_and_says_why(monkeypatch, operation: str):
    """As on a machine with a GPU and no package, or with one that does not import."""
    cuda.broken.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "fla", None)
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    inputs = on_a_gpu(operation, torch.bfloat16)
    if operation == "selective_scan":
        inputs = inputs[:9]
    form, why = choose(operation, inputs, 9)
    assert form == "chunked" and "does not import" in why
    cuda.broken.cache_clear()


@pytest.mark.parametrize("operation", cuda.FORMS)
def test_with_a_package_its_kernels_run(monkeypatch, packages, operation: str):
    cuda.broken.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    inputs = on_a_gpu(operation, torch.bfloat16)
    if operation == "selective_scan":
        assert choose(operation, inputs, 9) == ("chunked", "9 steps as products inside chunks and a short scan between them; "
                                                "no GPU kernel: the kernel of mamba-ssm starts at rest")  # fmt: skip
        inputs = inputs[:9]
    form, why = choose(operation, inputs, 9)
    assert form == "cuda" and cuda.FORMS[operation][0] in why
    reset = torch.zeros(2, 9, dtype=torch.bool)
    assert "no reset" in choose(operation, (*inputs, reset), 9)[1]
    assert choose(operation, on_a_gpu(operation, torch.float64), 9)[0] == "chunked"
    cuda.broken.cache_clear()


def test_no_package_is_imported_where_there_is_no_gpu(monkeypatch):
    cuda.broken.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(cuda.importlib, "import_module", lambda name: pytest.fail(f"{name} was imported"))
    assert cuda.broken(cuda.FLA) == cuda.broken(cuda.MAMBA) == "there is no GPU"
    cuda.broken.cache_clear()


def test_a_gradient_that_mamba_would_lose_is_an_error(packages):
    arguments = {key: cast(x, torch.float32) for key, x in ROWS["selective"].example(5).items()} | {"initial_state": None}
    arguments["u"].requires_grad_()
    y, final = cuda.selective_scan_cuda(**arguments)
    torch.autograd.grad(y.sum(), arguments["u"], retain_graph=True)
    with pytest.raises(RuntimeError, match=r"no gradient through the final state\. Pass initial_state"):
        torch.autograd.grad(final.sum(), arguments["u"])
