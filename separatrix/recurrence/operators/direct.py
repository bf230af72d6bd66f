"""An operator called without torch's dispatcher, where nobody would notice.

The dispatcher lets autograd, `torch.compile`, `torch.export`, `torch.func`, modes and the profiler see a kernel as one operation. It costs
some 40 us, as much as the kernel itself when a layer generates one token. So a call that none of them watches goes straight to the
implementation: same function, same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd import profiler


def direct(operator: torch.library.CustomOpDef) -> Callable[..., Any]:
    """The operator, and past the dispatcher where that changes nothing."""
    implementation = operator._init_fn

    @wraps(implementation)
    def call(*inputs: Any) -> Any:
        return operator(*inputs) if watched(inputs) else implementation(*inputs)

    return call


def watched(inputs: tuple) -> bool:
    """Whether anything besides the kernel has to hear of a call with these inputs."""
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._are_functorch_transforms_active()
        or profiler._is_profiler_enabled
    ):
        return True
    recorded = torch.is_grad_enabled()
    return any(isinstance(x, Tensor) and (not (plain(type(x)) and x.is_cpu) or (recorded and x.requires_grad)) for x in inputs)


def plain(kind: type) -> bool:
    """A tensor, or a parameter of whatever name; other subclasses have their own ideas of an operation."""
    return kind is Tensor or issubclass(kind, torch.nn.Parameter)
