"""Time and memory against length: both should double when the length does.

The exponent is that of T from the shortest length to the longest: 1 is linear, 2 what a loop costs whose backward allocates the whole
sequence at every step. Long sequences leave the caches and come in pages that the system has to clear first, so a copy of the inputs is
timed as well: an exponent is held against that of the copy where that is the larger one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Scale, race
from benchmarks.operation import OURS, Operation, Shape
from benchmarks.operations import OPERATIONS
from benchmarks.run import calls

LENGTHS = (1024, 4096, 16384, 65536)


def lengths_of(operation: Operation) -> list[Shape]:
    return [{**operation.shapes["S"], "B": 1, "T": T} for T in LENGTHS]


def grow(operation: Operation, scale: Scale | None, seconds: float = 0.5) -> dict[str, Any]:
    columns = ("forward", "both", "copy", "forward_bytes", "both_bytes", "input_bytes")
    row: dict[str, Any] = {"lengths": list(LENGTHS), **{name: [] for name in columns}}
    for shape in lengths_of(operation):
        inputs, weight = operation.draw(shape)
        call = operation.us.bind(inputs, weight)
        row["input_bytes"].append(sum(x.numel() * x.element_size() for x in inputs.values()))
        racers = {"forward": call.forward, "both": call.both, "copy": lambda: [x.clone() for x in inputs.values()]}  # noqa: B023
        for way, times in race(racers, seconds, most=5).items():
            row[way].append(times.median)
    weighed = scale.weigh(_calls, operation.name) if scale is not None else []
    if None not in weighed and len(weighed) == 2 * len(LENGTHS):
        row["forward_bytes"], row["both_bytes"] = weighed[0::2], weighed[1::2]
    row["exponent"] = {name: exponent(row[name]) for name in ("forward", "both", "copy", "forward_bytes", "both_bytes")}
    return row


def _calls(operation: str) -> list[Callable[[], object]]:
    return [call for shape in lengths_of(OPERATIONS[operation]) for call in _fresh(operation, shape)]


def _fresh(operation: str, shape: Shape) -> list[Callable[[], object]]:
    """Calls that make their inputs when first called, so that lengths do not add up."""
    made: list[Callable[[], object]] = []

    def call(which: int) -> object:
        if not made:
            made.extend(calls(operation, shape, OURS, {}))
        return made[which]()

    return [lambda: call(0), lambda: call(1)]


def exponent(values: list[float]) -> float | None:
    if len(values) < len(LENGTHS) or min(values) <= 0:
        return None
    return math.log(values[-1] / values[0]) / math.log(LENGTHS[-1] / LENGTHS[0])
