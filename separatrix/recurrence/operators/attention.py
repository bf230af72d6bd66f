"""`kernels/attention.py` for tensors. It is no torch operator: a step that anybody records is taken by plain torch."""

import numpy as np
from torch import Tensor

from separatrix.recurrence.kernels import attention as kernel
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import flat

STILL = np.empty(0, np.float32)


def attention_step(
    qkv: Tensor, keys: Tensor, values: Tensor, alive: Tensor, turns: Tensor | None, forget: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `attention_step_plain` of `recurrence/attention.py`."""
    B, S, H, K = keys.shape
    kept = (B, S + 1 - forget, H, K)
    results = qkv.new_empty(B, H, K), keys.new_empty(kept), keys.new_empty(kept), keys.new_empty(kept[:2])
    inputs = (*map(flat, (qkv, keys, values, alive)), STILL if turns is None else flat(turns))
    share(kernel.forward, B * H, 8.0 * keys.numel(), (S, H, K), *inputs, forget, *map(flat, results))
    return results
