"""One step of attention: the kernel is the definition, hidden steps may hold anything, and a wrong state is refused."""

from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from separatrix.mixers import build_mixer
from separatrix.recurrence import State
from separatrix.recurrence.attention import attention_step, attention_step_plain, turns, turns_table, turns_until_now
from tests.agree import agree
from tests.recurrence.roads import randn

SHAPES = {"nothing kept": (1, 0, 2, 6), "odd": (3, 5, 1, 7), "a register": (2, 70, 3, 64), "wider": (1, 300, 2, 130)}


@pytest.mark.parametrize("forget", [0, 1, "all"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_is_the_definition(shape: str, forget: int | str):
    B, S, H, K = SHAPES[shape]
    alive = (torch.rand(B, S) > 0.3).double()
    inputs = randn(B, 3, H, K), randn(B, S, H, K), randn(B, S, H, K), alive
    rates = None if K % 2 else torch.logspace(0, -3, K // 2, dtype=torch.float64)
    gone = S + 1 if forget == "all" else min(int(forget), S + 1)

    def plain(qkv, keys, values, alive):
        turned = None if rates is None else turns(rates, -S, 1, keys)
        return attention_step_plain(qkv, keys, values, alive, turned, gone)

    agree(lambda *given: attention_step(*given, rates, gone), plain, inputs, torch.float32)


def test_the_table_of_generation_is_the_definition():
    rates = torch.tensor([1.0, 0.1, 1e-4], dtype=torch.float64)
    for before in (0, 1, 255, 256, 5000):
        for like in (torch.zeros(1), torch.zeros(1, dtype=torch.float64)):
            assert torch.equal(turns_until_now(rates, before, like), turns(rates, -before, 1, like))


def in_functionalize(layer, x, state):
    torch.func.functionalize(lambda x: layer(x, state)[0])(x)


def on_fakes(layer, x, state):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        layer(mode.from_tensor(x), state.map(mode.from_tensor))


def beside_meta(layer, x, state):
    with torch.device("meta"):
        layer(x, state)


@pytest.mark.parametrize("elsewhere", [in_functionalize, on_fakes, beside_meta])
def test_a_table_is_for_real_numbers(elsewhere):
    """What is made under a mode belongs to it, and would be given to every later step."""
    layer, x = build_mixer("attention", 8), torch.randn(1, 4, 8)
    with torch.no_grad():
        wanted, _ = layer(x)
        _, state = layer(x[:, :3])
        turns_table.cache_clear()
        elsewhere(layer, x[:, 3:], state)
        torch.testing.assert_close(layer(x[:, 3:], state)[0], wanted[:, 3:])


def test_a_layer_that_was_built_without_memory_takes_its_weights_later():
    ready, x = build_mixer("attention", 8), torch.randn(2, 3, 8)
    with torch.device("meta"):
        layer = build_mixer("attention", 8)
    layer.to_empty(device="cpu").load_state_dict(ready.state_dict())
    assert torch.equal(layer(x)[0], ready(x)[0])


@torch.no_grad()
@pytest.mark.parametrize("window", [None, 5])
def test_states_share_memory_and_stay_values(window: int | None):
    """Whichever state is followed, in whatever order and how often: each answers as if nobody else had."""
    layer, x = build_mixer("attention", 8, window=window), torch.randn(2, 150, 8)
    wanted, _ = layer(x)
    _, state = layer(x[:, :3])
    path, kept = [state], []
    for t in range(3, 150):
        y, state = layer(x[:, t : t + 1], state)
        torch.testing.assert_close(y, wanted[:, t : t + 1])
        path.append(state)
        kept.append(state.clone())
    assert len({part.untyped_storage().data_ptr() for part in (state.k for state in path)}) < 10
    other = torch.randn(2, 1, 8)
    for at in (100, 40, 99, 100, 0):  # another sample, and another from the same
        alone = path[at].clone()
        for token in (other, -other):
            y, branch = layer(token, path[at])
            expected, copied = layer(token, alone)
            torch.testing.assert_close(y, expected)
            for name, part in branch.parts.items():
                torch.testing.assert_close(part, copied.parts[name])
    for state, copy in zip(path[1:], kept):
        assert all(torch.equal(part, copy.parts[name]) for name, part in state.parts.items())


@torch.no_grad()
def test_parts_of_different_states_are_not_taken_for_one():
    layer, x = build_mixer("attention", 8), torch.randn(1, 5, 8)
    _, state = layer(x[:, :1], layer(x[:, 1:3])[1])
    mixed = State(**{**state.parts, "v": -state.v})
    _, shorter = layer(x[:, :1], layer(x[:, 1:3])[1])
    for part in shorter.parts.values():
        part.data = part[:, :2]
    _, other = layer(x[:, :1], layer(x[:, 1:3])[1])
    other.alive.data = torch.tensor([[0.0, 1, 1]])
    for given in (mixed, shorter, other, state):
        alone = given.clone()
        y, _ = layer(x[:, 4:], given)
        torch.testing.assert_close(y, layer(x[:, 4:], alone)[0])


def test_a_room_of_inference_is_left_outside_of_it():
    layer, x = build_mixer("attention", 8), torch.randn(1, 5, 8)
    with torch.inference_mode():
        _, state = layer(x[:, :1], layer(x[:, 1:3])[1])
    with torch.no_grad():
        _, state = layer(x[:, 3:4], state)
    assert not state.k.is_inference()
    layer(x[:, 4:], state)[0].sum().backward()


@torch.no_grad()
def test_of_many_that_follow_one_state_at_once_one_takes_the_space_behind_it():
    layer, prompt, tokens = build_mixer("attention", 8), torch.randn(1, 3, 8), torch.randn(40, 1, 1, 8)
    expected = [layer(token, layer(prompt)[1])[0] for token in tokens]
    for _ in range(20):
        _, state = layer(prompt[:, 2:], layer(prompt[:, :2])[1])
        with ThreadPoolExecutor(8) as threads:
            got = list(threads.map(step_without_gradients, repeat(layer), tokens, repeat(state)))
        for (y, after), wanted, token in zip(got, expected, tokens):
            torch.testing.assert_close(y, wanted)
            keys = layer.in_proj(token).view(1, 3, 4, 2)[:, 1]
            torch.testing.assert_close(after.k[:, -1], keys)


def step_without_gradients(layer, token, state):
    with torch.no_grad():  # of this thread
        return layer(token, state)


@torch.no_grad()
def test_a_batch_of_nobody_takes_its_steps():
    layer, x, state = build_mixer("attention", 8), torch.randn(0, 1, 8), None
    for kept in (1, 2):
        y, state = layer(x, state)
        assert y.shape == (0, 1, 8) and state.k.shape == (0, kept, 4, 2)


def test_what_is_hidden_may_hold_anything():
    layer, x = build_mixer("attention", 8), torch.randn(1, 7, 8)
    with torch.no_grad():
        _, state = layer(x[:, :6], reset=torch.arange(6)[None] == 4)
        keys, values, hidden = state.k.clone(), state.v.clone(), state.alive < 0.5
        assert bool(hidden[:, :4].all()) and not bool(hidden[:, 4:].any())
        keys[hidden], values[hidden] = float("nan"), float("inf")
        y, _ = layer(x[:, 6:], State(k=keys, v=values, alive=state.alive))
        expected, _ = layer(x[:, 4:])
    torch.testing.assert_close(y, expected[:, -1:])


def test_a_value_that_is_no_number_is_seen():
    layer, x = build_mixer("attention", 8), torch.randn(2, 4, 8)
    with torch.no_grad():
        _, state = layer(x[:, :3])
        state.k[0, 1, 0, 0] = float("nan")
        y, _ = layer(x[:, 3:], state)
    assert bool(y[0].isnan().all()) and bool(y[1].isfinite().all())


@pytest.mark.parametrize("part, came", [("v", r"\(1, 2, 4, 2\)"), ("alive", r"\(1, 2\)")])
@pytest.mark.parametrize("T", [1, 2])
def test_parts_of_different_lengths_are_refused(part: str, came: str, T: int):
    layer = build_mixer("attention", 8)
    with torch.no_grad():
        _, state = layer(torch.randn(1, 3, 8))
        torn = State(**{**state.parts, part: state.parts[part][:, :2]})
        with pytest.raises(ValueError, match=rf"state\.{part} is {came} but this layer keeps \[1, 3"):
            layer(torch.randn(1, T, 8), torn)
