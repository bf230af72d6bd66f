"""Sharing a kernel's independent units among threads.

Numba's own thread teams abort the process after a fork (OpenMP) or when two callers meet (workqueue), and OpenMP's spin barriers
collapse when the machine is busy. Our kernels release the GIL, so plain threads do: the caller takes the first share, a lazily
made pool the others. Small problems never leave the calling thread. The number of shares follows `torch.get_num_threads()`, which
is read and never set; every unit is computed the same way whatever the sharing, so results do not depend on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

# Waking a thread costs about 50 us, the time of some 2 million floating point operations.
WORTH_A_THREAD = 2_000_000

_pool: ThreadPoolExecutor | None = None


def share(kernel: Callable[..., None], units: int, work: float, *args) -> None:
    """Run `kernel(first, last, *args)` over range(units), each unit once.    work: floating point operations in all."""
    shares = max(1, min(torch.get_num_threads(), units, int(work // WORTH_A_THREAD)))
    edges = [units * i // shares for i in range(shares + 1)]
    others = [_threads().submit(kernel, first, last, *args) for first, last in zip(edges[1:-1], edges[2:])]
    try:
        kernel(0, edges[1], *args)
    finally:
        for other in others:  # also when interrupted: the arrays must outlive every thread that writes them
            other.result()


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="separatrix")
    return _pool


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)  # a child has none of its parent's threads
