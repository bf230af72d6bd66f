"""Time-invariant state spaces with a full matrix, one per channel.

    h_t = a h_{t-1} + b u_t             a [D, N, N], b [D, N]                                                     (1)
    y_t = c . h_t + skip u_t            c [D, N]                                                                  (2)

What S4 is once it is discretised (`s4`), and any other linear filter. The output is a convolution of u with K_l = c aˡ b.

Paper    Gu et al. 2021 (S4), arXiv:2111.00396.
Cost     O(T D N²) one step at a time; in chunks of C steps O(T D (C + 2N)), once O(D N³ log C) for the powers of a.
         The state is [batch, channels, N]; nothing of size batch x time x state is made.
"""

from __future__ import annotations

import torch
from torch import Tensor

from separatrix.recurrence.autocast import outside_autocast
from separatrix.recurrence.checks import along_time, expect_axes, expect_numbers, expect_real, expect_reset, expect_shape, working_dtype
from separatrix.recurrence.convolution import toeplitz
from separatrix.recurrence.dense import dense_scan
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared


def dense_ssm(
    u: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor | None = None, initial_state: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """h_t = a h_{t-1} + b u_t,  y_t = c . h_t + skip u_t.

    u [B, T, D], a [D, N, N], b, c [D, N], skip [D], initial_state [B, D, N], reset [B, T] bool  ->  y [B, T, D], final state [B, D, N].

    Paper    Gu et al. 2021 (S4), arXiv:2111.00396.
    Raises   ValueError for shapes that do not fit; TypeError unless all are real floats, reset bool.
    """
    expect_numbers("u", u, a=a, b=b, c=c, skip=skip, initial_state=initial_state)
    expect_real(u=u, a=a, b=b, c=c, skip=skip, initial_state=initial_state)
    expect_axes("u", u, "batch, time, channels")
    expect_axes("b", b, "channels, state")
    batch, time, channels = u.shape
    size = b.shape[1]
    expect_shape("a", a, (channels, size, size), "channels, state, state")
    expect_shape("b", b, (channels, size), "channels, state")
    expect_shape("c", c, (channels, size), "channels, state")
    if skip is not None:
        expect_shape("skip", skip, (channels,), "channels")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (batch, channels, size), "batch, channels, state")
    expect_reset(reset, batch, time)
    return run("dense_ssm", time, u, a, b, c, skip, initial_state, reset)


