"""New tensors that are cheap to fill: on memory that was written before, and where there is none yet, on large pages.

The first write to each 4 KB of fresh memory stops for the operating system, some 1 us a time, and the allocator gives back what dies and
asks for it anew: the outputs of a scan and of its gradient, 12 MB, took 2.9 ms in a loop whose arithmetic takes 0.4. So a large tensor
that dies leaves its memory here for the next one of its size, the last KEPT bytes of all that died. Linux gives fresh memory 2 MB at a
time to whoever asks (`madvise`), where it is set to "madvise", the usual setting; elsewhere asking changes nothing.
"""

from __future__ import annotations

import mmap
import weakref

import numpy as np
import torch
from torch import Tensor

LARGE = 4 << 20  # bytes: below, the allocator mostly hands out memory that was written before, and sooner than we do
KEPT = 1 << 28
PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}  # from what a fork goes on to do

_free: list[mmap.mmap] = []  # the oldest first; whoever is collecting garbage may append to it at any moment, so nobody holds a lock


def blank(like: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """A new tensor for the kernel to fill, its numbers one after another, of the shape of `like` unless one is given.

    The storage of a large one cannot be resized.
    """
    size = (like.numel() if shape is None else torch.Size(shape).numel()) * like.element_size()
    if size < LARGE or not like.is_cpu:
        return torch.empty_like(like, memory_format=torch.contiguous_format) if shape is None else like.new_empty(shape)
    memory = _taken(size)
    numbers = np.frombuffer(memory, np.uint8, size)
    weakref.finalize(numbers, _give, memory).atexit = False  # the tensor's storage holds them, whoever else holds the tensor
    return torch.from_numpy(numbers).view(like.dtype).view(like.shape if shape is None else shape)


def _taken(size: int) -> mmap.mmap:
    """Memory of at least this size, not much more."""
    for memory in reversed(_free.copy()):
        if size <= len(memory) <= size + size // 8:
            try:
                _free.remove(memory)
                return memory
            except ValueError:  # another thread was faster
                continue
    memory = mmap.mmap(-1, size, **PRIVATE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _give(memory: mmap.mmap) -> None:
    _free.append(memory)
    while sum(map(len, _free.copy())) > KEPT:
        del _free[:1]
