"""A recorded function of tensors as a program of the interpreter in `recurrence/kernels/program.py`.

The record (`recorded.py`) is a straight line of torch calls; here each becomes an instruction, or none at all where it only moves numbers
about. A call then costs what its arithmetic costs: the step of a small network some 10 us, where torch takes hundreds. Results agree with
torch's to rounding, not to the bit.

Programs have no gradients. They are safe under concurrent callers: each thread has a memory of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx

from separatrix.models.recording.arithmetic import LOGIC
from separatrix.models.recording.assembler import Assembler, address_list
from separatrix.models.recording.aten import meaning, name_of
from separatrix.models.recording.meanings import Unsupported
from separatrix.models.recording.moves import VIEWS
from separatrix.recurrence.kernels.program import play
from separatrix.recurrence.operators.pages import blank
from separatrix.recurrence.plan import interpreted

ALONE = (0, 0, 0)  # no team of threads


class Region(NamedTuple):
    """Where the numbers of one input or output lie, behind one another, as in a tensor of torch."""

    start: int
    shape: torch.Size
    is_complex: bool

    @property
    def size(self) -> int:
        return self.shape.numel() * (2 if self.is_complex else 1)

    def view(self, memory: Tensor) -> Tensor:
        numbers = memory[self.start : self.start + self.size]
        return torch.view_as_complex(numbers.view(*self.shape, 2)) if self.is_complex else numbers.view(self.shape)


class Program:
    """`record`, a graph of torch calls without control flow, as one kernel.

    inputs  an example of its inputs, on the CPU: their shapes and their one precision (float32 or float64) are those of the program.

    Raises `Unsupported` where a call has no instruction, or changes what others still read.
    """

    def __init__(self, record: fx.GraphModule, inputs: Sequence[Tensor]):
        if why := interpreted():
            raise Unsupported(why)
        precisions = {x.real.dtype for x in inputs}
        if not all(x.is_cpu for x in inputs) or precisions not in ({torch.float32}, {torch.float64}):
            raise Unsupported("a program takes tensors on the CPU, all in float32 or all in float64")
        assembler = Assembler(precisions.pop())
        rooms = [assembler.reserve((*x.shape, 2) if x.is_complex() else x.shape) for x in inputs]
        beyond = assembler.size  # outputs stay clear of the inputs, which they may be carried back to
        results = translate(record, assembler, [assembler.parted(a) if x.is_complex() else a for a, x in zip(rooms, inputs)])
        self.single = isinstance(results, Tensor)
        returned = [results] if self.single else list(results)
        rooms += [assembler.settled(assembler.paired(x) if x.is_complex() else x, beyond) for x in returned]
        assembled = assembler.assemble([int(a.flatten()[0]) for a in rooms if a.numel()])
        self.code, self.tables, self.memory, self.weights, kept = assembled
        places = iter(kept)
        regions = [Region(next(places) if x.numel() else 0, x.shape, x.is_complex()) for x in (*inputs, *returned)]
        self.inputs, self.outputs = regions[: len(inputs)], regions[len(inputs) :]
        self.local = threading.local()

    def __call__(self, *inputs: Tensor) -> Any:
        workspace = self._workspace()
        workspace.write(inputs)
        play.launch(ALONE, 1, 0, 1, workspace.once)
        outputs = workspace.read(workspace.outputs)
        return outputs[0] if self.single else outputs

    def iterate(self, *inputs: Tensor, steps: int, every: int = 1, series: Tensor | None = None) -> tuple[tuple[Tensor, ...], Tensor]:
        """Apply the function to its own results `steps` times.

        Results take the places of as many inputs. The input after those, if there is one, is read from series [steps, n] at each step.
        -> the last results, and the first of them after every `every`-th step [steps // every, size]
        """
        workspace, fed = self._workspace(), len(self.outputs)
        workspace.write(inputs)
        carried = np.array([(out.start, into.start, out.size) for out, into in zip(self.outputs, self.inputs)])
        seen = blank(torch.from_numpy(self.memory), (steps // every, self.outputs[0].size))
        heard, where = (seen[:0].numpy(), -1) if series is None else (series.contiguous().numpy(), self.inputs[fed].start)
        play.launch(ALONE, 1, 0, steps, (*workspace.program, carried, every, seen.numpy(), heard, where))
        return workspace.read(workspace.inputs[:fed]), seen

    def _workspace(self) -> Workspace:
        if not hasattr(self.local, "workspace"):
            self.local.workspace = Workspace(self)
        return self.local.workspace


class Workspace:
    """One thread's memory of a program, and where its inputs and outputs lie in it."""

    def __init__(self, program: Program):
        numbers = program.memory.copy()
        with torch.inference_mode(False):  # whoever comes first may be in it, the next one not
            memory = torch.from_numpy(numbers)
        self.inputs = [place.view(memory) for place in program.inputs]
        self.outputs = [place.view(memory) for place in program.outputs]
        self.program = (program.code, program.tables, numbers, program.weights)
        nothing = numbers[:0].reshape(0, 0)
        self.once = (*self.program, np.empty((0, 3), np.int64), 1, nothing, nothing, -1)

    def write(self, inputs: Sequence[Tensor]) -> None:
        for place, x in zip(self.inputs, inputs, strict=True):
            place.copy_(x)

    def read(self, places: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(place.clone() for place in places)


def translate(record: fx.GraphModule, assembler: Assembler, inputs: Sequence[Tensor]) -> Any:
    """The record's calls as instructions; returns the addresses of what it returns."""
    place: dict[fx.Node, Any] = {}
    shows: dict[fx.Node, fx.Node] = {}  # whose memory a node is a view of
    arguments = iter(inputs)
    for position, node in enumerate(nodes := list(record.graph.nodes)):
        args, options = fx.node.map_arg((node.args, node.kwargs), place.__getitem__)
        shows[node] = node
        if node.op == "placeholder":
            place[node] = next(arguments)
        elif node.op == "get_attr":
            place[node] = assembler.constant(getattr(record, node.target))
        elif node.op == "output":
            dtypes = {dtype_of(source, record) for source in node.all_input_nodes}
            if not dtypes <= {assembler.precision, assembler.precision.to_complex()}:
                raise Unsupported("a result in another dtype")
            return args[0]
        elif not isinstance(node.target, torch._ops.OpOverload):
            place[node] = node.target(*args, **options)  # picks one of several results
            shows[node] = shows[node.args[0]]
        else:
            dtype = dtype_of(node, record)
            if dtype is not None and dtype.to_real() is not assembler.precision and (dtype.is_floating_point or dtype.is_complex):
                raise Unsupported(f"{node} is {dtype}")
            if dtype is torch.bool and name_of(node.target).startswith("add"):
                raise Unsupported("a sum of booleans")
            if name_of(node.target).startswith(LOGIC) and {dtype_of(x, record) for x in node.all_input_nodes} != {torch.bool}:
                raise Unsupported("logic of numbers")
            if name_of(node.target) == "index_put" and any(i is not None and dtype_of(i, record) is torch.bool for i in node.args[1]):
                raise Unsupported("a boolean index")
            place[node] = meaning(node.target)(assembler, *args, **options)
            if name_of(node.target) in VIEWS:
                shows[node] = shows[node.args[0]]
            elif node.target._schema.is_mutable:
                refuse_stale(place, shows, node.args[0], set(nodes[position + 1 :]))
                place[node.args[0]] = place[node]
    raise Unsupported("a record without an output")


def dtype_of(node: fx.Node, record: fx.GraphModule) -> torch.dtype | None:
    value = getattr(record, str(node.target)) if node.op == "get_attr" else node.meta.get("val")
    return value.dtype if isinstance(value, Tensor) else None


def refuse_stale(place: dict[fx.Node, Any], shows: dict[fx.Node, fx.Node], changed: fx.Node, later: set[fx.Node]) -> None:
    """What changes gets a new place here, so nobody may look at the old one through another view afterwards."""
    old = address_list(place[changed].real)
    for node, memory in shows.items():
        if node is changed or memory is not shows[changed] or not later & node.users.keys():
            continue
        if isinstance(place[node], Tensor) and np.isin(address_list(place[node].real), old).any():
            raise Unsupported(f"{changed} is changed in place while {node} still shows it")
