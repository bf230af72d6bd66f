"""Nonlinear recurrences: every form of every cell is its loop, Newton's iteration among them (test_newton.py: what it says by itself).

For each row of cells.py: the Jacobian is the derivative, in the structure it claims; every form of `cell_scan` equals the loop in outputs
and gradients (inputs, initial state, parameters), whole, cut anywhere and with resets.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.recurrence import (
    GRU,
    LSTM,
    PLRNN,
    Cell,
    Dense,
    Diagonal,
    DiagonalBlocks,
    DiagonalGRU,
    DiagonalLSTM,
    Elman,
    Forced,
    ShallowPLRNN,
    cell_scan,
    linearize,
    plan,
)
from separatrix.recurrence.plan import choose, objection
from tests.agree import agree, gradient
from tests.recurrence.cells import CELLS, FORMS, Kicked, every_cell, example, road, settling, weights
from tests.recurrence.roads import BATCH, randn

agree = partial(agree, factor=8, because="a handful of numbers, nudged once, is a noisy ruler")
TIMES = [0, 1, 2, 63, 64, 65]
STRUCTURE = {"diagonal gru": Diagonal, "diagonal lstm": DiagonalBlocks}

# Cells with a kernel of their own, one of every kind.
COMPILED = ["diagonal gru", "diagonal lstm", "elman", "gru", "lstm", "plrnn", "dendritic", "forced, shallow"]

every_form = pytest.mark.parametrize("form", FORMS)


def willing(cell: Any, form: str, dtype: torch.dtype) -> None:
    """Skip, repeating what the form objects to these tensors."""
    narrow = cell.with_tensors([p.to(dtype) for p in cell.tensors()])
    why = objection("cell_scan", (narrow, torch.zeros(1, 2, cell.width, dtype=dtype), None, None)) if form == "fused" else None
    if why:
        pytest.skip(why)


def compare(form: str) -> Callable:
    return settling if form == "newton" else agree


@every_cell
def test_the_jacobian_is_the_derivative(name: str):
    cell = CELLS[name]()
    x, h = example(cell, 3)
    h = h.unsqueeze(1).repeat(1, 3, 1)
    value, A = linearize(cell, h, x)
    torch.testing.assert_close(value, cell.step(h, x))
    assert isinstance(A, STRUCTURE.get(name, Dense))
    for b in range(BATCH):
        for t in range(3):
            exact = torch.autograd.functional.jacobian(lambda state, x=x[b, t]: cell.step(state, x), h[b, t])
            torch.testing.assert_close(A.dense()[b, t], exact)


@pytest.mark.parametrize("N", [1, 5, 75])
@pytest.mark.parametrize("name", ["diagonal gru", "diagonal lstm"])
def test_a_linearisation_by_kernel_is_the_one_by_torch(name: str, N: int):
    cell = DiagonalGRU(randn(3, N)) if name == "diagonal gru" else DiagonalLSTM(randn(3, N), randn(2, N))
    x, h = randn(2, 3, cell.width), 2 * randn(2, 3, cell.size)
    narrow = cell.with_tensors([p.float() for p in cell.tensors()])
    with torch.no_grad():
        value, A = linearize(narrow, h.float(), x.float())
        exact, B = linearize(cell, h, x)
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-6)  # float32, number by number: no sum is longer than a cell's
    torch.testing.assert_close(A.dense().double(), B.dense(), rtol=1e-5, atol=1e-5)
    state = h.float().requires_grad_()
    assert linearize(narrow, state, x.float())[1].dense().requires_grad  # what is differentiated goes through torch
    torch.func.jvp(lambda s: linearize(narrow, s, x.float())[0], (h.float(),), (h.float(),))


@every_cell
@every_form
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("T", TIMES)
def test_every_form_is_the_loop(name: str, form: str, dtype: torch.dtype, T: int):
    cell = CELLS[name]()
    willing(cell, form, dtype)
    inputs = (*example(cell, T), *cell.tensors())
    compare(form)(road(cell, form), road(cell, "recurrent"), inputs, dtype)
    compare(form)(gradient(road(cell, form)), gradient(road(cell, "recurrent")), inputs, dtype)


@every_cell
@every_form
def test_a_reset_is_a_restart(name: str, form: str):
    """And what is cut in two is whole."""
    cell = CELLS[name]()
    dtype = torch.float32 if form == "fused" else torch.float64
    willing(cell, form, dtype)
    reset = torch.zeros(BATCH, 40, dtype=torch.bool)
    reset[0, 0] = reset[1, 7] = reset[1, 25] = True

    def apart(x, h, *parameters):
        own, nothing = cell.with_tensors(parameters), torch.zeros_like(h[:1])
        run = partial(FORMS["recurrent"], own)
        first, last = run(x[:1], nothing)
        pieces, state = [], h[1:]
        for start, stop in ((0, 7), (7, 25), (25, 40)):
            piece, state = run(x[1:, start:stop], state if start == 0 else nothing)
            pieces.append(piece)
        return torch.cat([first, torch.cat(pieces, dim=1)]), torch.cat([last, state])

    def in_two(x, h, *parameters):
        own = cell.with_tensors(parameters)
        first, state = FORMS[form](own, x[:, :13], h, reset[:, :13])
        second, state = FORMS[form](own, x[:, 13:], state, reset[:, 13:])
        return torch.cat([first, second], dim=1), state

    inputs = (*example(cell, 40), *cell.tensors())
    for fast in (road(cell, form, reset), in_two):
        compare(form)(fast, apart, inputs, dtype)
        compare(form)(gradient(fast), gradient(apart), inputs, dtype)


@every_cell
@every_form
def test_bfloat16_in_bfloat16_out_and_a_float32_state(name: str, form: str):
    cell = CELLS[name]()
    willing(cell, form, torch.bfloat16)
    x, h = (y.bfloat16() for y in example(cell, 9))
    single = cell.with_tensors([p.float() for p in cell.tensors()])
    states, final = FORMS[form](single, x, h)
    assert states.dtype is torch.bfloat16 and final.dtype is torch.float32
    wide, _ = FORMS["recurrent"](single, x.float(), h.float())
    torch.testing.assert_close(states.float(), wide, rtol=1e-2, atol=1e-2)  # the last rounding, to bfloat16: at most 0.004


@every_cell
def test_second_derivatives(name: str):
    """Through Newton's solution too: differentiated twice, it is the loop."""
    cell = CELLS[name]()
    inputs = [y.requires_grad_() for y in (*example(cell, 3), *cell.tensors())]
    for form in ("recurrent", "newton"):
        assert torch.autograd.gradgradcheck(road(cell, form), inputs, fast_mode=True)


