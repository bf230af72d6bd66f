"""`kernels/attention.py` for tensors. It is no torch operator: a step that anybody records is taken by plain torch.

The keys and values of a state lie in a room with space behind them, so that a step adds its own and copies none. States stay values: a
step that follows a state takes the space behind it once, and whoever follows the same state later (a second sample from one prompt, or
after rolling back) moves to a room of its own. Rooms grow by halves: a step copies some three keys in the mean, however many there are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from separatrix.recurrence.kernels import attention as kernel
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import flat

STILL = np.empty(0, np.float32)
SPARE = 64  # steps that a new room has space for at least

Parts = tuple[Tensor, Tensor, Tensor]  # keys, values, alive


class Room:
    """Memory that begins with these keys and values, and has space for more."""

    def __init__(self, parts: Parts):
        steps = parts[0].shape[1]
        self.size = steps + max(SPARE, steps // 2)
        self.parts = [part.new_empty(len(part), self.size, *part.shape[2:]) for part in parts]
        for own, part in zip(self.parts, parts):
            own[:, :steps] = part
        self.arrays = [flat(own) for own in self.parts]
        self.inference = torch.is_inference_mode_enabled()


class Place(NamedTuple):
    """Where a state lies: steps first .. stop of a room."""

    room: Room
    first: int
    stop: int
    left: tuple[int, ...]  # where its parts were left
    free: list[None]  # one None until the space behind is taken: list.pop gives it to one thread only


_PLACES: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # of states, by their keys


def attention_step(
    qkv: Tensor, keys: Tensor, values: Tensor, alive: Tensor, turns: Tensor | None, forget: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `attention_step_plain` of `recurrence/attention.py`."""
    B, S, H, K = keys.shape
    room, first, stop = _with_space((keys, values, alive))
    y = qkv.new_empty(B, H, K)
    turned = STILL if turns is None else flat(turns)
    share(kernel.forward, B * H, 8.0 * keys.numel(), (S, H, K, room.size, first), flat(qkv), turned, *room.arrays, flat(y))
    first, stop = first + forget, stop + 1
    keys, values, alive = (part[:, first:stop] for part in room.parts)
    _PLACES[keys] = Place(room, first, stop, whereabouts((keys, values, alive)), [None] * (stop < room.size))
    return y, keys, values, alive


def _with_space(parts: Parts) -> tuple[Room, int, int]:
    """A room that these lie in, from where to where, and the step behind them is the caller's."""
    place = _PLACES.get(parts[0])
    if place is not None and place.left == whereabouts(parts) and place.room.inference == torch.is_inference_mode_enabled():
        try:
            place.free.pop()
            return place.room, place.first, place.stop
        except IndexError:
            pass
    return Room(parts), 0, parts[0].shape[1]


def whereabouts(parts: Parts) -> tuple[int, ...]:
    """Where these lie, and how many: a tensor can be given other numbers through `.data`."""
    return parts[0].shape[1], *(part.data_ptr() for part in parts)
