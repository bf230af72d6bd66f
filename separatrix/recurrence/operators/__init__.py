"""The compiled kernels as torch operators, seen by autograd, `torch.compile` and `torch.export`.

An operator takes float32 tensors on the CPU (`diagonal_scan` any precision), allocates what it returns and shares a kernel's units
among threads. Its gradient is another operator, the kernel's hand-written backward. A second derivative goes through the operation's
chunked form, which is plain torch.

Importing this package imports Numba and registers `torch.ops.separatrix.*`; `fused.operators()` does so at the first call.
"""

from separatrix.recurrence.operators.delta_rule import delta_rule
from separatrix.recurrence.operators.dense_scan import dense_scan
from separatrix.recurrence.operators.diagonal_scan import diagonal_scan
from separatrix.recurrence.operators.diagonal_ssm import diagonal_ssm
from separatrix.recurrence.operators.dictionary_scan import dictionary_scan
from separatrix.recurrence.operators.linear_attention import linear_attention
from separatrix.recurrence.operators.low_rank_scan import low_rank_scan
from separatrix.recurrence.operators.minmax_scan import minmax_scan
from separatrix.recurrence.operators.selective_scan import selective_scan

__all__ = [
    "delta_rule",
    "dense_scan",
    "diagonal_scan",
    "diagonal_ssm",
    "dictionary_scan",
    "linear_attention",
    "low_rank_scan",
    "minmax_scan",
    "selective_scan",
]
