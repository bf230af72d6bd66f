"""`torch.ops.separatrix.dictionary_scan`: the scan of `kernels/dictionary.py`."""

import numpy as np
import torch
from torch import Tensor

from separatrix.recurrence.kernels import dictionary as kernel
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import flags, flat
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank


@Operator
def dictionary_scan(
    selection: Tensor, dictionary: Tensor, b: Tensor, state: Tensor, reset: Tensor | None, p: float
) -> tuple[Tensor, Tensor]:
    """All states and the last one.   selection [B, T, K], dictionary [K, N, N], b [B, T, N], state [B, N]; T is at least 1."""
    B, T, N = b.shape
    h, final, (entries, _) = blank(b), blank(state), _in_units(dictionary)
    share(
        kernel.forward,
        B,
        _work(b, dictionary),
        (T, dictionary.shape[0], N),
        np.float32(p),
        flat(selection.softmax(-1)),
        flat(entries),
        flat(b),
        flags(reset, B, T),
        flat(state),
        flat(h),
        flat(final),
    )
    return h, final


@dictionary_scan.register_fake
def _(selection, dictionary, b, state, reset, p):
    return b.new_empty(b.shape), state.new_empty(state.shape)


@Operator
def dictionary_scan_backward(
    grad_h: Tensor,
    grad_final: Tensor,
    selection: Tensor,
    dictionary: Tensor,
    state: Tensor,
    reset: Tensor | None,
    p: float,
    h: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (selection, dictionary, b, state)."""
    B, T, N = h.shape
    weights, grad_b, grad_state = selection.softmax(-1), blank(h), blank(state)
    grad_weights, grad_entries = torch.zeros_like(weights), h.new_zeros(B, *dictionary.shape)
    entries, unit = _in_units(dictionary)
    share(
        kernel.backward,
        B,
        3 * _work(h, dictionary),
        (T, dictionary.shape[0], N),
        np.float32(p),
        flat(weights),
        flat(entries),
        flags(reset, B, T),
        flat(state),
        flat(h),
        flat(grad_h),
        flat(grad_final),
        flat(grad_b),
        flat(grad_weights),
        flat(grad_entries),
        flat(grad_state),
    )
    grad_selection = weights * (grad_weights - (weights * grad_weights).sum(-1, keepdim=True))
    return grad_selection, grad_entries.sum(0) / unit, grad_b, grad_state


@dictionary_scan_backward.register_fake
def _(grad_h, grad_final, selection, dictionary, state, reset, p, h):
    return tuple(h.new_empty(x.shape) for x in (selection, dictionary, h, state))


@dictionary_scan.register_gradient(keep=(0,))
def _(wanted, inputs, kept, *grads):
    selection, dictionary, _, state, reset, p = inputs
    return *dictionary_scan_backward(*grads, selection, dictionary, state, reset, p, *kept), None, None


def _in_units(dictionary: Tensor) -> tuple[Tensor, Tensor]:
    """The dictionary in units of a power of two near its largest number, and that unit.

    The transitions are blind to its scale; the kernel's reciprocals are not, which vanish above 2**126.
    """
    largest = dictionary.abs().amax()
    unit = torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent - 1)
    unit = torch.where((largest > 0) & largest.isfinite(), unit, 1)
    return dictionary / unit, unit


def _work(b: Tensor, dictionary: Tensor) -> float:
    """A power costs as much as some thirty operations."""
    return b.shape[0] * b.shape[1] * b.shape[2] ** 2 * (2.0 * dictionary.shape[0] + 40)
