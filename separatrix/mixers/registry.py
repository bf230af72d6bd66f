"""Every mixer by name: what configurations and command lines build layers from.

A new mixer is one file with one class and one line here; the family's suite then tests it by name.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Generator, nn

from separatrix.mixers.attention import CausalAttention
from separatrix.mixers.delta import DeltaNet, GatedDeltaNet
from separatrix.mixers.gla import GatedLinearAttention
from separatrix.mixers.lru import LRU
from separatrix.mixers.mamba import Mamba
from separatrix.mixers.mamba2 import Mamba2
from separatrix.mixers.recurrent import GRU, LSTM
from separatrix.mixers.s4d import S4D
from separatrix.mixers.s5 import S5

MIXERS: dict[str, type[nn.Module]] = {
    "s4d": S4D,
    "s5": S5,
    "lru": LRU,
    "mamba": Mamba,
    "mamba2": Mamba2,
    "gla": GatedLinearAttention,
    "deltanet": DeltaNet,
    "gated_deltanet": GatedDeltaNet,
    "lstm": LSTM,
    "gru": GRU,
    "attention": CausalAttention,
}


def build_mixer(name: str, d_model: int, *, generator: Generator | None = None, **settings: Any) -> nn.Module:
    """The mixer called `name`, with the settings of its constructor.

    Settings may come from a file: where a constructor takes a function (S4D's `init` and `discretize`), its name will do.
    """
    if name not in MIXERS:
        raise ValueError(f"name is {name!r} but the mixers are {', '.join(MIXERS)}. Choose one of them.")
    kind = MIXERS[name]
    allowed = set(inspect.signature(kind).parameters) - {"d_model", "generator"}
    if unknown := settings.keys() - allowed:
        raise ValueError(
            f"{name} has no setting {', '.join(map(repr, sorted(unknown)))}. "
            f"It takes {', '.join(sorted(allowed)) or 'none'}: correct the name or leave it out."
        )
    named: dict[str, dict[str, Any]] = getattr(kind, "named", {})
    for setting, choices in named.items():
        value = settings.get(setting)
        if isinstance(value, str):
            if value not in choices:
                raise ValueError(f"{setting} is {value!r} but {name} knows {', '.join(choices)}. Choose one of them.")
            settings[setting] = choices[value]
    return kind(d_model, generator=generator, **settings)
