"""What a call that reaches torch means to an assembler, and what is said where there is no meaning.

meanings = Meanings()

@meanings.of("mul.Tensor", "mul.Scalar")                        names of torch's operators, see `aten.name_of`
def multiply(assembler, x, y): ...                              called with addresses for tensors; returns addresses
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Meaning = Callable[..., Any]


class Unsupported(NotImplementedError):
    """A call that no instruction stands for."""


class Meanings(dict[str, Meaning]):
    """From the names of calls to what they mean."""

    def of(self, *names: str) -> Callable[[Meaning], Meaning]:
        def enter(function: Meaning) -> Meaning:
            self.update(dict.fromkeys(names, function))
            return function

        return enter
