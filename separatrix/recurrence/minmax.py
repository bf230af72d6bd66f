"""Min-max recurrences: a state that is capped and lifted, and otherwise kept for ever, unrounded.

    h_t = max(min(a_t, h_{t-1}), b_t)                                     elementwise                              (1)
    h_t[i] = max(max_j min(A_t[i, j], h_{t-1}[j]), b_t[i])                a matrix, in the (max, min) semiring     (2)

Where b <= h <= a the state is a latch: its value and its gradient are exactly what they were, after any number of steps. (2) is a linear
recurrence with max for plus and min for times, and (1) is the diagonal one; maps compose to maps of the same kind,

    (a, b) then (a', b')   is   (min(a', a), max(min(a', b), b'))         matrices: A' ⊗ A, the (max, min) product

so all T steps are a tree of pairs. Only comparisons are made, so all forms give the same numbers, equal to the last bit.

Gradients are those of (1) and (2) read step by step, with one rule: a tie goes to the past. In min(a, h) equal values count as h, in
max(min(a, h), b) as the min; among equal entries of a row the lowest j wins. A tree that broke ties inside its own products would sometimes
credit another step; here every form credits what the sequential one does, to a rounding: they add the same gradients in another order.

Rest is 0, as everywhere in this library, not the identity of max (minus infinity): a reset puts a 0 where the state was. For a state that
only the drive defines, pass an initial state of minus infinity.

Paper    MinMax recurrent neural cascades 2026, arXiv:2605.06384.
Departs  the tie rule, the rest of 0 and the derivatives of the tree are ours.
Cost     O(T N) one by one; (2) O(T N²) one by one, O(T N³) as a tree, log2(T) steps deep.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad

from separatrix.recurrence.checks import along_time, expect_numbers, expect_real, expect_reset, expect_shape, expect_tensor, working_dtype
from separatrix.recurrence.dense import WORTH_A_PRODUCT, dense_scan_chunked
from separatrix.recurrence.diagonal import diagonal_scan_chunked
from separatrix.recurrence.fused import operators
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import beside, cleared, filled
from separatrix.recurrence.semiring import DIAGONAL, MATRICES, apply_matrix, is_kept, is_kept_below, least, multiply_matrices
from separatrix.recurrence.transition import Transition, at_least_single, expect_same_size, scan, start, to_complex
from separatrix.recurrence.tree import tree
from separatrix.recurrence.twins import twin

SEMIRING = "the (max, min) semiring"


def minmax_scan(a: Tensor, b: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """h_t = max(min(a_t, h_{t-1}), b_t); with a matrix, h_t[i] = max(max_j min(a_t[i, j], h_{t-1}[j]), b_t[i]).

    b [B, T, ..., N], a [B, T, ..., N] or [B, T, ..., N, N], 1 for every axis that shares it, initial_state [B, ..., N], reset [B, T] bool
    ->  h [B, T, ..., N], final state [B, ..., N]. A tie gives its gradient to the past: the state before a, both before b.

    Paper    MinMax recurrent neural cascades 2026, arXiv:2605.06384.
    Raises   ValueError for shapes that do not fit; TypeError unless all are real floats, reset bool.
    """
    expect_numbers("b", b, a=a, initial_state=initial_state)
    expect_real(a=a, b=b, initial_state=initial_state)
    if b.ndim < 3:
        raise ValueError(f"b is {list(b.shape)}, expected [batch, time, ..., state]")
    expect_tensor("a", a)
    wanted = [*b.shape, b.shape[-1]] if a.ndim == b.ndim + 1 else list(b.shape)
    if a.ndim not in (b.ndim, b.ndim + 1) or any(own not in (1, size) for own, size in zip(a.shape, wanted)):
        raise ValueError(
            f"a is {list(a.shape)}, expected [batch, time, ..., state] = {list(b.shape)}, or a matrix a step with one axis more"
        )
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (b.shape[0], *b.shape[2:]), "batch, ..., state")
    expect_reset(reset, b.shape[0], b.shape[1])
    return run("minmax_scan", b.shape[1], a, b, initial_state, reset)


@form
def minmax_scan_recurrent(a, b, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (1) or (2), read aloud."""
    a, b, h, dtype = enter(a, b, initial_state)
    caps, steps = a.unbind(1), []
    for t, floor in enumerate(b.unbind(1)):
        low, _ = least(caps[t], cleared(h, reset, t))
        h = torch.where(is_kept(low, floor), low, floor)
        steps.append(h)
    return along_time(steps, b).to(dtype), h


