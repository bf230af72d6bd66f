"""The table of mixers that the suites read: a small layer of every kind, and of every setting that changes how it runs."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from separatrix.mixers import MIXERS, build_mixer
from separatrix.recurrence import State

D = 8


@dataclass
class Case:
    """A small layer, as a function of tensors: layer(x, reset, *parameters, *state)."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    def build(self, seed: int = 0) -> nn.Module:
        return build_mixer(self.name, D, generator=torch.Generator().manual_seed(seed), **self.settings)

    def inputs(self, T: int, B: int = 2, reset: bool = False, warm: int = 3) -> tuple:
        """x, reset, parameters and the state after `warm` other steps, float64."""
        layer = self.build().double()
        generator = torch.Generator().manual_seed(T)
        x = torch.randn(B, warm + T, D, dtype=torch.float64, generator=generator)
        starts = torch.rand(B, T, generator=generator) < 0.3 if reset else None
        with torch.no_grad():
            state = layer(x[:, :warm])[1]
        return x[:, warm:], starts, *(p.detach() for p in layer.parameters()), *state.tensors().values()


CASES = {
    "s4d": Case("s4d", dict(d_state=8)),
    "s4d bilinear lin": Case("s4d", dict(d_state=8, discretize="bilinear", init="lin")),
    "s4d real": Case("s4d", dict(d_state=8, init="real")),
    "s5": Case("s5", dict(d_state=8)),
    "s5 in blocks": Case("s5", dict(d_state=8, blocks=2, discretize="bilinear")),
    "lru": Case("lru", dict(d_state=6)),
    "mamba": Case("mamba", dict(d_state=4)),
    "mamba2": Case("mamba2", dict(d_state=4, d_head=4, n_groups=2)),
    "gla": Case("gla", dict(n_heads=2, gate_rank=3)),
    "deltanet": Case("deltanet", dict(n_heads=2)),
    "deltanet to -1": Case("deltanet", dict(n_heads=2, negative_eigenvalues=True, d_head=3, d_conv=1)),
    "gated_deltanet": Case("gated_deltanet", dict(n_heads=2, expand_v=2.0)),
    "lstm": Case("lstm"),
    "gru": Case("gru"),
    "attention": Case("attention", dict(n_heads=2)),
    "attention in a window": Case("attention", dict(n_heads=2, window=5)),
}
CASES |= {name: Case(name) for name in MIXERS if all(name != case.name for case in CASES.values())}
LINEAR = [name for name, case in CASES.items() if hasattr(MIXERS[case.name], "transition")]

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
every_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)


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


def same(one: State, other: State) -> None:
    assert one.tensors().keys() == other.tensors().keys()
    assert all(torch.equal(part, other.tensors()[name]) for name, part in one.tensors().items())
