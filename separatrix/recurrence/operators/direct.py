"""An operator called without torch's dispatcher, where nobody would notice.

The dispatcher lets autograd, `torch.compile`, `torch.export`, `torch.func`, modes and the profiler see a kernel as one operation. It costs
some 40 us, as much as the kernel itself when a layer generates one token, and several times that with autograd. So a call that none of
them watches goes straight to the implementation, and one that only autograd watches to a plain autograd function: same function, same
numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd import profiler


@cache
def direct(operator: torch.library.CustomOpDef) -> Callable[..., Any]:
    """The operator, and past the dispatcher where that changes nothing; to autograd alone it is a function of autograd's own."""
    implementation = operator._init_fn

    class Recorded(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            output = implementation(*inputs)
            operator._setup_context_fn(ctx=ctx, inputs=inputs, output=output)  # type: ignore[misc]  # None without a backward
            return output

        @staticmethod
        def backward(ctx, *grads):
            return operator._backward_fn(ctx, *grads)  # type: ignore[misc]

    @wraps(implementation)
    def call(*inputs: Any) -> Any:
        if watched(inputs):
            return operator(*inputs)
        if torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
            return operator(*inputs) if operator._backward_fn is None else Recorded.apply(*inputs)
        return implementation(*inputs)

    return call


def watched(inputs: tuple) -> bool:
    """Whether anything besides the kernel and autograd has to hear of a call with these inputs."""
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._are_functorch_transforms_active()
        or profiler._is_profiler_enabled
    ):
        return True
    return any(isinstance(x, Tensor) and not (plain(type(x)) and x.is_cpu) for x in inputs)


@cache
def plain(kind: type[Tensor]) -> bool:
    """Whether torch handles tensors of this class as any others: no subclass but of parameters, and none that listens in."""
    if not issubclass(kind, torch.nn.Parameter):
        return kind is Tensor
    own = {"__torch_function__", "__torch_dispatch__"}
    return not any(own & vars(base).keys() for base in kind.__mro__[: kind.__mro__.index(torch.nn.Parameter)])
