"""Diagonal plus rank one, chosen by the input at every step, as the transition of a matrix state.

    S_t = diag(exp w_t) S_{t-1} + b_t (a_tᵀ S_{t-1}) + k_t v_tᵀ         w_t <= 0                                   (1)
    o_t = scale S_tᵀ r_t                                                scale = 1 unless given

a reads the state before its decay. RWKV-7 has a = -κ, b = κ ⊙ η with |κ| = 1 and 0 < η < 1; a = -exp(g) k, b = β k is the gated delta rule.
With u_t = S_{t-1}ᵀ a_t, (1) is linear attention with two keys and two values, and inside a chunk all u come out of one triangular solve,
linear in the state S before the chunk (M and D as in `decay`, of step t - 1 because a reads what was before step t):

    (I - M_ab[t-1, s]) U = M_ak[t-1, s] V + (A D[t-1, 0]) S             s < t                                      (2)

Paper    Peng et al. 2025 (RWKV-7), arXiv:2503.14456, whose states are [value, key].
Cost     O(K V) a step for (1), O(C (K + V) + K V) of it in products for (2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence.attention_matrix import by_attention_matrix
from separatrix.recurrence.checks import along_time, expect_numbers, expect_real, expect_shape, working_dtype
from separatrix.recurrence.decay import join, scores, since_start, split, until_end
from separatrix.recurrence.fused import float32, keys_in_cache, operators, state_or_rest
from separatrix.recurrence.heads import enter, expect_heads
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared, filled
from separatrix.recurrence.twins import twin


def dplr(
    r: Tensor,
    log_decay: Tensor | None,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """S_t = diag(exp w_t) S_{t-1} + b_t (a_tᵀ S_{t-1}) + k_t v_tᵀ,  o_t = scale S_tᵀ r_t.

    r, k, a, b [B, T, H, K], v [B, T, H, V], log_decay None, [B, T, H] or [B, T, H, K] and <= 0, initial_state [B, H, K, V],
    reset [B, T] bool  ->  o [B, T, H, V], final state [B, H, K, V].

    Paper    Peng et al. 2025 (RWKV-7), arXiv:2503.14456.
    Raises   ValueError for shapes that do not fit, log_decay > 0 or NaN on the CPU; TypeError unless all are real floats, reset bool.
    """
    expect_heads(r, k, v, None, log_decay, initial_state, reset, scale, query="r")
    expect_numbers("r", r, a=a, b=b)
    expect_real(a=a, b=b)
    expect_shape("v", v, (*r.shape[:3], v.shape[3]), "batch, time, heads, value")
    expect_shape("a", a, r.shape, "batch, time, heads, key")
    expect_shape("b", b, r.shape, "batch, time, heads, key")
    return run("dplr", r.shape[1], r, log_decay, k, v, a, b, scale, initial_state, reset)


def prepare(
    r: Tensor,
    log_decay: Tensor | None,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    scale: float,
    initial_state: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(r, w, k, v, a, b, S) in working precision; what `a` reads at a reset is nothing."""
    dtype = working_dtype(r, log_decay, k, v, a, b, initial_state)
    a, b = filled(a.to(dtype), reset, 0), b.to(dtype)
    r, k, v, _, w, S = enter(r, k, v.to(dtype), None, log_decay, scale, initial_state, reset)
    return r, w, k, v, a, b, S


