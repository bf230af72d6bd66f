"""Positions beyond 2^31: a kernel's last unit of work, in arrays too long for 32-bit offsets.

The arrays are addresses only: memory that nobody writes costs nothing, so each kernel runs on its last row of the batch alone.
"""

import importlib
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.recurrence.kernels.lanes import WIDTH

T, D, N = 512, WIDTH, 2
ROWS = 2**31 // (T * D) + 2  # so that the last row begins beyond 2^31 numbers

BATCH, SHARED = True, False
# operator -> its tensors: whether each has a row a batch element, and the shape of a row; other arguments as they are
OPERATORS: dict[str, tuple] = {
    "diagonal_scan": (*[(BATCH, T, D)] * 2, (BATCH, D), None),
    "log_scan": (*[(BATCH, T, D)] * 2, (BATCH, D), None),
    "minmax_scan": (*[(BATCH, T, D)] * 2, (BATCH, D), None),
    "selective_scan": (
        *[(BATCH, T, D)] * 2, (SHARED, D, N), *[(BATCH, T, N)] * 2, (SHARED, D), (BATCH, T, D), (SHARED, D), True,
        (BATCH, D, N), None, True,
    ),
    "short_convolution": ((BATCH, T, D), (SHARED, D, 4), (SHARED, D), True, (BATCH, 3, D), None),
    "matrix_state": (
        (BATCH, T, 1, N), (BATCH, T, 1, 1, N), (BATCH, T, 1, 1, D), (BATCH, T, 1, 1), (BATCH, T, 1), None, None, 0.5,
        (BATCH, 1, N, D), None, True, False,
    ),
    "dplr": (*[(BATCH, T, 1, N)] * 3, (BATCH, T, 1, D), *[(BATCH, T, 1, N)] * 2, 0.5, (BATCH, 1, N, D), None),
    "dictionary_scan": ((BATCH, T, 1), (SHARED, 1, D, D), (BATCH, T, D), (BATCH, D), None, 1.2),
    "low_rank_scan": ((BATCH, T, 1, D), *[(BATCH, T, 1, D, 1)] * 2, (BATCH, T, 1, D), (BATCH, 1, D), None),
    "block_scan": ((BATCH, T, 2, 2, D // 4), (BATCH, T, 2, D // 4), (BATCH, 2, D // 4), None),
    "dense_scan": ((BATCH, T, D // 16, 4, 4), (BATCH, T, D // 16, 4), (BATCH, D // 16, 4), None),
    "scan2d": ((SHARED, 1, T, 1, 2, 2, D // 2), (BATCH, T, 1, D), (BATCH, 1, D), (BATCH, T, D), None),
    "selective_scan2d": (
        (BATCH, T, 1, D // 2), (BATCH, T, 1, 2, D // 2), (SHARED, 2, 2, N, D // 2), *[(BATCH, T, 1, 2, N)] * 2,
        (BATCH, 1, 2, N, D // 2), None, True,
    ),
    "longhorn": (*[(BATCH, T, N)] * 2, *[(BATCH, T, D)] * 2, False, (BATCH, N, D), None, True),
    "gram_solve": (*[(BATCH, T, 1, D)] * 2, *[(BATCH, T, 1)] * 2, (SHARED, 1, D), (BATCH, 1, D, D), None),
}  # fmt: skip


@pytest.fixture
def only_addresses():
    """Fresh buffers are not filled with NaN: that would be to write them."""
    try:
        np.empty(ROWS * T * D, np.float32)
    except MemoryError:
        pytest.skip("this system gives no more addresses than it has memory")
    torch.utils.deterministic.fill_uninitialized_memory = False
    yield
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory counts when it is asked for")
@pytest.mark.parametrize("name", OPERATORS)
def test_the_last_row_of_a_long_array(name: str, only_addresses, monkeypatch):
    module = importlib.import_module(f"separatrix.recurrence.operators.{name}")
    operator = getattr(module, name).implementation
    generator = torch.Generator().manual_seed(0)

    def numbers(shape: tuple) -> Tensor:
        return -torch.rand(shape, generator=generator) / 8  # a decay, and of a stable matrix, whichever argument it is

    alone = [numbers((1, *x[1:]) if x[0] else x[1:]) if isinstance(x, tuple) else x for x in OPERATORS[name]]
    want = operator(*alone)

    def last_row(kernel: Callable, units: int, work: float, *args) -> None:
        kernel.launch((0, 0, 0), 1, units * (ROWS - 1) // ROWS, units, args)

    monkeypatch.setattr(module, "share", last_row)
    got = operator(*[at_the_end(x) if isinstance(how, tuple) and how[0] else x for x, how in zip(alone, OPERATORS[name])])
    for far, near in zip(*(x if isinstance(x, tuple) else (x,) for x in (got, want))):
        if near.shape[0] == 1:
            assert far.shape[0] == ROWS
            torch.testing.assert_close(far[-1:], near, rtol=0, atol=0)


def at_the_end(x: Tensor) -> Tensor:
    """ROWS rows, of which the last is x and the others were never written."""
    rows = torch.from_numpy(np.zeros((ROWS, *x.shape[1:]), np.float32))
    rows[-1] = x[0]
    return rows
