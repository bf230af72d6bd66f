"""Time and memory.

Time       rivals take turns, so that whatever else the machine does hits them all; each turn is some 10 ms of calls after one thrown
           away (threads of the rival before may still spin). The median and the least of the turns.
Memory     the rise of the resident set during one call, in a fresh process that has run the same call once: inputs, imports and
           compilation are not counted, the output is. On Linux only; elsewhere it is not reported.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TURN = 0.01  # seconds of calls in a turn
REST = 0.005  # seconds before a turn: thread teams stop spinning
# What the weighing processes are born with; whatever is absent is passed over.
PRELOADED = [
    "benchmarks.run",
    "jax",
    "mambapy.mamba",
    *(f"transformers.models.{m}.modeling_{m}" for m in ("mamba", "mamba2", "qwen3_next")),
]


@dataclass(frozen=True)
class Times:
    median: float  # seconds
    least: float
    turns: int


def race(calls: Mapping[str, Callable[[], Any]], seconds: float, most: int = 15) -> dict[str, Times]:
    """The time of every call, each getting about so many seconds in all and at least one turn."""
    once = {name: _once(call) for name, call in calls.items()}
    inner = {name: max(1, round(TURN / took)) for name, took in once.items()}
    turns = {name: max(1, min(most, int(seconds / ((inner[name] + 1) * took)))) for name, took in once.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    try:
        for turn in range(max(turns.values(), default=0)):
            for name, call in calls.items():
                if turn < turns[name]:
                    taken[name].append(_turn(call, inner[name], warm=turns[name] > 1))
    finally:
        gc.enable()
    for name, took in once.items():
        if turns[name] == 1:  # too slow for turns: the better of two calls
            taken[name].append(took)
    return {name: Times(statistics.median(sample), min(sample), len(sample)) for name, sample in taken.items()}


def _once(call: Callable[[], Any]) -> float:
    """One call after one that compiles and touches."""
    call()
    start = time.perf_counter()
    call()
    return max(time.perf_counter() - start, 1e-7)


def _turn(call: Callable[[], Any], inner: int, warm: bool) -> float:
    time.sleep(REST)
    if warm:
        call()
    start = time.perf_counter()
    for _ in range(inner):
        call()
    return (time.perf_counter() - start) / inner


class Scale:
    """Weighs calls, each in a process of its own, forked from a server that has imported but not run anything."""

    def __init__(self, threads: int):
        self.threads = threads
        self.works = Path("/proc/self/clear_refs").exists()
        if self.works:
            # Read when the server starts. Blocks go back to the system when freed, so that what stays resident is what is held; threads
            # wait without spinning, since nobody is timed there; packages keep their advice to themselves.
            os.environ["MALLOC_MMAP_THRESHOLD_"] = os.environ["MALLOC_TRIM_THRESHOLD_"] = "65536"
            os.environ["OMP_WAIT_POLICY"] = "passive"
            os.environ["TRANSFORMERS_VERBOSITY"] = "error"
            self.context = multiprocessing.get_context("forkserver")
            self.context.set_forkserver_preload(PRELOADED)

    def weigh(self, prepare: Callable[..., list[Callable[[], Any]]], *args: Any, patience: float = 300) -> list[int | None]:
        """Bytes that each call made by `prepare(*args)` adds at its peak; None where that cannot be known here.

        `prepare` and its arguments travel to the other process by name.
        """
        if not self.works:
            return []
        mine, theirs = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_weigh, args=(theirs, self.threads, prepare, args))
        process.start()
        theirs.close()
        found: list[int | None] = []
        try:
            if mine.poll(patience):
                found = mine.recv()
        except EOFError:
            pass
        finally:
            process.kill()
            process.join()
        return found


def _weigh(pipe, threads: int, prepare: Callable[..., list[Callable[[], Any]]], args: tuple) -> None:
    import torch

    from separatrix.recurrence.operators import pages

    torch.set_num_threads(threads)
    pages.KEPT = 0  # as for the allocator: what is freed goes back
    try:
        pipe.send([_rise(call) for call in prepare(*args)])
    except Exception as failure:  # the time of the same call stands; only its memory stays unknown
        print(f"memory of {args} unknown: {type(failure).__name__}: {failure}".splitlines()[0][:300], file=sys.stderr)
        pipe.send([])
    pipe.close()


def _rise(call: Callable[[], Any]) -> int | None:
    call()
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    except (OSError, AttributeError):
        return None
    before = _status("VmRSS")
    result = call()
    after = _status("VmHWM")
    del result
    return max(0, after - before)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
