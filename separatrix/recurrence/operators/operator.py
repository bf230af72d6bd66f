"""A kernel as a torch operator, called without torch's dispatcher where nobody would notice.

    @operator("(Tensor a, Tensor x) -> Tensor")           named like the function below it
    def scan(a, x): ...
    @scan.register_fake
    def _(a, x): ...
    scan.register_gradient(gradient, keep)

The dispatcher lets autograd, `torch.compile`, `torch.export`, `torch.func`, modes and the profiler see a kernel as one operation. It costs
some 40 us, as much as the kernel itself when a layer generates one token, and several times that with autograd. So a call that none of
them watches goes straight to the implementation, and one that only autograd watches to a plain autograd function: same function, same
numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial, update_wrapper
from typing import Any

import torch
from torch import Tensor
from torch.autograd import profiler

# Where torch takes several gradients at once, by the older of its two ways to vmap, which is_grads_batched still goes.
SEVERAL = torch._C._dispatch_key_parse("VmapMode")


class Operator:
    """`torch.ops.separatrix.<name>`, `definition` to torch, with the function that computes it."""

    def __init__(self, schema: str, implementation: Callable[..., Any]):
        update_wrapper(self, implementation)
        self.implementation = implementation
        self.definition = torch.library.custom_op(f"separatrix::{implementation.__name__}", implementation, mutates_args=(), schema=schema)
        self.recorded: type[torch.autograd.Function] | None = None

    def register_fake(self, fake: Callable[..., Any]) -> Callable[..., Any]:
        """Shapes, dtypes and strides of the outputs, from those of the inputs."""
        return self.definition.register_fake(fake)

    def register_gradient(self, gradient: Callable[..., Any], keep: Callable[[Any, tuple, Any], None]) -> None:
        """gradient(ctx, *grads of the outputs) after keep(ctx, inputs, outputs)."""
        self.definition.register_autograd(gradient, setup_context=keep)
        implementation = self.implementation

        class Recorded(torch.autograd.Function):
            @staticmethod
            def forward(ctx, *inputs):
                output = implementation(*inputs)
                keep(ctx, inputs, output)
                return output

            @staticmethod
            def backward(ctx, *grads):
                return gradient(ctx, *grads)

        self.recorded = Recorded

    def __call__(self, *inputs: Any) -> Any:
        if watched(inputs):
            return self.definition(*inputs)
        if torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
            return self.definition(*inputs) if self.recorded is None else self.recorded.apply(*inputs)
        return self.implementation(*inputs)


def operator(schema: str) -> Callable[[Callable[..., Any]], Operator]:
    """The function below as an operator; the schema gives its arguments and results in torch's words."""
    return partial(Operator, schema)


def watched(inputs: tuple) -> bool:
    """Whether anything besides the kernel and autograd has to hear of a call with these inputs."""
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._are_functorch_transforms_active()
        or torch._C._dispatch_tls_is_dispatch_key_included(SEVERAL)
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
