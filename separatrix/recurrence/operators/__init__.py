"""The compiled kernels as torch operators, seen by autograd, `torch.compile` and `torch.export`.

An operator takes float32 tensors on the CPU (`diagonal_scan` any precision), allocates what it returns and shares a kernel's units
among threads. Its gradient is another operator, the kernel's hand-written backward. A second derivative goes through the operator's twin
in plain torch (`twins.py`).

They go past torch's dispatcher where nothing watches it (`operator.py`).

Importing this package imports Numba and registers `torch.ops.separatrix.*`; `fused.operators()` does so at the first call.
"""

from separatrix.recurrence.operators.attention import attention_step
from separatrix.recurrence.operators.block_scan import block_scan
from separatrix.recurrence.operators.dense_cell import dense_cell
from separatrix.recurrence.operators.dense_scan import dense_scan
from separatrix.recurrence.operators.diagonal_scan import diagonal_scan
from separatrix.recurrence.operators.diagonal_ssm import diagonal_ssm
from separatrix.recurrence.operators.dictionary_scan import dictionary_scan
from separatrix.recurrence.operators.dplr import dplr
from separatrix.recurrence.operators.gated import diagonal_gru, diagonal_lstm
from separatrix.recurrence.operators.gram_solve import gram_solve
from separatrix.recurrence.operators.least_squares import least_squares
from separatrix.recurrence.operators.linearized import diagonal_gru_linearized, diagonal_lstm_linearized
from separatrix.recurrence.operators.log_linear import log_linear
from separatrix.recurrence.operators.log_scan import log_scan
from separatrix.recurrence.operators.long_convolution import long_convolution
from separatrix.recurrence.operators.longhorn import longhorn
from separatrix.recurrence.operators.low_rank_scan import low_rank_scan
from separatrix.recurrence.operators.matrix_state import matrix_state
from separatrix.recurrence.operators.minmax_scan import minmax_scan
from separatrix.recurrence.operators.rms_norm import rms_norm
from separatrix.recurrence.operators.scan2d import scan2d
from separatrix.recurrence.operators.selective_scan import selective_scan
from separatrix.recurrence.operators.selective_scan2d import selective_scan2d
from separatrix.recurrence.operators.short_convolution import short_convolution

__all__ = [
    "attention_step",
    "block_scan",
    "dense_cell",
    "dense_scan",
    "diagonal_gru",
    "diagonal_gru_linearized",
    "diagonal_lstm",
    "diagonal_lstm_linearized",
    "diagonal_scan",
    "diagonal_ssm",
    "dictionary_scan",
    "dplr",
    "gram_solve",
    "least_squares",
    "log_linear",
    "log_scan",
    "long_convolution",
    "longhorn",
    "low_rank_scan",
    "matrix_state",
    "minmax_scan",
    "rms_norm",
    "scan2d",
    "selective_scan",
    "selective_scan2d",
    "short_convolution",
]
