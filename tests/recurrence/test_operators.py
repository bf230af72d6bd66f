"""What torch asks of a custom operator, of every operator that is registered.

The calls are those that fused forms make: of each row of roads.py, of each cell of cells.py and of what else has a kernel (OTHERS), with
and without gradients asked for. An operator is tested by being registered: one that no call reaches fails.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from separatrix.recurrence import OPERATIONS, Fenwick, operators
from tests.agree import cast, is_number
from tests.recurrence import cells, forms
from tests.recurrence.roads import BATCH, ROWS, decay, randn

T = 70  # several checkpoints of every kernel, and more than one mark of log_linear

REGISTERED = sorted(name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if name.startswith("separatrix::"))

# All by default, but for operators that have no formula for a derivative, of which the others would ask for one: second derivatives go
# through an operator's twin, and a linearisation that anybody differentiates is made by torch.
UTILITIES = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
WITHOUT_DERIVATIVE, OF_THOSE = ("_backward", "_linearized"), ("test_schema", "test_faketensor")


def log_linear(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, level_scale: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
    late = Fenwick(S, torch.tensor([5, 64]))
    o, state = OPERATIONS["log_linear_attention"]["fused"](q, k, v, log_decay, level_scale, late, resets())
    return o, state.S


# Operations that are no row's, and operators that forms only call where nobody watches.
OTHERS: list[tuple[Callable, Callable[[], tuple]]] = [
    (OPERATIONS["log_scan"]["fused"], lambda: (decay(BATCH, T, 5), randn(BATCH, T, 5), randn(BATCH, 5), resets())),
    (OPERATIONS["minmax_scan"]["fused"], lambda: (randn(BATCH, T, 5), randn(BATCH, T, 5), randn(BATCH, 5), resets())),
    (OPERATIONS["long_convolution"]["fused"], lambda: (randn(5, 9), randn(BATCH, T, 5), randn(BATCH, 8, 5))),
    (
        log_linear,
        lambda: (
            *(randn(BATCH, T, 1, 4) for _ in range(2)), randn(BATCH, T, 2, 3), decay(BATCH, T, 2), randn(BATCH, T, 2, 9),
            randn(BATCH, 2, 9, 4, 3),
        ),
    ),
    (operators.rms_norm, lambda: (randn(BATCH, 8), randn(2, 4), randn(BATCH, 8), 1e-5)),
    (operators.rms_norm, lambda: (randn(BATCH, 8), randn(2, 4), None, 1e-5)),
    (torch.no_grad()(operators.diagonal_gru_linearized), lambda: (randn(BATCH, T, 5), randn(BATCH, T, 15), randn(3, 5))),
    (torch.no_grad()(operators.diagonal_lstm_linearized), lambda: (randn(BATCH, T, 10), randn(BATCH, T, 15), randn(3, 5), randn(2, 5))),
]  # fmt: skip


def resets() -> Tensor:
    reset = torch.zeros(BATCH, T, dtype=torch.bool)
    reset[1, [30, 50]] = True
    return reset


def examples() -> Iterator[tuple[Callable, tuple]]:
    """Functions that run a kernel, and their inputs."""
    for name, form, dtype in forms.ALL:
        if form == "fused" and dtype is torch.float32:
            arguments = ROWS[name].example(T) | {"reset": resets()}
            yield forms.road(ROWS[name], form, arguments), tuple(arguments.values())
    for make in cells.CELLS.values():
        cell = make()
        if cell.kernel() is not None:
            yield cells.road(cell, "fused", resets()), (*cells.example(cell, T), *cell.tensors())
    for function, inputs in OTHERS:
        yield function, inputs()


def several(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


class Calls(TorchDispatchMode):
    """The arguments of our operators, by name; of calls that differ in shapes and numbers only, the first."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, dict[tuple, tuple]] = defaultdict(dict)

    def __torch_dispatch__(self, operator: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if operator.namespace == "separatrix":
            kind = tuple((x.ndim, x.dtype, x.requires_grad) if isinstance(x, Tensor) else x for x in args)
            self.of[operator._opname].setdefault(kind, args)
        return operator(*args, **(kwargs or {}))


@cache
def calls() -> dict[str, dict[tuple, tuple]]:
    torch.manual_seed(0)
    seen = Calls()
    for function, inputs in examples():
        for asked in (False, True):
            given = [cast(x, torch.float32).requires_grad_(asked) if is_number(x) else x for x in inputs]
            with seen:
                wanted = [y.abs().sum() for y in several(function(*given)) if y.requires_grad]
                if wanted:
                    torch.autograd.backward(wanted)
    return seen.of


@pytest.mark.parametrize("name", REGISTERED)
def test_torch_finds_an_operator_as_it_should_be(name: str):
    operator = getattr(torch.ops.separatrix, name).default
    assert calls()[name], "no call of the table reaches it"
    for given in calls()[name].values():
        args = tuple(x.detach().clone().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x for x in given)
        torch.library.opcheck(operator, args, test_utils=OF_THOSE if name.endswith(WITHOUT_DERIVATIVE) else UTILITIES)
        # fresh buffers hold NaN: two calls would differ in a cell that nobody writes, and opcheck takes a NaN for a NaN
        assert not any(y.isnan().any() for y in several(operator(*args)))
