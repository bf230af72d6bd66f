"""New tensors that are cheap to fill: large ones on large pages.

The first write to each 4 KB of fresh memory stops for the operating system, some 1 us a time: three outputs of 16 MB took 35 ms to fill
where the memory itself takes 8. Linux gives 2 MB at a time to whoever asks (`madvise`), where it is set to "madvise", the usual setting;
elsewhere asking changes nothing.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from collections.abc import Callable

import torch
from torch import Tensor

LARGE = 4 << 20  # bytes: below, the allocator mostly hands out memory that was written before


def blank(like: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """A new tensor for the kernel to fill, its numbers one after another, of the shape of `like` unless one is given."""
    x = torch.empty_like(like, memory_format=torch.contiguous_format) if shape is None else like.new_empty(shape)
    if x.numel() * x.element_size() >= LARGE and (advise := _advise()):
        start, stop = x.data_ptr(), x.data_ptr() + x.numel() * x.element_size()
        start, stop = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, stop // mmap.PAGESIZE * mmap.PAGESIZE
        advise(start, stop - start, mmap.MADV_HUGEPAGE)
    return x


@functools.cache
def _advise() -> Callable[[int, int, int], int] | None:
    if sys.platform != "linux" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return advise