def _products_cost(a: Tensor, b: Tensor | None = None, *_: Tensor | None) -> str | None:
    costly = b is not None and a.ndim != b.ndim and a.device.type == "cpu" and a.shape[-1] > WORTH_A_PRODUCT
    return f"products of matrices of {a.shape[-1]} cost more than they save" if costly else None


@twin("minmax_scan")
@form(refuses=_products_cost)
def minmax_scan_chunked(a, b, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """A tree of pairs for the numbers; then, knowing which of its sources every state is, a linear scan for the derivatives."""
    a, b, h, dtype = enter(a, b, initial_state)
    if b.shape[1] == 0:
        return b.to(dtype), h
    cap, floor, first = a.detach(), b.detach(), h.detach()
    if reset is not None:
        rest, _ = least(cap, torch.zeros_like(floor))
        floor = torch.where(beside(reset, floor), torch.maximum(rest, floor), floor)
    states = tree(DIAGONAL if a.ndim == b.ndim else MATRICES, cap, floor, first, reset)
    if torch.is_grad_enabled() or forward_ad._current_level >= 0:
        before = torch.cat([first.unsqueeze(1), states[:, :-1]], dim=1)
        states = states + _derivatives(a, b, h, before, reset)
    return states.to(dtype), states[:, -1].clone()


def _derivatives(a: Tensor, b: Tensor, h: Tensor, before: Tensor, reset: Tensor | None) -> Tensor:
    """Zeros that vary as the states do: a linear recurrence whose multipliers are 1 where a state is the one before it."""
    before = filled(before, reset, 0)
    low, chosen = least(a.detach(), before)
    kept = is_kept(low, b.detach())
    if chosen is None:
        from_state = is_kept_below(a.detach(), before) & kept
        from_cap = ~from_state & kept
        moved = torch.where(from_cap, _change(a), 0)
    else:
        one = _at(chosen, before.shape[-1])
        from_state = one & is_kept_below(a.detach(), before.unsqueeze(-2)) & kept.unsqueeze(-1)
        from_cap = ~from_state.any(-1) & kept
        moved = torch.where(from_cap, torch.where(one, _change(a), 0).sum(-1), 0)
    moved = moved + torch.where(kept, 0, _change(b))
    if reset is not None:
        from_state = from_state & ~beside(reset, from_state)
    linear = diagonal_scan_chunked if chosen is None else dense_scan_chunked
    return linear(from_state.to(b.dtype), moved, _change(h))[0]


def _at(chosen: Tensor, size: int) -> Tensor:
    """True at the chosen places. F.one_hot looks at values, which vmap hides.   [...] int -> [..., size]"""
    return chosen.unsqueeze(-1) == torch.arange(size, device=chosen.device)


def _change(x: Tensor) -> Tensor:
    """Zero, with the derivative of x."""
    return torch.where(x.isfinite(), x - x.detach(), 0)


def _matrix(a: Tensor, b: Tensor | None = None, *_: Tensor | None) -> str | None:
    return "the kernel is for elementwise caps" if b is not None and a.ndim != b.ndim else None


@form(refuses=_matrix, pays_from=1)
def minmax_scan_fused(a, b, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Elementwise caps, in single or double precision."""
    a, b, h, dtype = enter(a, b, initial_state)
    if b.shape[1] == 0:
        return b.to(dtype), h
    states, final = operators().minmax_scan(a, b, h, reset)
    return states.to(dtype), final


def enter(a: Tensor, b: Tensor, initial_state: Tensor | None) -> tuple[Tensor, Tensor, Tensor, torch.dtype]:
    """a of every step and batch row, b, the first state, and the dtype of the states that go out; no conversion rounds."""
    out, working = b.dtype, working_dtype(a, b, initial_state)
    a, b = a.to(working), b.to(working)
    wide = (*b.shape, b.shape[-1]) if a.ndim == b.ndim + 1 else b.shape
    a = a if a.shape == wide else a.expand(wide)
    h = b.new_zeros(b.shape[0], *b.shape[2:]) if initial_state is None else initial_state.to(working)
    return a, b, h, out


@dataclass(frozen=True)
class MinMax(Transition):
    """h -> A ⊗ h, h[i] = max_j min(A[i, j], h[j]): linear in the (max, min) semiring, not in the field of real numbers.   A [..., N, N]

    `apply`, `compose` and `dense` are those of the semiring. The map never pulls two states apart: its Lipschitz constant in the sup norm,
    which `norm` gives, is 1 (0 where A is minus infinity throughout). It has no eigenvalues of its own; its derivative has, a matrix of at
    most one 1 a row at every state, whose eigenvalues are 0 or roots of unity. `spectrum` gives them for equal states below all caps.

    Paper    MinMax recurrent neural cascades 2026, arXiv:2605.06384.
    """

    runs_as = "minmax_scan"
    linear_in = SEMIRING

    A: Tensor

    @property
    def size(self) -> int:
        return self.A.shape[-1]

    def apply(self, h: Tensor) -> Tensor:
        return apply_matrix(self.A, h)

    def apply_to_columns(self, S: Tensor) -> Tensor:
        return multiply_matrices(self.A, S)

    def compose(self, later: Transition) -> Transition:
        expect_same_size(self, later)
        return MinMax(multiply_matrices(later.dense(), self.A))

    def spectrum(self) -> Tensor:
        passing = ~self.A.isneginf()
        jacobian = _at(passing.int().argmax(-1), self.size) & passing.any(-1, keepdim=True)
        return torch.linalg.eigvals(at_least_single(jacobian.to(self.A.dtype)))

    def norm(self) -> Tensor:
        return (~self.A.isneginf()).flatten(-2).any(-1).to(self.A.dtype)

    def arguments(self) -> tuple[Tensor, ...]:
        return self.A, self.A[..., 0]  # a drive beside it says that this is a matrix

    def dense(self) -> Tensor:
        """A itself; where the matrix of a linear map has 0 and 1, this one has minus and plus infinity."""
        return self.A


@dataclass(frozen=True)
class MinMaxDiagonal(Transition):
    """h -> min(a, h), elementwise; otherwise as MinMax. Its derivative below the caps is the identity.   a [..., N]

    Paper    MinMax recurrent neural cascades 2026, arXiv:2605.06384.
    """

    runs_as = "minmax_scan"
    linear_in = SEMIRING

    a: Tensor

    @property
    def size(self) -> int:
        return self.a.shape[-1]

    def apply(self, h: Tensor) -> Tensor:
        return torch.minimum(self.a, h)

    def apply_to_columns(self, S: Tensor) -> Tensor:
        return torch.minimum(self.a.unsqueeze(-1), S)

    def compose(self, later: Transition) -> Transition:
        expect_same_size(self, later)
        if isinstance(later, MinMaxDiagonal):
            return MinMaxDiagonal(torch.minimum(later.a, self.a))
        return MinMax(self.dense()).compose(later)

    def spectrum(self) -> Tensor:
        return to_complex((~self.a.isneginf()).to(self.a.dtype))

    def norm(self) -> Tensor:
        return (~self.a.isneginf()).any(-1).to(self.a.dtype)

    def dense(self) -> Tensor:
        """a on the diagonal of a matrix of minus infinity."""
        identity = torch.eye(self.size, dtype=torch.bool, device=self.a.device)
        return torch.where(identity, self.a.unsqueeze(-1), -torch.inf)


@scan.register
def _(A: MinMax, drive: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return minmax_scan(A.A, drive, start(A, drive, initial_state), reset)


@scan.register
def _(A: MinMaxDiagonal, drive: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return minmax_scan(A.a, drive, start(A, drive, initial_state), reset)
