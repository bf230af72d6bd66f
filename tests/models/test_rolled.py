"""A free run to learn from is the free run, its gradients are the gradients, and what cannot be recorded runs as it is."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from separatrix.mixers import MIXERS, build_mixer
from separatrix.models import Backbone, ForecastModel
from separatrix.models.recording import Iterated
from separatrix.models.rolled import Rolled, packed, unpacked
from separatrix.recurrence import State

STEPS = 7


def network(mixer: str, dtype: torch.dtype = torch.float64, **options) -> ForecastModel:
    generator = torch.Generator().manual_seed(0)
    small = {"d_head": 8, "d_state": 4} if mixer == "mamba2" else {}
    layers = [build_mixer(mixer, 8, generator=generator, **small) for _ in range(2)]
    return ForecastModel(2, Backbone(8, layers, 12, generator=generator), lags=3, generator=generator, **options).to(dtype)


def learned(model: ForecastModel, roll: Callable[[State, int], tuple[Tensor, State]], x: Tensor, steps: int = STEPS) -> dict[str, Tensor]:
    """What a fit asks for: the run, where it ends, and the gradient of both with respect to every parameter."""
    model.zero_grad()
    _, state = model.listen(x, None)
    said, after = roll(state, steps)
    weights = torch.linspace(-1, 2, said.numel(), dtype=said.dtype).view_as(said)
    ((weights * said).sum() + after.vector().square().sum()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"said": said.detach(), "after": after.vector().detach(), **gradients}


def same(one: dict[str, Tensor], other: dict[str, Tensor], rtol: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        gap = (one[name] - other[name]).norm() / other[name].norm().clamp(min=1e-300)
        assert gap <= rtol, f"{name} is off by {gap:.1e}"


def heard(rows: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(rows, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("mixer", sorted(set(MIXERS) - {"attention"}))
def test_a_run_and_its_gradients_are_the_definitions(mixer: str):
    model = network(mixer, mask=mixer in ("s5", "gru"))
    roll = Rolled(model)
    same(learned(model, roll, heard(3)), learned(model, model.roll, heard(3)), 1e-10)
    assert all(roll.records.values())
    with torch.no_grad():  # parameters are arguments of the record
        for p in model.parameters():
            p.mul_(1.1)
    same(learned(model, roll, heard(5), 1), learned(model, model.roll, heard(5), 1), 1e-10)
    same(learned(model, roll, heard(3)), learned(model, model.roll, heard(3)), 1e-10)
    assert len(roll.records) == 2 and all(roll.records.values())


@pytest.mark.parametrize("mixer", ["s4d", "gated_deltanet", "lstm"])
def test_single_precision(mixer: str):
    model, exact = network(mixer, torch.float32), network(mixer)
    roll = Rolled(model)
    got = learned(model, roll, heard(4, torch.float32))
    assert all(roll.records.values())
    same({name: x.double() for name, x in got.items()}, learned(exact, exact.roll, heard(4)), 1e-4)


def test_frozen_parameters_stay_arguments_and_get_no_gradient():
    model = network("gru")
    model.embed.requires_grad_(False)
    roll = Rolled(model)
    learned(model, roll, heard(2))
    with torch.no_grad():
        model.embed.weight.mul_(-1)
    found = learned(model, roll, heard(2))
    same(found, learned(model, model.roll, heard(2)), 1e-10)
    assert "embed.weight" not in found and all(roll.records.values())


def test_what_is_not_recorded_runs_as_it_is():
    growing = network("attention")
    roll = Rolled(growing)
    same(learned(growing, roll, heard(2)), learned(growing, growing.roll, heard(2)), 0)
    assert list(roll.records.values()) == [None]
    model = network("gru")
    roll = Rolled(model)
    _, state = model.listen(heard(2), None)
    with torch.no_grad():
        assert torch.equal(roll(state, STEPS)[0], model.roll(state, STEPS)[0])
    assert roll(state, 0)[0].shape == (2, 0, 2)
    with torch.autocast("cpu"):
        roll(state, 2)
    wide = state.map(lambda part: part.repeat(20_000, *(1,) * (part.ndim - 1)))
    assert torch.equal(roll(wide, 1)[0], model.roll(wide, 1)[0])
    assert not roll.records


def test_a_state_is_packed_and_unpacked():
    state = State(z=torch.randn(2, 3, dtype=torch.complex64), inner=State(h=torch.randn(2, 2, 2)), empty=torch.zeros(2, 0))
    back = unpacked(packed(state), state[:1])
    assert packed(state).shape == (2, 10)
    for name, part in back.tensors().items():
        assert torch.equal(part, state.tensors()[name])


def test_second_derivatives_are_refused():
    model = network("gru")
    _, state = model.listen(heard(2), None)
    said, _ = Rolled(model)(state, 3)
    (gradient,) = torch.autograd.grad(said.square().sum(), [model.head.bias], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


class Rounded(torch.autograd.Function):
    """Straight through: the gradient is not that of the arithmetic."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return (8 * x).round() / 8

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient


@pytest.mark.parametrize("hide", [Rounded.apply, lambda x: x + ((8 * x).round() / 8 - x).detach()], ids=["own gradient", "detached"])
def test_a_gradient_of_ones_own_is_kept(hide: Callable[[Tensor], Tensor]):
    model = network("gru")
    model.head.register_forward_hook(lambda module, args, output: hide(output))
    roll = Rolled(model)
    same(learned(model, roll, heard(3)), learned(model, model.roll, heard(3)), 1e-10)


def test_an_iterated_function_of_complex_parameters():
    a, b = torch.tensor([0.9 + 0.2j, -0.5j], dtype=torch.complex128), torch.randn(3, 2, dtype=torch.float64)

    def step(rows: Tensor, a: Tensor, b: Tensor) -> Tensor:
        z = a * torch.complex(*rows.unflatten(1, (2, 2)).unbind(1)) + torch.tanh(b)
        return torch.cat([z.real, z.imag], dim=1)

    rows = torch.randn(3, 4, dtype=torch.float64)
    record = Iterated(step, rows, [a, b])

    def slow(rows: Tensor, a: Tensor, b: Tensor) -> Tensor:
        states = []
        for _ in range(5):
            rows = step(rows, a, b)
            states.append(rows)
        return torch.stack(states)

    inputs = [x.clone().requires_grad_() for x in (rows, a, b)]
    weights = torch.randn(5, 3, 4, dtype=torch.float64)
    found = torch.autograd.grad((weights * record(inputs[0], inputs[1:], 5)).sum(), inputs)
    expected = torch.autograd.grad((weights * slow(*inputs)).sum(), inputs)
    torch.testing.assert_close(found, expected)
