"""A state is not rounded because the layer around it is under autocast.

`torch.autocast` turns the operands of products into half precision. That a layer can bear; a state cannot, which goes through as many
products as there are steps. So what computes states is called outside of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])


def under_autocast(device: str) -> bool:
    """Whether results on this kind of device are being rounded; meta tensors have shapes only, and no autocast to ask about."""
    return device != "meta" and torch.is_autocast_enabled(device)


def full_precision(function: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    """Call it outside of autocast on the device of its first tensor."""
    first = next((x for x in (*inputs, *options.values()) if isinstance(x, Tensor)), None)
    device = "cpu" if first is None or first.is_cpu else first.device.type
    if under_autocast(device):
        with torch.autocast(device, enabled=False):
            return function(*inputs, **options)
    return function(*inputs, **options)


def outside_autocast(function: Function) -> Function:
    """For what `plan.run` does not call."""

    @wraps(function)
    def outside(*inputs: Any, **options: Any) -> Any:
        return full_precision(function, *inputs, **options)

    return outside  # type: ignore[return-value]
