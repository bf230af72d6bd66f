"""A function applied to its own result again and again, with gradients: two programs, one for a step and one for a step back.

    s_k = f(s_{k-1}, p),  k = 1 .. K                      g_{k-1} = (df/ds)ᵀ (g_k + dL/ds_k),   dL/dp = sum_k (df/dp)ᵀ (g_k + dL/ds_k)   (1)

Forty steps of a small network are some ten thousand calls of torch for a gradient, and as many of Python. Here a step is recorded once,
and so is its transpose, which works out again what it needs of the step from s_{k-1}. What depends on the parameters alone (a
discretisation, the transpose of a weight) leaves both programs: torch does it once a call, and carries the gradient on to the parameters.

Cost     a step and about three more for its gradient, on one thread; recording takes about a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.autograd.function import once_differentiable
from torch.fx.experimental.proxy_tensor import make_fx

from separatrix.models.recording.aten import Unsupported, taken_apart
from separatrix.models.recording.program import Program
from separatrix.models.recording.recorded import fold


class Iterated:
    """`function(rows, *parameters)` -> rows, K times, from an example of its arguments.    rows [B, n], on the CPU

    Raises `Unsupported`, or whatever a tracer trips over, for functions that cannot be recorded, among them those whose gradient is not
    that of their arithmetic. Derivatives of first order only.
    """

    def __init__(self, function: Callable[..., Tensor], rows: Tensor, parameters: Sequence[Tensor]):
        given = [rows.detach(), *(p.detach().as_subclass(Tensor) for p in parameters)]
        self.prepare, step = divide(trace(function, *given), late=1)
        constants = self.prepare(*given[1:])
        if (came := step(given[0], *constants)).shape != rows.shape:
            raise Unsupported(f"{list(rows.shape)} became {list(came.shape)}")

        def back(gradient: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
            count = len(rest) // 2
            sums, row, constants = rest[:count], rest[count], rest[count + 1 :]
            before, direct = row.view(2, *gradient.shape).unbind()
            pull = torch.func.vjp(step, before, *constants)[1]
            gradient, *shares = pull(gradient + direct)
            return gradient, *(total + share for total, share in zip(sums, shares))

        series = torch.zeros(2 * rows.numel(), dtype=rows.dtype)
        carried = [torch.zeros_like(x) for x in (given[0], *constants)]
        self.prepare_back, step_back = divide(trace(back, *carried, series, *constants), late=len(carried) + 1)
        self.forth = Program(step, (given[0], *constants))
        self.back = Program(step_back, (*carried, series, *self.prepare_back(*constants)))
        self._prove(function, given)

    def _prove(self, function: Callable[..., Tensor], given: Sequence[Tensor]) -> None:
        """A tracer sees arithmetic only: a gradient of its own, as a straight-through estimator has, would be lost without a word."""
        inputs = [x.clone().requires_grad_() for x in given]
        weights = torch.arange(1.0, given[0].numel() + 1, dtype=given[0].dtype).cos().view_as(given[0])
        with torch.enable_grad():
            said, exact = self(inputs[0], inputs[1:], 1)[0], function(*inputs)
            found, expected = (torch.autograd.grad((weights * y).sum(), inputs, materialize_grads=True) for y in (said, exact))
        rounding = torch.finfo(weights.dtype).eps ** 0.5
        largest = max(float(want.norm()) for want in expected)
        for got, want in zip((said, *found), (exact, *expected)):
            if not (got - want).norm() <= rounding * (want.norm() + rounding * largest):
                raise Unsupported("a gradient that is not that of the arithmetic")

    def __call__(self, rows: Tensor, parameters: Sequence[Tensor], steps: int) -> Tensor:
        """s_1 .. s_K.    [B, n] -> [K, B, n]"""
        return _Run.apply(self, steps, rows, *self.prepare(*(p.as_subclass(Tensor) for p in parameters)))  # type: ignore[no-any-return]


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, iterated: Iterated, steps: int, rows: Tensor, *constants: Tensor) -> Tensor:
        _, seen = iterated.forth.iterate(rows, *constants, steps=steps)
        ctx.iterated = iterated
        ctx.save_for_backward(rows, seen, *constants)
        return seen.view(steps, *rows.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, seen, *constants = ctx.saved_tensors
        before = torch.cat([rows.reshape(1, -1), seen[:-1]])
        series = torch.cat([before, gradient.flatten(1)], dim=1).flip(0)
        carried = [torch.zeros_like(x) for x in (rows, *constants)]
        derived = ctx.iterated.prepare_back(*constants)
        found, _ = ctx.iterated.back.iterate(*carried, series[0], *derived, steps=len(series), every=len(series), series=series)
        return None, None, *found


def trace(function: Callable[..., Any], *inputs: Tensor) -> fx.GraphModule:
    with torch.no_grad():
        return fold(make_fx(lambda *given: function(*given), decomposition_table=taken_apart())(*(x.clone() for x in inputs)))


def divide(record: fx.GraphModule, late: int) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The record in two: what depends on none of its first `late` inputs, from the other inputs to a tuple; and the rest, from the late
    inputs and that tuple."""
    nodes = list(record.graph.nodes)
    waiting = set([node for node in nodes if node.op == "placeholder"][:late])
    for node in nodes:
        if node.op == "call_function" and waiting & set(node.all_input_nodes):
            waiting.add(node)
    early, rest = fx.Graph(), fx.Graph()
    first: dict[fx.Node, fx.Node] = {}
    second = {node: rest.node_copy(node) for node in nodes if node in waiting and node.op == "placeholder"}
    handed = []
    for node in nodes:
        if node in waiting or node.op == "output":
            continue
        first[node] = early.node_copy(node, first.__getitem__)
        if node.op == "get_attr":
            second[node] = rest.node_copy(node)
        elif any(user in waiting or user.op == "output" for user in node.users):
            second[node] = rest.placeholder(node.name)
            second[node].meta = dict(node.meta)
            handed.append(first[node])
    early.output(tuple(handed))
    for node in nodes:
        if node.op == "output":
            rest.output(fx.node.map_arg(node.args[0], second.__getitem__))
        elif node in waiting and node.op != "placeholder":
            second[node] = rest.node_copy(node, second.__getitem__)
    for graph in (early, rest):
        graph.eliminate_dead_code()
    return fx.GraphModule(record, early), fx.GraphModule(record, rest)
