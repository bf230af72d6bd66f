"""Longhorn's updates, exact and diagonal, without a tensor of batch x time x channels x state.

    exact      w_t = ε_t (x_t - S_{t-1}ᵀ k_t)                      S_t = S_{t-1} + k_t w_tᵀ           S is [state, channel]
    diagonal   w_t[n] = ε_t (x_t - k_t[n] S_{t-1}[n])              S_t[n] = S_{t-1}[n] + k_t[n] w_t[n]
               o_t = S_tᵀ q_t

and with the adjoint X_t = dL/dS_t, p_t = sum_n k_t[n] X_t[n], which already holds q_t do_tᵀ:

               dx = ε p,  dε = p (x - what was read),  dq = S_t do,  X_{t-1} = X_t - k ε p
    exact      dk[n] = sum_d X w - ε p S_{t-1}                     diagonal: the same, with p, w and what was read per n

Channels lie along the lanes. The forward leaves the state before every CHUNK-th step behind; the backward takes the chunks from last to
first, computes the states of one again and walks it back.

Arrays   flat float32; T time, D channels, N state.  q, k [B,T,N]; x, step (ε), o [B,T,D]; reset [B,T] uint8; start, final, grad_final,
         grad_start [B,N,D]; checkpoints [B, ceil(T / CHUNK) + 1, N, D], the final state last, None when no gradient will be asked;
         grad_q, grad_k [groups,B,T,N], to be summed over the groups.
Cost     3 multiply-adds a state and step forward, about 12 backward and two sums over lanes.
"""

from __future__ import annotations

from separatrix.recurrence.kernels.across import total
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, fill, get, load, load_first, scratch, store, store_first
from separatrix.recurrence.kernels.parallel import shared

LANES = WIDTH
CHUNK = 32


