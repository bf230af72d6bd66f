"""Log-linear attention: a state that grows with the logarithm of the length, near steps kept apart, far ones together.

    o_t = Σ_{s<=t} λ_t[level(t, s)] exp(g_{s+1} + ... + g_t) (q_t·k_s) v_s                                         (1)
    level(t, s) = number of binary digits of t xor s             0 is the step itself, then spans of 1, 2, 4, ...  (2)

The prefix of t is cut by the binary digits of t, the last digit first (a Fenwick tree): digit b, where it is 1, is a span of 2^b steps, and
by (2) all of them have level b + 1. So the state before step t is one matrix for every digit of t that is 1, and adding a step to it is
adding 1 to a binary number: the matrices of all trailing ones and the new pair become one.

A state is the pair of its matrices, one slot a digit (empty ones are 0), and the number of steps behind it, one for each row of the batch;
a reset starts counting anew. Sequences of T steps need ceil(log2 T) + 1 levels.

Paper    Guo et al. 2025, arXiv:2506.04761 (with the decay of Mamba-2).
Cost     O(L K V) a step with L = log2 T levels; chunks pay it once a chunk for what came before, so O(T (C (K + V) + L K V / C + L K)).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence.checks import (
    along_time,
    expect_axes,
    expect_numbers,
    expect_parts,
    expect_real,
    expect_shape,
    expect_whole,
    readable,
)
from separatrix.recurrence.decay import between, join, scores, since_start, split, until_end
from separatrix.recurrence.fused import float32, keys_in_cache, operators, will_differentiate
from separatrix.recurrence.heads import enter, expect_heads
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared
from separatrix.recurrence.twins import twin

CHUNK = 64


class Fenwick(NamedTuple):
    """The state: a binary number whose digits are matrices.

    Paper    Guo et al. 2025, arXiv:2506.04761.
    """

    S: Tensor  # [B, H, levels, K, V]
    position: Tensor  # [B] int64, steps behind it


torch.serialization.add_safe_globals([Fenwick])  # as State: what torch.save wrote can be loaded


def log_linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None,
    level_scale: Tensor,
    initial_state: Fenwick | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Fenwick]:
    """o_t = Σ_{s<=t} λ_t[level(t, s)] exp(g_{s+1} + ... + g_t) (q_t·k_s) v_s.

    q, k [B, T, H, K], v [B, T, H_v, V] with H_v a multiple of H, log_decay None or [B, T, H_v] and <= 0, level_scale [B, T, H_v, levels],
    initial_state (S [B, H_v, levels, K, V], position [B] int64), reset [B, T] bool  ->  o [B, T, H_v, V], the final state.

    Paper    Guo et al. 2025, arXiv:2506.04761.
    Raises   ValueError for shapes that do not fit, log_decay > 0, too few levels (CPU); TypeError unless all are real floats, reset bool.
    """
    expect_heads(q, k, v, None, log_decay, None, reset)
    expect_numbers("q", q, level_scale=level_scale)
    expect_real(level_scale=level_scale)
    (batch, time, heads, value), key = v.shape, q.shape[3]
    if log_decay is not None:
        expect_shape("log_decay", log_decay, (batch, time, heads), "batch, time, value heads")
    expect_axes("level_scale", level_scale, "batch, time, value heads, levels")
    levels = level_scale.shape[-1]
    expect_shape("level_scale", level_scale, (batch, time, heads, levels), "batch, time, value heads, levels")
    if initial_state is not None:
        expect_parts("initial_state", initial_state, "S, position")
        S, position = initial_state
        expect_numbers("q", q, S=S)
        expect_real(S=S)
        expect_whole("position", position)
        expect_shape("S", S, (batch, heads, levels, key, value), "batch, value heads, levels, key, value")
        expect_shape("position", position, (batch,), "batch")
    if time:
        position = begun(v, initial_state)
        expect_room(levels, position + (time - 1) if reset is None else positions(time, position, reset))
    return run("log_linear_attention", time, q, k, v, log_decay, level_scale, initial_state, reset)


def expect_room(levels: int, steps: Tensor) -> None:
    if readable(steps) and (last := int(steps.max())) >= 2 ** (levels - 1):
        raise ValueError(
            f"level_scale has {levels} levels, which is enough for {2 ** (levels - 1)} steps, and step {last + 1} is here: "
            "give ceil(log2(steps)) + 1 levels"
        )


def start(q: Tensor, v: Tensor, level_scale: Tensor, initial_state: Fenwick | None) -> Fenwick:
    """The state before the first step. What lies in a slot whose digit is 0 is not part of it."""
    if initial_state is not None:
        S, position = initial_state
        digits = position.unsqueeze(-1) >> torch.arange(S.shape[2], device=S.device) & 1
        return Fenwick(S.masked_fill(digits[:, None, :, None, None] == 0, 0), position)
    return Fenwick(v.new_zeros(v.shape[0], v.shape[2], level_scale.shape[-1], q.shape[3], v.shape[3]), begun(v, None))


def begun(v: Tensor, initial_state: Fenwick | None) -> Tensor:
    """How many steps are behind the first.   [B]"""
    return v.new_zeros(v.shape[0], dtype=torch.int64) if initial_state is None else initial_state[1]


def positions(time: int, position: Tensor, reset: Tensor | None) -> Tensor:
    """How many steps are behind each step of its own sequence.   [B, T]"""
    step = torch.arange(time, device=position.device)
    counted = position.unsqueeze(1) + step
    if reset is None:
        return counted
    latest = torch.where(reset, step, -1).cummax(1).values
    return torch.where(latest < 0, counted, step - latest)


def level(t: Tensor, s: Tensor, most: int) -> Tensor:
    """Equation (2), at most `most`: where a reset lies between t and s the number means nothing, and nothing is multiplied by it."""
    digits = torch.arange(most, device=t.device)
    return ((t ^ s).unsqueeze(-1) >> digits > 0).sum(-1)


def span_starts(position: Tensor, levels: int) -> Tensor:
    """The first step of the span of every digit.   position [...] -> [..., levels]"""
    digits = torch.arange(1, levels + 1, device=position.device)
    return position.unsqueeze(-1) >> digits << digits


def slots(position: Tensor, steps: Tensor, levels: int, dtype: torch.dtype) -> Tensor:
    """Which digit of the number `position` holds each step, one-hot.   [...], [..., n] -> [..., n, levels]"""
    digit = (level(position.unsqueeze(-1), steps, levels) - 1).clamp(min=0)
    return (digit.unsqueeze(-1) == torch.arange(levels, device=digit.device)).to(dtype)  # F.one_hot looks at values, which vmap hides


def pick(level_scale: Tensor, levels: Tensor) -> Tensor:
    """λ_t[level], the levels the same for all heads.   [B, H, ..., L], [B, ..., n] -> [B, H, ..., n]"""
    return level_scale.gather(-1, levels.unsqueeze(1).expand(*level_scale.shape[:-1], levels.shape[-1]))


@form
def log_linear_attention_recurrent(q, k, v, log_decay, level_scale, initial_state=None, reset=None) -> tuple[Tensor, Fenwick]:
    """Counting: read every digit with its λ, then add one."""
    dtype = v.dtype
    S, position = start(q, v, level_scale, initial_state)
    q, k, v, _, g, S = enter(q, k, v, None, log_decay, 1.0, S, None)
    scale = level_scale.to(v.dtype)
    steps = positions(v.shape[1], position, reset)
    digits = torch.arange(S.shape[2], device=v.device)
    reads = []
    for t in range(v.shape[1]):
        query, pair = q[:, t].unsqueeze(-2), k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        S = cleared(S, reset, t)
        if g is not None:
            S = g[:, t].exp()[..., None, None] * S
        spans = (query.unsqueeze(2) @ S[:, :, :-1]).squeeze(-2)  # [B, H, digits, V]
        o = (scale[:, t].unsqueeze(-2) @ torch.cat([query @ pair, spans], dim=-2)).squeeze(-2)
        reads.append(o)
        carried = steps[:, t].unsqueeze(-1) + 1
        ones = (carried & ((2 << digits) - 1) == 0)[:, None, :, None, None]
        place = (carried & -carried == 1 << digits)[:, None, :, None, None]
        whole = pair + torch.where(ones, S, 0).sum(2)
        S = torch.where(place, whole.unsqueeze(2), torch.where(ones, 0, S))
    return along_time(reads, v).to(dtype), Fenwick(S, steps[:, -1] + 1 if reads else position)


@form(mixes=True)
def log_linear_attention_chunked(q, k, v, log_decay, level_scale, initial_state=None, reset=None) -> tuple[Tensor, Fenwick]:
    """Inside a chunk, (1) for all pairs; between chunks, the digits: read by every query at its own levels, then counted on by a chunk."""
    dtype, time = v.dtype, v.shape[1]
    S, position = start(q, v, level_scale, initial_state)
    q, k, v, _, g, S = enter(q, k, v, None, log_decay, 1.0, S, reset)
    if time == 0:
        return v.to(dtype), Fenwick(S, position)
    levels, chunk = S.shape[2], min(CHUNK, time)
    steps = positions(time, position, reset)
    counts = torch.cat([position.unsqueeze(1), steps[:, chunk - 1 :: chunk] + 1, steps[:, -1:] + 1], dim=1)
    counts = counts[:, : -(-time // chunk) + 1]  # before each chunk and after the last
    q, k, v, scale = (split(x, chunk) for x in (q, k, v, level_scale.to(v.dtype)))
    g = q.new_zeros(*q.shape[:4], 1) if g is None else split(g, chunk)
    steps = F.pad(steps, (0, -time % chunk)).unflatten(1, (-1, chunk))
    among = pick(scale, level(steps.unsqueeze(-1), steps.unsqueeze(-2), levels - 1))
    inside = (scores(k, g, q)[0] * among) @ v
    spans = span_starts(counts[:, :-1], levels)
    weights = (pick(scale, level(steps.unsqueeze(-1), spans.unsqueeze(-2), levels - 1)) * since_start(g).exp()).unbind(2)
    keys, values, queries = (k * until_end(g).exp()).unbind(2), v.unbind(2), q.unbind(2)
    decays = g.sum(-2).exp()[..., None, None].unbind(2)
    arrive, move = (slots(counts[:, 1:], x, levels, v.dtype).unbind(1) for x in (steps, spans))
    outputs = []
    for i, query in enumerate(queries):
        every = (weights[i].unsqueeze(-1) * query.unsqueeze(-2)).flatten(-2)  # [B, H, C, levels K]
        outputs.append(every @ S.flatten(2, 3))
        S = decays[i] * torch.einsum("bnm,bhnkv->bhmkv", move[i], S)
        S = S + torch.einsum("bcm,bhck,bhcv->bhmkv", arrive[i], keys[i], values[i])
    return join(inside + torch.stack(outputs, dim=2), time).to(dtype), Fenwick(S, counts[:, -1])


@form(refuses=keys_in_cache, pays_from=1)
def log_linear_attention_fused(q, k, v, log_decay, level_scale, initial_state=None, reset=None) -> tuple[Tensor, Fenwick]:
    """The chunks are cut where digits carry, each row of the batch by itself."""
    if v.shape[1] == 0:
        S, position = start(q, v, level_scale, initial_state)
        return v, Fenwick(S.float(), position)
    state, steps = None if initial_state is None else initial_state[0], positions(v.shape[1], begun(v, initial_state), reset)
    inputs = float32(q, k, v, log_decay, level_scale, state)
    o, S, *_ = operators().log_linear(*inputs, steps, will_differentiate(*inputs))
    return o.to(v.dtype), Fenwick(S, steps[:, -1] + 1)


@twin("log_linear")
def in_torch(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, level_scale: Tensor, state: Tensor | None, steps: Tensor
) -> tuple[Tensor, Tensor]:
    """What the kernel computes, from the position of every step: where it is 0 a sequence starts.   steps [B, T]"""
    initial_state = None if state is None else Fenwick(state, steps[:, 0])
    o, final = log_linear_attention_chunked(q, k, v, log_decay, level_scale, initial_state, steps == 0)
    return o, final.S


@form(mixes=True)
def log_linear_attention_dense(q, k, v, log_decay, level_scale, initial_state=None, reset=None) -> tuple[Tensor, Fenwick]:
    """Equation (1): the attention matrix of all pairs of steps, and of all queries with the digits of the initial state."""
    dtype, time = v.dtype, v.shape[1]
    S, position = start(q, v, level_scale, initial_state)
    q, k, v, _, g, S = enter(q, k, v, None, log_decay, 1.0, S, reset)
    if time == 0:
        return v.to(dtype), Fenwick(S, position)
    levels, steps = S.shape[2], positions(time, position, reset)
    q, k, v, scale = (x.transpose(1, 2) for x in (q, k, v, level_scale.to(v.dtype)))
    g = q.new_zeros(*q.shape[:3], 1) if g is None else g.transpose(1, 2)
    left, passed = between(g).exp().squeeze(-1), since_start(g).exp()
    spans, after = span_starts(position, levels), steps[:, -1] + 1
    pairs = (q @ k.transpose(-1, -2)) * left * pick(scale, level(steps.unsqueeze(-1), steps.unsqueeze(-2), levels - 1))
    weights = pick(scale, level(steps.unsqueeze(-1), spans.unsqueeze(-2), levels - 1)) * passed
    o = pairs @ v + torch.einsum("bhtn,bhtk,bhnkv->bhtv", weights, q, S)
    arrived = torch.einsum("bsm,bhsk,bhsv->bhmkv", slots(after, steps, levels, v.dtype), k * left[..., -1, :, None], v)
    S = passed[..., -1, :, None, None] * torch.einsum("bnm,bhnkv->bhmkv", slots(after, spans, levels, v.dtype), S) + arrived
    return o.transpose(1, 2).to(dtype), Fenwick(S, after)
