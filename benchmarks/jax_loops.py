"""Rivals in JAX: `lax.scan`, jitted, a few lines each. On a CPU they beat every PyTorch peer of the scans.

They get their inputs time first, which suits `lax.scan` best, and outside the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.rival import Absent, Inputs, Rival, is_sequence


class JaxCall:
    """A function of JAX arrays, jitted; with its gradients in one jitted call."""

    def __init__(self, function: Callable, inputs: Inputs, weight: Tensor):
        jax = _jax()
        self.sequences = {name for name, x in inputs.items() if is_sequence(x, weight)}
        self.arrays = {name: jax.device_put(_turn(x) if name in self.sequences else x.numpy()) for name, x in inputs.items()}
        weight = jax.device_put(_turn(weight))

        def paired(arrays, weight):
            y = function(**arrays)
            return (weight.conj() * y).real.sum(), y

        def both(arrays, weight):
            (_, y), gradients = jax.value_and_grad(paired, has_aux=True)(arrays, weight)
            return y, gradients

        wait, alone, together = jax.block_until_ready, jax.jit(lambda arrays: (function(**arrays), {})), jax.jit(both)
        self.forward = lambda: wait(alone(self.arrays))
        self.both = lambda: wait(together(self.arrays, weight))

    def read(self, result) -> tuple[Tensor, dict[str, Tensor]]:
        y, gradients = result
        found = {name: torch.from_numpy(np.array(g)) for name, g in gradients.items()}
        # JAX's gradient of a real function of z = x + iy is dL/dx - i dL/dy, PyTorch's is its conjugate.
        return torch.from_numpy(_turn(y)), {name: (g.transpose(0, 1) if name in self.sequences else g).conj() for name, g in found.items()}


def _jax():
    try:
        import jax
    except ModuleNotFoundError as error:
        raise Absent("pip install jax") from error
    return jax


def scan(step: Callable, start, steps):
    """`lax.scan` from a start that XLA cannot look at: a single step from zeros would be folded into something else."""
    from jax import lax

    return lax.scan(step, lax.optimization_barrier(start), steps)


def _turn(x) -> np.ndarray:
    """Batch and time, the first two axes, change places."""
    return np.array(np.swapaxes(np.asarray(x), 0, 1), order="C")


def jax_rival(name: str, function: Callable) -> Rival:
    return Rival(name, partial(JaxCall, function))


def selective_scan(u, delta, A, B, C, D):
    import jax.numpy as jnp

    def step(h, now):
        u, delta, b, c = now
        h = jnp.exp(delta[..., None] * A) * h + (delta * u)[..., None] * b[:, None]
        return h, (h * c[:, None]).sum(-1)

    return scan(step, jnp.zeros((*u.shape[1:], A.shape[1])), (u, delta, B, C))[1] + D * u


def diagonal_scan(a, x):
    import jax.numpy as jnp

    def step(h, now):
        h = now[0] * h + now[1]
        return h, h

    return scan(step, jnp.zeros_like(x[0]), (a, x))[1]


def chunked_attention(q, k, v, log_decay=None, scale=None, chunk=64):
    """o_t = scale q_t sum_{s<=t} exp(sum of the decays after s) k_s v_s, by chunks; one decay a head, or none."""
    import jax.numpy as jnp

    T, B, H, K = q.shape
    g = jnp.zeros((T, B, H)) if log_decay is None else log_decay
    q = q * (K**-0.5 if scale is None else scale)
    q, k, v, g = (jnp.moveaxis(x.reshape(T // chunk, chunk, *x.shape[1:]), 1, 3) for x in (q, k, v, g))  # [chunks, B, H, chunk, ...]
    causal = jnp.tril(jnp.ones((chunk, chunk), bool))

    def step(S, now):
        q, k, v, g = now
        total = jnp.cumsum(g, -1)
        inside = jnp.where(causal, jnp.exp(jnp.where(causal, total[..., :, None] - total[..., None, :], 0.0)), 0.0)
        o = (q * jnp.exp(total)[..., None]) @ S + ((q @ jnp.swapaxes(k, -1, -2)) * inside) @ v
        left = jnp.exp(total[..., -1:] - total)[..., None]
        return jnp.exp(total[..., -1])[..., None, None] * S + jnp.swapaxes(k * left, -1, -2) @ v, o

    o = scan(step, jnp.zeros((B, H, K, v.shape[-1])), (q, k, v, g))[1]
    return jnp.moveaxis(o, 3, 1).reshape(T, B, H, -1)


def ssd(x, dt, A, B, C, D):
    """Mamba-2 in the letters of linear attention; one group of B and C for all heads."""
    import jax.numpy as jnp

    heads = x.shape[2]
    k, q = (jnp.repeat(y, heads // y.shape[2], axis=2) for y in (B, C))
    return chunked_attention(q, k, x * dt[..., None], dt * A, scale=1.0) + D[:, None] * x


def attention_loop(q, k, v, log_decay):
    """S_t = exp(g_t) S_{t-1} + k_t v_t,  o_t = scale q_t S_t, one decay a key dimension."""
    import jax.numpy as jnp

    def step(S, now):
        q, k, v, g = now
        S = jnp.exp(g)[..., None] * S + k[..., None] * v[..., None, :]
        return S, jnp.einsum("bhk,bhkv->bhv", q, S)

    _, B, H, K = q.shape
    return scan(step, jnp.zeros((B, H, K, v.shape[-1])), (q * K**-0.5, k, v, log_decay))[1]


def delta_loop(q, k, v, beta, log_decay=None):
    """S_t = (I - beta k k') exp(g_t) S_{t-1} + beta k v', o_t = scale q_t S_t; no decay, one a head, or one a key dimension."""
    import jax.numpy as jnp

    T, B, H, K = q.shape
    g = jnp.zeros((T, 1, 1, 1)) if log_decay is None else log_decay if log_decay.ndim == 4 else log_decay[..., None]

    def step(S, now):
        q, k, v, beta, g = now
        S = S if log_decay is None else jnp.exp(g)[..., None] * S
        write = beta[..., None] * (v - jnp.einsum("bhk,bhkv->bhv", k, S))
        S = S + k[..., None] * write[..., None, :]
        return S, jnp.einsum("bhk,bhkv->bhv", q, S)

    return scan(step, jnp.zeros((B, H, K, v.shape[-1])), (q * K**-0.5, k, v, beta, g))[1]


def bonus_loop(q, k, v, log_decay, bonus):
    """RWKV-6: o_t = scale q_t (S_{t-1} + bonus k_t v_t), then S_t = exp(g_t) S_{t-1} + k_t v_t"""
    import jax.numpy as jnp

    def step(S, now):
        q, k, v, g = now
        write = k[..., None] * v[..., None, :]
        return jnp.exp(g)[..., None] * S + write, jnp.einsum("bhk,bhkv->bhv", q, S + bonus[..., None] * write)

    _, B, H, K = q.shape
    return scan(step, jnp.zeros((B, H, K, v.shape[-1])), (q * K**-0.5, k, v, log_decay))[1]


def product_loop(q, k, v, beta, log_decay):
    """S <- exp(g_t) S, then n delta steps, then the read; k, v, beta have the n on their third axis."""
    import jax.numpy as jnp

    def step(S, now):
        q, k, v, beta, g = now
        S = jnp.exp(g)[..., None, None] * S
        for j in range(k.shape[1]):
            write = beta[:, j, :, None] * (v[:, j] - jnp.einsum("bhk,bhkv->bhv", k[:, j], S))
            S = S + k[:, j, :, :, None] * write[..., None, :]
        return S, jnp.einsum("bhk,bhkv->bhv", q, S)

    _, B, H, K = q.shape
    return scan(step, jnp.zeros((B, H, K, v.shape[-1])), (q * K**-0.5, k, v, beta, log_decay))[1]


def dplr_loop(r, log_decay, k, v, a, b):
    """S_t = exp(w_t) S_{t-1} + b_t (a_t S_{t-1}) + k_t v_t,  o_t = r_t S_t"""
    import jax.numpy as jnp

    def step(S, now):
        r, w, k, v, a, b = now
        seen = jnp.einsum("bhk,bhkv->bhv", a, S)
        S = jnp.exp(w)[..., None] * S + b[..., None] * seen[..., None, :] + k[..., None] * v[..., None, :]
        return S, jnp.einsum("bhk,bhkv->bhv", r, S)

    _, B, H, K = r.shape
    return scan(step, jnp.zeros((B, H, K, v.shape[-1])), (r, log_decay, k, v, a, b))[1]


def dense_scan(A, b):
    import jax.numpy as jnp

    def step(h, now):
        h = jnp.einsum("bij,bj->bi", now[0], h) + now[1]
        return h, h

    return scan(step, jnp.zeros_like(b[0]), (A, b))[1]


def minmax_scan(a, b):
    import jax.numpy as jnp

    def step(h, now):
        h = jnp.maximum(jnp.minimum(now[0], h), now[1])
        return h, h

    return scan(step, jnp.zeros_like(b[0]), (a, b))[1]


def log_scan(log_a, log_x):
    import jax.numpy as jnp

    def step(h, now):
        h = jnp.logaddexp(now[0] + h, now[1])
        return h, h

    return scan(step, jnp.full_like(log_x[0], -jnp.inf), (log_a, log_x))[1]


def short_convolution(u, weight, bias):
    import jax
    import jax.numpy as jnp

    K = weight.shape[1]
    seen = jnp.pad(u, ((K - 1, 0), (0, 0), (0, 0)))
    return jax.nn.silu(bias + sum(weight[:, i] * seen[i : i + len(u)] for i in range(K)))


def plrnn(A, W, x):
    import jax
    import jax.numpy as jnp

    def step(z, now):
        z = A * z + jax.nn.relu(z) @ W.T + now
        return z, z

    return scan(step, jnp.zeros(x.shape[1:]), x)[1]


def diagonal_gru(A, x):
    import jax
    import jax.numpy as jnp

    def step(h, now):
        to_z, to_r, to_n = jnp.split(now, 3, axis=-1)
        z, r = jax.nn.sigmoid(A[0] * h + to_z), jax.nn.sigmoid(A[1] * h + to_r)
        h = h + z * (jnp.tanh(A[2] * (r * h) + to_n) - h)
        return h, h

    return scan(step, jnp.zeros((x.shape[1], A.shape[1])), x)[1]


def least_squares(q, k, v, beta, ridge, log_decay):
    """u = Q k, e = beta u / (a + beta k' u), W <- W + e (v - W' k)', Q <- (Q - e u') / a, o = W' q"""
    import jax.numpy as jnp

    def step(state, now):
        Q, W = state
        q, k, v, beta, a = now
        u = jnp.einsum("bhij,bhj->bhi", Q, k)
        gain = u * (beta / (a + beta * (k * u).sum(-1)))[..., None]
        W = W + gain[..., None] * (v - jnp.einsum("bhk,bhkv->bhv", k, W))[..., None, :]
        Q = (Q - gain[..., None] * u[..., None, :]) / a[..., None, None]
        return (Q, W), jnp.einsum("bhk,bhkv->bhv", q, W)

    _, B, H, K = q.shape
    rest = jnp.broadcast_to(jnp.eye(K) / ridge[:, None], (B, H, K, K))
    return scan(step, (rest, jnp.zeros((B, H, K, v.shape[-1]))), (q, k, v, beta, jnp.exp(log_decay)))[1]
