"""A kernel as a torch operator, called without torch's dispatcher where nobody would notice.

    @Operator                                             named like the function, its schema read from the annotations
    def scan(a: Tensor, x: Tensor) -> tuple[Tensor, Tensor]: ...
    @scan.register_fake
    def _(a, x): ...
    @scan.register_gradient(keep=(0,))                    asks for the first output again
    def _(wanted, inputs, kept, *grads): ...

The dispatcher lets autograd, `torch.compile`, `torch.export`, `torch.func`, modes and the profiler see a kernel as one operation. It costs
some 40 us, as much as the kernel itself when a layer generates one token, and several times that with autograd. So a call that none of
them watches goes straight to the implementation, and one that only autograd watches to a plain autograd function: same function, same
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, update_wrapper
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.autograd import profiler

from separatrix.recurrence.twins import TWINS

Gradient = Callable[..., tuple[Tensor | None, ...]]

# Where torch takes several gradients at once, by the older of its two ways to vmap, which is_grads_batched still goes.
SEVERAL = torch._C._dispatch_key_parse("VmapMode")


class Operator:
    """`torch.ops.separatrix.<name>`, `definition` to torch, with the function that computes it."""

    def __init__(self, implementation: Callable[..., Any]):
        update_wrapper(self, implementation)
        self.name = implementation.__name__
        self.implementation = implementation
        self.keeps = "keep" in signature(implementation).parameters
        self.definition = torch.library.custom_op(f"separatrix::{self.name}", implementation, mutates_args=())
        self.recorded: type[torch.autograd.Function] | None = None

    def register_fake(self, fake: Callable[..., Any]) -> Callable[..., Any]:
        """Shapes, dtypes and strides of the outputs, from those of the inputs."""
        return self.definition.register_fake(fake)

    def register_gradient(self, *, keep: Sequence[int] = (), absent: bool = False) -> Callable[[Gradient], Gradient]:
        """The function below gives the gradients of all inputs from those of the outputs. It is called with

        wanted   which inputs need one,
        inputs   of the call,
        kept     the outputs whose places are in `keep`, computed now if the call had not been told to keep them,
        *grads   of the outputs; None where nobody sent one if `absent`, else zeros.

        What is to be differentiated again goes through the operator's twin instead.
        """

        def register(compute: Gradient) -> Gradient:
            def save(ctx: Any, inputs: tuple, output: Any) -> None:
                outputs = output if isinstance(output, tuple) else (output,)
                ctx.plain = tuple(None if isinstance(x, Tensor) else x for x in inputs)
                tensors = (x if isinstance(x, Tensor) else None for x in inputs)
                ctx.save_for_backward(*tensors, *(outputs[i] for i in keep))
                if absent:
                    ctx.set_materialize_grads(False)

            def gradient(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
                saved, count = ctx.saved_tensors, len(ctx.plain)
                inputs = tuple(plain if tensor is None else tensor for tensor, plain in zip(saved, ctx.plain))
                if torch.is_grad_enabled():
                    return self.through_twin(inputs, grads)
                kept = saved[count:]
                if self.keeps and not inputs[-1]:  # nobody had said that a gradient would be asked for
                    outputs = self(*inputs[:-1], True)
                    kept = tuple(outputs[i] for i in keep)
                return compute(ctx.needs_input_grad, inputs, kept, *grads)

            self._record(gradient, save)
            return compute

        return register

    def through_twin(self, inputs: tuple, grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs that can be differentiated again: those of the twin, which has no last argument `keep`."""
        # views: if one input was computed from another, autograd would follow that path too and count its gradient twice
        inputs = tuple(x.view_as(x) if isinstance(x, Tensor) else x for x in inputs)
        wanted = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
        outputs = TWINS[self.name](*inputs[: len(inputs) - self.keeps])
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        # an output may hear of no input that has a gradient: queries are not in the state
        reached = [(y, grad) for y, grad in zip(outputs, grads) if y.requires_grad and grad is not None]
        if not reached:
            return (None,) * len(inputs)
        heard, given = zip(*reached)
        found = torch.autograd.grad(heard, [inputs[i] for i in wanted], given, create_graph=True, allow_unused=True)
        place = dict(zip(wanted, found))
        return tuple(place.get(i) for i in range(len(inputs)))

    def _record(self, gradient: Callable[..., Any], save: Callable[[Any, tuple, Any], None]) -> None:
        self.definition.register_autograd(gradient, setup_context=save)
        implementation = self.implementation

        class Recorded(torch.autograd.Function):
            @staticmethod
            def forward(ctx, *inputs):
                output = implementation(*inputs)
                save(ctx, inputs, output)
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
