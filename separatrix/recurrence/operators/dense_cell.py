"""`torch.ops.separatrix.dense_cell`: the cells of `kernels/dense_cell.py`.

The kernel does what goes along time, the states and their adjoint; what weights get of them is a product for all steps at once.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence.kernels import dense_cell as kernel
from separatrix.recurrence.kernels import dense_gates
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.kernels.tile import LANES, ROWS
from separatrix.recurrence.operators.arrays import blocks, flags, flat
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank

KINDS = {"elman": dense_gates.ELMAN, "gru": dense_gates.GRU, "lstm": dense_gates.LSTM, "plrnn": dense_gates.PLRNN}


def _shape(kind: str, x: Tensor, W: Tensor, V: Tensor | None, observed: int, state: Tensor) -> tuple[int, ...]:
    """(B, T, n, k, L, P, observed) of the kernel."""
    parts = 2 if kind == "lstm" else 1
    return *x.shape[:2], state.shape[1] // parts, parts, W.shape[1], W.shape[0], observed


def _work(shape: tuple[int, ...], V: Tensor | None) -> float:
    B, T, n, _, L, P, _ = shape
    return 2.0 * B * T * (P * L + 20 * P + (0 if V is None else L * n))


def _matrix(W: Tensor | None) -> np.ndarray:
    """Rows padded to whole lanes; none of them for what is absent."""
    return np.empty(0, np.float32) if W is None else flat(F.pad(W.detach(), (0, -W.shape[1] % LANES)))


def _elementwise(
    vectors: Tensor | None, slopes: Tensor | None, shifts: Tensor | None, linear: int, clipped: bool, L: int
) -> tuple[np.ndarray | np.float32, ...]:
    """vectors, slopes, shifts, leak and clip as the kernel takes them."""
    none = np.empty(0, np.float32)
    leak = np.zeros(L, np.float32)
    leak[:linear] = 1
    alpha = np.ones(1, np.float32) if slopes is None else flat(slopes)
    theta = np.zeros(alpha.size * L, np.float32) if shifts is None else flat(shifts)
    clip = np.float32(alpha.sum() if clipped else 0)
    return none if vectors is None else flat(vectors), alpha, theta, leak, clip


@Operator
def dense_cell(
    kind: str,
    x: Tensor,
    W: Tensor,
    V: Tensor | None,
    vectors: Tensor | None,
    slopes: Tensor | None,
    shifts: Tensor | None,
    linear: int,
    clipped: bool,
    observed: int,
    state: Tensor,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """All states and the last one.

    x [B, T, P], with y and κ behind it where units are observed; W [P, L], V [L, n], vectors [1 or 2, n], slopes [bases],
    shifts [bases, L]; the first `linear` units are not rectified; state [B, n], for an LSTM h and c side by side.
    """
    shape = _shape(kind, x, W, V, observed, state)
    states, final = blank(x, (*x.shape[:2], state.shape[1])), blank(state)
    share(
        kernel.forward,
        blocks(shape[0], ROWS),
        _work(shape, V),
        shape,
        KINDS[kind],
        flat(x),
        _matrix(W.T),
        _matrix(None if V is None else V.T),
        *_elementwise(vectors, slopes, shifts, linear, clipped, W.shape[1]),
        flags(reset, *x.shape[:2]),
        *map(flat, (state, states, final)),
    )
    return states, final


@dense_cell.register_fake
def _(kind, x, W, V, vectors, slopes, shifts, linear, clipped, observed, state, reset):
    return x.new_empty(*x.shape[:2], state.shape[1]), state.new_empty(state.shape)


@Operator
def dense_cell_backward(
    grad_states: Tensor,
    grad_final: Tensor,
    kind: str,
    x: Tensor,
    W: Tensor,
    V: Tensor | None,
    vectors: Tensor | None,
    slopes: Tensor | None,
    shifts: Tensor | None,
    linear: int,
    clipped: bool,
    observed: int,
    state: Tensor,
    reset: Tensor | None,
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (x, W, V, vectors, slopes, shifts, state); that of an absent input is empty."""
    shape = _shape(kind, x, W, V, observed, state)
    P, n = W.shape[0], shape[2]
    before = torch.cat([state.unsqueeze(1), states[:, :-1]], dim=1)
    if reset is not None:
        before = before.masked_fill(reset.unsqueeze(-1), 0)
    fed = before
    if observed:
        seen = torch.lerp(before[..., :observed], x[..., P:-1], x[..., -1:])
        fed = torch.cat([seen, before[..., observed:]], dim=-1)
    h = fed[..., :n]
    heard = x.new_empty(0)
    if kind == "plrnn":
        heard = h if V is None else h @ V.T
    elif kind != "elman":
        heard = h @ W.T
    grad_x, grad_state = blank(x), blank(state)
    by_p = blank(x, (*x.shape[:2], P) if kind == "gru" else (0,))
    by_a = blank(x, heard.shape if kind == "plrnn" else (0,))
    share(
        kernel.backward,
        blocks(shape[0], ROWS),
        2 * _work(shape, V),
        shape,
        KINDS[kind],
        flat(x),
        _matrix(W),
        _matrix(V),
        *_elementwise(vectors, slopes, shifts, linear, clipped, W.shape[1]),
        flags(reset, *x.shape[:2]),
        *map(flat, (heard, fed, before, states, grad_states, grad_final, grad_x, by_p, by_a, grad_state)),
    )
    if kind != "gru":
        by_p = grad_x[..., :P]
    by_V, by_vectors, by_slopes, by_shifts = (x.new_empty(0) for _ in range(4))  # torch.compile wants no two outputs to be one
    active = h
    if kind == "plrnn":
        active, by_slopes, by_shifts, by_V = _activation(h, heard, by_a, V, slopes, shifts, linear, clipped)
        by_vectors = torch.stack([(by_p * h).sum((0, 1)), by_p.sum((0, 1))])
    elif kind == "gru":
        by_vectors = by_p[..., 2 * n :].sum((0, 1)).unsqueeze(0)
    return grad_x, by_p.flatten(0, 1).T @ active.flatten(0, 1), by_V, by_vectors, by_slopes, by_shifts, grad_state


