"""A function applied to its own result again and again, with gradients: two programs, one for a step and one for a step back.

    s_k = f(s_{k-1}, u_k, p),  k = 1 .. K,      g_{k-1} = (df/ds)ᵀ (g_k + dL/ds_k),   dL/dp = sum_k (df/dp)ᵀ (g_k + dL/ds_k)     (1)

Forty steps of a small network are some ten thousand calls of torch for a gradient, and as many of Python. Here a step is recorded once,
and so is its transpose, which works out again what it needs of the step from s_{k-1}. What depends on the parameters alone (a
discretisation, the transpose of a weight) leaves both programs: torch does it once a call, and carries the gradient on to the parameters.

Cost     a step and about four more for its gradient, on one thread; recording takes about a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.autograd.function import once_differentiable

from separatrix.models.recording.aten import taken_apart
from separatrix.models.recording.meanings import Unsupported
from separatrix.models.recording.program import Program
from separatrix.models.recording.recorded import trace
from separatrix.recurrence.operators.pages import blank


class Iterated:
    """`function(rows, *heard, *parameters)` -> rows [B, n], K times, from an example of its arguments; on the CPU.

    heard    (u,), an input of every step, which gets no gradient, or ().
    watched  the columns of rows that are wanted after every step.

    Raises `Unsupported`, or whatever a tracer trips over, for functions that cannot be recorded, among them those whose gradient is not
    that of their arithmetic. Derivatives of first order only.
    """

    def __init__(
        self, function: Callable[..., Tensor], rows: Tensor, heard: tuple[Tensor, ...], parameters: Sequence[Tensor], watched: slice
    ):
        rows, parameters = rows.detach(), [p.detach().as_subclass(Tensor) for p in parameters]
        count, self.watched, seen = len(heard), watched, rows[:, watched]
        self.prepare, step = divide(traced(function, rows, *heard, *parameters), late=1 + count)
        constants = self.prepare(*parameters)
        if (came := step(rows, *heard, *constants)).shape != rows.shape:
            raise Unsupported(f"{list(rows.shape)} became {list(came.shape)}")
        sizes = [rows.numel(), seen.numel(), *(u.numel() for u in heard)]

        def back(gradient: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
            sums, row, constants = rest[: len(rest) // 2], rest[len(rest) // 2], rest[len(rest) // 2 + 1 :]
            before, direct, *now = row.split(sizes)
            inputs = [u.view(like.shape) for u, like in zip(now, heard)]
            pull = torch.func.vjp(lambda s, *p: step(s, *inputs, *p), before.view(rows.shape), *constants)[1]
            left, watched_part, right = gradient.tensor_split([watched.start, watched.stop], dim=1)
            gradient, *shares = pull(torch.cat([left, watched_part + direct.view(seen.shape), right], dim=1))
            return gradient, *(total + share for total, share in zip(sums, shares))

        carried = [torch.zeros_like(x) for x in (rows, *constants)]
        row = rows.new_zeros(sum(sizes))
        self.prepare_back, step_back = divide(traced(back, *carried, row, *constants), late=len(carried) + 1)
        self.forth = Program(step, (rows, *heard, *constants))
        self.back = Program(step_back, (*carried, row, *self.prepare_back(*constants)))
        self._prove(function, rows, heard, parameters)

    def _prove(self, function: Callable[..., Tensor], rows: Tensor, heard: tuple[Tensor, ...], parameters: list[Tensor]) -> None:
        """A tracer sees arithmetic only: a gradient of its own, as a straight-through estimator has, would be lost without a word."""
        inputs = [x.clone().requires_grad_() for x in (rows, *parameters)]
        weights = torch.arange(1.0, rows.numel() + 1, dtype=rows.dtype).cos().view_as(rows)
        with torch.enable_grad():
            said = self(inputs[0], inputs[1:], 1, *(u.reshape(1, -1) for u in heard))[1]
            exact = function(inputs[0], *heard, *inputs[1:])
            found, expected = (torch.autograd.grad((weights * y).sum(), inputs, materialize_grads=True) for y in (said, exact))
        rounding = torch.finfo(weights.dtype).eps ** 0.5
        largest = max(float(want.norm()) for want in expected)
        for got, want in zip((said, *found), (exact, *expected)):
            if not (got - want).norm() <= rounding * (want.norm() + rounding * largest):
                raise Unsupported("a gradient that is not that of the arithmetic")

    def __call__(self, rows: Tensor, parameters: Sequence[Tensor], steps: int, *heard: Tensor) -> tuple[Tensor, Tensor]:
        """What is watched of s_1 .. s_K [K, B, w], and s_K [B, n].    heard [K, size of u]"""
        constants = self.prepare(*(p.as_subclass(Tensor) for p in parameters))
        return cast("tuple[Tensor, Tensor]", _Run.apply(self, steps, heard, rows, *constants))


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, iterated: Iterated, steps: int, heard: tuple[Tensor, ...], rows: Tensor, *constants: Tensor
    ) -> tuple[Tensor, Tensor]:
        first = [u[0].view(place.shape) for u, place in zip(heard, iterated.forth.inputs[1:])]
        (last,), seen = iterated.forth.iterate(rows, *first, *constants, steps=steps, series=heard[0] if heard else None)
        ctx.iterated, ctx.heard = iterated, heard
        ctx.save_for_backward(rows, seen, *constants)
        return seen.view(steps, *rows.shape)[:, :, iterated.watched].clone(), last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, last: Tensor) -> tuple[Tensor | None, ...]:
        rows, seen, *constants = ctx.saved_tensors
        # From the last step to the first: the state before each, the gradient of what was watched after it, and what was heard.
        n, parts = rows.numel(), [gradient.flatten(1), *ctx.heard]
        series = blank(rows, (len(seen), n + sum(part.shape[1] for part in parts)))
        backward, at = series.numpy(), n  # numpy reads backward without a copy
        backward[:-1, :n], backward[-1, :n] = seen.numpy()[-2::-1], rows.numpy().ravel()
        for part in parts:
            backward[:, at : at + part.shape[1]] = part.numpy()[::-1]
            at += part.shape[1]
        carried = [last, *map(torch.zeros_like, constants)]
        derived = ctx.iterated.prepare_back(*constants)
        found, _ = ctx.iterated.back.iterate(*carried, series[0], *derived, steps=len(series), every=len(series), series=series)
        return None, None, None, *found


def traced(function: Callable[..., Any], *inputs: Tensor) -> fx.GraphModule:
    with torch.no_grad():
        return trace(lambda *given: function(*given), [x.clone() for x in inputs], taken_apart())


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
