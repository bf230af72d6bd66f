"""One table, one suite: every mixer is tested by being listed."""

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.func import functional_call

from separatrix.recurrence import State
from tests.agree import agree, distance, gradient, nudge
from tests.mixers.cases import CASES, LINEAR, Case, D, every_case, every_dtype


@pytest.fixture
def default_dtype():
    yield torch.set_default_dtype
    torch.set_default_dtype(torch.float32)


def road(case: Case, cuts: tuple[int, ...], x, reset, *rest):
    """The layer along x from the given state, called anew after every cut: y and the parts of the last state."""
    layer = case.build()
    names = [name for name, _ in layer.named_parameters()]
    parameters = dict(zip(names, rest))
    layout = list(layer(torch.zeros(1, 1, D))[1].tensors())
    state = State(**dict(zip(layout, rest[len(names) :]))) if len(rest) > len(names) else None
    outputs = []
    for begin, end in zip((0, *cuts), (*cuts, x.shape[1])):
        piece = None if reset is None else reset[:, begin:end]
        y, state = functional_call(layer, parameters, (x[:, begin:end], state, piece))
        outputs.append(y)
    return torch.cat(outputs, dim=1), *state.tensors().values()


@every_case
@every_dtype
@pytest.mark.parametrize("reset", [False, True], ids=["", "resets"])
@settings(max_examples=6)
@given(data=st.data())
def test_whole_is_cut_anywhere(case, dtype, reset, data):
    T = data.draw(st.integers(0, 37), label="T")
    cuts = tuple(sorted(data.draw(st.lists(st.integers(0, T), max_size=4), label="cuts")))
    agree(partial(road, case, cuts), partial(road, case, ()), case.inputs(T, reset=reset), dtype, **leeway(case))


@every_case
@every_dtype
@pytest.mark.parametrize("T", [1, 17])
def test_whole_is_one_by_one(case, dtype, T):
    agree(partial(road, case, tuple(range(1, T))), partial(road, case, ()), case.inputs(T), dtype, **leeway(case))


@every_case
@every_dtype
@pytest.mark.parametrize("reset", [False, True], ids=["", "resets"])
@settings(max_examples=3)
@given(cuts=st.lists(st.integers(0, 19), max_size=3).map(sorted).map(tuple))
def test_gradients_do_not_see_the_cut(case, dtype, reset, cuts):
    """To x, to every parameter and to the initial state."""
    inputs = case.inputs(19, reset=reset)
    agree(gradient(partial(road, case, cuts)), gradient(partial(road, case, ())), inputs, dtype, **leeway(case))


def leeway(case: Case) -> dict[str, Any]:
    """A fixed multiplier is rounded once and then used at every step."""
    if case.name in ("s4d", "s5", "lru"):
        return dict(factor=10, because="nudging a log step of a slow mode moves its multiplier by less than rounding the multiplier does")
    return {}


@every_case
@pytest.mark.parametrize("cuts", [(), (5,), tuple(range(1, 14))], ids=["whole", "cut", "one by one"])
def test_a_reset_is_a_fresh_start(case, cuts):
    x, _, *rest = case.inputs(14, B=3)
    reset = torch.zeros(3, 14, dtype=torch.bool)
    reset[0, [4, 5]] = reset[1, 0] = reset[2, 13] = True
    count = len(list(case.build().parameters()))

    def restarted(x, *rest):
        rows = []
        for row in range(3):
            starts = reset[row].nonzero().flatten().tolist()
            pieces = []
            for begin, end in zip([0, *starts], [*starts, 14]):
                state = rest[:count] if begin in starts else (*rest[:count], *(part[row : row + 1] for part in rest[count:]))
                if end > begin:
                    pieces.append(road(case, (), x[row : row + 1, begin:end], None, *state)[0])
            rows.append(torch.cat(pieces, dim=1))
        return torch.cat(rows)

    agree(lambda x, *rest: road(case, cuts, x, reset, *rest)[0], restarted, (x, *rest), torch.float64)


