"""A map: a rule applied again and again.

    s_{t+1} = f(s_t; p)                                                                                        (1)

Written once on the components of the state, as a flow's field is, with time counted in iterations.

Paper    Henon 1976, A two-dimensional mapping with a strange attractor, Commun. Math. Phys. 50:69-77.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from separatrix.systems.compiled import Rule, compile_map
from separatrix.systems.ruled import Ruled
from separatrix.systems.system import Known, expect_width


@dataclass(frozen=True)
class Map(Ruled):
    """A system from a rule.    states [..., n], time in iterations; arguments as for `Flow`

    Paper    Henon 1976, A two-dimensional mapping with a strange attractor, Commun. Math. Phys. 50:69-77.
    Raises   ValueError as `Flow`.
    """

    rule: Rule
    parameters: Mapping[str, float]
    initial_state: tuple[float, ...]
    dt: float = 1.0
    observed: tuple[int, ...] = ()
    compiled: bool = True
    known: Mapping[str, Known] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.expect_runnable()

    def step(self, state: Tensor, input: Tensor | None = None) -> Tensor:
        """One application of the rule.    [..., n] -> [..., n]; `input`, if any, is added [..., n]"""
        if input is not None:
            expect_width(input, self.dimension)
        image = self.apply_rule(state)
        return image if input is None else image + input

    def compile(self, *, tangent: bool) -> Any:
        return compile_map(self.rule, self.dimension, len(self.parameters), tangent)
