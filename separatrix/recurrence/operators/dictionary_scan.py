"""`torch.ops.separatrix.dictionary_scan`: the scan of `kernels/dense.py` over matrices that are mixed, used and forgotten.

With A_j = M_j / n_j a column of p-norm 1 and G its gradient, that of the mixture M is (G_ij - s_j sign(A_ij) |A_ij|^(p-1)) / n_j with
s_j = sum_i G_ij A_ij.
"""

import torch
from torch import Tensor

from separatrix.recurrence.operators.dense_scan import dense_scan, dense_scan_backward
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank

# Numbers of mixed matrices that are held at a time: half a megabyte, or four for large ones, which calls for a few steps would not pay.
MATRICES, LARGE, FEW = 2**17, 2**20, 16


@Operator
def dictionary_scan(
    selection: Tensor, dictionary: Tensor, b: Tensor, state: Tensor, reset: Tensor | None, p: float
) -> tuple[Tensor, Tensor]:
    """All states and the last one.   selection [B, T, K], dictionary [K, N, N], b [B, T, N], state [B, N], all of one dtype."""
    h = blank(b)
    for part in _parts(b):
        A, _ = _normalised(selection[:, part].softmax(-1), dictionary, p)
        h[:, part], state = dense_scan(A, b[:, part], state, None if reset is None else reset[:, part])
    return h, state.clone()


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
    entries = dictionary.flatten(1)
    grad_selection, grad_entries, grad_b = blank(selection), torch.zeros_like(entries), blank(h)
    grad_state = grad_final
    for part in reversed(_parts(h)):
        weights = selection[:, part].softmax(-1)
        A, length = _normalised(weights, dictionary, p)
        before = state if part.start == 0 else h[:, part.start - 1]
        flags = None if reset is None else reset[:, part]
        G, grad_b[:, part], grad_state = dense_scan_backward(grad_h[:, part], grad_state, A, before, flags, h[:, part], True)
        along, size = (G * A).sum(-2, keepdim=True), A.abs().pow_(p - 1).mul_(A.sign())
        G = G.sub_(size.mul_(along)).div_(length).flatten(2)
        grad_entries += weights.flatten(0, 1).T @ G.flatten(0, 1)
        grad_weights = G @ entries.T
        grad_selection[:, part] = weights * (grad_weights - (weights * grad_weights).sum(-1, keepdim=True))
    return grad_selection, grad_entries.view(dictionary.shape), grad_b, grad_state.clone()


@dictionary_scan_backward.register_fake
def _(grad_h, grad_final, selection, dictionary, state, reset, p, h):
    return tuple(h.new_empty(x.shape) for x in (selection, dictionary, h, state))


def _parts(b: Tensor) -> list[slice]:
    """Stretches of time whose matrices fit into MATRICES numbers, or FEW that fit into LARGE."""
    batch, time, size = b.shape
    numbers = max(1, batch * size * size)
    step = max(1, MATRICES // numbers, min(FEW, LARGE // numbers))
    return [slice(start, min(start + step, time)) for start in range(0, time, step)]


def _normalised(weights: Tensor, dictionary: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """The mixed matrices, and the p-norm that their columns had, infinity where it was 0: what is divided by it is 0 then."""
    M = (weights @ dictionary.flatten(1)).unflatten(-1, dictionary.shape[1:])
    size = M.abs()
    largest = size.amax(-2, keepdim=True)
    length = largest * size.div_(torch.where(largest > 0, largest, 1)).pow_(p).sum(-2, keepdim=True).pow(1 / p)
    length = torch.where(length > 0, length, torch.inf)
    return M.div_(length), length


@dictionary_scan.register_gradient(keep=(0,))
def _(wanted, inputs, kept, *grads):
    selection, dictionary, _, state, reset, p = inputs
    return *dictionary_scan_backward(*grads, selection, dictionary, state, reset, p, *kept), None, None
