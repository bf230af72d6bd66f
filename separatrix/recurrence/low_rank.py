"""Scans of a vector state whose transitions are diagonal plus low rank.

    h_t = d_t ⊙ h_{t-1} + L_t u_t + x_t,   u_t = R_tᵀ h_{t-1}          d, h, x [N], L, R [N, r], plain transpose    (1)

Householder reflections, products of them and S4's matrices with an arbitrary drive are this; the operations on matrix states (the delta
rule and its kin) are (1) with a drive k vᵀ, and only what a query reads of it.

Given all u, (1) is a diagonal scan. Inside a chunk of C steps the u solve a triangular system, linear in the state h before the chunk:

    u_t = R_tᵀ D[t-1, 0] h + sum_{s < t} R_tᵀ D[t-1, s] (x_s + L_s u_s)        D[t, s] = d_{s+1} ⊙ ... ⊙ d_t          (2)

with D made of products, never of quotients, so any d is exact: 0, negative, complex.

Paper    Yang et al. 2024, arXiv:2406.06484 (products of Householder matrices in chunks), here with any diagonal between them.
Cost     O(T N r) one by one; in chunks O(T C N r²).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence.checks import along_time, complex_of, expect_numbers, expect_reset, expect_shape, expect_tensor, working_dtype
from separatrix.recurrence.diagonal import diagonal_matrix, diagonal_scan_chunked
from separatrix.recurrence.diagonal_plus_low_rank import DiagonalPlusLowRank
from separatrix.recurrence.fused import operators, real
from separatrix.recurrence.householder import Householder, HouseholderProduct
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared, filled
from separatrix.recurrence.transition import scan, start
from separatrix.recurrence.twins import twin

CHUNK = 8  # the products of (2) are C numbers a step and channel
WORTH_CHUNKS = 32  # N r on a CPU, without the kernel: 16 runs half again as fast in chunks, 64 slower (T = 1024)


def low_rank_scan(
    diagonal: Tensor, left: Tensor, right: Tensor, x: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """h_t = (diag(d_t) + L_t R_tᵀ) h_{t-1} + x_t.

    x [B, T, ..., N], diagonal [B, T, ..., N], left, right [B, T, ..., N, r], 1 for every axis but the last that shares it,
    initial_state [B, ..., N], reset [B, T] bool  ->  h [B, T, ..., N], final state [B, ..., N]; complex when any of them is.

    Paper    Yang et al. 2024, arXiv:2406.06484.
    Raises   ValueError for shapes that do not fit; TypeError unless all are floats or complex, reset bool.
    """
    expect_numbers("x", x, diagonal=diagonal, left=left, right=right, initial_state=initial_state)
    if x.ndim < 3:
        raise ValueError(f"x is {list(x.shape)}, expected [batch, time, ..., state]")
    _expect_shared("diagonal", diagonal, x.shape, "batch, time, ..., state")
    expect_tensor("left", left)
    expect_tensor("right", right)
    rank = left.shape[-1:] if left.ndim == x.ndim + 1 else right.shape[-1:]
    _expect_shared("left", left, (*x.shape, *rank), "batch, time, ..., state, rank")
    _expect_shared("right", right, (*x.shape, *rank), "batch, time, ..., state, rank")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (x.shape[0], *x.shape[2:]), "batch, ..., state")
    expect_reset(reset, x.shape[0], x.shape[1])
    return run("low_rank_scan", x.shape[1], diagonal, left, right, x, initial_state, reset)


def _expect_shared(name: str, tensor: Tensor, shape: tuple[int, ...], axes: str) -> None:
    expect_tensor(name, tensor)
    last = len(axes.split("..., ")[1].split(", "))
    allowed = [1 if own == 1 else wanted for own, wanted in zip(tensor.shape[:-last], shape)] + list(shape[-last:])
    expect_shape(name, tensor, tuple(allowed) if tensor.ndim == len(shape) else shape, axes)


@form
def low_rank_scan_recurrent(diagonal, left, right, x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (1), read aloud."""
    d, L, R, x, h, dtype = enter(diagonal, left, right, x, initial_state, None)
    multipliers, lefts, rights, steps = d.unbind(1), L.unbind(1), R.unbind(1), []
    for t, drive in enumerate(x.unbind(1)):
        h = cleared(h, reset, t)
        h = multipliers[t] * h + (lefts[t] @ (rights[t].mT @ h.unsqueeze(-1))).squeeze(-1) + drive
        steps.append(h)
    return along_time(steps, x).to(dtype), h


def _pairs_cost(diagonal: Tensor, left: Tensor, *_: Tensor | None) -> str | None:
    costly = left.device.type == "cpu" and left.shape[-2:].numel() > WORTH_CHUNKS
    return f"pairs of steps of {left.shape[-2]} x {left.shape[-1]} cost more than they save" if costly else None


