"""Newton's iteration finds the states of the loop, or says that it did not; what it cannot do points to the loop."""

import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from separatrix.recurrence import (
    Cell,
    DiagonalGRU,
    Elman,
    NotConverged,
    ShallowPLRNN,
    cell_scan,
    diagonal_part,
    newton,
    newton_scan,
)
from tests.agree import gradient
from tests.recurrence.cells import CELLS, FORMS, every_cell, example, road, settling
from tests.recurrence.roads import randn


@every_cell
def test_newton_says_how_it_went(name: str):
    cell = CELLS[name]()
    x, h = example(cell, 50)
    solution = newton_scan(cell, x, h)
    assert solution.converged and solution.iterations <= 12
    assert len(solution.history) == solution.iterations + 1 and solution.history[-1] == float(solution.residual.amax())
    again = newton_scan(cell, x, h, guess=solution.states)
    assert again.iterations == 0 and torch.equal(again.states, solution.states)


@pytest.mark.parametrize("name", ["elman", "gru", "lstm"])
def test_a_quasi_newton_iteration_finds_the_same(name: str):
    cell = CELLS[name]()
    cell = cell.with_tensors([p / 2 for p in cell.tensors()])
    inputs = (*example(cell, 50), *cell.tensors())

    def quasi(x, h, *parameters):
        solution = newton_scan(cell.with_tensors(parameters), x, h, approximate=diagonal_part)
        assert solution.iterations > newton_scan(cell, x, h).iterations
        return solution.states, solution.final_state

    settling(quasi, road(cell, "recurrent"), inputs, torch.float64)
    settling(gradient(quasi), gradient(road(cell, "recurrent")), inputs, torch.float64)


def chaotic() -> tuple[Cell, Tensor, Tensor]:
    cell = DiagonalGRU(4 * randn(3, 20))
    return cell, *example(cell, 300)


def test_what_did_not_converge_is_said_with_the_residual_of_every_step():
    cell, x, h = chaotic()
    with pytest.raises(NotConverged, match=r"did not converge in 5 iterations: the residual is .*, expected at most 1\.0e-10") as caught:
        newton_scan(cell, x, h, iterations=5, tolerance=1e-10)
    solution = caught.value.solution
    off = solution.residual > 1e-10
    assert not solution.converged and solution.iterations == 5 and off.any()
    exact, _ = FORMS["recurrent"](cell, x, h)
    front = int(off.any(0).nonzero()[0])
    assert front >= 1
    # the residual is at most 1e-10, and the states part from there
    torch.testing.assert_close(solution.states[:, :front], exact[:, :front], rtol=1e-6, atol=1e-6)


def test_a_failure_reaches_another_process():
    cell, x, h = chaotic()
    with pytest.raises(NotConverged) as caught:
        newton_scan(cell, x, h, iterations=2)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and torch.equal(again.solution.states, caught.value.solution.states)


def test_where_newton_does_not_converge_the_loop_runs():
    cell, x, h = chaotic()
    for got, want in zip(FORMS["newton"](cell, x, h), FORMS["recurrent"](cell, x, h)):
        assert torch.equal(got, want)


@pytest.mark.parametrize("name", ["diagonal gru", "shallow, clipped"])
def test_damping_converges_where_newton_alone_overflows(name: str, monkeypatch):
    """On the way to a recurrence that forgets, products of Jacobians at the guesses explode."""
    cell = {
        "diagonal gru": lambda: DiagonalGRU(2 * randn(3, 32)),
        "shallow, clipped": lambda: ShallowPLRNN(
            0.9 * torch.rand(6).double(), randn(6, 20) / 5**0.5, randn(6) / 2, randn(20, 6) / 1.5, randn(20), True
        ),
    }[name]()
    x, _ = example(cell, 150)
    x = 2 * x
    solution = newton_scan(cell, x)
    assert max(solution.history) < 4
    exact, _ = FORMS["recurrent"](cell, x)
    torch.testing.assert_close(solution.states, exact, rtol=1e-8, atol=1e-8)  # what a residual of some roundings comes to
    monkeypatch.setattr(newton, "non_expanding", lambda A, like: A)
    with pytest.raises(NotConverged):
        newton_scan(cell, x, iterations=solution.iterations)