@every_case
def test_nothing_passes_a_reset(case):
    """Equality, not closeness: what was before a reset is multiplied by zero, however large it was."""
    layer = case.build()
    x = torch.randn(2, 9, D)
    other = torch.cat([100 * torch.randn(2, 5, D), x[:, 5:]], dim=1)
    reset = torch.zeros(2, 9, dtype=torch.bool)
    reset[:, 5] = True
    y, state = layer(x, reset=reset)
    z, same_state = layer(other, reset=reset)
    assert torch.equal(y[:, 5:], z[:, 5:])
    if case.name != "attention":  # which keeps the hidden keys, and that they are hidden
        same(state, same_state)


@every_case
@given(t=st.integers(0, 20))
@settings(max_examples=4)
def test_the_future_cannot_touch_the_past(case, t):
    layer = case.build()
    x = torch.randn(2, 20, D)
    y, z = layer(x)[0], layer(torch.cat([x[:, :t], torch.randn(2, 20 - t, D)], dim=1))[0]
    assert torch.equal(y[:, :t], z[:, :t])


@every_case
def test_rows_of_a_batch_do_not_meet(case):
    layer = case.build()
    x = torch.randn(3, 11, D)
    changed = torch.cat([x[:1], torch.randn(2, 11, D)])
    assert torch.equal(layer(x)[0][0], layer(changed)[0][0])
    agree(
        lambda x, *rest: road(case, (), x, *rest)[0][:1],
        lambda x, *rest: road(case, (), x[:1], *rest)[0],
        (x.double(), *case.inputs(11, warm=0)[1 : 2 + len(list(layer.parameters()))]),
        torch.float64,
    )


@every_case
@torch.no_grad()
def test_the_state_is_a_value(case, tmp_path):
    layer = case.build()
    x = torch.randn(3, 9, D)
    _, end = layer(x)
    _, state = layer(x[:, :4])
    kept = state.clone()
    onward = layer(x[:, 4:], state)[0]
    same(state, kept)  # going on changes nothing behind
    assert torch.equal(layer(x[:, 4:], kept)[0], onward)  # rolled back
    state.save(tmp_path / "state.safetensors")
    assert torch.equal(layer(x[:, 4:], State.load(tmp_path / "state.safetensors"))[0], onward)
    row = layer(x[1:2, 4:], state[1])[0]
    assert distance(row.double(), onward[1:2].double()) < 1e-5  # another batch size may add in another order
    assert torch.equal(layer(x[:, 4:], state.like(state.vector()))[0], onward)
    assert torch.equal(layer(x[:, 4:], state.detach())[0], onward)
    assert end.detach().vector().isfinite().all()


@every_case
def test_no_steps_change_nothing(case):
    layer = case.build()
    x = torch.randn(2, 5, D)
    y, rest = layer(x[:, :0])
    assert y.shape == (2, 0, D)
    assert torch.equal(layer(x, rest)[0], layer(x)[0])
    _, state = layer(x)
    same(layer(x[:, :0], state)[1], state)
    same(layer(x[:, :0], state, torch.zeros(2, 0, dtype=torch.bool))[1], state)


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
    torch.testing.assert_close(torch.cat([half, rest], 1), y, rtol=0.05, atol=0.05)
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@every_case
def test_a_batch_of_none_has_gradients(case):
    layer = case.build()
    layer(torch.randn(0, 5, D))[0].sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


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
def test_another_default_device_is_not_that_of_the_state(case):
    layer, x = case.build(), torch.randn(2, 5, D)
    y, state = layer(x)
    with torch.device("meta"):
        elsewhere, later = layer(x)
    assert torch.equal(elsewhere, y)
    assert all(torch.equal(part, later.tensors()[name]) for name, part in state.tensors().items())


