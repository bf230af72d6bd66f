"""What torch makes of an operation is the operation: autocast, meta tensors, derivatives of every kind, vmap, compile and export.

For each row of roads.py.
"""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.recurrence import OPERATIONS, Elman, dictionary_transition, legs_online, newton_scan, ridge_solve
from separatrix.recurrence.s4 import cauchy_kernel, s4_kernel
from tests.agree import agree, cast, is_number, weighted_sum
from tests.recurrence.forms import ALL, close, differentiable_in, every_kernel, every_row, exported, named, public
from tests.recurrence.roads import ROWS, Arguments, Row, randn


@every_row
def test_autocast_does_not_touch_the_state(row: Row):
    arguments = {k: cast(x, torch.float32) for k, x in row.example(20).items()}
    y, final = public(row)(**arguments)
    with torch.autocast("cpu", torch.bfloat16):
        inside, last = public(row)(**arguments)
    assert torch.equal(inside, y) and torch.equal(last, final)


def test_autocast_does_not_touch_what_needs_no_plan():
    u, q, U, selection, dictionary = (cast(randn(*s), torch.float32) for s in ((2, 9, 4), (2, 9, 1, 4), (4, 4), (2, 9, 3), (3, 4, 4)))
    lam, B, C, P, dt = (cast(randn(*s), torch.complex64) for s in ((1, 4), (1, 4), (1, 4), (1, 1, 4), (1,)))
    system = (-lam.abs() + 1j, B, C, P, dt.abs())
    calls = {
        "legs_online": lambda: legs_online(u, 4)[0],
        "newton_scan": lambda: newton_scan(Elman(U), u).states,
        "ridge_solve": lambda: ridge_solve(q, q, u[..., :1].abs()).x,
        "dictionary_transition": lambda: dictionary_transition(selection, dictionary).A,
        "s4_kernel": lambda: s4_kernel(*system, 50),
        "cauchy_kernel": lambda: cauchy_kernel(*system, 50),
    }
    for name, call in calls.items():
        with torch.autocast("cpu", torch.bfloat16):
            inside = call()
        assert torch.equal(inside, call()), name


@every_row
def test_shapes_are_known_without_numbers(row: Row):
    for T in (0, 1, 20):
        arguments = row.example(T)
        hollow = {k: x.to("meta") if isinstance(x, Tensor) else x for k, x in arguments.items()}
        for got, want in zip(public(row)(**hollow), public(row)(**arguments)):
            assert got.is_meta and got.shape == want.shape and got.dtype is want.dtype


@pytest.mark.parametrize("name, form", dict.fromkeys((name, form) for name, form, _ in ALL if form in ("recurrent", "chunked")))
def test_second_derivatives(name: str, form: str):
    row = ROWS[name]
    arguments = row.example(3)
    names, leaves = differentiable_in(arguments)

    def f(*values):
        return named(row, form)(**(arguments | dict(zip(names, values))))

    assert torch.autograd.gradcheck(f, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, leaves, fast_mode=True)


@every_row
def test_second_derivatives_of_one_argument_alone(row: Row):
    """Through the kernel: what the state holds may not depend on it."""
    arguments = row.example(5)
    why = "the second derivative of (exp z - 1) / z is a difference where z is small"
    slack = dict(factor=50, because=why) if row is ROWS["two dimensions, selective"] else {}
    for name in (key for key, x in arguments.items() if is_number(x)):

        def derivatives(*values: Any, name: str = name) -> tuple[Tensor, Tensor]:
            given = {key: x.detach() if isinstance(x, Tensor) else x for key, x in zip(arguments, values)}
            leaf = given[name].requires_grad_()
            y, _ = public(row)(**given)
            nobody = torch.zeros_like(given[name])
            if not y.requires_grad:  # nothing was made of it: a ridge, where a state takes its place
                return nobody, nobody
            (first,) = torch.autograd.grad(y.abs().square().sum(), leaf, create_graph=True, allow_unused=True, materialize_grads=True)
            if not first.requires_grad:
                return first, nobody
            (second,) = torch.autograd.grad(first.abs().square().sum(), leaf, allow_unused=True, materialize_grads=True)
            return first.detach(), second

        agree(derivatives, derivatives, tuple(arguments.values()), torch.float32, nudges=4, **slack)


