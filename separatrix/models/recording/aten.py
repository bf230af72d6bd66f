"""What the calls that reach torch mean to the assembler: `MEANINGS[name](assembler, *arguments)` is called with addresses for tensors.

A complex number is two real ones here, so complex arithmetic is spelled out. What has no meaning in this file cannot become a program; the
function it came from then runs as torch calls, as slowly as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions, get_decompositions

from separatrix.models.recording.assembler import Assembler
from separatrix.recurrence.kernels import program as machine

MEANINGS: dict[str, Callable[..., Any]] = {}


class Unsupported(NotImplementedError):
    """A call that no instruction stands for."""


def means(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        MEANINGS.update(dict.fromkeys(names, function))
        return function

    return enter


# -- moving numbers about is torch's affair ----------------------------------------------------------------------------------------------

# fmt: off
SHIFTS = (
    "alias", "detach", "expand", "lift_fresh", "permute", "select.int", "slice.Tensor", "split.Tensor", "split_with_sizes", "squeeze",
    "squeeze.dim", "squeeze.dims", "t", "transpose.int", "transpose_", "unbind.int", "unfold", "unsafe_split.Tensor",
    "unsafe_split_with_sizes", "unsqueeze", "view_as_real", "real", "imag",
)
MOVES = (  # these as calls of torch on addresses
    *SHIFTS, "cat", "clone", "complex", "flip", "repeat", "roll", "select_scatter", "slice_scatter", "stack",
)
# fmt: on
VIEWS = (*SHIFTS, "view", "_unsafe_view", "view_as_complex", "_conj")  # these leave numbers where they are


@means(*MOVES)
def move(assembler: Assembler, *arguments: Any, **options: Any) -> Any:
    raise AssertionError("the program calls torch for these")


@means("index_put")
def index_put(assembler: Assembler, x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Tensor:
    numbers = [None if i is None else assembler.known(i) for i in indices]
    if any(i is not None and n is None for i, n in zip(indices, numbers)):
        raise Unsupported("an index that is computed")
    where = tuple(slice(None) if n is None else n.long() for n in numbers)
    if accumulate:  # on zeros, each place once: then it is the same as putting
        places, start = torch.arange(x.numel()).reshape(x.shape)[where], assembler.known(x.real)
        if start is None or bool(start.any()) or places.unique().numel() < places.numel():
            raise Unsupported("numbers added where others are")
    out = x.clone()
    out[where] = values
    return out


@means("view", "_unsafe_view")
def view(assembler: Assembler, x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.reshape(shape)


@means("view_as_complex")
def view_as_complex(assembler: Assembler, x: Tensor) -> Tensor:
    return torch.complex(x[..., 0], x[..., 1])


@means("_to_copy")
def to_copy(assembler: Assembler, x: Tensor, *, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    if dtype is None or dtype is assembler.precision:  # true and false are 1 and 0 already
        return x
    if dtype is assembler.precision.to_complex():
        return torch.complex(*parts(assembler, x))
    raise Unsupported(f"conversion to {dtype}")


@means("copy", "copy_")
def copy(assembler: Assembler, into: Tensor, x: Tensor, non_blocking: bool = False) -> Tensor:
    return x.expand(into.shape)


@means("new_zeros", "_new_zeros_with_same_feature_meta", "zeros_like")
def zeros(assembler: Assembler, x: Tensor, shape: Any = None, **options: Any) -> Tensor:
    return filled(assembler, x, shape.shape if isinstance(shape, Tensor) else shape, 0.0)


@means("new_ones", "ones_like")
def ones(assembler: Assembler, x: Tensor, shape: Any = None, **options: Any) -> Tensor:
    return filled(assembler, x, shape, 1.0)


@means("full_like")
def full_like(assembler: Assembler, x: Tensor, value: float, **options: Any) -> Tensor:
    return filled(assembler, x, None, value)


def filled(assembler: Assembler, x: Tensor, shape: Sequence[int] | None, value: float) -> Tensor:
    number = assembler.number(value).expand(x.shape if shape is None else shape)
    return torch.complex(number, assembler.number(0.0).expand(number.shape)) if x.is_complex() else number


# -- pointwise ---------------------------------------------------------------------------------------------------------------------------


def operand(assembler: Assembler, x: Tensor | float) -> Tensor:
    if isinstance(x, complex):
        return torch.complex(assembler.number(x.real), assembler.number(x.imag))
    return x if isinstance(x, Tensor) else assembler.number(x)


def parts(assembler: Assembler, x: Tensor) -> tuple[Tensor, Tensor]:
    return (x.real, x.imag) if x.is_complex() else (x, assembler.number(0.0).expand(x.shape))


def apart(assembler: Assembler, operation: int, *operands: Tensor) -> Tensor:
    """What acts on real and imaginary parts alike."""
    if not any(x.is_complex() for x in operands):
        return assembler.pointwise(operation, *operands)
    real, imag = zip(*(parts(assembler, x) for x in operands))
    return torch.complex(assembler.pointwise(operation, *real), assembler.pointwise(operation, *imag))


def real_only(*operands: Tensor) -> None:
    if any(x.is_complex() for x in operands):
        raise Unsupported("complex numbers")


for name, operation in {
    "sigmoid": machine.SIGMOID,
    "tanh": machine.TANH,
    "silu": machine.SILU,
    "erf": machine.ERF,
    "log": machine.LOG,
    "sqrt": machine.SQRT,
    "rsqrt": machine.RSQRT,
    "reciprocal": machine.RECIPROCAL,
    "cos": machine.COS,
    "sin": machine.SIN,
    "logical_not": machine.NOT,
}.items():

    @means(name)
    def function(assembler: Assembler, x: Tensor, operation: int = operation) -> Tensor:
        real_only(x)
        return assembler.pointwise(operation, x)


for name, operation in {
    "maximum": machine.MAXIMUM,
    "minimum": machine.MINIMUM,
    "gt": machine.GREATER,
    "lt": machine.LESS,
    "eq": machine.EQUAL,
}.items():

    @means(f"{name}.Tensor", f"{name}.Scalar", name)
    def comparison(assembler: Assembler, x: Tensor, y: Tensor | float, operation: int = operation) -> Tensor:
        y = operand(assembler, y)
        real_only(x, y)
        return assembler.pointwise(operation, x, y)


for name, strictly in {"ge": "gt", "le": "lt"}.items():

    @means(f"{name}.Tensor", f"{name}.Scalar")
    def or_equal(assembler: Assembler, x: Tensor, y: Tensor | float, strictly: str = strictly) -> Tensor:
        either = (MEANINGS[f"{strictly}.Tensor"](assembler, x, y), MEANINGS["eq.Tensor"](assembler, x, y))
        return assembler.pointwise(machine.MAXIMUM, *either)  # not the opposite of less: nothing is true of a NaN


@means("ne.Tensor", "ne.Scalar")
def unequal(assembler: Assembler, x: Tensor, y: Tensor | float) -> Tensor:
    return assembler.pointwise(machine.NOT, MEANINGS["eq.Tensor"](assembler, x, y))


@means("relu")
def relu(assembler: Assembler, x: Tensor) -> Tensor:
    return clamp(assembler, x, 0.0)


@means("clamp", "clamp.Tensor", "clamp_min", "clamp_min.Tensor")
def clamp(assembler: Assembler, x: Tensor, least: Tensor | float | None = None, most: Tensor | float | None = None) -> Tensor:
    for operation, bound in ((machine.MAXIMUM, least), (machine.MINIMUM, most)):
        x = x if bound is None else assembler.pointwise(operation, x, operand(assembler, bound))
    return x


LOGIC = ("bitwise", "logical_and", "logical_or")  # of truths: of numbers these are something else
for name, operation in {"and": machine.MINIMUM, "or": machine.MAXIMUM}.items():

    @means(f"bitwise_{name}.Tensor", f"logical_{name}", f"logical_{name}_")
    def of_truths(assembler: Assembler, x: Tensor, y: Tensor, operation: int = operation) -> Tensor:
        return assembler.pointwise(operation, x, y)


MEANINGS["bitwise_not"] = MEANINGS["logical_not"]


@means("neg")
def negative(assembler: Assembler, x: Tensor) -> Tensor:
    return apart(assembler, machine.NEGATIVE, x)


@means("exp")
def exponential(assembler: Assembler, x: Tensor) -> Tensor:
    size = assembler.pointwise(machine.EXP, x.real)
    if not x.is_complex():
        return size
    turn = (assembler.pointwise(f, x.imag) for f in (machine.COS, machine.SIN))
    return torch.complex(*(assembler.pointwise(machine.MULTIPLY, size, part) for part in turn))


@means("abs")
def absolute(assembler: Assembler, x: Tensor) -> Tensor:
    if not x.is_complex():
        return assembler.pointwise(machine.ABS, x)
    squares = [assembler.pointwise(machine.MULTIPLY, part, part) for part in (x.real, x.imag)]
    return assembler.pointwise(machine.SQRT, assembler.pointwise(machine.ADD, *squares))


@means("_conj_physical", "conj_physical", "_conj")
def conjugate(assembler: Assembler, x: Tensor) -> Tensor:
    return torch.complex(x.real, assembler.pointwise(machine.NEGATIVE, x.imag)) if x.is_complex() else x


@means("gelu")
def gelu(assembler: Assembler, x: Tensor, approximate: str = "none") -> Tensor:
    if approximate != "none":
        raise Unsupported(f"gelu with approximate={approximate!r}")
    return assembler.pointwise(machine.GELU, x)


@means("softplus")
def softplus(assembler: Assembler, x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    if (beta, threshold) != (1, 20):
        raise Unsupported(f"softplus with beta={beta}, threshold={threshold}")
    return assembler.pointwise(machine.SOFTPLUS, x)


@means("log_sigmoid_forward")
def log_sigmoid(assembler: Assembler, x: Tensor) -> tuple[Tensor, Tensor]:
    return assembler.pointwise(machine.LOG_SIGMOID, x), exponential(assembler, negative(assembler, absolute(assembler, x)))


@means("add.Tensor", "add.Scalar", "add_.Tensor", "add_.Scalar")
def add(assembler: Assembler, x: Tensor, y: Tensor | float, alpha: float = 1) -> Tensor:
    y = operand(assembler, y)
    return apart(assembler, machine.ADD, x, y if alpha == 1 else multiply(assembler, y, alpha))


@means("sub.Tensor", "sub.Scalar", "sub_.Tensor")
def subtract(assembler: Assembler, x: Tensor, y: Tensor | float, alpha: float = 1) -> Tensor:
    y = operand(assembler, y)
    return apart(assembler, machine.SUBTRACT, x, y if alpha == 1 else multiply(assembler, y, alpha))


@means("rsub.Scalar", "rsub.Tensor")
def subtract_from(assembler: Assembler, x: Tensor, y: Tensor | float, alpha: float = 1) -> Tensor:
    return subtract(assembler, operand(assembler, y), x, alpha)


@means("mul.Tensor", "mul.Scalar", "mul_.Tensor", "mul_.Scalar")
def multiply(assembler: Assembler, x: Tensor, y: Tensor | float) -> Tensor:
    y = operand(assembler, y)
    if not (x.is_complex() and y.is_complex()):
        x, y = (x, y) if x.is_complex() else (y, x)  # only the second is surely real
        return torch.complex(*(multiply(assembler, part, y) for part in (x.real, x.imag))) if x.is_complex() else product(assembler, x, y)
    a, b, c, d = x.real, x.imag, y.real, y.imag
    real = assembler.pointwise(machine.SUBTRACT, product(assembler, a, c), product(assembler, b, d))
    return torch.complex(real, assembler.pointwise(machine.ADD, product(assembler, a, d), product(assembler, b, c)))


def product(assembler: Assembler, x: Tensor, y: Tensor) -> Tensor:
    return assembler.pointwise(machine.MULTIPLY, x, y)


@means("div.Tensor", "div.Scalar")
def divide(assembler: Assembler, x: Tensor, y: Tensor | float) -> Tensor:
    y = operand(assembler, y)
    real_only(y)
    if x.is_complex():
        return torch.complex(*(assembler.pointwise(machine.DIVIDE, part, y) for part in (x.real, x.imag)))
    return assembler.pointwise(machine.DIVIDE, x, y)


@means("pow.Tensor_Scalar", "pow.Scalar", "pow.Tensor_Tensor")
def power(assembler: Assembler, x: Tensor | float, y: Tensor | float) -> Tensor:
    if isinstance(x, Tensor) and isinstance(y, (int, float)) and y in (1, 2):
        return x if y == 1 else multiply(assembler, x, x)
    x, y = operand(assembler, x), operand(assembler, y)
    real_only(x, y)
    return assembler.pointwise(machine.POWER, x, y)


@means("where.self")
def where(assembler: Assembler, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    real_only(x, y)
    return assembler.pointwise(machine.WHERE, condition, x, y)


for name in ("sigmoid", "tanh", "silu", "relu"):
    MEANINGS[f"{name}_"] = MEANINGS[name]


# -- sums and products -------------------------------------------------------------------------------------------------------------------


@means("sum.dim_IntList", "sum")
def total(assembler: Assembler, x: Tensor, dim: Sequence[int] | None = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    axes = sorted(axis % x.ndim for axis in (dim or range(x.ndim)))
    if x.is_complex():
        return torch.complex(total(assembler, x.real, axes, keepdim), total(assembler, x.imag, axes, keepdim))
    sums = assembler.summed(x, axes)
    return sums.reshape([1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdim else sums


@means("mean.dim", "mean")
def mean(assembler: Assembler, x: Tensor, dim: Sequence[int] | None = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    sums = total(assembler, x, dim, keepdim)
    return multiply(assembler, sums, sums.numel() / x.numel())


for name, operation in {"amax": machine.MAXIMUM, "amin": machine.MINIMUM}.items():

    @means(name)
    def extreme(assembler: Assembler, x: Tensor, dim: Sequence[int] = (), keepdim: bool = False, operation: int = operation) -> Tensor:
        """Of the first half and the second, number by number, until one is left."""
        axes = sorted(axis % x.ndim for axis in (dim or range(x.ndim)))
        kept = [i for i in range(x.ndim) if i not in axes]
        left = x.permute([*axes, *kept]).reshape(-1, *(x.shape[i] for i in kept))
        while len(left) > 1:
            half = len(left) // 2
            left = torch.cat([assembler.pointwise(operation, left[:half], left[half : 2 * half]), left[2 * half :]])
        return left[0].reshape([1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdim else left[0]


@means("mm")
def matrix_product(assembler: Assembler, a: Tensor, b: Tensor) -> Tensor:
    if a.is_complex() or b.is_complex():
        raise Unsupported("products of complex matrices")
    return assembler.product(a, b) if (constant := assembler.known(b)) is None else assembler.weighted(a, constant)


@means("bmm")
def products(assembler: Assembler, a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([matrix_product(assembler, x, y) for x, y in zip(a, b)]) if len(a) else a @ b


@means("addmm")
def sum_and_product(assembler: Assembler, c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return add(assembler, multiply(assembler, c, beta) if beta != 1 else c, matrix_product(assembler, a, b), alpha)


# -- what torch should take apart before it gets here ------------------------------------------------------------------------------------


def glu_tangent(glu: Tensor, x: Tensor, dx: Tensor, dim: int) -> Tensor:
    gate, (value, of_gate) = torch.sigmoid(x.chunk(2, dim)[1]), dx.chunk(2, dim)
    return value * gate + glu * (1 - gate) * of_gate


def layer_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    axes = tuple(range(-len(shape), 0))
    mean = x.mean(axes, keepdim=True)
    away = x - mean
    scale = (away.square().mean(axes, keepdim=True) + eps).rsqrt()
    y = away * scale if weight is None else away * scale * weight
    return y if bias is None else y + bias, mean, scale


@cache
def taken_apart() -> dict[Any, Callable[..., Any]]:
    """Torch's own definitions of what has no meaning here by smaller calls that do."""
    table = {call: definition for call, definition in core_aten_decompositions().items() if name_of(call) not in MEANINGS}
    aten = torch.ops.aten
    table |= get_decompositions([aten._softmax, aten._log_softmax, aten.leaky_relu])
    table[aten.glu_jvp.default] = glu_tangent
    table[aten.native_layer_norm.default] = layer_norm
    return table


def name_of(call: Any) -> str:
    """ "mul.Tensor" of aten.mul.Tensor, "exp" of aten.exp.default"""
    return str(call).partition(".")[2].removesuffix(".default")