@pytest.mark.parametrize(
    "cell, shape, dtype, chosen, why",
    [
        (DiagonalGRU(torch.zeros(3, 8)), (1, 100, 24), torch.float32, "fused", "one compiled kernel"),
        (DiagonalGRU(torch.zeros(3, 8)), (1, 100, 24), torch.float64, "newton", "not fused: the kernels keep their state in float32"),
        (Elman(torch.zeros(8, 8)), (1, 100, 8), torch.float32, "fused", "one compiled kernel"),
        (Kicked(torch.zeros(8)), (1, 100, 8), torch.float32, "newton", "there is no kernel for Kicked"),
        (
            Elman(torch.zeros(8, 8)),
            (9, 100, 8),
            torch.float64,
            "recurrent",
            "Jacobians of 576 numbers a step cost more than",
        ),
        (Elman(torch.zeros(8, 8)), (1, 20, 8), torch.float64, "recurrent", "20 steps are a short loop"),
    ],
)
def test_the_plan_says_which_form_and_why(cell: Cell, shape: tuple, dtype: torch.dtype, chosen: str, why: str):
    x = torch.zeros(shape, dtype=dtype)
    assert choose("cell_scan", (cell, x, None, None), shape[1])[0] == chosen
    assert why in plan(cell_scan, shape[1], cell, x, None, None)


