"""A kernel called past torch's dispatcher: the same numbers, and seen by everybody who looks."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from separatrix.recurrence import OPERATIONS, plan, selective_scan
from separatrix.recurrence.fused import operators
from separatrix.recurrence.operators.operator import watched
from separatrix.recurrence.plan import choose, objection, steps_fused
from tests.agree import cast, is_number
from tests.recurrence.roads import ROWS

# the operations whose one step is worth a kernel; no kernel is for complex numbers
STEPPING = [name for name, row in ROWS.items() if steps_fused(row.operation) and not name.endswith(", complex")]


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


def test_parameters_of_any_class_go_past_and_tensors_that_listen_do_not():
    class Marked(torch.nn.Parameter):
        mark = True

    class Listening(torch.nn.Parameter):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            return super().__torch_function__(function, types, args, kwargs or {})

    class Subclass(torch.Tensor):
        pass

    x = torch.zeros(2)
    assert not watched((x, torch.nn.Parameter(x), Marked(x), None, 1.0))
    assert watched((x, Listening(x))) and watched((x, x.as_subclass(Subclass))) and watched((x, x.to("meta")))


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
    double = tuple(cast(x, torch.float64) for x in inputs)
    recorded = tuple(x.requires_grad_() if isinstance(x, torch.Tensor) else x for x in inputs)
    assert choose(row.operation, recorded, 1)[0] == "recurrent"
    with torch.no_grad():
        assert choose(row.operation, recorded, 1)[0] == "fused"
    assert (choose(row.operation, double, 1)[0] == "fused") == (objection(row.operation, double) is None)


@pytest.mark.parametrize("name", ["delta, one decay", "attention, decay per key", "selective"])
def test_gradients_past_the_dispatcher_and_through_it_are_one(name: str):
    row = ROWS[name]
    arguments = {k: cast(x, torch.float32).requires_grad_() if is_number(x) else x for k, x in row.example(20).items()}
    leaves = [x for x in arguments.values() if is_number(x)]

    def gradients():
        y, final = OPERATIONS[row.operation]["fused"](**arguments)
        return torch.autograd.grad(y.square().sum() + final.sum(), leaves)

    past = gradients()
    with Seen() as seen:
        through = gradients()
    assert any("backward" in name for name in seen.names if "separatrix" in name)
    assert all(torch.equal(one, other) for one, other in zip(past, through))


def test_an_output_that_nobody_used_has_no_gradient_to_give():
    arguments = {k: cast(x, torch.float32).requires_grad_() for k, x in ROWS["delta"].example(20).items() if x is not None}
    y, final = OPERATIONS["delta_rule"]["fused"](**arguments)
    from_state = torch.autograd.grad(final.sum(), list(arguments.values()), retain_graph=True)
    assert not from_state[0].any()  # queries do not move the state
    assert torch.autograd.grad(y.sum(), arguments["q"])[0].any()