@every_case
def test_every_parameter_is_heard(case):
    layer = case.build()
    layer(torch.randn(2, 6, D))[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


@every_case
def test_a_generator_decides_everything(case):
    before = torch.get_rng_state()
    one, two, other = case.build(0).state_dict(), case.build(0).state_dict(), case.build(1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert all(part.isfinite().all() for part in one.values())


@every_case
def test_whoever_resets_linear_layers_keeps_the_recurrence(case):
    layer = case.build()
    before = {name: p.clone() for name, p in layer.named_parameters() if getattr(p, "_no_weight_decay", False)}
    layer.apply(lambda module: module.reset_parameters() if isinstance(module, (nn.Linear, nn.Conv1d)) else None)
    assert all(torch.equal(p, before[name]) for name, p in layer.named_parameters() if name in before)
    assert before or not list(layer.parameters(recurse=False))  # what a layer holds itself, outside of any map, is its recurrence's


@every_case
def test_saved_weights_say_the_same(case, tmp_path):
    layer, other = case.build(0), case.build(1)
    save_file(layer.state_dict(), tmp_path / "layer.safetensors")
    other.load_state_dict(load_file(tmp_path / "layer.safetensors"))
    x = torch.randn(2, 7, D)
    assert torch.equal(layer(x)[0], other(x)[0])


@every_case
def test_the_door(case):
    layer = case.build()
    x = torch.randn(2, 3, D)
    _, state = layer(x)
    refused(ValueError, "x is (2, 3, 9)", "d_model = 8", layer, torch.randn(2, 3, D + 1))
    refused(ValueError, "x is (3, 8)", "[batch, time, d_model]", layer, x[0])
    refused(TypeError, "torch.int64", "Convert it", layer, x.long())
    refused(TypeError, "x is torch.float64", "computes in torch.float32", layer, x.double())
    refused(TypeError, "x is a list", "tensor", layer, [1.0])
    refused(ValueError, "reset is (2, 4)", "(2, 3)", layer, x, None, torch.zeros(2, 4, dtype=torch.bool))
    refused(ValueError, "torch.float32", "torch.bool", layer, x, None, torch.zeros(2, 3))
    back = "Pass the state this layer returned, or None to start at rest."
    refused(TypeError, "state is a tuple", back, layer, x, (x,))
    refused(ValueError, "state has the parts ['other']", back, layer, x, State(other=x))
    refused(ValueError, "for a batch of 2", back, layer, x, state[:1])
    refused(ValueError, "for a batch of 2", back, layer, x, state.map(lambda part: part[..., None]))


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("T", [1, 6])
@torch.no_grad()
def test_the_transition_is_what_the_state_undergoes(name, T):
    """The final state moves with the initial one by the product of the transitions, and by nothing else."""
    case = CASES[name]
    names = [n for n, _ in case.build().named_parameters()]

    def by_two_runs(x, push, *rest):
        pushed = (*rest[: len(names)], rest[len(names)] + push, *rest[len(names) + 1 :])
        return road(case, (), x, None, *pushed)[1] - road(case, (), x, None, *rest)[1]

    def by_transitions(x, push, *rest):
        layer = case.build().double()
        layer.load_state_dict(dict(zip(names, rest)))
        layout = list(layer(x[:, :0])[1].tensors())
        transition = layer.transition(x, State(**dict(zip(layout, rest[len(names) :]))))
        for t in range(T):
            step = transition.at(t)
            push = step.apply(push) if push.ndim == step.spectrum().ndim else step.apply_to_columns(push)
        return push

    x, _, *rest = case.inputs(T)
    push = torch.randn_like(rest[len(names)])
    agree(by_two_runs, by_transitions, (x, push, *rest), torch.float64, factor=30, because="a difference of two runs cancels")


def same(one: State, other: State) -> None:
    assert one.tensors().keys() == other.tensors().keys()
    assert all(torch.equal(part, other.tensors()[name]) for name, part in one.tensors().items())


def refused(kind: type[Exception], came: str, expected: str, layer: nn.Module, *arguments: Any) -> None:
    with pytest.raises(kind) as error:
        layer(*arguments)
    assert came in str(error.value) and expected in str(error.value), str(error.value)
    assert "\n" not in str(error.value)
