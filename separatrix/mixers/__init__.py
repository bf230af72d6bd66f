"""Layers: how an input chooses its transition. One file per family.

y, state = layer(x)                      x, y [batch, time, d_model]; time may be 0, 1 or a million
y, state = layer(x_next, state)          goes on exactly where it stopped
y, state = layer(x, reset=starts)        [batch, time] bool: the state is cleared before these steps
layer.transition(x, state)               what the input makes the recurrent state undergo, where that is linear
"""

from separatrix.mixers.attention import CausalAttention
from separatrix.mixers.delta import DeltaNet, GatedDeltaNet
from separatrix.mixers.gla import GatedLinearAttention
from separatrix.mixers.lru import LRU
from separatrix.mixers.mamba import Mamba
from separatrix.mixers.mamba2 import Mamba2
from separatrix.mixers.recurrent import GRU, LSTM
from separatrix.mixers.registry import MIXERS, build_mixer
from separatrix.mixers.s4d import S4D
from separatrix.mixers.s5 import S5

__all__ = [
    "GRU",
    "LRU",
    "LSTM",
    "MIXERS",
    "S4D",
    "S5",
    "CausalAttention",
    "DeltaNet",
    "GatedDeltaNet",
    "GatedLinearAttention",
    "Mamba",
    "Mamba2",
    "build_mixer",
]