def _activation(
    h: Tensor, s: Tensor, by_a: Tensor, V: Tensor | None, slopes: Tensor | None, shifts: Tensor | None, linear: int, clipped: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """a = φ(s), and the gradients of α, θ and V, one basis after another."""
    alpha = s.new_ones(1) if slopes is None else slopes
    by_slopes, by_shifts = blank(alpha), blank(s, (len(alpha), s.shape[-1]))
    a, slope = torch.zeros_like(s), s if V is None else torch.zeros_like(s)
    for base, weight in enumerate(alpha):
        shifted = s if shifts is None else s + shifts[base]
        value = shifted.relu()
        if clipped:
            value -= s.relu()
        a.addcmul_(value, weight)
        if slopes is not None:
            by_slopes[base] = (by_a * value).sum()
        if shifts is not None:
            on = (shifted > 0).to(s.dtype) * weight
            by_shifts[base] = (by_a * on).sum((0, 1))
        if V is not None:
            slope.addcmul_((shifted > 0).to(s.dtype), weight)
    if V is not None and clipped:
        slope.addcmul_((s > 0).to(s.dtype), alpha.sum(), value=-1)
    if linear:
        a[..., :linear] = s[..., :linear]
        if V is not None:
            slope[..., :linear] = 1
    by_V = s.new_empty(0) if V is None else (by_a * slope).flatten(0, 1).T @ h.flatten(0, 1)
    return a, s.new_empty(0) if slopes is None else by_slopes, s.new_empty(0) if shifts is None else by_shifts, by_V


@dense_cell_backward.register_fake
def _(grad_states, grad_final, kind, x, W, V, vectors, slopes, shifts, linear, clipped, observed, state, reset, states):
    given = (x.new_empty(0) if p is None else p.new_empty(p.shape) for p in (V, vectors, slopes, shifts))
    return x.new_empty(x.shape), W.new_empty(W.shape), *given, state.new_empty(state.shape)


@dense_cell.register_gradient(keep=(0,))
def _(wanted, inputs, kept, *grads):
    parameters = inputs[2:7]
    grad_x, *found, grad_state = dense_cell_backward(*grads, *inputs, *kept)
    return None, grad_x, *(None if p is None else grad for p, grad in zip(parameters, found)), None, None, None, grad_state, None