@form
def dense_ssm_recurrent(u, a, b, c, skip=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equations (1) and (2), read aloud."""
    dtype, (u, a, b, c, h) = u.dtype, _enter(u, a, b, c, initial_state)
    reads = []
    for t in range(u.shape[1]):
        h = (a @ cleared(h, reset, t).unsqueeze(-1)).squeeze(-1) + b * u[:, t].unsqueeze(-1)
        reads.append((c * h).sum(-1))
    return _leave(along_time(reads, u), u, skip, dtype), h


@form(mixes=True)
def dense_ssm_chunked(u, a, b, c, skip=None, initial_state=None, reset=None, chunk=None) -> tuple[Tensor, Tensor]:
    """Inside a chunk the Toeplitz matrix of the kernel, between chunks the state."""
    dtype, (u, a, b, c, h) = u.dtype, _enter(u, a, b, c, initial_state)
    # with resets every chunk of every sequence has a matrix of its own, so the chunks are short
    chunk = min(chunk or (64 if reset is None else 16), max(1, u.shape[1]))
    pushed = krylov(a, b, chunk)
    seen = krylov(a.mT, c, chunk + 1)[..., 1:]
    y, h = in_chunks(u, a, c, pushed, seen, h, reset)
    return _leave(y, u, skip, dtype), h


@form
def dense_ssm_dense(u, a, b, c, skip=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """One Toeplitz matrix over all steps: a single chunk."""
    return dense_ssm_chunked(u, a, b, c, skip, initial_state, reset, chunk=max(1, u.shape[1]))


def in_chunks(u: Tensor, a: Tensor, c: Tensor, pushed: Tensor, seen: Tensor, h: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """y [B, T, D] and the last state, by chunks of C steps.   a [D, N, N], pushed aⁱ b, seen (aᵀ)ⁱ⁺¹ c [D, N, C]"""
    chunk = pushed.shape[-1]
    whole = u.shape[1] - u.shape[1] % chunk
    outputs = []
    for part, steps in ((slice(0, whole), chunk), (slice(whole, None), u.shape[1] - whole)):
        y, h = _whole_chunks(u[:, part], a, c, pushed[..., :steps], seen[..., :steps], h, None if reset is None else reset[:, part])
        outputs.append(y)
    return torch.cat(outputs, dim=1), h


def _whole_chunks(u: Tensor, a: Tensor, c: Tensor, pushed: Tensor, seen: Tensor, h: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """As `in_chunks`, for T a multiple of C."""
    if u.shape[1] == 0:
        return u, h
    steps = pushed.shape[-1]
    x = u.unflatten(1, (-1, steps)).movedim(-1, 1)  # [B, D, chunks, C]
    inside = toeplitz((c.unsqueeze(-2) @ pushed).squeeze(-2), steps)
    writes, clears = x, None
    if reset is None:
        y = x @ inside.mT
    else:
        segment = reset.unflatten(1, (-1, steps)).cumsum(2)  # [B, chunks, C]: how many resets so far in the chunk
        same = (segment.unsqueeze(-1) == segment.unsqueeze(-2)).to(x.dtype)
        y = ((inside.unsqueeze(1) * same.unsqueeze(1)) @ x.unsqueeze(-1)).squeeze(-1)
        writes = x.masked_fill((segment != segment[..., -1:]).unsqueeze(1), 0)
        clears = segment[..., -1] > 0
    written = (writes @ pushed.flip(-1).mT).transpose(1, 2)
    after, last = dense_scan(torch.linalg.matrix_power(a, steps)[None, None], written, h, clears)
    answer = torch.cat([h.unsqueeze(1), after[:, :-1]], dim=1).transpose(1, 2) @ seen
    if reset is not None:
        answer = answer.masked_fill((segment > 0).unsqueeze(1), 0)
    return (y + answer).movedim(1, -1).flatten(1, 2), last


@outside_autocast
def dense_kernel(a: Tensor, b: Tensor, c: Tensor, length: int) -> Tensor:
    """K_l = c . aˡ b, the response to a unit pulse, as products of √L rows and √L columns.   a [D, N, N], b, c [D, N] -> [D, L]"""
    columns = 1 << ((max(length, 1) - 1).bit_length() + 1) // 2
    pushed = krylov(a, b, columns)
    seen = krylov(torch.linalg.matrix_power(a, columns).mT, c, -(-length // columns))
    return (seen.mT @ pushed).flatten(-2)[..., :length]


def krylov(a: Tensor, b: Tensor, count: int) -> Tensor:
    """b, a b, a² b, ... by doubling.   a [..., N, N], b [..., N] -> [..., N, count]"""
    vectors = b.unsqueeze(-1)
    while vectors.shape[-1] < count:
        vectors = torch.cat([vectors, a @ vectors], dim=-1)
        if vectors.shape[-1] < count:
            a = a @ a
    return vectors[..., :count]


def _enter(u: Tensor, a: Tensor, b: Tensor, c: Tensor, initial_state: Tensor | None) -> tuple[Tensor, ...]:
    """Everything in the working precision, and the first state."""
    dtype = working_dtype(u, a, b, c, initial_state)
    u, a, b, c = (x.to(dtype) for x in (u, a, b, c))
    return u, a, b, c, b.new_zeros(u.shape[0], *b.shape) if initial_state is None else initial_state.to(dtype)


def _leave(y: Tensor, u: Tensor, skip: Tensor | None, dtype: torch.dtype) -> Tensor:
    return (y if skip is None else y + skip.to(y.dtype) * u).to(dtype)
