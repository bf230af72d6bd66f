"""This machine: what it is, and the fastest it can move and multiply numbers.

A floor is the time of the leanest known algorithm at these peaks:

    floor = max(flops / multiply-add rate, bytes / bandwidth at that many bytes)

Bandwidth is a triad a = b + s c with three arrays counted, at sizes from the second-level cache to main memory; the multiply-add rate is
the best of a loop in registers (where there is a C++ compiler) and torch's and numpy's matrix products in float32. Elementwise work
that is not all multiply-adds reaches 2 to 3 times the floor.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks import compiled
from benchmarks.rival import Absent
from separatrix.machine import installed, processor

TRIAD = {"1 MB": 1 << 20, "16 MB": 16 << 20, "96 MB": 96 << 20, "768 MB": 768 << 20}


@dataclass(frozen=True)
class Limits:
    flops: float  # a second
    how: str  # which loop reached it
    bandwidth: dict[str, float]  # bytes a second, by the bytes in play

    def floor(self, flops: float, moved: float) -> float:
        """Seconds."""
        sizes = sorted((TRIAD[name], rate) for name, rate in self.bandwidth.items())
        rate = next((rate for size, rate in sizes if moved <= size), sizes[-1][1])
        return max(flops / self.flops, moved / rate)


def limits(threads: int) -> Limits:
    rates = {"torch.mm": _matrix_product(lambda a, b: torch.mm(a, b, out=_out(a))), "numpy": _matrix_product(_numpy_product)}
    with contextlib.suppress(Absent):
        rates["C++ loop in registers"] = compiled.multiply_adds(threads)
    how = max(rates, key=lambda name: rates[name])
    return Limits(rates[how], how, {name: _triad(size) for name, size in TRIAD.items()})


def use_threads(threads: int) -> None:
    """Before torch, numpy or JAX start: so many processors, so many threads, for everyone in this process."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(threads)
    if hasattr(os, "sched_setaffinity"):  # JAX counts the processors it may run on
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def record(threads: int) -> dict[str, object]:
    peers = ("jax", "transformers", "mambapy", "flash-linear-attention", "s5-pytorch")
    versions = {name: installed(name) or "absent" for name in ("separatrix", "torch", "numpy", "numba", *peers)}
    return {
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": threads,
        "cores": os.cpu_count(),
        "commit": _commit(),
        "simd": torch.backends.cpu.get_cpu_capability(),
        "versions": versions,
    }


def describe(limits: Limits) -> dict[str, object]:
    return asdict(limits)


def _commit() -> str:
    try:
        describe = ["git", "describe", "--always", "--dirty"]
        return subprocess.run(describe, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _best(call, repeats: int = 7) -> float:
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _out(a: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(a)


def _numpy_product(a: torch.Tensor, b: torch.Tensor) -> None:
    np.matmul(a.numpy(), b.numpy())


def _matrix_product(product, n: int = 1024) -> float:
    a, b = torch.randn(n, n), torch.randn(n, n)
    return 2 * n**3 / _best(lambda: product(a, b))


def _triad(size: int) -> float:
    elements = size // 12
    a, b, c = torch.empty(elements), torch.ones(elements), torch.ones(elements)
    inner = max(1, (16 << 20) // size)

    def triad() -> None:
        for _ in range(inner):
            torch.add(b, c, alpha=0.5, out=a)

    return inner * 12 * elements / _best(triad)
