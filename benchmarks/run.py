"""One row of the table: right first, then fast, then small.

A row is a plain dict, so that it can be saved as soon as it is there and read by `page`:

    shape, seconds of the floor, bytes of the inputs
    ways        for every rival: state ("timed", "absent", "failed", "wrong"), why, strays, and for each direction median, least, bytes;
                of an operation also for one "step" (ours: and "called"), or "step_refused"
    bars        text, ratio reached, ratio allowed, met (None: a rival it needs is not here)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import packages
from benchmarks.decoding import time_a_step
from benchmarks.exact import judge
from benchmarks.layers import LAYERS
from benchmarks.machine import Limits
from benchmarks.measure import Scale, race
from benchmarks.operation import OURS, Bar, Operation, Shape, rivals
from benchmarks.operations import OPERATIONS
from benchmarks.rival import Absent, Call, Rival

CHECKED = 1024  # steps over which a shape is checked: the definition keeps every state of every step for its backward
ROWS = {**OPERATIONS, **LAYERS}
Row = dict[str, Any]


def measure(operation: Operation, shape: Shape, limits: Limits, seconds: float, scale: Scale | None, paths: dict[str, str]) -> Row:
    work = operation.work(shape)
    row: Row = {
        "shape": shape,
        "floor": {way: limits.floor(work.flops[way], work.moved[way]) for way in ("forward", "both")},
        "ways": {rival.name: {"state": "timed"} for rival in rivals(operation)},
    }
    ready = _bind(operation, shape, row)
    for way in ("forward", "both"):
        racers = {name: getattr(call, way) for name, (rival, call) in ready.items() if way == "forward" or _trains(rival, shape)}
        for name, times in race(racers, seconds).items():
            row["ways"][name][way] = {"median": times.median, "least": times.least, "turns": times.turns}
    ready.clear()
    if operation.name in OPERATIONS:
        time_a_step(operation, shape, row["ways"], seconds / 4)
    if scale is not None:
        _weigh(operation, shape, row, scale, paths)
    row["bars"] = [_bar(bar, row["ways"]) for bar in operation.bars]
    return row


def _trains(rival: Rival, shape: Shape) -> bool:
    return rival.trains and (rival.longest_training is None or shape["T"] <= rival.longest_training)


def _bind(operation: Operation, shape: Shape, row: Row) -> dict[str, tuple[Rival, Call]]:
    """The rivals that are here and right, bound to the inputs of this shape."""
    short = {**shape, "T": min(shape["T"], CHECKED)}
    small, small_weight = operation.draw(short)
    inputs, weight = (small, small_weight) if short == shape else operation.draw(shape)
    row["input_bytes"] = sum(x.numel() * x.element_size() for x in inputs.values())
    verdict = judge(operation.definition, small, small_weight)
    ready = {}
    for rival in rivals(operation):
        said = row["ways"][rival.name]
        try:
            check = verdict.ours if rival.name == OURS else verdict.peer
            said["strays"] = check(rival, small, small_weight)
            ready[rival.name] = rival, rival.bind(inputs, weight)
        except Absent as missing:
            said.update(state="absent", why=str(missing))
        except ValueError as wrong:
            said.update(state="wrong", why=str(wrong))
        except Exception as failure:
            said.update(state="failed", why=f"{type(failure).__name__}: {failure}".splitlines()[0][:200])
    return ready


def _weigh(operation: Operation, shape: Shape, row: Row, scale: Scale, paths: dict[str, str]) -> None:
    for name, said in row["ways"].items():
        if said["state"] == "timed":
            for way, risen in zip(("forward", "both"), scale.weigh(calls, operation.name, shape, name, paths)):
                said[way]["bytes"] = risen


def calls(operation: str, shape: Shape, rival: str, paths: dict[str, str]) -> list[Callable[[], object]]:
    """forward, and forward + backward where the rival trains: what the scale weighs, in another process."""
    packages.PATHS.update(paths)
    row = ROWS[operation]
    found = next(one for one in rivals(row) if one.name == rival)
    call = found.bind(*row.draw(shape))
    return [call.forward, call.both] if _trains(found, shape) else [call.forward]


def _bar(bar: Bar, ways: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"text": str(bar), "allowed": bar.factor, "reached": None, "met": None}
    ours = ways[OURS].get(bar.direction)
    theirs = [found["median"] for name in bar.rivals if (found := ways.get(name, {}).get(bar.their_direction or bar.direction))]
    if ours and theirs:
        said["reached"] = ours["median"] / min(theirs)
        said["met"] = said["reached"] <= bar.factor
    elif ways[OURS]["state"] != "timed":
        said["met"] = False
    return said
