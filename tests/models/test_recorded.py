"""A record plays what the function says, or the function plays itself."""

import torch

from separatrix.models.recorded import Recorded, plain_parameters
from separatrix.recurrence import linear_attention
from separatrix.recurrence.operators.operator import Operator


def test_a_record_is_its_function_and_computes_constants_once():
    weight = torch.randn(3, 3, dtype=torch.float64)
    calls = []

    def function(x):
        calls.append(x.shape)
        return torch.tanh(x @ torch.linalg.matrix_exp(weight).T)

    record = Recorded(function)
    for rows in (2, 2, 5, 5, 2):
        x = torch.randn(rows, 3, dtype=torch.float64)
        assert torch.equal(record(x), torch.tanh(x @ torch.linalg.matrix_exp(weight).T))
    assert calls == [(2, 3), (5, 3)]
    played = [node.name for node in next(iter(record.records.values())).graph.nodes]
    assert not any("exp" in name for name in played)


def test_derivatives_are_recorded_too():
    record = Recorded(lambda x, v: torch.func.jvp(torch.sin, (x,), (v,))[1])
    x, v = torch.randn(2, 4), torch.randn(2, 4)
    assert torch.equal(record(x, v), v * torch.cos(x))


def test_our_operators_are_played_without_the_dispatcher():
    decay = -torch.rand(1, 1, 2)
    record = Recorded(lambda q, k, v: linear_attention(q, k, v, decay)[0])
    q, k, v = torch.randn(3, 1, 1, 2, 4)
    assert torch.equal(record(q, k, v), linear_attention(q, k, v, decay)[0])
    (played,) = record.records.values()
    called = [node.target for node in played.graph.nodes if node.op == "call_function"]
    assert any(isinstance(target, Operator) for target in called)
    assert not any(isinstance(target, torch._ops.OpOverload) and target.namespace == "separatrix" for target in called)


def test_a_branch_on_values_is_not_frozen():
    record = Recorded(lambda x: x + 1 if float(x.sum()) > 0 else x - 1)
    assert float(record(torch.ones(1))) == 2 and float(record(-torch.ones(1))) == -2


def test_a_constant_that_is_written_to_stays_a_variable():
    total = torch.zeros(2)
    record = Recorded(lambda x: total.add_(x).clone())
    start = record(torch.ones(2))
    assert torch.equal(record(torch.ones(2)), start + 1) and torch.equal(record(torch.ones(2)), start + 2)


def test_plain_parameters_hold_the_same_numbers():
    class Marked(torch.nn.Parameter):
        pass

    layer = torch.nn.Linear(2, 2)
    before = layer.weight.detach().clone()
    layer.weight = Marked(layer.weight.detach())
    plain_parameters(layer)
    assert type(layer.weight) is torch.nn.Parameter and torch.equal(layer.weight, before) and not layer.weight.requires_grad