def group_width(batch: int, channels: int) -> int:
    """Channels a unit of the backward: wide ones leave fewer partial sums, narrow ones occupy more threads."""
    return 4 * LANES if batch * -(-channels // (4 * LANES)) >= 8 else LANES


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, diagonal, q, k, x, step, reset, start, o, final, checkpoints):
    """Units (batch, block of LANES channels)."""
    T, D, N = shape
    blocks, chunks = (D + LANES - 1) // LANES, (T + CHUNK - 1) // CHUNK
    zero = fill(LANES, ZERO)
    S = scratch(N * LANES)
    for unit in range(first, last):
        b, d = unit // blocks, unit % blocks * LANES
        lanes = D - d
        read = zero  # S_{t-1}ᵀ k_t of the step to come, gathered while the state passes by
        for n in range(N):
            s = load_first(zero, start, (b * N + n) * D + d, lanes)
            store(S, n * LANES, s)
            read = read + get(k, b * T * N + n) * s
        for i in range(T):
            t = b * T + i
            ahead = t + 1 if i + 1 < T else t
            if checkpoints is not None and i % CHUNK == 0:
                for n in range(N):
                    store_first(checkpoints, ((b * (chunks + 1) + i // CHUNK) * N + n) * D + d, load(zero, S, n * LANES), lanes)
            if reset[t]:
                read = zero
                for n in range(N):
                    store(S, n * LANES, zero)
            target, rate = load_first(zero, x, t * D + d, lanes), load_first(zero, step, t * D + d, lanes)
            out = zero
            if diagonal:
                for n in range(N):
                    s, key = load(zero, S, n * LANES), get(k, t * N + n)
                    s = s + key * (rate * (target - key * s))
                    store(S, n * LANES, s)
                    out = out + get(q, t * N + n) * s
            else:
                write = rate * (target - read)
                read = zero
                for n in range(N):
                    s = load(zero, S, n * LANES) + get(k, t * N + n) * write
                    store(S, n * LANES, s)
                    out = out + get(q, t * N + n) * s
                    read = read + get(k, ahead * N + n) * s
            store_first(o, t * D + d, out, lanes)
        for n in range(N):
            store_first(final, (b * N + n) * D + d, load(zero, S, n * LANES), lanes)
            if checkpoints is not None:
                store_first(checkpoints, ((b * (chunks + 1) + chunks) * N + n) * D + d, load(zero, S, n * LANES), lanes)


@shared
@njit(cache=True, nogil=True)
def backward(
    first,
    last,
    shape,
    group,
    diagonal,
    q,
    k,
    x,
    step,
    reset,
    checkpoints,
    grad_o,
    grad_final,
    grad_q,
    grad_k,
    grad_x,
    grad_step,
    grad_start,
):
    """Units (batch, group of `group` channels).   shape (B, T, D, N)"""
    B, T, D, N = shape
    groups, chunks = (D + group - 1) // group, (T + CHUNK - 1) // CHUNK
    zero = fill(LANES, ZERO)
    size = N * LANES
    X, before, misses = scratch(size), scratch(CHUNK * size), scratch(CHUNK * LANES)
    for unit in range(first, last):
        b, part = unit // groups, unit % groups
        sums = (part * B + b) * T  # the first row of this unit's grad_q and grad_k
        for t in range(T * N):
            grad_q[sums * N + t] = ZERO
            grad_k[sums * N + t] = ZERO
        for d in range(part * group, min((part + 1) * group, D), LANES):
            lanes = D - d
            for n in range(N):
                store(X, n * LANES, load_first(zero, grad_final, (b * N + n) * D + d, lanes))
            for chunk in range(chunks - 1, -1, -1):
                begin = chunk * CHUNK
                steps = min(CHUNK, T - begin)
                for n in range(N):
                    store(before, n * LANES, load_first(zero, checkpoints, ((b * (chunks + 1) + chunk) * N + n) * D + d, lanes))
                for i in range(steps):
                    t = b * T + begin + i
                    if reset[t]:
                        before[i * size : (i + 1) * size] = ZERO
                    target, rate = load_first(zero, x, t * D + d, lanes), load_first(zero, step, t * D + d, lanes)
                    miss = target
                    if not diagonal:
                        for n in range(N):
                            miss = miss - get(k, t * N + n) * load(zero, before, i * size + n * LANES)
                        store(misses, i * LANES, miss)
                    if i + 1 < steps:
                        for n in range(N):
                            s, key = load(zero, before, i * size + n * LANES), get(k, t * N + n)
                            if diagonal:
                                miss = target - key * s
                            store(before, (i + 1) * size + n * LANES, s + key * (rate * miss))
                for i in range(steps - 1, -1, -1):
                    t = b * T + begin + i
                    sum_at = (sums + begin + i) * N
                    target, rate = load_first(zero, x, t * D + d, lanes), load_first(zero, step, t * D + d, lanes)
                    into = load_first(zero, grad_o, t * D + d, lanes)
                    through, change = zero, zero  # p, and dL/dε
                    if diagonal:
                        for n in range(N):
                            s, key = load(zero, before, i * size + n * LANES), get(k, t * N + n)
                            a = load(zero, X, n * LANES) + get(q, t * N + n) * into
                            miss, p = target - key * s, key * a
                            write, back = rate * miss, rate * p
                            through = through + p
                            change = change + p * miss
                            grad_q[sum_at + n] += total(into * (s + key * write))
                            grad_k[sum_at + n] += total(a * write - back * s)
                            store(X, n * LANES, a - key * back)
                    else:
                        miss = load(zero, misses, i * LANES)
                        write = rate * miss
                        for n in range(N):
                            s, key = load(zero, before, i * size + n * LANES), get(k, t * N + n)
                            a = load(zero, X, n * LANES) + get(q, t * N + n) * into
                            store(X, n * LANES, a)
                            through = through + key * a
                            grad_q[sum_at + n] += total(into * (s + key * write))
                        change, back = through * miss, rate * through
                        for n in range(N):
                            s, a = load(zero, before, i * size + n * LANES), load(zero, X, n * LANES)
                            grad_k[sum_at + n] += total(a * write - back * s)
                            store(X, n * LANES, a - get(k, t * N + n) * back)
                    store_first(grad_x, t * D + d, rate * through, lanes)
                    store_first(grad_step, t * D + d, change, lanes)
                    if reset[t]:
                        for n in range(N):
                            store(X, n * LANES, zero)
            for n in range(N):
                store_first(grad_start, (b * N + n) * D + d, load(zero, X, n * LANES), lanes)
