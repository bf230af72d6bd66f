"""Parameters: drawn from the generator alone, all heard, kept by those who load them or reset the rest."""

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.mixers.cases import D, every_case


@every_case
def test_every_parameter_is_heard(case):
    layer = case.build()
    layer(torch.randn(2, 6, D))[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


@every_case
def test_a_batch_of_none_has_gradients(case):
    layer = case.build()
    layer(torch.randn(0, 5, D))[0].sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


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