@twin("low_rank_scan")
@form(refuses=_pairs_cost, mixes=True)
def low_rank_scan_chunked(diagonal, left, right, x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (2) for all chunks at once, a few products a chunk to carry the state, and the diagonal scan that (1) then is."""
    d, L, R, x, h, dtype = enter(diagonal, left, right, x, initial_state, reset)
    time, rank = x.shape[1], L.shape[-1]
    if time == 0:
        return x.to(dtype), h
    chunk = min(CHUNK, time)
    dc, Lc, Rc, xc = _split(d, chunk), _split(L, chunk), _split(R, chunk), _split(x, chunk)  # [B, chunks, C, ...]
    batch, chunks = dc.shape[:2]
    after = diagonal_matrix(dc.flatten(0, 1)).unflatten(0, (batch, chunks)).movedim((2, 3), (-3, -2))  # [B, chunks, ..., t, 0 or s + 1, N]
    none = after.new_zeros(*after.shape[:-3], 1, *after.shape[-2:])
    none[..., 0, 0, :] = 1
    before = torch.cat([none, after[..., :-1, :, :]], dim=-3)
    Lc, Rc, xc = (y.movedim(2, axis) for y, axis in ((Lc, -3), (Rc, -3), (xc, -2)))  # [B, chunks, ..., C, N, r] and [..., C, N]
    seen = Rc.unsqueeze(-3) * before.unsqueeze(-1)  # [..., t, 0 or s + 1, N, r]
    among = torch.einsum("...tsnr,...snq->...trsq", seen[..., 1:, :, :], Lc).flatten(-4, -3).flatten(-2, -1)
    driven = torch.einsum("...tsnr,...sn->...tr", seen[..., 1:, :, :], xc).flatten(-2, -1).unsqueeze(-1)
    from_start = seen[..., 0, :, :].transpose(-1, -2).flatten(-3, -2)  # [..., C r, N]
    one = torch.eye(chunk * rank, dtype=among.dtype, device=among.device)
    solved = torch.linalg.solve_triangular(one - among, torch.cat([driven, from_start], dim=-1), upper=False, unitriangular=True)
    fixed, moving = solved[..., :1], solved[..., 1:]
    last = after[..., -1, :, :]  # [..., 0 or s + 1, N]
    write = (last[..., 1:, :].unsqueeze(-1) * Lc).transpose(-3, -2).flatten(-2, -1)  # [..., N, C r]
    ends = (last[..., 1:, :] * xc).sum(-2).unsqueeze(-1) + write @ fixed
    u, state = [], h.unsqueeze(-1)
    for i in range(chunks):
        u.append(fixed[:, i] + moving[:, i] @ state)
        state = last[:, i, ..., 0, :].unsqueeze(-1) * state + write[:, i] @ (moving[:, i] @ state) + ends[:, i]
    held = torch.stack(u, dim=1).squeeze(-1).unflatten(-1, (chunk, rank)).movedim(-2, 2).flatten(1, 2)[:, :time]  # [B, T, ..., r]
    states, final = diagonal_scan_chunked(d, x + (L @ held.unsqueeze(-1)).squeeze(-1), h)
    return states.to(dtype), final


def _split(x: Tensor, chunk: int) -> Tensor:
    """[B, T, ...] -> [B, chunks, C, ...], the last chunk filled with zeros."""
    missing = -x.shape[1] % chunk
    return F.pad(x, (*[0] * (2 * (x.ndim - 2)), 0, missing)).unflatten(1, (-1, chunk))


@form(refuses=real)
def low_rank_scan_fused(diagonal, left, right, x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """In single or double precision."""
    d, L, R, x, h, dtype = enter(diagonal, left, right, x, initial_state, None)
    if x.shape[1] == 0:
        return x.to(dtype), h
    (batch, time), (size, rank) = x.shape[:2], L.shape[-2:]
    heads = x.shape[2:-1].numel()
    rows = [y.reshape(batch, time, heads, size) for y in (d, x)]
    columns = [y.reshape(batch, time, heads, size, rank) for y in (L, R)]
    states, final = operators().low_rank_scan(rows[0], *columns, rows[1], h.reshape(batch, heads, size), reset)
    return states.reshape(x.shape).to(dtype), final.reshape(h.shape)


def enter(
    d: Tensor, L: Tensor, R: Tensor, x: Tensor, initial_state: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, torch.dtype]:
    """The arguments of every step in the working precision, 0 for a transition that is reset, and the dtype of the states that go out."""
    out, working = x.dtype, working_dtype(d, L, R, x, initial_state)
    if any(y is not None and y.is_complex() for y in (d, L, R, x, initial_state)):
        out = working = complex_of(working)
    d, L, R, x = (y.to(working) for y in (d, L, R, x))
    d, L, R = d.expand(x.shape), L.expand(*x.shape, L.shape[-1]), R.expand(*x.shape, R.shape[-1])
    d, R = filled(d, reset, 0), filled(R, reset, 0)
    h = x.new_zeros(x.shape[0], *x.shape[2:]) if initial_state is None else initial_state.to(working)
    return d, L, R, x, h, out


@scan.register(DiagonalPlusLowRank)
@scan.register(Householder)
@scan.register(HouseholderProduct)
def _(
    A: DiagonalPlusLowRank | Householder | HouseholderProduct,
    drive: Tensor,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    diagonal, left, right = A.arguments()
    return low_rank_scan(diagonal, left, right, drive, start(A, drive, initial_state), reset)
