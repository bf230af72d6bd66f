"""One token after another from a network whose weights stand still.

    y_t, s_t = step(x_t, s_{t-1})                                                                                  (1)

Generation takes (1) for every token, on so few numbers that a layer spends its time in Python and in calling torch. A `Stepper` is a
copy of a layer or a network, called in the same way, that records a step once and plays it back as one kernel. It is for inference:
no gradients, and weights as they were when the copy was made.

Cost     recording takes about a tenth of a second for each batch size, the first in a process most of a second.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from separatrix.mixers.remembered import held
from separatrix.models.recording import Recorded, plain_parameters
from separatrix.recurrence import State
from separatrix.recurrence.autocast import under_autocast

Kind = tuple[str, torch.Size, torch.dtype]


class Stepper:
    """A copy of `module` whose single steps are fast.    x [B, T, D], state -> y [B, T, D], state

        fast = Stepper(layer)
        y, state = fast(prompt)                       as the layer itself
        y, state = fast(token, state)                 one step [B, 1, D]: one compiled program

    module  a mixer, a Backbone, or any module with their call, in float32 or float64 on the CPU; anything else runs as it is.

    Later changes to the module's weights do not reach the copy. Networks of attention run as they are.
    """

    def __init__(self, module: nn.Module):
        if not isinstance(module, nn.Module):
            raise TypeError(f"module is {module!r} but must be a layer or a network, such as GRU(8).")
        self.module = copy.deepcopy(module).eval()
        plain_parameters(self.module)
        self.played: dict[tuple[object, ...], Callable[..., tuple[Tensor, ...]] | None] = {}

    def __getstate__(self) -> dict[str, object]:
        """A copy records its steps anew: programs and their memory belong to a process."""
        return self.__dict__ | {"played": {}}

    def __call__(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        """As the module's own call; fast for one step [B, 1, D] from a state, without a reset."""
        if not torch.is_grad_enabled():  # to enter what one is in already costs as much as a small step
            return self._call(x, state, reset)
        with torch.no_grad():
            return self._call(x, state, reset)

    def _call(self, x: Tensor, state: State | None, reset: Tensor | None) -> tuple[Tensor, State]:
        if reset is not None or not isinstance(state, State) or not isinstance(x, Tensor) or x.ndim != 3 or x.shape[1] != 1:
            return self.module(x, state, reset)
        if under_autocast(x.device.type):  # a record would keep its dtypes
            return self.module(x, state)
        tensors = state.tensors()
        parts, kind = tensors.values(), (x.shape, x.dtype, x.device, *kinds(tensors))
        if kind not in self.played:
            own, after = self.module(x, state)  # at the module's own door, where errors name the argument
            if kinds(after.tensors()) != kinds(tensors):
                return own, after
            record = Recorded(self._step_from(state))
            found = record.played(x, *parts)
            self.played[kind] = None if found is record.function else found  # no record: the module's own call is faster
        if (play := self.played[kind]) is None:
            return self.module(x, state)
        y, *later = play(x, *parts)
        following = iter(later)
        return y, state.map(lambda part: next(following))

    def _step_from(self, state: State) -> Callable[..., tuple[Tensor, ...]]:
        """(1) on the tensors of states like this one."""
        like = state.map(lambda part: part[:0])  # names without numbers

        def step(x: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
            coming = iter(parts)
            with held():
                y, after = self.module(x, like.map(lambda _: next(coming)))
            return y, *after.tensors().values()

        return step


def kinds(tensors: dict[str, Tensor]) -> list[Kind]:
    return [(name, part.shape, part.dtype) for name, part in tensors.items()]