@pytest.mark.parametrize("scale", [1e-6, 1e-12, 1e-30])
@pytest.mark.parametrize("name", ["elman", "diagonal gru", "lstm", "a user's own"])
def test_small_states_are_as_exact_as_large_ones(name: str, scale: float):
    """Measured against 1, a guess of nearly nothing was a solution already."""
    cell = CELLS[name]()
    x, h = (scale * part for part in example(cell, 100))
    solution = newton_scan(cell, x, h)
    exact, _ = FORMS["recurrent"](cell, x, h)
    assert (solution.states - exact).abs().max() < 1e-12 * exact.abs().max() and solution.residual.max() < 1e-14
    assert not newton_scan(cell, 0 * x).states.any()  # at rest, where there is nothing to measure against


def test_in_a_compiled_graph_it_is_refused_by_name():
    cell, x = Elman(torch.eye(5).double() / 2), randn(2, 20, 5)
    torch._dynamo.reset()
    with pytest.raises(
        Exception, match="newton_scan stops where values say so, and a compiled graph has none: run the cell with cell_scan"
    ):
        torch.compile(lambda x: newton_scan(cell, x).states, backend="aot_eager", fullgraph=True)(x)


def test_a_recurrence_that_overflows_is_not_a_solution():
    cell = ShallowPLRNN(torch.full((2,), 50.0).double(), torch.ones(2, 3).double(), randn(2), torch.ones(3, 2).double(), randn(3))
    with pytest.raises(NotConverged):
        newton_scan(cell, torch.ones(1, 200, 2).double())


@pytest.mark.parametrize(
    "change, message",
    [
        ({"inputs": torch.zeros(2, 3, 4)}, r"inputs is \[2, 3, 4\], expected \[batch, time, width\] = \[2, 3, 5\]"),
        ({"initial_state": torch.zeros(2, 4)}, r"initial_state is \[2, 4\]"),
        ({"guess": torch.zeros(2, 3, 4)}, r"guess is \[2, 3, 4\]"),
        ({"guess": torch.zeros(2, 3, 5, dtype=torch.int64)}, "guess is torch.int64, expected a floating point tensor"),
        ({"guess": torch.zeros(2, 3, 5) + 0j}, "guess is torch.complex64, expected a real tensor"),
        ({"tolerance": -1e-6}, "tolerance is -1e-06, expected 0 or more"),
        ({"iterations": 0}, "iterations is 0, expected a whole number of at least 1"),
        ({"cell": torch.nn.GRUCell(5, 5)}, "cell is GRUCell, expected a Cell"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, message: str):
    arguments = {"cell": Elman(torch.eye(5)), "inputs": torch.zeros(2, 3, 5)} | change
    with pytest.raises((ValueError, TypeError), match=message):
        newton_scan(**arguments)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda states, x: torch.func.jvp(states, (x,), (x,)), "newton_scan has no forward derivatives: run the cell with cell_scan"),
        (lambda states, x: torch.func.jacfwd(states)(x), "newton_scan has no forward derivatives: run the cell with cell_scan"),
        (lambda states, x: torch.func.vmap(states)(x[None]), "vmap hides them: run the cell with cell_scan"),
        (lambda states, x: torch.func.vmap(lambda h: states(x, h))(x[None, :, 0]), "vmap hides them: run the cell with cell_scan"),
        (lambda states, x: torch.func.vmap(lambda g: states(x, guess=g))(x[None]), "vmap hides them: run the cell with cell_scan"),
        (lambda states, x: torch.func.vmap(torch.func.grad(lambda x: states(x).sum()))(x[None]), "vmap hides them: run the cell"),
        (lambda states, x: states(x.to("meta")), "meta tensors have none: run the cell with cell_scan"),
    ],
)
def test_what_the_iteration_cannot_do_points_to_the_loop(call: Callable, message: str):
    with pytest.raises(NotImplementedError, match=message):
        call(lambda x, *more, **options: newton_scan(Elman(torch.eye(5).to(x.device)), x, *more, **options).states, torch.zeros(2, 3, 5))


def test_a_jacobian_row_by_row_is_the_loops():
    """vmap over the backward pass, which is a scan and hides nothing."""
    cell = CELLS["elman"]()
    x, h = example(cell, 5)
    found = torch.func.jacrev(lambda h: newton_scan(cell, x, h).final_state)(h)
    wanted = torch.func.jacrev(lambda h: cell_scan(cell, x, h)[1])(h)
    torch.testing.assert_close(found, wanted)
