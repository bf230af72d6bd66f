"""How the parameters of a layer begin.

Everything random is drawn from the caller's `generator` (None: torch's own), and nothing here is drawn twice: the modules of
torch are built without their own initialisation, so building a layer from a generator leaves the global one untouched.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from separatrix.mixers.settings import expect_pair
from separatrix.recurrence.checks import expect_positive


class RecurrenceParameter(nn.Parameter):
    """A parameter that sets how the state moves (A, dt, a decay): optimizers leave it out of weight decay.

    Decay would pull log-parametrised rates towards rate 1, whatever the data say. The mark belongs to the class, because an
    attribute of one parameter is lost in `copy.deepcopy`. Where torch makes a new nn.Parameter it is lost all the same: on the way to the
    meta device and back, and in `load_state_dict(assign=True)`.
    """

    _no_weight_decay = True

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _marked, super().__reduce_ex__(protocol)  # a pickle of nn.Parameter says no class


def _marked(rebuild: Callable[..., nn.Parameter], parts: tuple[Any, ...]) -> nn.Parameter:
    parameter = rebuild(*parts)
    parameter.__class__ = RecurrenceParameter
    return parameter


torch.serialization.add_safe_globals([_marked])  # as State: what torch.save wrote can be loaded


def linear(d_in: int, d_out: int, *, bias: bool = False, generator: Generator | None = None) -> nn.Linear:
    """nn.Linear with entries uniform in +-1/sqrt(d_in)."""
    layer = skip_init(nn.Linear, d_in, d_out, bias=bias, device=torch.get_default_device())
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(d_in**-0.5), d_in**-0.5, generator=generator)
    return layer


def on_the_host(init: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What `init` returns, tensors in a tuple, worked out on the CPU wherever new tensors are made: eigenvalues need numbers."""
    device = torch.get_default_device()
    with torch.device("cpu"):
        found = init(*arguments, **options)
    return type(found)._make(x.to(device) for x in found) if hasattr(found, "_make") else tuple(x.to(device) for x in found)


def log_uniform(shape: tuple[int, ...], span: tuple[float, float], generator: Generator | None = None) -> Tensor:
    """Logarithms of numbers spread evenly over the decades of `span`."""
    shortest, longest = expect_pair("dt_range", span, "(shortest, longest)")
    low, high = (math.log(expect_positive("dt_range", value)) for value in (shortest, longest))
    if low > high:
        raise ValueError(f"dt_range is {span} but must be (shortest, longest). Swap the two.")
    return low + (high - low) * torch.rand(shape, generator=generator)


def step_bias(count: int, span: tuple[float, float], generator: Generator | None = None) -> Tensor:
    """b such that softplus(b) is a step size spread evenly over the decades of `span`.    [count]"""
    dt = log_uniform((count,), span, generator).exp()
    return dt + torch.log(-torch.expm1(-dt))  # softplus backwards; expm1 because small steps are the usual ones


def decay_log(heads: int, generator: Generator | None = None) -> Tensor:
    """log |A| of a head, |A| uniform in [1, 16].    [heads]"""
    return (1 + 15 * torch.rand(heads, generator=generator)).log()
