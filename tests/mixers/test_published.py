"""Whole checkpoints of published architectures: every weight loads under its own name, and the logits are the published ones.

One pass, and a prefill followed by single tokens. The references and their conventions are in tests/golden/README.md; everything is
float64 and agrees to 1e-10 of the largest number. Mamba and Mamba2 are mixers here; the others stand on our operations.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separatrix.mixers import Mamba, Mamba2
from separatrix.recurrence import State, delta_rule, short_convolution
from tests import golden
from tests.golden import close


class MambaLanguageModel(nn.Module):
    """Just enough of a language model to carry a checkpoint of Mambas."""

    def __init__(self, config: dict, mixer: Callable[[dict], nn.Module]):
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_epsilon"]
        self.backbone = nn.Module()
        self.backbone.embeddings = nn.Embedding(config["vocab_size"], width)
        self.backbone.layers = nn.ModuleList(nn.Module() for _ in range(config["num_hidden_layers"]))
        for layer in self.backbone.layers:
            layer.norm, layer.mixer = nn.RMSNorm(width, eps=eps), mixer(config)
        self.backbone.norm_f = nn.RMSNorm(width, eps=eps)
        self.lm_head = nn.Linear(width, config["vocab_size"], bias=False)

    def forward(self, ids: Tensor, states: list[State | None] | None = None) -> tuple[Tensor, list[State]]:
        x, after = self.backbone.embeddings(ids), []
        for layer, state in zip(self.backbone.layers, states or [None] * len(self.backbone.layers)):
            y, state = layer.mixer(layer.norm(x), state)
            x = x + y
            after.append(state)
        return self.lm_head(self.backbone.norm_f(x)), after


class FalconMamba(Mamba):
    """Mamba whose steps and projections are normalised, without weights."""

    eps = 1e-6

    def select(self, x: Tensor, tail: Tensor | None, reset: Tensor | None) -> tuple[Tensor, ...]:
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u, tail = self.conv1d(u, tail, reset)
        chosen = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        r, B, C = (F.rms_norm(part, part.shape[-1:], eps=self.eps) for part in chosen)
        return u, self.dt_proj(r), B, C, z, tail


def mamba(config: dict, kind: type[Mamba] = Mamba) -> Mamba:
    return kind(
        config["hidden_size"],
        d_state=config["state_size"],
        expand=config["expand"],
        d_conv=config["conv_kernel"],
        dt_rank=config["time_step_rank"],
    )


def falcon_mamba(config: dict) -> Mamba:
    assert config["mixer_rms_eps"] == FalconMamba.eps
    return mamba(config, FalconMamba)


def mamba2(config: dict) -> Mamba2:
    return Mamba2(
        config["hidden_size"],
        d_state=config["state_size"],
        d_head=config["head_dim"],
        expand=config["expand"],
        n_groups=config["n_groups"],
        d_conv=config["conv_kernel"],
    )


class Norm(nn.Module):
    """x / rms(x) (1 + weight)"""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.zeros(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], eps=self.eps) * (1 + self.weight)


class GatedDelta(nn.Module):
    """Qwen3-Next's linear attention: the gated delta rule, two values a key; projections are grouped by key head."""

    def __init__(self, config: dict):
        super().__init__()
        self.keys, self.values = config["linear_num_key_heads"], config["linear_num_value_heads"]
        self.key, self.value = config["linear_key_head_dim"], config["linear_value_head_dim"]
        width, key, value = config["hidden_size"], self.keys * self.key, self.values * self.value
        self.in_proj_qkvz = nn.Linear(width, 2 * key + 2 * value, bias=False)
        self.in_proj_ba = nn.Linear(width, 2 * self.values, bias=False)
        self.conv1d = nn.Module()
        self.conv1d.weight = nn.Parameter(torch.zeros(2 * key + value, 1, config["linear_conv_kernel_dim"]))
        self.A_log, self.dt_bias = nn.Parameter(torch.zeros(self.values)), nn.Parameter(torch.zeros(self.values))
        self.norm = nn.RMSNorm(self.value, eps=config["rms_norm_eps"])
        self.out_proj = nn.Linear(value, width, bias=False)

    def forward(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        each = self.values // self.keys
        grouped = self.in_proj_qkvz(x).unflatten(-1, (self.keys, -1))
        *qkv, z = grouped.split([self.key, self.key, each * self.value, each * self.value], dim=-1)
        b, a = self.in_proj_ba(x).unflatten(-1, (self.keys, -1)).split(each, dim=-1)
        together, tail = torch.cat([part.flatten(2) for part in qkv], dim=-1), None if state is None else state.conv
        together, tail = short_convolution(together, self.conv1d.weight.squeeze(1), None, True, tail)
        q, k, v = together.split([self.keys * self.key, self.keys * self.key, self.values * self.value], dim=-1)
        q, k = (part.unflatten(-1, (self.keys, self.key)) for part in (q, k))
        q, k = (part * torch.rsqrt(part.square().sum(-1, keepdim=True) + 1e-6) for part in (q, k))
        log_decay = -self.A_log.exp() * F.softplus(a.flatten(2) + self.dt_bias)
        v = v.unflatten(-1, (self.values, self.value))
        o, S = delta_rule(q, k, v, torch.sigmoid(b.flatten(2)), log_decay, None, None if state is None else state.S)
        return self.out_proj((self.norm(o) * F.silu(z.reshape(o.shape))).flatten(2)), State(S=S, conv=tail)


class GatedAttention(nn.Module):
    """Qwen3-Next's softmax attention: normalised queries and keys, turned in their first numbers, and a gate on what comes out."""

    def __init__(self, config: dict):
        super().__init__()
        self.heads, self.shared, self.size = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
        rope = config["rope_parameters"]
        self.turned, self.theta = int(self.size * rope["partial_rotary_factor"]), rope["rope_theta"]
        width = config["hidden_size"]
        self.q_proj = nn.Linear(width, 2 * self.heads * self.size, bias=False)
        self.k_proj, self.v_proj = (nn.Linear(width, self.shared * self.size, bias=False) for _ in range(2))
        self.o_proj = nn.Linear(self.heads * self.size, width, bias=False)
        self.q_norm, self.k_norm = Norm(self.size, config["rms_norm_eps"]), Norm(self.size, config["rms_norm_eps"])

    def forward(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        q, gate = self.q_proj(x).unflatten(-1, (self.heads, -1)).chunk(2, dim=-1)
        k, v = (projection(x).unflatten(-1, (self.shared, -1)) for projection in (self.k_proj, self.v_proj))
        behind = 0 if state is None else state.k.shape[1]
        q, k = self.turn(self.q_norm(q), behind), self.turn(self.k_norm(k), behind)
        if state is not None:
            k, v = torch.cat([state.k, k], dim=1), torch.cat([state.v, v], dim=1)
        visible = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(behind)
        q_, k_, v_ = (part.transpose(1, 2) for part in (q, k, v))
        o = F.scaled_dot_product_attention(q_, k_, v_, attn_mask=visible, enable_gqa=True).transpose(1, 2)
        return self.o_proj((o * torch.sigmoid(gate)).flatten(2)), State(k=k, v=v)

    def turn(self, x: Tensor, behind: int) -> Tensor:
        rates = self.theta ** -(torch.arange(0, self.turned, 2, dtype=x.dtype) / self.turned)
        angles = (torch.arange(behind, behind + x.shape[1], dtype=x.dtype)[:, None] * rates)[:, None]
        one, other, rest = x.split([self.turned // 2, self.turned // 2, self.size - self.turned], dim=-1)
        return torch.cat([one * angles.cos() - other * angles.sin(), other * angles.cos() + one * angles.sin(), rest], dim=-1)


class Qwen3Next(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        width, eps = config["hidden_size"], config["rms_norm_eps"]
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config["vocab_size"], width)
        self.model.layers = nn.ModuleList(nn.Module() for _ in config["layer_types"])
        for layer, kind in zip(self.model.layers, config["layer_types"]):
            if kind == "linear_attention":
                layer.linear_attn = GatedDelta(config)
            else:
                layer.self_attn = GatedAttention(config)
            layer.input_layernorm, layer.post_attention_layernorm, layer.mlp = Norm(width, eps), Norm(width, eps), nn.Module()
            layer.mlp.gate_proj, layer.mlp.up_proj = (nn.Linear(width, config["intermediate_size"], bias=False) for _ in range(2))
            layer.mlp.down_proj = nn.Linear(config["intermediate_size"], width, bias=False)
        self.model.norm = Norm(width, eps)
        self.lm_head = nn.Linear(width, config["vocab_size"], bias=False)

    def forward(self, ids: Tensor, states: list[State | None] | None = None) -> tuple[Tensor, list[State]]:
        x, after = self.model.embed_tokens(ids), []
        for layer, state in zip(self.model.layers, states or [None] * len(self.model.layers)):
            mixer = layer.linear_attn if hasattr(layer, "linear_attn") else layer.self_attn
            y, state = mixer(layer.input_layernorm(x), state)
            x = x + y
            z = layer.post_attention_layernorm(x)
            x = x + layer.mlp.down_proj(F.silu(layer.mlp.gate_proj(z)) * layer.mlp.up_proj(z))
            after.append(state)
        return self.lm_head(self.model.norm(x)), after


MODELS: dict[str, Callable[[dict], nn.Module]] = {
    "mamba": lambda config: MambaLanguageModel(config, mamba),
    "falcon_mamba": lambda config: MambaLanguageModel(config, falcon_mamba),
    "mamba2": lambda config: MambaLanguageModel(config, mamba2),
    "qwen3_next": Qwen3Next,
}


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_published_checkpoint_says_what_it_said(name: str):
    config: dict[str, Any] = json.loads((golden.FOLDER / f"hf_{name}" / "config.json").read_text())
    model = MODELS[name](config)
    weights, _ = golden.load_raw(f"hf_{name}/model")
    if config["tie_word_embeddings"]:
        weights["lm_head.weight"] = weights["backbone.embeddings.weight"]
    model.load_state_dict(weights, strict=True)
    model.double()
    expected, _ = golden.load_raw(f"hf_{name}/expected")
    ids, prefill = expected["input_ids"], int(expected["prefill_len"])

    close(model(ids)[0], expected["out.logits_fp64"])

    logits, states = model(ids[:, :prefill])
    close(logits, expected["out.logits_fp64"][:, :prefill])
    steps = []
    for t in range(prefill, ids.shape[1]):
        logits, states = model(ids[:, t : t + 1], states)
        steps.append(logits)
    close(torch.cat(steps, dim=1), expected["out.cached_logits_fp64"])
