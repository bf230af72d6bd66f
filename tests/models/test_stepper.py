"""A stepper says what its layer says, one token after another."""

import copy
import pickle
from importlib import import_module

import pytest
import torch

from separatrix.mixers import MIXERS, build_mixer
from separatrix.models import Backbone, Stepper
from separatrix.models.recording import Program
from separatrix.recurrence import State, scan2d, selective_scan2d

DTYPES = {torch.float32: 2e-5, torch.float64: 1e-12}  # sums over D and time, in another order
D = 64
LINE = import_module("separatrix.recurrence.scan2d").LINE  # the package has a function of that name


def tokens(batch: int, time: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, time, D, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def programs(fast: Stepper) -> list[object]:
    return [play for play in fast.played.values() if play is not None]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MIXERS)
def test_prompt_then_tokens_are_the_layer_on_all_of_them(name, dtype):
    layer = build_mixer(name, D, generator=torch.Generator().manual_seed(1)).to(dtype)
    fast = Stepper(layer)
    for batch in (1, 3):
        x = tokens(batch, 16, dtype)
        with torch.no_grad():
            wanted, end = layer(x)
        said, state = fast(x[:, :7])
        outputs = [said]
        for t in range(7, 16):
            before = {part: number.clone() for part, number in state.tensors().items()}
            y, after = fast(x[:, t : t + 1], state)
            assert all(torch.equal(before[part], number) for part, number in state.tensors().items()), "a state is a value"
            outputs.append(y)
            state = after
        torch.testing.assert_close(torch.cat(outputs, 1), wanted, rtol=DTYPES[dtype], atol=DTYPES[dtype])
        for part, number in end.tensors().items():
            torch.testing.assert_close(state.tensors()[part], number, rtol=DTYPES[dtype], atol=DTYPES[dtype])
    found = programs(fast)
    assert (found == []) == (name == "attention") and all(isinstance(played, Program) for played in found)


def test_attention_is_recorded_once_its_window_is_full():
    layer = build_mixer("attention", D, window=4)
    x = tokens(1, 12, torch.float32)
    fast, state, outputs = Stepper(layer), None, []
    for t in range(12):
        y, state = fast(x[:, t : t + 1], state)
        outputs.append(y)
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(outputs, 1), layer(x)[0], rtol=1e-4, atol=1e-5)
    state = None
    for t in range(3):
        _, state = fast(x[:, t : t + 1], state)
    assert len(fast.played) == 1  # a second sequence grows as the first did


@pytest.mark.parametrize("first", [torch.inference_mode, torch.no_grad])
def test_inside_and_outside_inference_mode(first):
    layer = build_mixer("gru", D)
    x, fast = tokens(1, 2, torch.float32), Stepper(layer)
    with first():
        _, state = fast(x[:, :1])
        fast(x[:, 1:], state)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(fast(x[:, 1:], state)[0], layer(x)[0][:, 1:], rtol=2e-5, atol=2e-5)


def test_under_autocast_the_layer_runs_as_it_is():
    layer = build_mixer("mamba", D)
    x, fast = tokens(1, 2, torch.float32), Stepper(layer)
    _, state = fast(x[:, :1])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(2):
            assert torch.equal(fast(x[:, 1:], state)[0], layer(x[:, 1:], state)[0])
    with torch.no_grad():
        torch.testing.assert_close(fast(x[:, 1:], state)[0], layer(x[:, 1:], state)[0], rtol=2e-5, atol=2e-5)


def test_a_network_of_several_layers():
    network = Backbone(D, [build_mixer(name, D) for name in ("mamba", "s5", "gated_deltanet")], d_ff=48)
    fast, x = Stepper(network), tokens(2, 9, torch.float32)
    _, state = fast(x[:, :4])
    outputs = []
    for t in range(4, 9):
        y, state = fast(x[:, t : t + 1], state)
        outputs.append(y)
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(outputs, 1), network(x)[0][:, 4:], rtol=2e-5, atol=2e-5)
    assert [type(played) for played in programs(fast)] == [Program]