@form
def dplr_recurrent(r, log_decay, k, v, a, b, scale=1.0, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (1), read aloud."""
    dtype = v.dtype
    r, w, k, v, a, b, S = prepare(r, log_decay, k, v, a, b, scale, initial_state, None)
    rows, columns = ([x.unsqueeze(axis).unbind(1) for x in parts] for axis, parts in ((-2, (a, r, v)), (-1, (b, k))))
    decays = None if w is None else w.exp().unsqueeze(-1).unbind(1)
    reads = []
    for t, (seen, query, value, back, key) in enumerate(zip(*rows, *columns)):
        S = cleared(S, reset, t)
        u = seen @ S
        S = (S if decays is None else decays[t] * S) + back * u + key * value
        reads.append((query @ S).squeeze(-2))
    return along_time(reads, v).to(dtype), S


@twin("dplr")
@form(mixes=True)
def dplr_chunked(r, log_decay, k, v, a, b, scale=1.0, initial_state=None, reset=None, chunk=64) -> tuple[Tensor, Tensor]:
    """Equation (2) for all chunks at once, then a few products per chunk to carry the state."""
    dtype, time, width = v.dtype, v.shape[1], v.shape[3]
    r, w, k, v, a, b, S = prepare(r, log_decay, k, v, a, b, scale, initial_state, reset)
    if time == 0:
        return v.to(dtype), S
    chunk = min(chunk, time)
    r, k, v, a, b = (split(x, chunk) for x in (r, k, v, a, b))
    g = None if w is None else split(w, chunk)
    early = F.pad(a[..., 1:, :], (0, 0, 0, 1))  # a_{t+1} reads the state that step t leaves
    (back, read_back), (among, reading) = scores(b, g, early, r), scores(k, g, early, r)
    back, among = (F.pad(m[..., :-1, :], (0, 0, 1, 0)) for m in (back, among))
    passed = None if g is None else since_start(g).exp()
    before = a if passed is None else a * F.pad(passed[..., :-1, :], (0, 0, 1, 0), value=1)
    solved = torch.linalg.solve_triangular(-back, torch.cat([among @ v, before], dim=-1), upper=False, unitriangular=True)
    fixed, seen = solved[..., :width].unbind(2), solved[..., width:].unbind(2)
    inside, through = (reading @ v).unbind(2), read_back.unbind(2)
    reads = (r if passed is None else r * passed).unbind(2)
    left = None if g is None else until_end(g).exp()
    writes = ((k if left is None else k * left).transpose(-1, -2) @ v).unbind(2)
    returns = (b if left is None else b * left).transpose(-1, -2).unbind(2)
    decays = None if passed is None else passed[..., -1, :].unsqueeze(-1).unbind(2)
    outputs = []
    for i in range(len(fixed)):
        u = fixed[i] + seen[i] @ S
        outputs.append(reads[i] @ S + through[i] @ u + inside[i])
        S = (S if decays is None else decays[i] * S) + returns[i] @ u + writes[i]
    return join(torch.stack(outputs, dim=2), time).to(dtype), S


@form(mixes=True)
def dplr_dense(r, log_decay, k, v, a, b, scale=1.0, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """The attention matrix, with A_tᵀ q = exp(w_t) ⊙ q + (b_t·q) a_t."""
    dtype = v.dtype
    r, w, k, v, a, b, S = prepare(r, log_decay, k, v, a, b, scale, initial_state, reset)

    def back(rows: Tensor, s: int) -> Tensor:
        kept = rows if w is None else rows * w[:, s].exp().unsqueeze(-2)
        return kept + (rows @ b[:, s].unsqueeze(-1)) * a[:, s].unsqueeze(-2)

    o, final = by_attention_matrix(r, k, v, S, back)
    return o.to(dtype), final


@form(refuses=keys_in_cache, pays_from=1)
def dplr_fused(r, log_decay, k, v, a, b, scale=1.0, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """The kernel knows decays per key only: one a head is spread over its keys, none is a decay of 1."""
    if log_decay is None:
        log_decay = r.new_zeros(r.shape)
    elif log_decay.ndim == 3:
        log_decay = log_decay.unsqueeze(-1).expand(r.shape)
    inputs, state = float32(r, log_decay, k, v, a, b), state_or_rest(initial_state, v.shape[0], v.shape[2], r.shape[3], v.shape[3])
    if v.shape[1] == 0:
        return v, state
    o, final, _ = operators().dplr(*inputs, float(scale), state, reset)
    return o.to(v.dtype), final
