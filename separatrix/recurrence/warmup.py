"""Every kernel compiled beforehand, so that nothing waits for it later.

A kernel is compiled when it first meets a combination of arguments (`kernels/`); one small call of each combination does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import complex64, float64, ones
from torch.utils import _pytree as pytree

from separatrix.recurrence import OPERATIONS, AdaptiveRidge, DiagonalGRU, DiagonalLSTM, Elman, linearize, rms_norm
from separatrix.recurrence.attention import attention_step


def warmup(progress: Callable[[str, int, int], None] = lambda name, done, of: None) -> int:
    """Compile every kernel that is not on disk yet; `progress(name, done, of)` before each. Returns how many combinations there are."""
    calls: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = []
    calls += [(operation, OPERATIONS[operation]["fused"], arguments) for operation, arguments in _combinations()]
    calls.append(("rms_norm", rms_norm, (ones(1, 2), ones(1, 2))))
    kept = ones(1, 3, 1, 2)
    calls.append(("attention_step", attention_step, (ones(1, 3, 1, 2), kept, kept, ones(1, 3), None)))
    for cell in (DiagonalGRU(ones(3, 1)), DiagonalLSTM(ones(3, 1), ones(2, 1))):
        calls.append(("newton_scan", lambda cell, h, x: linearize(cell, h, x)[0], (cell, ones(1, cell.size), ones(1, 3))))
    for done, (operation, function, arguments) in enumerate(calls):
        progress(operation, done, len(calls))
        leaves = [x.clone().requires_grad_() if isinstance(x, torch.Tensor) else x for x in arguments]
        sum(x.abs().sum() for x in pytree.tree_leaves(function(*leaves))).backward()
        with torch.no_grad():
            function(*arguments)
    for dtype in (np.float32, np.float64):
        _empty_program(dtype)
    return len(calls)


def _empty_program(dtype: type[np.floating]) -> None:
    """The interpreter of recorded steps, which is no operation and has no gradient."""
    from separatrix.recurrence.kernels.program import play

    none, rows = np.empty(0, np.int64), np.zeros((0, 0), dtype)
    play.launch((0, 0, 0), 1, 0, 0, (none, none, rows.ravel(), rows.ravel(), none.reshape(0, 3), 1, rows, rows, -1))


def _combinations() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """One small call for every set of arguments that has machine code of its own."""
    heads, keys = (1, 3, 1), (1, 3, 1, 2)
    yield "delta_rule", (ones(keys), ones(keys), ones(keys), ones(heads))  # one machine code for all matrix states
    for gate in (None, ones(heads)):
        yield "selective_scan", (ones(heads), ones(heads), -ones(1, 2), ones(1, 3, 2), ones(1, 3, 2), ones(1), gate)
    for dtype in (None, float64, complex64):
        yield "diagonal_scan", (ones(heads, dtype=dtype), ones(heads, dtype=dtype))
    for decay in (None, -ones(heads)):
        for ridge in (ones(1, 2), AdaptiveRidge()):
            yield "ridge_attention", (ones(keys), ones(keys), ones(keys), ones(heads), decay, ridge)
            first = None if decay is None else decay[:, :1]  # one step has a kernel of its own
            yield "ridge_attention", (*[ones(1, 1, 1, 2)] * 3, ones(1, 1, 1), first, ridge)
        yield "recursive_least_squares", (ones(keys), ones(keys), ones(keys), ones(heads), ones(1, 2), decay)
    yield "diagonal_ssm", (ones(heads), ones(1, 2, dtype=complex64), ones(1, 2, dtype=complex64))
    yield "dplr", (ones(keys), -ones(keys), *[ones(keys)] * 4)
    yield "longhorn", (ones(heads), ones(heads), ones(heads), ones(heads))
    for dtype in (None, float64):
        yield "dense_scan", (ones(1, 3, 1, 2, 2, dtype=dtype), ones(1, 3, 1, 2, dtype=dtype))
        yield "block_scan", (ones(1, 3, 2, 2, 1, dtype=dtype), ones(1, 3, 2, dtype=dtype))
        yield "scan2d", (ones(1, 3, 2, 2, 2, 1, dtype=dtype), ones(1, 3, 2, 2, 1, dtype=dtype))
        yield "minmax_scan", (ones(1, 3, 2, dtype=dtype), ones(1, 3, 2, dtype=dtype))
        vectors, columns = ones(1, 3, 1, 2, dtype=dtype), ones(1, 3, 1, 2, 1, dtype=dtype)
        yield "low_rank_scan", (vectors, columns, columns, vectors)
    yield "cell_scan", (DiagonalGRU(ones(3, 1)), ones(1, 3, 3))
    yield "cell_scan", (Elman(ones(1, 1)), ones(heads))  # one machine code for all dense cells
    yield "cell_scan", (DiagonalLSTM(ones(3, 1), ones(2, 1)), ones(1, 3, 3))
    yield "dictionary_scan", (ones(heads), ones(1, 2, 2), ones(1, 3, 2))
    yield "long_convolution", (ones(1, 2), ones(heads))
    cells, projections = ones(1, 2, 2, 1), ones(1, 2, 2, 2, 1)
    yield "selective_scan2d", (cells, projections, -ones(2, 2, 1, 1), projections, projections)
    yield "log_linear_attention", (ones(keys), ones(keys), ones(keys), None, ones(1, 3, 1, 3))
    yield "log_scan", (ones(heads), ones(heads))
    yield "short_convolution", (ones(heads), ones(1, 4))
