"""Teacher forcing: the published runs of the PLRNN family, by every form, and the loop read aloud."""

import pytest
import torch
from torch import Tensor

from separatrix.recurrence import (
    OPERATIONS,
    PLRNN,
    Cell,
    DendriticPLRNN,
    Forced,
    ForcedRun,
    ShallowPLRNN,
    forced_scan,
    forcing,
    newton_scan,
)
from separatrix.recurrence.plan import objection
from tests import golden
from tests.recurrence.cells import plrnn
from tests.recurrence.roads import BATCH, randn
from tests.recurrence.test_golden import TOLERANCE, error

CASES = ("plrnn_tf", "plrnn_gtf", "alrnn_gtf", "dendplrnn_tf", "clippedplrnn_tf", "shallowplrnn_gtf")


def cell_of(kind: str, inputs: dict[str, Tensor], options: dict[str, str]) -> Cell:
    A, W, h = (inputs[key] for key in ("A", "W", "h"))
    if "shallow" in kind:
        return ShallowPLRNN(A, W, h, inputs["W2"], inputs["h2"])
    if "al" in inputs:
        return DendriticPLRNN(A, W, h, inputs["al"], inputs["th"], clipped="clipped" in kind)
    return PLRNN(A, W, h, linear=len(A) - int(options["P"]) if "alrnn" in kind else 0)


def run(form: str, cell: Cell, targets: Tensor, alpha: Tensor, z0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(o, state, forced) of one form."""
    forced = Forced(cell, targets.shape[-1])
    batch, time = targets.shape[:2]
    x = torch.cat([targets.new_zeros(batch, time, cell.width), targets, alpha.to(targets).expand(batch, time).unsqueeze(-1)], dim=-1)
    states, final = OPERATIONS["cell_scan"][form](forced, x, z0)
    return states, final, forced.pull(torch.cat([z0.unsqueeze(1), states], dim=1)[:, :time], x)[0]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("form", [*OPERATIONS["cell_scan"], "public"])
@pytest.mark.parametrize("name", CASES)
def test_every_form_gives_the_reference_numbers(name: str, form: str, dtype: torch.dtype):
    reference = golden.load(name)
    inputs = {key: x.to(dtype).requires_grad_() for key, x in reference.inputs.items()}
    cell, targets, options = cell_of(name, inputs, reference.options), inputs["xs"], reference.options
    alpha = forcing(targets.shape[1], **({"interval": int(options["tau"])} if "_tf" in name else {"alpha": float(options["alpha"])}))
    if form == "public":
        found = forced_scan(cell, targets, alpha, inputs["z0"])
        assert isinstance(found, ForcedRun)
        outputs = {"o": found.states, "state": found.final_state, "forced": found.forced}
    else:
        why = objection("cell_scan", (Forced(cell, targets.shape[-1]), targets, None, None)) if form == "fused" else None
        if why:
            pytest.skip(why)
        outputs = dict(zip(("o", "state", "forced"), run(form, cell, targets, alpha, inputs["z0"])))
    closer, close = TOLERANCE[dtype]
    for part, got in outputs.items():
        assert error(got, reference.outputs[part], dtype) < closer, part
        if part in reference.weights:
            loss = (got * reference.weights[part].to(dtype)).sum()
            gradients = torch.autograd.grad(loss, list(inputs.values()), retain_graph=True, allow_unused=True)
            for key, gradient in zip(inputs, gradients):
                expected = reference.gradients[part].get(key)
                if expected is not None:
                    assert gradient is not None and error(gradient, expected, dtype) < close, f"d {part} / d {key}"


def test_forcing_leaves_the_first_step_alone():
    assert forcing(6, interval=2).tolist() == [0, 0, 1, 0, 1, 0]
    assert forcing(3, alpha=0.25).tolist() == [0, 0.25, 0.25]
    assert forcing(0).shape == (0,)


def test_a_forced_run_may_be_cut_and_reset():
    cell, targets, z0 = plrnn(), randn(BATCH, 20, 3), randn(BATCH, 5)
    alpha = torch.rand(BATCH, 20).double()
    reset = torch.zeros(BATCH, 20, dtype=torch.bool)
    reset[1, 11] = True
    whole = forced_scan(cell, targets, alpha, z0, reset)
    first = forced_scan(cell, targets[:, :8], alpha[:, :8], z0, reset[:, :8])
    second = forced_scan(cell, targets[:, 8:], alpha[:, 8:], first.final_state, reset[:, 8:])
    for part in ("states", "forced"):
        torch.testing.assert_close(torch.cat([getattr(first, part), getattr(second, part)], dim=1), getattr(whole, part))
    alone = forced_scan(cell, targets[1:, 11:], alpha[1:, 11:])
    torch.testing.assert_close(whole.states[1:, 11:], alone.states)
    torch.testing.assert_close(whole.forced[1:, 11:], alone.forced)


def test_inputs_drive_the_cell_beside_the_forcing():
    cell, targets, inputs = plrnn(), randn(BATCH, 7, 3), randn(BATCH, 7, 5)
    free = forced_scan(cell, targets, torch.zeros(7), inputs=inputs)
    plain, _ = OPERATIONS["cell_scan"]["recurrent"](cell, inputs)
    torch.testing.assert_close(free.states, plain)


def test_strong_forcing_makes_newton_quick():
    """What is forced is forgotten, so the guesses of all steps settle at once."""
    cell = Forced(PLRNN(torch.rand(5).double(), 2 * randn(5, 5) / 5**0.5, randn(5)), 5)
    x = torch.cat([torch.zeros(BATCH, 50, 5).double(), randn(BATCH, 50, 5), torch.full((BATCH, 50, 1), 0.9).double()], dim=-1)
    assert newton_scan(cell, x).iterations <= 6


@pytest.mark.parametrize(
    "change, message",
    [
        ({"targets": torch.zeros(2, 3, 6)}, "targets have 6 numbers a step, expected at most the 5"),
        ({"alpha": torch.zeros(4)}, r"alpha is \[4\], expected \[time\] = \[3\]"),
        ({"inputs": torch.zeros(2, 3, 4)}, r"inputs is \[2, 3, 4\]"),
        ({"alpha": torch.tensor([0.0, 1.5, 0.0])}, r"alpha must lie in \[0, 1\], got 0 to 1.5"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, message: str):
    arguments = {"cell": plrnn(), "targets": torch.zeros(2, 3, 3), "alpha": torch.zeros(3)} | change
    with pytest.raises(ValueError, match=message):
        forced_scan(**arguments)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"alpha": torch.zeros(3, dtype=torch.complex64)}, "alpha is torch.complex64, expected a real tensor"),
        ({"inputs": torch.zeros(2, 3, 5, dtype=torch.long)}, "inputs is torch.int64, expected a floating point tensor"),
    ],
)
def test_other_numbers_are_refused(change: dict, message: str):
    with pytest.raises(TypeError, match=message):
        forced_scan(**{"cell": plrnn(), "targets": torch.zeros(2, 3, 3), "alpha": torch.zeros(3)} | change)
