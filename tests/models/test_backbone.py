"""A network of mixers keeps the mixers' contract, and shows its layers to instruments."""

from functools import partial

import pytest
import torch
from agree import agree, gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.func import functional_call

from separatrix.mixers import DeltaNet, build_mixer
from separatrix.models import Backbone
from separatrix.recurrence import State

D = 8
STACK = [
    ("s4d", dict(d_state=4)),
    ("gated_deltanet", dict(n_heads=2)),
    ("attention", dict(n_heads=2, window=4)),
    ("mamba", dict(d_state=3)),
    ("gru", {}),
]


def build(seed: int = 0, d_ff: int | None = 12) -> Backbone:
    generator = torch.Generator().manual_seed(seed)
    mixers = [build_mixer(name, D, generator=generator, **settings) for name, settings in STACK]
    return Backbone(D, mixers, d_ff, generator=generator)


def road(cuts: tuple[int, ...], x, reset, *parameters):
    network = build()
    weights = dict(zip([name for name, _ in network.named_parameters()], parameters))
    outputs, state = [], None
    for begin, end in zip((0, *cuts), (*cuts, x.shape[1])):
        piece = None if reset is None else reset[:, begin:end]
        y, state = functional_call(network, weights, (x[:, begin:end], state, piece))
        outputs.append(y)
    return torch.cat(outputs, dim=1), *state.tensors().values()


def inputs(T: int) -> tuple:
    generator = torch.Generator().manual_seed(T)
    x = torch.randn(2, T, D, dtype=torch.float64, generator=generator)
    return x, torch.rand(2, T, generator=generator) < 0.2, *(p.detach() for p in build().double().parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@settings(max_examples=5)
@given(T=st.integers(0, 23), data=st.data())
def test_whole_is_cut_anywhere(dtype, T, data):
    cuts = tuple(sorted(data.draw(st.lists(st.integers(0, T), max_size=4), label="cuts")))
    agree(partial(road, cuts), partial(road, ()), inputs(T), dtype)


@pytest.mark.parametrize("cuts", [(4,), tuple(range(1, 11))], ids=["cut", "one by one"])
def test_gradients_do_not_see_the_cut(cuts):
    agree(gradient(partial(road, cuts)), gradient(partial(road, ())), inputs(11), torch.float64)


@torch.no_grad()
def test_the_state_is_a_value_with_a_part_for_every_layer(tmp_path):
    network = build()
    x = torch.randn(2, 9, D)
    _, state = network(x[:, :5])
    assert list(state.parts) == [f"layer{i}" for i in range(len(STACK))]
    y, _ = network(x[:, 5:], state)
    state.save(tmp_path / "state.safetensors")
    loaded = State.load(tmp_path / "state.safetensors")
    assert torch.equal(network(x[:, 5:], loaded)[0], y)
    assert list(loaded.tensors()) == list(state.tensors()) and torch.equal(loaded.vector(), state.vector())
    assert torch.equal(network(x[:, 5:], state.like(state.vector()))[0], y)


@torch.no_grad()
def test_saved_weights_say_the_same(tmp_path):
    network, other = build(0), build(1)
    save_file(network.state_dict(), tmp_path / "network.safetensors")
    other.load_state_dict(load_file(tmp_path / "network.safetensors"))
    x = torch.randn(2, 7, D)
    assert torch.equal(network(x)[0], other(x)[0])


@torch.no_grad()
def test_a_walk_meets_what_the_forward_pass_does():
    network = build()
    x = torch.randn(2, 6, D)
    _, state = network(x)
    after = network(x, state)[1].tensors()
    visits = list(network.walk(x, state))
    assert [visit.name for visit in visits] == [f"layer{i}" for i in range(len(STACK))]
    for visit, block in zip(visits, network.layers):
        assert visit.mixer is block.mixer
        assert torch.equal(visit.mixer(visit.x, visit.before)[0], visit.y)
        for name, part in visit.after.tensors(f"{visit.name}.").items():
            assert torch.equal(part, after[name])


@torch.no_grad()
def test_transitions_are_those_of_the_layers_that_have_one():
    network = build()
    x = torch.randn(2, 6, D)
    transitions = dict(network.transitions(x))
    assert list(transitions) == ["layer0", "layer1", "layer3"]  # attention and GRU are not linear in their state
    for transition in transitions.values():
        assert transition.norm().shape[:2] == (2, 6)
        assert float(transition.norm().max()) <= 1 + 1e-6
        assert float(transition.spectrum().abs().max()) <= 1 + 1e-6


def test_without_d_ff_there_is_no_map_between_the_mixers():
    assert sum(p.numel() for p in build(d_ff=None).parameters()) < sum(p.numel() for p in build().parameters())
    assert build(d_ff=None)(torch.randn(1, 2, D))[0].shape == (1, 2, D)


def test_the_door():
    network = build()
    x = torch.randn(2, 3, D)
    with pytest.raises(ValueError, match=r"x is \(2, 3, 7\) but this layer takes \[batch, time, d_model\] with d_model = 8"):
        network(x[..., :7])
    with pytest.raises(ValueError, match="Pass the state this layer returned, or None to start at rest"):
        network(x, State(layer0=State(h=x)))
    with pytest.raises(TypeError, match="state is a list"):
        network(x, [None] * 5)
    with pytest.raises(ValueError, match=r"mixers\[1\] has d_model = 4 but the backbone has 8"):
        Backbone(8, [DeltaNet(8), DeltaNet(4)])
    for d_ff in (0, -3, 2.5):
        with pytest.raises(ValueError, match=f"d_ff is {d_ff}, expected a whole number of at least 1"):
            Backbone(8, [DeltaNet(8)], d_ff)
    with pytest.raises(ValueError, match=r"eps is -1\.0"):
        Backbone(8, [DeltaNet(8)], eps=-1.0)
    with pytest.raises(TypeError, match=r"mixers\[0\] is <class .*DeltaNet'> but must be a module"):
        Backbone(8, [DeltaNet])
    shared = DeltaNet(8)
    with pytest.raises(ValueError, match="share their weights"):
        Backbone(8, [shared, shared])


def test_a_state_is_a_row_and_back():
    state = State(z=torch.randn(2, 3, dtype=torch.complex64), inner=State(h=torch.randn(2, 2, 2)), empty=torch.zeros(2, 0))
    rows = state.vector()
    assert rows.shape == (2, 10)
    for batch in (0, 1, 2):  # that of the state which gives the shapes does not matter
        for name, part in state[:batch].like(rows).tensors().items():
            assert torch.equal(part, state.tensors()[name])