def test_a_second_derivative_counts_each_way_once():
    """Inputs of a compiled operator that are one tensor, or computed from each other: each gets the gradient of its own place."""
    start = randn(1, 9, 2, 4)

    def derivatives(form: str, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        o, _ = OPERATIONS["linear_attention"][form](x, x, x.tanh())
        (first,) = torch.autograd.grad(o.square().sum(), x, create_graph=True)
        return first.detach(), torch.autograd.grad(first.square().sum(), x)[0]

    agree(partial(derivatives, "fused"), partial(derivatives, "recurrent"), (start,), torch.float32)


@every_row
def test_forward_derivatives_are_the_backward_ones(row: Row):
    """v·(J u) from jvp equals (v·J)·u from the backward pass."""
    arguments = row.example(20)
    names = [k for k, x in arguments.items() if is_number(x)]
    values = tuple(arguments[k].detach() for k in names)

    def loss(*inputs):
        y, final = public(row)(**(arguments | dict(zip(names, inputs))))
        return sum((x.real * torch.linspace(-1, 1, x.numel(), dtype=torch.float64).reshape(x.shape)).sum() for x in (y, final))

    directions = tuple(torch.randn_like(x) for x in values)
    _, forward = torch.func.jvp(loss, values, directions)
    backward = torch.func.grad(loss, argnums=tuple(range(len(values))))(*values)
    # torch's gradient of a complex input is dL/dRe + i dL/dIm
    close(
        forward,
        sum(
            (torch.view_as_real(g) * torch.view_as_real(d)).sum() if g.is_complex() else (g * d).sum() for g, d in zip(backward, directions)
        ),
    )


@every_row
def test_vmap_is_a_loop(row: Row):
    arguments = row.example(10)
    many = torch.stack([arguments[row.driven_by], 2 * arguments[row.driven_by]])

    def f(drive):
        return public(row)(**(arguments | {row.driven_by: drive}))

    together = torch.func.vmap(f)(many)
    for i in range(2):
        for got, want in zip(together, f(many[i])):
            close(got[i], want)


@every_row
def test_gradients_under_vmap_are_those_of_a_loop(row: Row):
    """One gradient a sample, as torch.func takes them."""
    arguments = row.example(10)
    many = torch.stack([arguments[row.driven_by], 2 * arguments[row.driven_by]])

    def loss(drive):
        return public(row)(**(arguments | {row.driven_by: drive}))[0].abs().square().sum()

    gradient = torch.func.grad(loss)
    for got, drive in zip(torch.func.vmap(gradient)(many), many):
        close(got, gradient(drive))


@every_row
def test_gradients_taken_together_are_those_taken_alone(row: Row):
    """is_grads_batched, by which torch.autograd.functional vectorizes a Jacobian."""
    arguments = {k: cast(x, torch.float32) for k, x in row.example(10).items()}
    _, leaves = differentiable_in(arguments)
    y, _ = public(row)(**arguments)
    several = torch.randn(2, *y.shape, dtype=y.dtype)
    together = torch.autograd.grad(y, leaves, several, is_grads_batched=True, retain_graph=True)
    for i, grad in enumerate(several):
        for got, want in zip(together, torch.autograd.grad(y, leaves, grad, retain_graph=True)):
            torch.testing.assert_close(got[i], want)


@every_row
def test_compiled_is_eager(row: Row):
    torch._dynamo.reset()  # or the rows before this one count as recompilations
    arguments = {k: cast(x, torch.float32) for k, x in row.example(20).items()}
    compiled = torch.compile(partial(public(row)), backend="aot_eager", fullgraph=True)
    for got, want in zip(compiled(**arguments), public(row)(**arguments)):
        torch.testing.assert_close(got, want)


@every_row
def test_an_exported_program_is_the_function(row: Row):
    arguments = {k: cast(x, torch.float32) for k, x in row.example(20).items()}

    class Layer(torch.nn.Module):
        def forward(self, tensors):
            return public(row)(**(arguments | tensors))

    tensors = {k: x for k, x in arguments.items() if is_number(x)}
    program = torch.export.export(Layer(), (tensors,))
    for got, want in zip(program.module()(tensors), public(row)(**arguments)):
        torch.testing.assert_close(got, want)


@every_kernel
def test_an_exported_kernel_takes_any_length(name: str, form: str, dtype: torch.dtype):
    """One step too; and its gradients are the same, though the forward leaves no states behind for them."""
    row = ROWS[name]
    rest = {key: x for key, x in row.example(9).items() if not is_number(x)}

    def tensors(T: int) -> Arguments:
        return {key: cast(x, dtype).requires_grad_() for key, x in row.example(T).items() if is_number(x)}

    program = exported(partial(public(row), **rest), tensors(9), row.timed)
    for T in (1, 150):
        given, results = tensors(T), []
        for road in (program, partial(named(row, form), **rest)):
            outputs = road(**given)
            results.append((*outputs, *torch.autograd.grad(weighted_sum(outputs), list(given.values()))))
        assert all(map(torch.equal, *results))


def test_one_program_is_compiled_for_all_lengths():
    torch._dynamo.reset()
    row = ROWS["attention, one decay"]
    compiled = torch.compile(public(row), backend="aot_eager", fullgraph=True, dynamic=True)
    compiled(**{key: cast(x, torch.float32) for key, x in row.example(9).items()})
    with torch.compiler.set_stance("fail_on_recompile"):
        compiled(**{key: cast(x, torch.float32) for key, x in row.example(150).items()})
