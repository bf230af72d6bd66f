"""Time-invariant state spaces with a full matrix, one per channel.

    h_t = a h_{t-1} + b u_t             a [D, N, N], b [D, N]                                                     (1)
    y_t = c . h_t + skip u_t            c [D, N]                                                                  (2)

What S4 is once it is discretised (`s4`), and any other linear filter. The output is a convolution of u with K_l = c aˡ b.

Paper    Gu et al. 2021 (S4), arXiv:2111.00396.
Cost     O(T D N²) one step at a time; in chunks of C steps O(T D (C + 2N)), once O(D N³ log C) for the powers of a.
         The state is [batch, channels, N]; nothing of size batch x time x state is made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import torch
import torch.nn.functional as F
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
    y = along_time(reads, u)
    return (y if skip is None else y + skip.to(y.dtype) * u).to(dtype), h


@form(mixes=True)
def dense_ssm_chunked(u, a, b, c, skip=None, initial_state=None, reset=None, chunk=None) -> tuple[Tensor, Tensor]:
    """Inside a chunk the Toeplitz matrix of the kernel, between chunks the state."""
    dtype, (u, a, b, c, h) = u.dtype, _enter(u, a, b, c, initial_state)
    # with resets every chunk of every sequence has a matrix of its own, so the chunks are short
    chunk = min(chunk or (32 if reset is None else 16), max(1, u.shape[1]))
    squares = doublings(a, chunk)
    pushed = krylov(squares, b, chunk)
    seen = a.mT @ krylov([x.mT for x in squares], c, chunk)
    taps = (c.unsqueeze(-2) @ pushed).squeeze(-2)
    if skip is not None:
        taps = taps + F.pad(skip.to(taps.dtype).unsqueeze(-1), (0, chunk - 1))
    y, h = in_chunks(u, partial(power, squares), taps, pushed, seen, h, reset)
    return y.to(dtype), h


@form
def dense_ssm_dense(u, a, b, c, skip=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """One Toeplitz matrix over all steps: a single chunk."""
    return dense_ssm_chunked(u, a, b, c, skip, initial_state, reset, chunk=max(1, u.shape[1]))


def in_chunks(
    u: Tensor, raised: Callable[[int], Tensor], taps: Tensor, pushed: Tensor, seen: Tensor, h: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """y [B, T, D] and the last state, by chunks of C steps; `raised` to n the matrix is aⁿ, n <= C.

    taps c aⁱ b [D, C], pushed aⁱ b, seen (aᵀ)ⁱ⁺¹ c [D, N, C]"""
    chunk = pushed.shape[-1]
    left = u.shape[1] % chunk
    whole = u.shape[1] - left

    def along(part: slice, steps: int, h: Tensor) -> tuple[Tensor, Tensor]:
        clears = None if reset is None else reset[:, part]
        return _whole_chunks(u[:, part], raised, taps[..., :steps], pushed[..., :steps], seen[..., :steps], h, clears)

    y, h = along(slice(0, whole), chunk, h)
    if left:
        rest, h = along(slice(whole, None), left, h)
        y = torch.cat([y, rest], dim=1)
    return y, h


def _whole_chunks(
    u: Tensor, raised: Callable[[int], Tensor], taps: Tensor, pushed: Tensor, seen: Tensor, h: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `in_chunks`, for T a multiple of C. Channels come first, so that products share the matrices of one among all its chunks."""
    if u.shape[1] == 0:
        return u, h
    steps = pushed.shape[-1]
    x = u.unflatten(1, (-1, steps)).permute(3, 0, 1, 2).contiguous()  # [D, B, chunks, C]
    inside = toeplitz(taps, steps)
    writes, clears = x, None
    if reset is not None:
        segment = reset.unflatten(1, (-1, steps)).cumsum(2)  # [B, chunks, C]: how many resets so far in the chunk
        writes, clears = x.masked_fill(segment != segment[..., -1:], 0), segment[..., -1] > 0
    written = (writes.flatten(1, 2) @ pushed.flip(-1).mT).unflatten(1, x.shape[1:3]).permute(1, 2, 0, 3)
    after, last = dense_scan(raised(steps)[None, None], written, h, clears)
    before = torch.cat([h.unsqueeze(1), after[:, :-1]], dim=1).permute(2, 0, 1, 3).flatten(1, 2)
    if reset is None:
        y = torch.baddbmm(x.flatten(1, 2) @ inside.mT, before, seen).view_as(x)
    else:
        same = (segment.unsqueeze(-1) == segment.unsqueeze(-2)).to(x.dtype)
        y = ((inside[:, None, None] * same) @ x.unsqueeze(-1)).squeeze(-1)
        y = y + (before @ seen).view_as(x).masked_fill(segment > 0, 0)
    return y.permute(1, 2, 3, 0).flatten(1, 2), last


@outside_autocast
def dense_kernel(a: Tensor, b: Tensor, c: Tensor, length: int) -> Tensor:
    """K_l = c . aˡ b, the response to a unit pulse, as products of √L rows and √L columns.   a [D, N, N], b, c [D, N] -> [D, L]"""
    columns = 1 << ((max(length, 1) - 1).bit_length() + 1) // 2
    rows = -(-length // columns)
    squares = doublings(a, columns * rows)
    pushed = krylov(squares, b, columns)
    seen = krylov([x.mT for x in squares[columns.bit_length() - 1 :]], c, rows)
    return (seen.mT @ pushed).flatten(-2)[..., :length]


def doublings(a: Tensor, count: int) -> list[Tensor]:
    """a, a², a⁴, ..., as many as make up every power below 2 count.   [..., N, N]"""
    squares = [a]
    for _ in range(count.bit_length() - 1):
        squares.append(squares[-1] @ squares[-1])
    return squares


def power(squares: list[Tensor], n: int) -> Tensor:
    """aⁿ for n >= 1, by its binary digits."""
    factors = [square for digit, square in enumerate(squares) if n >> digit & 1]
    return reduce(torch.matmul, factors)


def krylov(squares: list[Tensor], b: Tensor, count: int) -> Tensor:
    """b, a b, a² b, ... by doubling.   a [..., N, N], b [..., N] -> [..., N, count]"""
    vectors = b.unsqueeze(-1)
    for square in squares:
        if (missing := count - vectors.shape[-1]) <= 0:
            break
        vectors = torch.cat([vectors, square @ vectors[..., :missing]], dim=-1)
    return vectors


def _enter(u: Tensor, a: Tensor, b: Tensor, c: Tensor, initial_state: Tensor | None) -> tuple[Tensor, ...]:
    """Everything in the working precision, and the first state."""
    dtype = working_dtype(u, a, b, c, initial_state)
    u, a, b, c = (x.to(dtype) for x in (u, a, b, c))
    return u, a, b, c, b.new_zeros(u.shape[0], *b.shape) if initial_state is None else initial_state.to(dtype)
