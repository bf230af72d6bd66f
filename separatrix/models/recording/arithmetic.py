"""Calls that compute: pointwise functions, sums and products.

A complex number is two real ones here, so complex arithmetic is spelled out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from separatrix.models.recording.assembler import Assembler
from separatrix.models.recording.meanings import Meanings, Unsupported
from separatrix.recurrence.kernels import instructions as machine

ARITHMETIC = Meanings()

# -- pointwise ---------------------------------------------------------------------------------------------------------------------------


def operand(assembler: Assembler, x: Tensor | float) -> Tensor:
    if isinstance(x, complex):
        return torch.complex(assembler.number(x.real), assembler.number(x.imag))
    return x if isinstance(x, Tensor) else assembler.number(x)


def real_and_imaginary(assembler: Assembler, x: Tensor) -> tuple[Tensor, Tensor]:
    return (x.real, x.imag) if x.is_complex() else (x, assembler.number(0.0).expand(x.shape))


def apart(assembler: Assembler, operation: int, *operands: Tensor) -> Tensor:
    """What acts on real and imaginary parts alike."""
    if not any(x.is_complex() for x in operands):
        return assembler.pointwise(operation, *operands)
    real, imag = zip(*(real_and_imaginary(assembler, x) for x in operands))
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
    "log1p": machine.LOG1P,
    "sqrt": machine.SQRT,
    "rsqrt": machine.RSQRT,
    "reciprocal": machine.RECIPROCAL,
    "cos": machine.COS,
    "sin": machine.SIN,
    "logical_not": machine.NOT,
}.items():

    @ARITHMETIC.of(name)
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

    @ARITHMETIC.of(f"{name}.Tensor", f"{name}.Scalar", name)
    def comparison(assembler: Assembler, x: Tensor, y: Tensor | float, operation: int = operation) -> Tensor:
        y = operand(assembler, y)
        real_only(x, y)
        return assembler.pointwise(operation, x, y)


for name, strictly in {"ge": "gt", "le": "lt"}.items():

    @ARITHMETIC.of(f"{name}.Tensor", f"{name}.Scalar")
    def or_equal(assembler: Assembler, x: Tensor, y: Tensor | float, strictly: str = strictly) -> Tensor:
        either = (ARITHMETIC[f"{strictly}.Tensor"](assembler, x, y), ARITHMETIC["eq.Tensor"](assembler, x, y))
        return assembler.pointwise(machine.MAXIMUM, *either)  # not the opposite of less: nothing is true of a NaN


@ARITHMETIC.of("ne.Tensor", "ne.Scalar")
def unequal(assembler: Assembler, x: Tensor, y: Tensor | float) -> Tensor:
    return assembler.pointwise(machine.NOT, ARITHMETIC["eq.Tensor"](assembler, x, y))


@ARITHMETIC.of("relu", "relu_")
def relu(assembler: Assembler, x: Tensor) -> Tensor:
    return clamp(assembler, x, 0.0)


@ARITHMETIC.of("clamp", "clamp.Tensor", "clamp_min", "clamp_min.Tensor")
def clamp(assembler: Assembler, x: Tensor, least: Tensor | float | None = None, most: Tensor | float | None = None) -> Tensor:
    for operation, bound in ((machine.MAXIMUM, least), (machine.MINIMUM, most)):
        x = x if bound is None else assembler.pointwise(operation, x, operand(assembler, bound))
    return x


LOGIC = ("bitwise", "logical_and", "logical_or")  # of booleans: of numbers these are something else
for name, operation in {"and": machine.MINIMUM, "or": machine.MAXIMUM}.items():

    @ARITHMETIC.of(f"bitwise_{name}.Tensor", f"logical_{name}", f"logical_{name}_")
    def of_booleans(assembler: Assembler, x: Tensor, y: Tensor, operation: int = operation) -> Tensor:
        return assembler.pointwise(operation, x, y)


ARITHMETIC["bitwise_not"] = ARITHMETIC["logical_not"]


@ARITHMETIC.of("neg")
def negative(assembler: Assembler, x: Tensor) -> Tensor:
    return apart(assembler, machine.NEGATIVE, x)


@ARITHMETIC.of("exp")
def exponential(assembler: Assembler, x: Tensor) -> Tensor:
    size = assembler.pointwise(machine.EXP, x.real)
    if not x.is_complex():
        return size
    turn = (assembler.pointwise(f, x.imag) for f in (machine.COS, machine.SIN))
    return torch.complex(*(assembler.pointwise(machine.MULTIPLY, size, part) for part in turn))


@ARITHMETIC.of("expm1")
def exponential_less_one(assembler: Assembler, x: Tensor) -> Tensor:
    """tanh(x / 2) (exp(x) + 1), where nothing cancels."""
    real_only(x)
    half = assembler.pointwise(machine.TANH, multiply(assembler, x, 0.5))
    return multiply(assembler, half, add(assembler, exponential(assembler, x), 1.0))


@ARITHMETIC.of("abs")
def absolute(assembler: Assembler, x: Tensor) -> Tensor:
    if not x.is_complex():
        return assembler.pointwise(machine.ABS, x)
    squares = [assembler.pointwise(machine.MULTIPLY, part, part) for part in (x.real, x.imag)]
    return assembler.pointwise(machine.SQRT, assembler.pointwise(machine.ADD, *squares))


@ARITHMETIC.of("_conj_physical", "conj_physical", "_conj")
def conjugate(assembler: Assembler, x: Tensor) -> Tensor:
    return torch.complex(x.real, assembler.pointwise(machine.NEGATIVE, x.imag)) if x.is_complex() else x


@ARITHMETIC.of("gelu")
def gelu(assembler: Assembler, x: Tensor, approximate: str = "none") -> Tensor:
    if approximate != "none":
        raise Unsupported(f"gelu with approximate={approximate!r}")
    return assembler.pointwise(machine.GELU, x)


@ARITHMETIC.of("softplus")
def softplus(assembler: Assembler, x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    if (beta, threshold) != (1, 20):
        raise Unsupported(f"softplus with beta={beta}, threshold={threshold}")
    return assembler.pointwise(machine.SOFTPLUS, x)


@ARITHMETIC.of("log_sigmoid_forward")
def log_sigmoid(assembler: Assembler, x: Tensor) -> tuple[Tensor, Tensor]:
    return assembler.pointwise(machine.LOG_SIGMOID, x), exponential(assembler, negative(assembler, absolute(assembler, x)))


@ARITHMETIC.of("add.Tensor", "add.Scalar", "add_.Tensor", "add_.Scalar")
def add(assembler: Assembler, x: Tensor, y: Tensor | float, alpha: float = 1) -> Tensor:
    y = operand(assembler, y)
    return apart(assembler, machine.ADD, x, y if alpha == 1 else multiply(assembler, y, alpha))


@ARITHMETIC.of("sub.Tensor", "sub.Scalar", "sub_.Tensor")
def subtract(assembler: Assembler, x: Tensor, y: Tensor | float, alpha: float = 1) -> Tensor:
    y = operand(assembler, y)
    return apart(assembler, machine.SUBTRACT, x, y if alpha == 1 else multiply(assembler, y, alpha))


@ARITHMETIC.of("rsub.Scalar", "rsub.Tensor")
def subtract_from(assembler: Assembler, x: Tensor, y: Tensor | float, alpha: float = 1) -> Tensor:
    return subtract(assembler, operand(assembler, y), x, alpha)


@ARITHMETIC.of("mul.Tensor", "mul.Scalar", "mul_.Tensor", "mul_.Scalar")
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


@ARITHMETIC.of("div.Tensor", "div.Scalar")
def divide(assembler: Assembler, x: Tensor, y: Tensor | float) -> Tensor:
    y = operand(assembler, y)
    real_only(y)
    if x.is_complex():
        return torch.complex(*(assembler.pointwise(machine.DIVIDE, part, y) for part in (x.real, x.imag)))
    return assembler.pointwise(machine.DIVIDE, x, y)


@ARITHMETIC.of("pow.Tensor_Scalar", "pow.Scalar", "pow.Tensor_Tensor")
def power(assembler: Assembler, x: Tensor | float, y: Tensor | float) -> Tensor:
    if isinstance(x, Tensor) and isinstance(y, (int, float)) and y in (1, 2):
        return x if y == 1 else multiply(assembler, x, x)
    x, y = operand(assembler, x), operand(assembler, y)
    real_only(x, y)
    return assembler.pointwise(machine.POWER, x, y)


@ARITHMETIC.of("isnan")
def isnan(assembler: Assembler, x: Tensor) -> Tensor:
    """What does not equal itself."""
    real_only(x)
    return assembler.pointwise(machine.NOT, assembler.pointwise(machine.EQUAL, x, x))


@ARITHMETIC.of("where.self")
def where(assembler: Assembler, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    real_only(x, y)
    return assembler.pointwise(machine.WHERE, condition, x, y)


for name in ("sigmoid", "tanh", "silu"):
    ARITHMETIC[f"{name}_"] = ARITHMETIC[name]


# -- sums and products -------------------------------------------------------------------------------------------------------------------


@ARITHMETIC.of("sum.dim_IntList", "sum")
def total(assembler: Assembler, x: Tensor, dim: Sequence[int] | None = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    axes = sorted(axis % x.ndim for axis in (dim or range(x.ndim)))
    if x.is_complex():
        return torch.complex(total(assembler, x.real, axes, keepdim), total(assembler, x.imag, axes, keepdim))
    sums = assembler.summed(x, axes)
    return sums.reshape([1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdim else sums


@ARITHMETIC.of("mean.dim", "mean")
def mean(assembler: Assembler, x: Tensor, dim: Sequence[int] | None = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    sums = total(assembler, x, dim, keepdim)
    return multiply(assembler, sums, sums.numel() / x.numel())


for name, operation in {"amax": machine.MAXIMUM, "amin": machine.MINIMUM}.items():

    @ARITHMETIC.of(name)
    def extreme(assembler: Assembler, x: Tensor, dim: Sequence[int] = (), keepdim: bool = False, operation: int = operation) -> Tensor:
        """Of the first half and the second, number by number, until one is left."""
        axes = sorted(axis % x.ndim for axis in (dim or range(x.ndim)))
        kept = [i for i in range(x.ndim) if i not in axes]
        left = x.permute([*axes, *kept]).reshape(-1, *(x.shape[i] for i in kept))
        while len(left) > 1:
            half = len(left) // 2
            left = torch.cat([assembler.pointwise(operation, left[:half], left[half : 2 * half]), left[2 * half :]])
        return left[0].reshape([1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdim else left[0]


@ARITHMETIC.of("mm")
def matrix_product(assembler: Assembler, a: Tensor, b: Tensor) -> Tensor:
    if a.is_complex() or b.is_complex():
        raise Unsupported("products of complex matrices")
    return assembler.product(a, b) if (constant := assembler.known(b)) is None else assembler.weighted(a, constant)


@ARITHMETIC.of("bmm")
def products(assembler: Assembler, a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([matrix_product(assembler, x, y) for x, y in zip(a, b)]) if len(a) else a @ b


@ARITHMETIC.of("addmm")
def sum_and_product(assembler: Assembler, c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return add(assembler, multiply(assembler, c, beta) if beta != 1 else c, matrix_product(assembler, a, b), alpha)
