"""The contract, one table and one suite: every mixer is tested by being listed.

Whole equals cut anywhere, gradients included; the future cannot touch the past; rows do not meet; a reset is a fresh start; the state is a
value; a transition is what the state undergoes.
"""

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from separatrix.recurrence import State
from separatrix.recurrence.checks import NotANumber
from tests.agree import agree, distance, gradient
from tests.mixers.cases import CASES, LINEAR, Case, D, every_case, every_dtype, road, same


@every_case
@every_dtype
@pytest.mark.parametrize("reset", [False, True], ids=["", "resets"])
@settings(max_examples=6)
@given(data=st.data())
def test_whole_is_cut_anywhere(case, dtype, reset, data):
    T = data.draw(st.integers(0, 37), label="T")
    cuts = tuple(sorted(data.draw(st.lists(st.integers(0, T), max_size=4), label="cuts")))
    agree(partial(road, case, cuts), partial(road, case, ()), case.inputs(T, reset=reset), dtype, **leeway(case, dtype))


@every_case
@every_dtype
@pytest.mark.parametrize("T", [1, 17])
def test_whole_is_one_by_one(case, dtype, T):
    agree(partial(road, case, tuple(range(1, T))), partial(road, case, ()), case.inputs(T), dtype, **leeway(case, dtype))


@every_case
@every_dtype
@pytest.mark.parametrize("reset", [False, True], ids=["", "resets"])
@settings(max_examples=3)
@given(cuts=st.lists(st.integers(0, 19), max_size=3).map(sorted).map(tuple))
def test_gradients_do_not_see_the_cut(case, dtype, reset, cuts):
    """To x, to every parameter and to the initial state."""
    inputs = case.inputs(19, reset=reset)
    agree(gradient(partial(road, case, cuts)), gradient(partial(road, case, ())), inputs, dtype, **leeway(case, dtype))


def leeway(case: Case, dtype: torch.dtype) -> dict[str, Any]:
    """A fixed multiplier is rounded once and then used at every step."""
    if dtype is torch.bfloat16:
        return dict(factor=8, because="the layer rounds what it computes on the way, too: gates, projections, the convolution")
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
@pytest.mark.parametrize("bad", [torch.nan, torch.inf], ids=str)
def test_what_is_not_finite_reaches_neither_the_past_nor_past_a_reset(case, bad):
    layer, x = case.build(), torch.randn(2, 20, D)
    reset = torch.zeros(2, 20, dtype=torch.bool)
    reset[:, 15] = True
    broken = x.clone()
    broken[1, 9, 3] = bad
    try:
        y, z = layer(x, reset=reset)[0], layer(broken, reset=reset)[0]
    except NotANumber:  # a decay that is none is refused
        return
    assert not torch.equal(z[1, 9], y[1, 9])
    for kept in (slice(0, 9), slice(15, None)):
        torch.testing.assert_close(z[1, kept], y[1, kept])
    torch.testing.assert_close(z[0], y[0])
    torch.testing.assert_close(layer(broken)[0][:, :9], layer(x)[0][:, :9])


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
def test_an_exported_layer_goes_on_from_a_state(case, tmp_path):
    layer, x = case.build(), torch.randn(2, 7, D)
    _, state = layer(x[:, :4])
    torch.export.save(torch.export.export(layer, (x[:, 4:], state)), tmp_path / "layer.pt2")
    exported = torch.export.load(tmp_path / "layer.pt2").module()
    (y, later), (wanted, end) = exported(x[:, 4:], state), layer(x[:, 4:], state)
    assert list(later.parts) == list(end.parts) and distance(y, wanted) < 1e-5 and distance(later.vector(), end.vector()) < 1e-5


@every_case
def test_an_exported_layer_takes_any_length(case):
    if "window" in case.settings:
        pytest.skip("a window parts the lengths below it from those above")
    layer = case.build()
    exported = torch.export.export(layer, (torch.randn(2, 21, D),), dynamic_shapes={"x": {1: torch.export.Dim("T", max=2**20)}}).module()
    for T in (1, 65, 130):
        x = torch.randn(2, T, D)
        assert distance(exported(x)[0].detach(), layer(x)[0].detach()) < 1e-5


@every_case
def test_a_layer_compiles_as_one_graph(case):
    torch.compiler.reset()
    layer = case.build()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for T, reset in ((9, False), (6, True)):
        x, starts = torch.randn(2, T, D, requires_grad=True), torch.rand(2, T) < 0.3 if reset else None
        results = []
        for call in (compiled, layer):
            y, state = call(x, None, starts)
            results.append((y, state.vector(), *torch.autograd.grad(y.square().sum(), (x, *layer.parameters()), allow_unused=True)))
        for got, want in zip(*results):
            assert (got is None) == (want is None) and (got is None or distance(got.detach(), want.detach()) < 1e-5)


@every_case
@torch.no_grad()
def test_no_two_parts_of_a_state_are_one(case):
    layer = case.build()
    for T in (0, 3):
        parts = layer(torch.randn(2, T, D))[1].tensors().values()
        assert len({part.untyped_storage().data_ptr() for part in parts if part.numel()}) == sum(part.numel() > 0 for part in parts)


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
