"""What is played is what the model says, its gradients are the gradients, and what cannot be recorded runs as it is."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from separatrix.mixers import MIXERS, build_mixer
from separatrix.models import Backbone, ForecastModel
from separatrix.models.played import Played
from separatrix.models.recording import Iterated
from separatrix.recurrence import State

STEPS = 7


def network(mixer: str, dtype: torch.dtype = torch.float64, **options) -> ForecastModel:
    generator = torch.Generator().manual_seed(0)
    small = {"d_head": 8, "d_state": 4} if mixer == "mamba2" else {}
    layers = [build_mixer(mixer, 8, generator=generator, **small) for _ in range(2)]
    return ForecastModel(2, Backbone(8, layers, 12, generator=generator), lags=3, generator=generator, **options).to(dtype)


def learned(model: ForecastModel, by: ForecastModel | Played, x: Tensor, steps: int = STEPS) -> dict[str, Tensor]:
    """What a fit asks for: what is said on the way and after it, where it ends, and the gradient of all with respect to every parameter."""
    model.zero_grad()
    guesses, state = by.listen(x, None)
    said, after = by.roll(state, steps)
    all_said = torch.cat([guesses, said], dim=1)
    weights = torch.linspace(-1, 2, all_said.numel(), dtype=said.dtype).view_as(all_said)
    ((weights * all_said).sum() + after.vector().square().sum()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"said": all_said.detach(), "after": after.vector().detach(), **gradients}


def same(one: dict[str, Tensor], other: dict[str, Tensor], rtol: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        gap = (one[name] - other[name]).norm() / other[name].norm().clamp(min=1e-300)
        assert gap <= rtol, f"{name} is off by {gap:.1e}"


def heard(rows: int, dtype: torch.dtype = torch.float64, gaps: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 6, 2, dtype=torch.float64, generator=generator)
    if gaps:
        x[torch.rand(x.shape, generator=generator) < 0.3] = torch.nan
        x[0, 0, 0] = x[-1, -1, 1] = torch.nan
    return x.to(dtype)


@pytest.mark.parametrize(
    "mixer, gaps", [(mixer, mixer in ("s4d", "s5", "mamba", "gru")) for mixer in MIXERS if mixer != "attention"] + [("s5", False)]
)
def test_what_is_said_and_its_gradients_are_the_definitions(mixer: str, gaps: bool):
    model = network(mixer, mask=mixer in ("s5", "gru"))
    played = Played(model)
    same(learned(model, played, heard(3, gaps=gaps)), learned(model, model, heard(3, gaps=gaps)), 1e-10)
    with torch.no_grad():  # parameters are arguments of the record
        for p in model.parameters():
            p.mul_(1.1)
    same(learned(model, played, heard(5, gaps=gaps), 1), learned(model, model, heard(5, gaps=gaps), 1), 1e-10)
    same(learned(model, played, heard(3, gaps=gaps)), learned(model, model, heard(3, gaps=gaps)), 1e-10)
    assert len(played.records) == (4 if gaps else 2) and all(played.records.values())


@pytest.mark.parametrize("mixer", ["s4d", "gated_deltanet", "lstm"])
def test_single_precision(mixer: str):
    model, exact = network(mixer, torch.float32), network(mixer)
    played = Played(model)
    got = learned(model, played, heard(4, torch.float32))
    assert all(played.records.values())
    same({name: x.double() for name, x in got.items()}, learned(exact, exact, heard(4)), 1e-4)


def test_the_linear_part_is_played_too():
    model = network("gru", mask=True, linear=True)
    model.linear.fit(torch.randn(40, 2, generator=torch.Generator().manual_seed(2)))
    model.linear.limit.fill_(0.5)  # so that it is left
    played, x = Played(model), heard(3, gaps=True)
    same(learned(model, played, x), learned(model, model, x), 1e-10)
    model.linear.fit(torch.randn(40, 2, generator=torch.Generator().manual_seed(3)))
    same(learned(model, played, x), learned(model, model, x), 1e-10)
    assert len(played.records) == 2 and all(played.records.values())


def test_frozen_parameters_stay_arguments_and_get_no_gradient():
    model = network("gru")
    model.members[0].embed.requires_grad_(False)
    played = Played(model)
    learned(model, played, heard(2))
    with torch.no_grad():
        model.members[0].embed.weight.mul_(-1)
    found = learned(model, played, heard(2))
    same(found, learned(model, model, heard(2)), 1e-10)
    assert "embed.weight" not in found and all(played.records.values())


def test_what_is_not_recorded_runs_as_it_is():
    growing = network("attention")
    played = Played(growing)
    for gaps in (False, True):
        same(learned(growing, played, heard(2, gaps=gaps)), learned(growing, growing, heard(2, gaps=gaps)), 1e-12)
    assert not any(played.records.values())
    model = network("gru")
    played = Played(model)
    _, state = model.listen(heard(2), None)
    with torch.no_grad():
        assert torch.equal(played.roll(state, STEPS)[0], model.roll(state, STEPS)[0])
        torch.testing.assert_close(played.listen(heard(2, gaps=True), None)[0], model.listen(heard(2, gaps=True), None)[0])
    assert played.roll(state, 0)[0].shape == (2, 0, 2)
    with torch.autocast("cpu"):
        played.roll(state, 2)
    wide = state.map(lambda part: part.repeat(20_000, *(1,) * (part.ndim - 1)))
    assert torch.equal(played.roll(wide, 1)[0], model.roll(wide, 1)[0])
    assert not played.records


def test_second_derivatives_are_refused():
    model = network("gru")
    _, state = model.listen(heard(2), None)
    said, _ = Played(model).roll(state, 3)
    (gradient,) = torch.autograd.grad(said.square().sum(), [model.members[0].head.bias], create_graph=True)
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
    model.members[0].head.register_forward_hook(lambda module, args, output: hide(output))
    played = Played(model)
    same(learned(model, played, heard(3)), learned(model, model, heard(3)), 1e-10)


class Leak(nn.Module):
    """A layer with a buffer, which it may change, and noise in training."""

    def __init__(self, writes: Callable[[nn.Module], None] = lambda module: None, noise: float = 0.0):
        super().__init__()
        self.register_buffer("rate", torch.linspace(0.2, 0.9, 8))
        self.linear, self.noise, self.writes = nn.Linear(8, 8), nn.Dropout(noise), writes

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        self.writes(self)
        return self.noise(torch.tanh(self.linear(x))) * self.rate.clone(), State()


def leaking(**options) -> ForecastModel:
    torch.manual_seed(0)
    return ForecastModel(2, Backbone(8, [Leak(**options)]), lags=3).double()


def test_buffers_are_arguments_of_the_record():
    model = leaking()
    played = Played(model)
    for scale in (1.0, 3.0):
        model.members[0].backbone.layers[0].mixer.rate.mul_(scale)
        same(learned(model, played, heard(3, gaps=True)), learned(model, model, heard(3, gaps=True)), 1e-10)
    assert len(played.records) == 2 and all(played.records.values())


def in_place(module: nn.Module) -> None:
    with torch.no_grad():
        module.rate.mul_(0.9)


def replaced(module: nn.Module) -> None:
    module.rate = 0.9 * module.rate


@pytest.mark.parametrize("writes", [in_place, replaced])
def test_a_step_that_writes_into_its_buffers_runs_as_it_is(writes: Callable[[nn.Module], None]):
    model, other = leaking(writes=writes), leaking(writes=writes)
    played = Played(model)
    for _ in range(2):
        same(learned(model, played, heard(3, gaps=True)), learned(other, other, heard(3, gaps=True)), 1e-12)
    assert torch.equal(model.members[0].backbone.layers[0].mixer.rate, other.members[0].backbone.layers[0].mixer.rate)
    assert len(played.records) == 2 and not any(played.records.values())


def test_training_and_evaluation_have_records_of_their_own():
    model = leaking(noise=0.5).eval()
    played = Played(model)
    same(learned(model, played, heard(3)), learned(model, model, heard(3)), 1e-10)
    model.train()
    learned(model, played, heard(3))  # finds out that it cannot be recorded
    with torch.random.fork_rng(devices=[]):
        found = learned(model, played, heard(3))
    same(found, learned(model, model, heard(3)), 1e-12)


def test_the_gradient_of_what_is_heard_is_not_lost():
    model = network("gru")
    found = []
    for by in (model, Played(model)):
        x = heard(3, gaps=True).requires_grad_()
        by.listen(x, None)[0].sum().backward()
        found.append(x.grad)
    torch.testing.assert_close(*found)


def test_two_threads_record_at_once():
    models = [network("gru") for _ in range(4)]
    players = [Played(model) for model in models]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(learned, models, players, [heard(3)] * 4))
    assert all(record for played in players for record in played.records.values())
    for one in found:
        same(one, learned(models[0], models[0], heard(3)), 1e-10)


def test_an_iterated_function_of_complex_parameters():
    a, b = torch.tensor([0.9 + 0.2j, -0.5j], dtype=torch.complex128), torch.randn(3, 2, dtype=torch.float64)

    def step(rows: Tensor, a: Tensor, b: Tensor) -> Tensor:
        z = a * torch.complex(*rows.unflatten(1, (2, 2)).unbind(1)) + torch.tanh(b)
        return torch.cat([z.real, z.imag], dim=1)

    rows = torch.randn(3, 4, dtype=torch.float64)
    record = Iterated(step, rows, (), [a, b], slice(1, 3))

    def slow(rows: Tensor, a: Tensor, b: Tensor) -> Tensor:
        states = []
        for _ in range(5):
            rows = step(rows, a, b)
            states.append(rows)
        return torch.stack(states)

    inputs = [x.clone().requires_grad_() for x in (rows, a, b)]
    watched, last = record(inputs[0], inputs[1:], 5)
    states = slow(*inputs)
    torch.testing.assert_close((watched, last), (states[:, :, 1:3], states[-1]))
    weights, after = torch.randn(5, 3, 2, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    found = torch.autograd.grad((weights * watched).sum() + (after * last).sum(), inputs)
    expected = torch.autograd.grad((weights * states[:, :, 1:3]).sum() + (after * states[-1]).sum(), inputs)
    torch.testing.assert_close(found, expected)
