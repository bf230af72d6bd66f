"""The compiled kernels as torch operators, seen by autograd, `torch.compile` and `torch.export`.

An operator takes float32 tensors on the CPU (`diagonal_scan` any precision), allocates what it returns and shares a kernel's units
among threads. Its gradient is another operator, the kernel's hand-written backward. A second derivative goes through the operation's
chunked form, which is plain torch.

What is exported here goes past torch's dispatcher where nothing watches it (`direct`).

Importing this package imports Numba and registers `torch.ops.separatrix.*`; `fused.operators()` does so at the first call.
"""

from separatrix.recurrence.operators.block_scan import block_scan as block_scan_operator
from separatrix.recurrence.operators.dense_scan import dense_scan as dense_scan_operator
from separatrix.recurrence.operators.diagonal_scan import diagonal_scan as diagonal_scan_operator
from separatrix.recurrence.operators.diagonal_ssm import diagonal_ssm as diagonal_ssm_operator
from separatrix.recurrence.operators.dictionary_scan import dictionary_scan as dictionary_scan_operator
from separatrix.recurrence.operators.direct import direct
from separatrix.recurrence.operators.dplr import dplr as dplr_operator
from separatrix.recurrence.operators.gated import diagonal_gru as diagonal_gru_operator
from separatrix.recurrence.operators.gated import diagonal_lstm as diagonal_lstm_operator
from separatrix.recurrence.operators.gram_solve import gram_solve as gram_solve_operator
from separatrix.recurrence.operators.log_linear import log_linear as log_linear_operator
from separatrix.recurrence.operators.log_scan import log_scan as log_scan_operator
from separatrix.recurrence.operators.long_convolution import long_convolution as long_convolution_operator
from separatrix.recurrence.operators.longhorn import longhorn as longhorn_operator
from separatrix.recurrence.operators.low_rank_scan import low_rank_scan as low_rank_scan_operator
from separatrix.recurrence.operators.matrix_state import matrix_state as matrix_state_operator
from separatrix.recurrence.operators.minmax_scan import minmax_scan as minmax_scan_operator
from separatrix.recurrence.operators.scan2d import scan2d as scan2d_operator
from separatrix.recurrence.operators.selective_scan import selective_scan as selective_scan_operator
from separatrix.recurrence.operators.selective_scan2d import selective_scan2d as selective_scan2d_operator
from separatrix.recurrence.operators.short_convolution import short_convolution as short_convolution_operator

__all__ = [
    "block_scan",
    "dense_scan",
    "diagonal_gru",
    "diagonal_lstm",
    "diagonal_scan",
    "diagonal_ssm",
    "dictionary_scan",
    "dplr",
    "gram_solve",
    "log_linear",
    "log_scan",
    "long_convolution",
    "longhorn",
    "low_rank_scan",
    "matrix_state",
    "minmax_scan",
    "scan2d",
    "selective_scan",
    "selective_scan2d",
    "short_convolution",
]

block_scan = direct(block_scan_operator)
dense_scan = direct(dense_scan_operator)
diagonal_gru = direct(diagonal_gru_operator)
diagonal_lstm = direct(diagonal_lstm_operator)
diagonal_scan = direct(diagonal_scan_operator)
diagonal_ssm = direct(diagonal_ssm_operator)
dictionary_scan = direct(dictionary_scan_operator)
dplr = direct(dplr_operator)
gram_solve = direct(gram_solve_operator)
log_linear = direct(log_linear_operator)
log_scan = direct(log_scan_operator)
long_convolution = direct(long_convolution_operator)
longhorn = direct(longhorn_operator)
low_rank_scan = direct(low_rank_scan_operator)
matrix_state = direct(matrix_state_operator)
minmax_scan = direct(minmax_scan_operator)
scan2d = direct(scan2d_operator)
selective_scan = direct(selective_scan_operator)
selective_scan2d = direct(selective_scan2d_operator)
short_convolution = direct(short_convolution_operator)
