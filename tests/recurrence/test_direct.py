"""A kernel called past torch's dispatcher: the same numbers, and seen by everybody who looks."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from separatrix.recurrence import plan, selective_scan
from separatrix.recurrence.fused import operators
from separatrix.recurrence.operators.direct import watched
from separatrix.recurrence.plan import choose
from tests.agree import cast
from tests.recurrence.roads import ROWS

STEPPING = [name for name, row in ROWS.items() if name != "selective, complex" and row.operation not in ("diagonal_scan", "diagonal_ssm")]


class Seen(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(str(function))
        return function(*args, **(kwargs or {}))


def scan_of(T: int) -> dict:
    return {k: cast(x, torch.float32) for k, x in ROWS["selective"].example(T).items()}


def test_past_the_dispatcher_and_through_it_are_one_function():
    arguments = scan_of(5)
    past = selective_scan(**arguments)
    with Seen() as seen:
        through = selective_scan(**arguments)
    assert "separatrix.selective_scan.default" in seen.names
    assert all(torch.equal(one, other) for one, other in zip(past, through))


def test_a_profile_names_the_kernel():
    with profile(activities=[ProfilerActivity.CPU]) as record:
        selective_scan(**scan_of(5))
    assert any(event.key == "separatrix::selective_scan" for event in record.key_averages())


def test_whoever_wants_a_gradient_gets_one():
    a, x = torch.rand(1, 4, 3), torch.randn(1, 4, 3, requires_grad=True)
    scan, state = operators().diagonal_scan, torch.zeros(1, 3)
    assert scan(a, x, state, None)[0].requires_grad
    with torch.no_grad():
        assert not scan(a, x, state, None)[0].requires_grad


@pytest.mark.parametrize("name", STEPPING)
def test_one_step_is_one_kernel_while_nothing_records_it(name: str):
    row = ROWS[name]
    inputs = tuple(cast(x, torch.float32) for x in row.example(1).values())
    assert choose(row.operation, inputs, 1)[0] == "fused"
    assert "one compiled kernel" in plan(row.operation, 1, *inputs)
    recorded = tuple(x.requires_grad_() if isinstance(x, torch.Tensor) else x for x in inputs)
    assert choose(row.operation, recorded, 1)[0] == "recurrent"
    with torch.no_grad():
        assert choose(row.operation, recorded, 1)[0] == "fused"
    assert choose(row.operation, tuple(cast(x, torch.float64) for x in inputs), 1)[0] == "recurrent"


def test_a_parameter_of_another_name_is_a_parameter():
    class Rate(torch.nn.Parameter):
        pass

    class Curious(torch.Tensor):
        pass

    with torch.no_grad():
        assert not watched((torch.ones(2), Rate(torch.ones(2)), None, True))
        assert watched((torch.ones(2).as_subclass(Curious),)) and watched((torch.ones(2, device="meta"),))
    assert watched((Rate(torch.ones(2)),))