@pytest.mark.parametrize("variates", [3, LINE + 1], ids=["a short line", "a long line"])
@pytest.mark.parametrize("function", [scan2d, selective_scan2d])
def test_a_line_of_a_grid_is_a_step(function, variates):
    """As one program where it is short; as one kernel, called by torch, where the program would be long."""

    class Line(torch.nn.Module):
        def forward(self, x, state, reset=None):
            grid = x.unflatten(2, (variates, 4))
            if function is scan2d:
                cells = grid.unsqueeze(3)
                h, last = scan2d(0.5 * cells.unsqueeze(4).cos(), cells * torch.tensor([[1.0], [-1.0]]), state.h, reset)
                return h.flatten(2), State(h=last)
            delta, project = grid.unsqueeze(3).expand(*grid.shape[:3], 2, 4).exp() / 9, grid[..., None, :2].expand(*grid.shape[:3], 2, 2)
            own, other = -torch.arange(1.0, 9).view(1, 4, 2), torch.full((1, 4, 2), 0.2)
            A = torch.stack([torch.cat([own, other]), torch.cat([other, own])])
            y, last = selective_scan2d(grid, delta, A, project, project.flip(3), None, state.h, reset)
            return y.flatten(2), State(h=last)

    parts = (2, 4) if function is scan2d else (2, 4, 2)
    layer, x = Line(), tokens(2, 5, torch.float32).repeat(1, 1, 5)[..., : variates * 4]
    state = State(h=torch.zeros(2, variates, *parts))
    with torch.no_grad():
        wanted, end = layer(x, state)
    fast, outputs = Stepper(layer), []
    for t in range(5):
        y, state = fast(x[:, t : t + 1], state)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, 1), wanted, rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(state.h, end.h, rtol=2e-5, atol=2e-5)
    assert [isinstance(played, Program) for played in programs(fast)] == [variates <= LINE]


def test_weights_are_those_of_the_moment_and_the_module_is_left_alone():
    layer = build_mixer("mamba", D)
    x = tokens(1, 2, torch.float32)
    fast = Stepper(layer)
    _, state = fast(x[:, :1])
    before, _ = fast(x[:, 1:], state)
    assert layer.training and all(parameter.requires_grad for parameter in layer.parameters())
    with torch.no_grad():
        layer.out_proj.weight.mul_(2)
    assert torch.equal(fast(x[:, 1:], state)[0], before)
    torch.testing.assert_close(Stepper(layer)(x[:, 1:], state)[0], 2 * before)


def test_a_used_stepper_can_be_copied_and_sent():
    fast, x = Stepper(build_mixer("gru", D)), tokens(1, 3, torch.float32)
    _, state = fast(x[:, :1])
    y, _ = fast(x[:, 1:2], state)
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert torch.equal(other(x[:, 1:2], state)[0], y)


def test_resets_and_other_lengths_go_to_the_layer():
    layer = build_mixer("gla", D)
    x, reset = tokens(2, 3, torch.float32), torch.tensor([[False], [True]])
    fast = Stepper(layer)
    _, state = fast(x[:, :2])
    with torch.no_grad():
        wanted, _ = layer(x[:, 2:], state, reset)
    torch.testing.assert_close(fast(x[:, 2:], state, reset)[0], wanted)
    assert fast(x[:, :0], state)[0].shape == (2, 0, D)


@pytest.mark.parametrize("wrong, message", [
    (lambda x, state: (x[..., 1:], state), "d_model"),
    (lambda x, state: (x.double(), state), "computes in"),
    (lambda x, state: (x, State(h=state.h)), "keeps"),
    (lambda x, state: (x[:1], state), "batch of 1"),
])  # fmt: skip
def test_bad_input_meets_the_layers_own_door(wrong, message):
    fast = Stepper(build_mixer("mamba", D))
    x = tokens(2, 3, torch.float32)
    _, state = fast(x[:, :2])
    for _ in range(2):
        with pytest.raises((TypeError, ValueError), match=message):
            fast(*wrong(x[:, 2:], state))
        fast(x[:, 2:], state)
