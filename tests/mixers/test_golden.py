"""The mixers against published code: logits of whole checkpoints, and the linear systems inside S4D, S5 and LRU.

The references and their conventions are in tests/golden/README.md. Everything is float64 and agrees to 1e-10 of the largest number.
"""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separatrix.mixers import LRU, S4D, S5, Mamba, Mamba2
from separatrix.recurrence import State
from separatrix.recurrence.discretize import bilinear, zoh
from tests import golden


def close(got: Tensor, want: Tensor) -> None:
    assert got.dtype == want.dtype and got.shape == want.shape
    assert (got - want).abs().max() <= 1e-10 * want.abs().max()


class TinyLanguageModel(nn.Module):
    """Just enough of a language model to carry a published checkpoint, under its names."""

    def __init__(self, config: dict, mixer):
        super().__init__()
        width = config["hidden_size"]
        self.backbone = nn.Module()
        self.backbone.embeddings = nn.Embedding(config["vocab_size"], width)
        self.backbone.layers = nn.ModuleList(nn.Module() for _ in range(config["num_hidden_layers"]))
        for layer in self.backbone.layers:
            layer.norm, layer.mixer = nn.RMSNorm(width, eps=config["layer_norm_epsilon"]), mixer()
        self.backbone.norm_f = nn.RMSNorm(width, eps=config["layer_norm_epsilon"])
        self.lm_head = nn.Linear(width, config["vocab_size"], bias=False)
        if config["tie_word_embeddings"]:
            self.lm_head.weight = self.backbone.embeddings.weight

    def forward(self, ids: Tensor, states: list[State | None] | None = None) -> tuple[Tensor, list[State]]:
        x, after = self.backbone.embeddings(ids), []
        for layer, state in zip(self.backbone.layers, states or [None] * len(self.backbone.layers)):
            y, state = layer.mixer(layer.norm(x), state)
            x = x + y
            after.append(state)
        return self.lm_head(self.backbone.norm_f(x)), after


def mamba(config: dict) -> Mamba:
    return Mamba(
        config["hidden_size"],
        d_state=config["state_size"],
        expand=config["expand"],
        d_conv=config["conv_kernel"],
        dt_rank=config["time_step_rank"],
    )


def mamba2(config: dict) -> Mamba2:
    return Mamba2(
        config["hidden_size"],
        d_state=config["state_size"],
        d_head=config["head_dim"],
        expand=config["expand"],
        n_groups=config["n_groups"],
        d_conv=config["conv_kernel"],
    )


@pytest.mark.parametrize(("folder", "build"), [("hf_mamba", mamba), ("hf_mamba2", mamba2)], ids=["mamba", "mamba2"])
@torch.no_grad()
def test_a_published_checkpoint_says_what_it_said(folder, build):
    """Every weight loads under its published name; one pass, and a prefill followed by single tokens, give the published logits."""
    config = json.loads((golden.FOLDER / folder / "config.json").read_text())
    model = TinyLanguageModel(config, lambda: build(config))
    weights, _ = golden.load_raw(f"{folder}/model")
    if config["tie_word_embeddings"]:
        weights["lm_head.weight"] = weights["backbone.embeddings.weight"]
    model.load_state_dict(weights, strict=True)
    model.double()
    expected, _ = golden.load_raw(f"{folder}/expected")
    ids, prefill = expected["input_ids"], int(expected["prefill_len"])

    close(model(ids)[0], expected["out.logits_fp64"])

    logits, states = model(ids[:, :prefill])
    close(logits, expected["out.logits_fp64"][:, :prefill])
    steps = []
    for t in range(prefill, ids.shape[1]):
        logits, states = model(ids[:, t : t + 1], states)
        steps.append(logits)
    close(torch.cat(steps, dim=1), expected["out.cached_logits_fp64"])


def test_lru_and_its_gradients():
    numbers, _ = golden.load_raw("lru")
    given = {name.removeprefix("in."): x.requires_grad_() for name, x in numbers.items() if name.startswith("in.")}
    N, D = given["Bre"].shape
    layer = LRU(D, d_state=N).double()
    parameters = {
        "nu_log": given["nu_log"],
        "theta_log": given["theta_log"],
        "B": torch.stack([given["Bre"], given["Bim"]], dim=1),
        "C": torch.stack([given["Cre"], given["Cim"]], dim=-1),
        "D": given["D"],
    }
    for name, value in parameters.items():
        del layer._parameters[name]
        setattr(layer, name, value)
    y, h = layer.respond(given["u"], torch.complex(given["x0re"], given["x0im"]))
    close(y, numbers["out.o"])
    close(h, torch.complex(numbers["out.state_re"], numbers["out.state_im"]))
    gradients = torch.autograd.grad((y * numbers["w.o"]).sum(), list(given.values()))
    for name, gradient in zip(given, gradients):
        close(gradient, numbers[f"grad_o.{name}"])


@pytest.mark.parametrize("rule", [zoh, bilinear])
@torch.no_grad()
def test_s5(rule):
    numbers, _ = golden.load_raw("s5")
    N, D = numbers["in.B_tilde"].shape
    layer = S5(D, d_state=2 * N, discretize=rule).double()
    layer.log_dt.copy_(numbers["in.log_step"])
    layer.log_A_real.copy_((-numbers["in.Lambda"].real).log())
    layer.A_imag.copy_(numbers["in.Lambda"].imag)
    layer.B.copy_(torch.view_as_real(numbers["in.B_tilde"]).transpose(1, 2))
    layer.C.copy_(torch.view_as_real(numbers["in.C_tilde"]))
    layer.D.copy_(numbers["in.D"])
    y, h = layer.respond(numbers["in.u"][None])
    close(y[0], numbers[f"out.{rule.__name__}.y"])
    close(h[0], numbers[f"out.{rule.__name__}.final_state"])


@torch.no_grad()
def test_s5_begins_in_the_basis_of_the_reference():
    numbers, _ = golden.load_raw("s5")
    for blocks in (1, 2):
        layer = S5(4, d_state=16, blocks=blocks)
        want = numbers[f"P16.J{blocks}.conj1.Lambda"]
        got = torch.complex(-torch.exp(layer.log_A_real.double()), layer.A_imag.double())
        assert (got - want).abs().max() <= 1e-6 * want.abs().max()  # the parameters are float32


@pytest.mark.parametrize("case", ["zoh_legs_a", "zoh_legs_b", "zoh_lin_a", "zoh_lin_b", "zoh_inv_a", "bilinear_lin_a", "bilinear_lin_b"])
@torch.no_grad()
def test_s4d_convolves_with_the_kernel_of_the_reference(case):
    numbers, _ = golden.load_raw(f"s4d_kernel_{case}")
    H, N = numbers["in.A"].shape
    layer = S4D(H, d_state=2 * N, discretize=zoh if case.startswith("zoh") else bilinear).double()
    layer.log_dt.copy_(numbers["in.dt"].log())
    layer.log_A_real.copy_((-numbers["in.A"].real).log())
    layer.A_imag.copy_(numbers["in.A"].imag)
    layer.C.copy_(torch.view_as_real(numbers["in.B"] * numbers["in.C"]))
    layer.D.zero_()
    L = numbers["out.K"].shape[1]
    impulse = F.one_hot(torch.zeros((), dtype=torch.long), L).double()[None, :, None].expand(1, L, H)
    close(layer.respond(impulse)[0][0].T, numbers["out.K"])
    close(layer.respond(numbers["in.u"].transpose(1, 2))[0].transpose(1, 2), numbers["out.y"])
