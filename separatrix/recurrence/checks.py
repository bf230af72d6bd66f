"""What the operations ask of their arguments, at the door.

`expect_this(name, value, ...)` raises unless it is so, here and in every room below. Every refusal names the argument, what came and what
was expected. Shapes, dtypes and devices are read from metadata; the only values looked at are those that must have a sign (a positive log
decay, or a NaN in it, would blow up far from its cause), and not where looking is impossible or would stop the machine: while tracing,
inside torch.func transforms, off the CPU.
"""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch
from torch import Tensor


def expect_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        came = "None" if value is None else f"a {type(value).__name__}"
        raise TypeError(f"{name} is {came}, expected a tensor: torch.as_tensor makes one of numbers")


def expect_count(name: str, value: int, least: int = 1) -> int:
    """The count itself: of a layer it is a setting to be kept."""
    if not isinstance(value, Integral | torch.SymInt) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least {least}")
    return value if isinstance(value, torch.SymInt) else int(value)


def expect_positive(name: str, value: float, what: str = "finite number") -> float:
    """The number itself, likewise."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value!r}, expected a positive {what}")
    return value


def expect_whole(name: str, tensor: Tensor) -> None:
    """Steps that were counted: integers of any size, at least 0."""
    expect_tensor(name, tensor)
    dtype = tensor.dtype
    if dtype.is_floating_point or dtype.is_complex or dtype is torch.bool:
        raise TypeError(f"{name} is {dtype}, expected whole numbers, such as torch.int64")
    expect_at_least_zero(name, tensor)


def expect_scale(scale: object) -> None:
    """A factor that is the same for all and not learned; None where the operation has one of its own."""
    if scale is None or isinstance(scale, torch.SymFloat | torch.SymInt):
        return
    if not isinstance(scale, Real):
        raise TypeError(f"scale is a {type(scale).__name__}, expected a number. Multiply q by one that is learned or differs between heads")
    if not math.isfinite(scale):
        raise ValueError(f"scale is {scale!r}, expected a finite number")


def expect_parts(name: str, value: object, parts: str) -> None:
    """A state of several tensors. `parts` names them: "S, z"."""
    if not isinstance(value, tuple | list) or len(value) != parts.count(",") + 1:
        came = f"a {type(value).__name__} of {len(value)}" if isinstance(value, tuple | list) else f"a {type(value).__name__}"
        raise TypeError(f"{name} is {came}, expected ({parts}): the final state that an earlier call returned")


def expect_shape(name: str, tensor: Tensor, shape: tuple[int, ...], axes: str) -> None:
    """`axes` is the shape in words: "batch, time, heads, key"."""
    expect_tensor(name, tensor)
    if tensor.shape != shape:
        raise ValueError(f"{name} is {list(tensor.shape)}, expected [{axes}] = {list(shape)}")


def expect_axes(name: str, tensor: Tensor, axes: str) -> None:
    expect_tensor(name, tensor)
    if tensor.ndim != axes.count(",") + 1:
        raise ValueError(f"{name} is {list(tensor.shape)}, expected [{axes}]")


def expect_some(**sizes: int) -> None:
    """An axis of numbers that a kernel walks, by what it holds: without any, there is no state."""
    for axis, size in sizes.items():
        if size < 1:
            raise ValueError(f"the {axis.replace('_', ' ')} axis has size {size}, expected at least 1")


def expect_numbers(first: str, reference: Tensor, **others: Tensor | None) -> None:
    """Floating point or complex, all on the device of the first."""
    expect_number(first, reference)
    for name, tensor in others.items():
        if tensor is None:
            continue
        expect_number(name, tensor)
        if not (tensor.is_cpu and reference.is_cpu) and tensor.device != reference.device:
            raise ValueError(f"{name} is on {tensor.device} but {first} is on {reference.device}: move one of them")


def expect_number(name: str, tensor: Tensor) -> None:
    expect_tensor(name, tensor)
    dtype = tensor.dtype
    if not (dtype.is_floating_point or dtype.is_complex):
        raise TypeError(f"{name} is {dtype}, expected a floating point tensor: convert it with .float()")


def expect_real(**tensors: Tensor | None) -> None:
    for name, tensor in tensors.items():
        if tensor is not None and tensor.dtype.is_complex:
            raise TypeError(f"{name} is {tensor.dtype}, expected a real tensor")


def expect_reset(reset: Tensor | None, batch: int, time: int) -> None:
    if reset is None:
        return
    expect_tensor("reset", reset)
    if reset.dtype != torch.bool:
        raise TypeError(f"reset is {reset.dtype}, expected torch.bool: true where the state is cleared before the step")
    expect_shape("reset", reset, (batch, time), "batch, time")


class NotANumber(ValueError):
    """A value that has to lie in some range is NaN: whoever computed it has diverged."""


def expect_at_most_zero(name: str, tensor: Tensor | None) -> None:
    """One pass over the values; NaN is refused too, since it is not <= 0."""
    if tensor is None or not readable(tensor):
        return
    largest = tensor.detach().amax().item()
    if not largest <= 0:
        raise (NotANumber if math.isnan(largest) else ValueError)(f"{name} must be <= 0, got max {largest:.3g}")


def expect_at_least_zero(name: str, tensor: Tensor | None) -> None:
    if tensor is None or not readable(tensor):
        return
    smallest = tensor.detach().amin().item()
    if not smallest >= 0:
        raise (NotANumber if math.isnan(smallest) else ValueError)(f"{name} must be >= 0, got min {smallest:.3g}")


def expect_fraction(name: str, tensor: Tensor) -> None:
    if not readable(tensor):
        return
    low, high = (end.item() for end in tensor.detach().aminmax())
    if not (low >= 0 and high <= 1):
        raise (NotANumber if math.isnan(low) else ValueError)(f"{name} must lie in [0, 1], got {low:.3g} to {high:.3g}")


def readable(tensor: Tensor) -> bool:
    """Whether the values may be looked at now, and looking is cheap."""
    return (
        tensor.device.type == "cpu"
        and tensor.numel() > 0
        and not torch.compiler.is_compiling()
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        and torch._C._len_torch_dispatch_stack() == 0  # being recorded by make_fx
    )


def working_dtype(*tensors: Tensor | None) -> torch.dtype:
    """States are kept in float32 (bfloat16 and float16 inputs too), or in float64 as soon as one input or the initial state is."""
    for tensor in tensors:
        if tensor is not None and tensor.dtype in (torch.float64, torch.complex128):
            return torch.float64
    return torch.float32


def complex_of(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype is torch.float64 else torch.complex64


def along_time(steps: list[Tensor], empty: Tensor) -> Tensor:
    """The outputs of all steps as one tensor [batch, time, ...]; `empty` when there was no step.

    A copy of a single step too: it may be the state, which must not change when whoever has the output changes that in place.
    """
    if len(steps) == 1:
        return steps[0].unsqueeze(1).clone()  # half of what stack takes
    return torch.stack(steps, dim=1) if steps else empty
