"""The selective scan of Mamba, forward and backward, without a tensor of batch x time x channels x state.

    Δ_t       = softplus(delta_t + bias), or delta_t + bias
    h_t[d, n] = a_t[d, n] h_{t-1}[d, n] + B_t[n] w_t[d]              a_t[d, n] = exp(Δ_t[d] A[d, n]),  w_t[d] = Δ_t[d] u_t[d]     (1)
    o_t[d]    = sum_n C_t[n] h_t[d, n] + D[d] u_t[d]                 y_t = o_t silu(z_t), or o_t                                  (2)

and with the adjoint g_t = dL/dh_t = a_{t+1} g_{t+1} + C_t do_t:

    dw_t[d] = sum_n B_t[n] g_t,    s_t[d, n] = g_t a_t h_{t-1},      dA[d, n] = sum_t Δ_t s_t
    du_t    = Δ_t dw_t + D do_t,   dΔ_t = u_t dw_t + sum_n A s_t,    ddelta_t = dΔ_t sigmoid(delta_t + bias) with a softplus      (3)
    dB_t[n] = sum_d g_t w_t,       dC_t[n] = sum_d h_t do_t,         dD = sum_t do_t u_t,   dbias = sum_t ddelta_t

Channels lie along the lanes. The forward leaves the state before every CHUNK-th step behind; the backward takes the chunks from last to
first, recomputes states and decays of one chunk into a scratch that fits the L2 cache, and walks it back. The sums over channels of dB
and dC stay lane vectors until all channels of the unit have passed; what is left to sum is one partial per batch or group of channels.

Arrays   flat float32; T time, D channels, N state.  u, delta, y, dy, du, ddelta [B,T,D];  z, dz [B,T,D] or both None;  B, C [B,T,N];
         D, bias [D];  reset [B,T] uint8;  A [D,N];  start, final, dfinal, dstart [B,D,N];
         checkpoints [B, ceil(T / CHUNK) + 1, N, D], the final state last, None when no gradient will be asked;
         partial sums, to be summed over their first axis: dA [B,N,D] (for the A of (1)), dB, dC [groups,B,T,N], dD, dbias [B,D].
         soft, a bool, asks for the softplus.
Units    forward (batch, block of LANES channels), backward (batch, group of `group` channels, a multiple of LANES).
Cost     about 14 vector operations a state and step forward, 12 + 14 backward.
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.across import dot, pair_sums
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.exponential import exp2_of
from separatrix.recurrence.kernels.gates import sigmoid, softplus
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, fill, get, load, load_first, scratch, store, store_first
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.transpose import transpose

LANES = WIDTH // 2  # two registers: enough independent work together with the loop over n, and 32 registers suffice
FOLD = 16  # lanes that a sum over channels keeps until its end
CHUNK = 32  # decays and states of a chunk for N = 16: 128 KB
LOG2E, LN2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)


def group_width(batch: int, channels: int) -> int:
    """Channels a unit of the backward: wide ones need fewer totals (32 cost a fifth more than 128), narrow ones occupy more threads."""
    return next((group for group in (4 * LANES, 2 * LANES) if batch * -(-channels // group) >= 8), LANES)


@compiled
def _state_in(state, at, N, lanes, h):
    """h[n, lane] = state[lane, n]: rows of N numbers, one a channel, from state[at:]."""
    transpose(state, at, N, lanes, N, h, 0, LANES)
    for n in range(N):
        for i in range(lanes, LANES):
            h[n * LANES + i] = ZERO


@compiled
def _state_out(h, N, lanes, state, at):
    transpose(h, 0, LANES, N, lanes, state, at, N)


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, u, delta, A, B, C, D, z, bias, soft, reset, start, y, final, checkpoints):
    """Equations (1) and (2).   shape (T, D, N)"""
    T, channels, N = shape
    blocks = (channels + LANES - 1) // LANES
    chunks = (T + CHUNK - 1) // CHUNK
    zero = fill(LANES, ZERO)
    h, rates = scratch(N * LANES), scratch(N * LANES)
    for unit in range(first, last):
        b, d = unit // blocks, unit % blocks * LANES
        lanes = min(LANES, channels - d)
        _state_in(A, d * N, N, lanes, rates)
        for n in range(N):
            store(rates, n * LANES, load(zero, rates, n * LANES) * LOG2E)
        _state_in(start, (b * channels + d) * N, N, lanes, h)
        skip, shift = load_first(zero, D, d, lanes), load_first(zero, bias, d, lanes)
        for t in range(T):
            row = b * T + t
            if checkpoints is not None and t % CHUNK == 0:
                for n in range(N):
                    store_first(checkpoints, ((b * (chunks + 1) + t // CHUNK) * N + n) * channels + d, load(zero, h, n * LANES), lanes)
            if reset[row]:
                for n in range(N):
                    store(h, n * LANES, zero)
            step, now = load_first(zero, delta, row * channels + d, lanes) + shift, load_first(zero, u, row * channels + d, lanes)
            if soft:
                step, _ = softplus(step)
            write, out = step * now, skip * now
            for n in range(N):
                state = exp2_of(step, load(zero, rates, n * LANES)) * load(zero, h, n * LANES) + get(B, row * N + n) * write
                store(h, n * LANES, state)
                out = out + get(C, row * N + n) * state
            if z is not None:
                gate = load_first(zero, z, row * channels + d, lanes)
                out = out * gate * sigmoid(gate)
            store_first(y, row * channels + d, out, lanes)
        if checkpoints is not None:
            for n in range(N):
                store_first(checkpoints, ((b * (chunks + 1) + chunks) * N + n) * channels + d, load(zero, h, n * LANES), lanes)
        _state_out(h, N, lanes, final, (b * channels + d) * N)


@shared
@njit(cache=True, nogil=True)
def backward(
    first,
    last,
    shape,
    group,
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    bias,
    soft,
    reset,
    checkpoints,
    dy,
    dfinal,
    du,
    ddelta,
    dA,
    dB,
    dC,
    dD,
    dz,
    dbias,
    dstart,
):
    """Equations (3).   shape (B, T, D, N)"""
    batch, T, channels, N = shape
    groups, chunks, blocks = (channels + group - 1) // group, (T + CHUNK - 1) // CHUNK, (group + LANES - 1) // LANES
    zero, none, one = fill(LANES, ZERO), fill(FOLD, ZERO), fill(LANES, np.float32(1))
    # What a step reads and writes together lies together: equal addresses modulo 4096 in different arrays would stall loads behind stores.
    ADJOINT, SUM, STRIDE = LANES, 2 * LANES, 3 * LANES
    size = N * STRIDE
    working = scratch(blocks * size)  # [block][n]: rate, adjoint, dA
    BEFORE, PAIR = LANES, 2 * LANES
    history = scratch((CHUNK + 2) * N * PAIR)  # [step][n]: decay, state before it; the last row is zero
    FOLDS = 2 * FOLD
    rounded = (CHUNK * N + FOLD - 1) // FOLD * FOLD
    sums = scratch(rounded * FOLDS)  # [step][n]: dB, dC, each in FOLD lanes
    SLOPE, GRADIENT, GATES = LANES, 2 * LANES, 3 * LANES
    gates = scratch(CHUNK * GATES)  # [step]: Δ, dΔ/ddelta, do
    channel_sums, h, rates = scratch(blocks * 2 * LANES), scratch(N * LANES), scratch(N * LANES)  # [block]: dD, dbias
    for unit in range(first, last):
        b, left = unit // groups, unit % groups * group
        here = (min(left + group, channels) - left + LANES - 1) // LANES
        for n in range(N):
            store(history, ((CHUNK + 1) * N + n) * PAIR + BEFORE, zero)
        for block in range(here):
            d, at = left + block * LANES, block * size
            lanes = min(LANES, channels - d)
            _state_in(dfinal, (b * channels + d) * N, N, lanes, h)
            store(channel_sums, block * 2 * LANES, zero)
            store(channel_sums, block * 2 * LANES + LANES, zero)
            _state_in(A, d * N, N, lanes, rates)
            for n in range(N):
                store(working, at + n * STRIDE, load(zero, rates, n * LANES) * LOG2E)
                store(working, at + n * STRIDE + ADJOINT, load(zero, h, n * LANES))
                store(working, at + n * STRIDE + SUM, zero)
        for chunk in range(chunks - 1, -1, -1):
            t0 = chunk * CHUNK
            steps = min(CHUNK, T - t0)
            for i in range(rounded * 2):
                store(sums, i * FOLD, none)
            for block in range(here):
                d, at = left + block * LANES, block * size
                lanes = min(LANES, channels - d)
                skip, shift = load_first(zero, D, d, lanes), load_first(zero, bias, d, lanes)
                for n in range(N):
                    store(
                        history,
                        n * PAIR + BEFORE,
                        load_first(zero, checkpoints, ((b * (chunks + 1) + chunk) * N + n) * channels + d, lanes),
                    )
                for i in range(steps):  # forward again: decays, states, and what depends on the channel alone
                    row = b * T + t0 + i
                    where = row * channels + d
                    step, slope = load_first(zero, delta, where, lanes) + shift, one
                    if soft:
                        step, slope = softplus(step)
                    now, dout = load_first(zero, u, where, lanes), load_first(zero, dy, where, lanes)
                    write, out = step * now, skip * now
                    before = CHUNK + 1 if reset[row] else i
                    for n in range(N):
                        k = (i * N + n) * PAIR
                        decay = exp2_of(step, load(zero, working, at + n * STRIDE))
                        store(history, k, decay)
                        state = decay * load(zero, history, (before * N + n) * PAIR + BEFORE) + get(B, row * N + n) * write
                        store(history, k + N * PAIR + BEFORE, state)
                        if z is not None:
                            out = out + get(C, row * N + n) * state
                    if reset[row]:  # no gradient passes
                        for n in range(N):
                            store(history, (i * N + n) * PAIR, zero)
                    if z is not None:
                        gate = load_first(zero, z, where, lanes)
                        share = sigmoid(gate)
                        store_first(dz, where, dout * out * share * (one + gate * (one - share)), lanes)
                        dout = dout * gate * share
                    store(gates, i * GATES, step)
                    store(gates, i * GATES + SLOPE, slope)
                    store(gates, i * GATES + GRADIENT, dout)
                skip_sum, bias_sum = load(zero, channel_sums, block * 2 * LANES), load(zero, channel_sums, block * 2 * LANES + LANES)
                for i in range(steps - 1, -1, -1):  # and back
                    row = b * T + t0 + i
                    where = row * channels + d
                    step, dout = load(zero, gates, i * GATES), load(zero, gates, i * GATES + GRADIENT)
                    now = load_first(zero, u, where, lanes)
                    write = step * now
                    dwrite, dstep = zero, zero
                    before = CHUNK + 1 if reset[row] else i
                    for n in range(N):
                        k, j, m = (i * N + n) * PAIR, at + n * STRIDE, (i * N + n) * FOLDS
                        g = get(C, row * N + n) * dout + load(zero, working, j + ADJOINT)
                        store(sums, m, dot(load(none, sums, m), write, g))
                        store(sums, m + FOLD, dot(load(none, sums, m + FOLD), dout, load(zero, history, k + N * PAIR + BEFORE)))
                        dwrite = dwrite + get(B, row * N + n) * g
                        g = g * load(zero, history, k)
                        store(working, j + ADJOINT, g)
                        drate = g * load(zero, history, (before * N + n) * PAIR + BEFORE)
                        dstep = dstep + drate * load(zero, working, j)
                        store(working, j + SUM, load(zero, working, j + SUM) + drate * step)
                    dstep = (dwrite * now + dstep * LN2) * load(zero, gates, i * GATES + SLOPE)
                    skip_sum, bias_sum = skip_sum + dout * now, bias_sum + dstep
                    store_first(du, where, dwrite * step + skip * dout, lanes)
                    store_first(ddelta, where, dstep, lanes)
                store(channel_sums, block * 2 * LANES, skip_sum)
                store(channel_sums, block * 2 * LANES + LANES, bias_sum)
            total = ((unit % groups * batch + b) * T + t0) * N
            _totals(sums, 0, steps * N, dB, total)
            _totals(sums, FOLD, steps * N, dC, total)
        for block in range(here):
            d, at = left + block * LANES, block * size
            lanes = min(LANES, channels - d)
            store_first(dD, b * channels + d, load(zero, channel_sums, block * 2 * LANES), lanes)
            store_first(dbias, b * channels + d, load(zero, channel_sums, block * 2 * LANES + LANES), lanes)
            for n in range(N):
                store(h, n * LANES, load(zero, working, at + n * STRIDE + ADJOINT))
                store_first(dA, (b * N + n) * channels + d, load(zero, working, at + n * STRIDE + SUM), lanes)
            _state_out(h, N, lanes, dstart, (b * channels + d) * N)


@compiled
def _totals(sums, first, n, out, at):
    """out[at + i] = the sum of the FOLD lanes at sums[first + 2 i FOLD], for i < n."""
    like = fill(FOLD, ZERO)
    for i in range(0, n, FOLD):
        base = first + 2 * i * FOLD
        width = FOLD
        while width > 1:
            for j in range(0, width, 2):
                store(sums, base + j * FOLD, pair_sums(load(like, sums, base + 2 * j * FOLD), load(like, sums, base + 2 * (j + 1) * FOLD)))
            width //= 2
        store_first(out, at + i, load(like, sums, base), n - i)