class Slower(PLRNN):
    """A user's change to a cell of ours."""

    def step(self, z: Tensor, x: Tensor) -> Tensor:
        return z + (super().step(z, x) - z) / 2


def test_a_subclass_with_a_step_of_its_own_is_another_cell():
    """It inherits neither the kernel nor the Jacobian of its parent, alone or forced."""
    parent = CELLS["plrnn"]()
    cell = Slower(parent.A, parent.W, parent.h)
    assert parent.kernel() is not None and cell.kernel() is None and Forced(cell, 2).kernel() is None
    x, h = example(cell, 3)
    states = h.unsqueeze(1).expand(-1, 3, -1)
    torch.testing.assert_close(linearize(cell, states, x)[1].dense(), (linearize(parent, states, x)[1].dense() + torch.eye(5)) / 2)


@every_cell
def test_the_public_function_is_one_of_the_forms(name: str):
    cell = CELLS[name]()
    x, h = example(cell, 70)
    for got, want in zip(cell_scan(cell, x, h), FORMS["recurrent"](cell, x, h)):
        torch.testing.assert_close(got, want)


@every_cell
def test_forward_derivatives_are_the_backward_ones(name: str):
    """And under torch.func the loop runs, which it can see through."""
    cell = CELLS[name]()
    x, h = example(cell, 70)
    direction = torch.randn_like(x)

    def loss(x):
        states, final = cell_scan(cell, x, h)
        return (states * torch.linspace(-1, 1, states.numel(), dtype=torch.float64).reshape(states.shape)).sum() + final.sum()

    _, forward = torch.func.jvp(loss, (x,), (direction,))
    torch.testing.assert_close(forward, (torch.func.grad(loss)(x) * direction).sum())


@pytest.mark.parametrize("name", COMPILED)
def test_the_kernels_compile_and_export(name: str):
    """As one operation of a graph."""
    torch._dynamo.reset()
    cell = CELLS[name]()
    cell = cell.with_tensors([p.float() for p in cell.tensors()])
    x, h = (y.float() for y in example(cell, 20))

    class Layer(torch.nn.Module):
        def forward(self, x, h):
            return cell_scan(cell, x, h)

    want = cell_scan(cell, x, h)
    for run in (torch.compile(Layer(), backend="aot_eager", fullgraph=True), torch.export.export(Layer(), (x, h)).module()):
        for got, exact in zip(run(x, h), want):
            torch.testing.assert_close(got, exact)

    x, h, *parameters = (y.requires_grad_() for y in (x, h, *cell.tensors()))
    found = (torch.autograd.grad(run(x, h)[0].sum(), (x, h, *parameters)) for run in (torch.compile(Layer(), backend="aot_eager"), Layer()))
    for got, exact in zip(*found):
        torch.testing.assert_close(got, exact)


WIDE = {
    "elman": lambda n: Elman(weights(n, n)),
    "gru": lambda n: GRU(weights(3 * n, n), randn(n)),
    "lstm": lambda n: LSTM(weights(4 * n, n)),
    "forced": lambda n: Forced(ShallowPLRNN(torch.rand(n).double() / 2, weights(n, 50) / 2, randn(n), weights(50, n), randn(50)), n - 3),
}


@pytest.mark.parametrize("make", WIDE.values(), ids=WIDE.keys())
def test_more_units_than_lanes_and_more_rows_than_a_tile(make: Callable):
    cell, B, T = make(37), 11, 8
    inputs = (randn(B, T, cell.width) / 2, randn(B, cell.size), *cell.tensors())
    agree(road(cell, "fused"), road(cell, "recurrent"), inputs, torch.float32)
    agree(gradient(road(cell, "fused")), gradient(road(cell, "recurrent")), inputs, torch.float32)
