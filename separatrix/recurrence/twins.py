"""What a compiled operator computes, once more in plain torch.

The backward of an operator is one more kernel, and torch cannot see into it. So where derivatives are to be differentiated again, they
go through the operator's twin: the same function, made of operations that torch knows.

A twin takes the operator's arguments in the operator's order, all but a last `keep`, which changes no result. `@twin(operator)` enters it
in TWINS, in the file of the operation. So operators find it by their own name: forms import operators, and operators import no form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

TWINS: dict[str, Callable[..., Any]] = {}

Twin = TypeVar("Twin", bound=Callable[..., Any])


def twin(operator: str) -> Callable[[Twin], Twin]:
    """Enter the function below as the twin of `torch.ops.separatrix.<operator>`."""

    def enter(function: Twin) -> Twin:
        TWINS[operator] = function
        return function

    return enter
