"""`torch.ops.separatrix.dictionary_scan`: the scan of `kernels/dense.py` over matrices that are mixed, used and forgotten.

With A_j = M_j / n_j a column of p-norm 1 and G its gradient, that of the mixture M is (G_ij - s_j sign(A_ij) |A_ij|^(p-1)) / n_j with
s_j = sum_i G_ij A_ij.
"""

import torch
from torch import Tensor

from separatrix.recurrence.operators.arrays import differentiable
from separatrix.recurrence.operators.dense_scan import dense_scan, dense_scan_backward
from separatrix.recurrence.operators.direct import direct

MATRICES = 2**20  # numbers of mixed matrices that are held at a time: a few megabytes


@torch.library.custom_op(
    "separatrix::dictionary_scan",
    mutates_args=(),
    schema="(Tensor selection, Tensor dictionary, Tensor b, Tensor state, Tensor? reset, float p) -> (Tensor, Tensor)",
)
def dictionary_scan(
    selection: Tensor, dictionary: Tensor, b: Tensor, state: Tensor, reset: Tensor | None, p: float
) -> tuple[Tensor, Tensor]:
    """All states and the last one.   selection [B, T, K], dictionary [K, N, N], b [B, T, N], state [B, N], all of one dtype."""
    h, state = b.new_empty(b.shape), state.unsqueeze(1)
    for part in _parts(b):
        A, _ = _normalised(selection[:, part].softmax(-1), dictionary, p)
        states, state = dense_scan(A.unsqueeze(2), b[:, part].unsqueeze(2), state, None if reset is None else reset[:, part])
        h[:, part] = states.squeeze(2)
    return h, state.squeeze(1).clone()


@dictionary_scan.register_fake
def _(selection, dictionary, b, state, reset, p):
    return b.new_empty(b.shape), state.new_empty(state.shape)


@torch.library.custom_op(
    "separatrix::dictionary_scan_backward",
    mutates_args=(),
    schema="(Tensor grad_h, Tensor grad_final, Tensor selection, Tensor dictionary, Tensor state, Tensor? reset, float p, Tensor h) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
)
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
    grad_selection, grad_entries, grad_b = selection.new_empty(selection.shape), torch.zeros_like(entries), h.new_empty(h.shape)
    grad_state = grad_final.unsqueeze(1)
    for part in reversed(_parts(h)):
        weights = selection[:, part].softmax(-1)
        A, length = _normalised(weights, dictionary, p)
        before = (state if part.start == 0 else h[:, part.start - 1]).unsqueeze(1)
        flags = None if reset is None else reset[:, part]
        grads = dense_scan_backward(grad_h[:, part].unsqueeze(2), grad_state, A.unsqueeze(2), before, flags, h[:, part].unsqueeze(2), True)
        G, grad_state = grads[0].squeeze(2), grads[2]
        grad_b[:, part] = grads[1].squeeze(2)
        along = (G * A).sum(-2, keepdim=True)
        G = ((G - along * A.sign() * A.abs().pow(p - 1)) / length).flatten(2)
        grad_entries += weights.flatten(0, 1).T @ G.flatten(0, 1)
        grad_weights = G @ entries.T
        grad_selection[:, part] = weights * (grad_weights - (weights * grad_weights).sum(-1, keepdim=True))
    return grad_selection, grad_entries.view(dictionary.shape), grad_b, grad_state.squeeze(1).clone()


@dictionary_scan_backward.register_fake
def _(grad_h, grad_final, selection, dictionary, state, reset, p, h):
    return tuple(h.new_empty(x.shape) for x in (selection, dictionary, h, state))


def _parts(b: Tensor) -> list[slice]:
    """Stretches of time whose matrices fit into MATRICES numbers."""
    batch, time, size = b.shape
    step = max(1, MATRICES // max(1, batch * size * size))
    return [slice(start, min(start + step, time)) for start in range(0, time, step)]


def _normalised(weights: Tensor, dictionary: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """The mixed matrices, and the p-norm that their columns had (1 where it was 0)."""
    M = (weights @ dictionary.flatten(1)).unflatten(-1, dictionary.shape[1:])
    length = M.abs().pow(p).sum(-2, keepdim=True).pow(1 / p)
    length = torch.where(length > 0, length, 1)
    return M / length, length


def _keep(ctx, inputs, output):
    selection, dictionary, b, state, reset, ctx.p = inputs
    ctx.save_for_backward(selection, dictionary, b, state, reset, output[0])


def _gradient(ctx, grad_h, grad_final):
    selection, dictionary, b, state, reset, h = ctx.saved_tensors
    if torch.is_grad_enabled():
        from separatrix.recurrence.dictionary import dictionary_scan_chunked

        return differentiable(dictionary_scan_chunked, (selection, dictionary, b, state, reset, ctx.p), (grad_h, grad_final))
    return *direct(dictionary_scan_backward)(grad_h, grad_final, selection, dictionary, state, reset, ctx.p, h), None, None


torch.library.register_autograd(dictionary_scan, _gradient, setup_context=_keep)
