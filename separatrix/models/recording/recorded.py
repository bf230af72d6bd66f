"""A function of tensors, recorded once and played back without Python.

One step of a network spends most of its time in Python: modules, checks, the same discretisation of the same weights, a call of torch for
every sum. Recording the calls that reach torch, and doing at once all that depends on weights only, leaves a straight line of arithmetic,
derivatives by `torch.func` included, which becomes a `Program`: one call of one kernel. Weights are constants of the record; shapes and
dtypes choose among records.

A record with calls that no program knows is played call by call. A function whose calls depend on the values it meets cannot be recorded;
it runs as it is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from separatrix.models.recording.aten import taken_apart
from separatrix.models.recording.meanings import Unsupported
from separatrix.models.recording.program import Program
from separatrix.recurrence.plan import played_by_torch

log = logging.getLogger("separatrix")
MUTATES = "the record writes into its own constants"
RANDOM = "the record draws random numbers"
TRACER = threading.RLock()  # torch's tracer patches modules for the whole process: one thread at a time


class Recorded:
    """`function`, of tensors to a tensor or a tuple of them, without gradients, faster after the first call with the same shapes."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.records: dict[tuple, Callable[..., Any]] = {}

    def __call__(self, *inputs: Tensor) -> Any:
        return self.played(*inputs)(*inputs)

    def played(self, *inputs: Tensor) -> Callable[..., Any]:
        """What is called for inputs like these: a `Program`, a graph of torch calls, or the function itself."""
        key = tuple((x.shape, x.dtype, x.device) for x in inputs)
        if key not in self.records:
            self.records[key] = self._record(inputs)
        return self.records[key]

    def _record(self, inputs: tuple[Tensor, ...]) -> Callable[..., Any]:
        # Copies: a tracer takes one tensor given twice for one input. Contiguous: a record of torch calls holds for one layout.
        inputs = tuple(x.clone(memory_format=torch.contiguous_format) for x in inputs)
        try:
            with torch.no_grad():
                try:
                    return Program(trace(self._call, inputs, taken_apart()), inputs)
                except Unsupported as why:
                    log.debug("no program, played call by call: %s", why)
                    with played_by_torch():
                        record = trace(self._call, inputs)
                    return lambda *inputs: record(*(x.contiguous() for x in inputs))
        except Exception as error:  # whatever a tracer may trip over, the function itself is still right
            log.debug("not recorded, runs as it is: %s", error)
            return self.function

    def _call(self, *inputs: Tensor) -> Any:  # a tracer counts the arguments of what it traces
        return self.function(*inputs)


def trace(function: Callable[..., Any], inputs: Sequence[Tensor], table: dict[Any, Any] | None = None) -> fx.GraphModule:
    """The calls that reach torch, taken apart by `table`, with what depends on constants only computed."""
    with TRACER:
        return fold(make_fx(function, decomposition_table=table)(*inputs))


def fold(record: fx.GraphModule) -> fx.GraphModule:
    """Compute now what depends on constants only."""
    known: dict[fx.Node, Any] = {}
    fixed: set[int] = set()  # memory that was read before, whose numbers may not change any more

    def fix(node: fx.Node) -> None:
        if isinstance(value := known.get(node), Tensor):
            fixed.add(value.untyped_storage().data_ptr())

    for node in record.graph.nodes:
        if node.op == "get_attr":
            known[node] = getattr(record, node.target)
            fix(node)
        elif node.op == "call_function":
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
                raise ValueError(RANDOM)
            written = node.args[0] if getattr(getattr(node.target, "_schema", None), "is_mutable", False) else None
            if all(source in known for source in node.all_input_nodes):
                if written is not None and known[written].untyped_storage().data_ptr() in fixed:
                    raise ValueError(MUTATES)
                arguments = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
                known[node] = node.target(*arguments[0], **arguments[1])
            elif written in known:
                raise ValueError(MUTATES)
            else:
                for source in node.all_input_nodes:
                    fix(source)
    for count, (node, value) in enumerate(known.items()):
        if node.op != "get_attr" and isinstance(value, Tensor) and any(user not in known for user in node.users):
            record.register_buffer(f"folded{count}", value)
            with record.graph.inserting_before(node):
                node.replace_all_uses_with(record.graph.get_attr(f"folded{count}"))
    record.graph.eliminate_dead_code()
    record.recompile()
    return record


def plain_parameters(model: torch.nn.Module) -> None:
    """Replace every parameter by an ordinary one without gradient, in place: a recorder refuses tensors of a class of their own."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            module._parameters[name] = torch.nn.Parameter(parameter.detach().as_subclass(Tensor), requires_grad=False)
