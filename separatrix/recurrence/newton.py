"""Nonlinear recurrences in parallel over time: all states at once, by Newton's method.

The recurrence is a system of T equations, h_t - f(h_{t-1}, x_t) = 0. At a guess of all states its linearisation is a linear recurrence,

    δ_t = J_t δ_{t-1} + r_t,  h_t <- h_t + δ_t        r_t = f(h_{t-1}, x_t) - h_t,  J_t = df/dh at h_{t-1},  δ_0 = 0       (1)

which the scan of the Jacobian's own structure solves. Every such step makes at least one more state exact (if those before t are, t
becomes so), and where the recurrence forgets, a handful makes all of them: convergence is quadratic. At a solution the derivatives obey

    g_t = dL/dh_t + J_{t+1}ᵀ g_{t+1}        dL/dx_t = (df/dx_t)ᵀ g_t,  dL/dθ = sum_t (df/dθ)ᵀ g_t                 (2)

so a gradient is one reverse scan (implicit function theorem), whatever the iterations did.

The measure is the residual: the loop's own states have |r_t| of one rounding, so states within a few roundings are as good as the loop's.
Between a guess and the solution products of J may explode though those at the solution fade (trained gates do that). An iteration that
makes the residual grow is taken back, and J is damped, its rows scaled down until no state can grow, until the residual is a third of what
it was; then the quadratic end follows. What is chaotic at the solution improves from the front only, about a step an iteration.
Any J will do in (1), so `approximate` may cheapen it (quasi-Newton); (2) always has the true one.

Paper    Lim et al. 2023 (DEER), arXiv:2309.12252; Danieli et al. 2025 (ParaRNN), arXiv:2510.21450; Gonzalez et al. 2024, arXiv:2407.19115
         (quasi-Newton; damping there is one number for all of J, or a Kalman smoother).
Departs  the scan is over corrections, not states: nothing is lost to cancellation, and the last correction is small. Damping is by rows.
Cost     O(T) evaluations of f and J and one scan an iteration; the memory of one Jacobian a step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from separatrix.recurrence.autocast import outside_autocast
from separatrix.recurrence.cell import Cell, cell_scan_recurrent, enter, expect_cell_inputs, linearize
from separatrix.recurrence.checks import expect_count, expect_number, expect_real, expect_shape
from separatrix.recurrence.diagonal import Diagonal
from separatrix.recurrence.plan import form
from separatrix.recurrence.resets import filled
from separatrix.recurrence.transition import Transition, scan

log = logging.getLogger(__name__)

# Roundings of the states that a residual may have: f itself has a few, a matrix product some more.
ROUNDINGS = 32
# An iteration is taken back when the mean residual grew, or the largest one by this factor.
GREW = 1.5
# Damped iterations go on until the largest residual is this much smaller than where an undamped one made it grow.
LEAVE = 0.3
# On a CPU the loop is faster for shorter sequences, and where the Jacobians of one step, all batch rows together, have more numbers.
LONG, WIDE = 64, 512

LOOP = "run the cell with cell_scan"


class Solution(NamedTuple):
    """All states, and how they were found.

    Paper    Lim et al. 2023 (DEER), arXiv:2309.12252.
    """

    states: Tensor  # [B, T, N]
    final_state: Tensor  # [B, N]
    iterations: int
    residual: Tensor  # [B, T], largest |f(h_{t-1}, x_t) - h_t| over the state, relative: see `tolerance` of `newton_scan`
    history: list[float]  # the largest residual before every iteration, and at the end
    converged: bool


class NotConverged(ArithmeticError):
    """The residual stayed above the tolerance. `solution` holds what was reached: states before the first step that is off are exact."""

    def __init__(self, solution: Solution, tolerance: float):
        self.solution, self.tolerance = solution, tolerance
        off = int((~(solution.residual <= tolerance)).any(0).nonzero()[0])
        super().__init__(
            f"Newton's iteration did not converge in {solution.iterations} iterations: the residual is {solution.history[-1]:.1e}, "
            f"expected at most {tolerance:.1e}; the first step above it is {off} of {solution.residual.shape[1]}. "
            f"Raise `iterations`, or run the cell step by step with cell_scan."
        )

    def __reduce__(self):  # or no other process could be told: exceptions are rebuilt from their message
        return type(self), (self.solution, self.tolerance)


def diagonal_part(A: Transition) -> Diagonal:
    """What a transition does to each number of the state alone: a cheap Jacobian for `newton_scan` (quasi-DEER).

    Paper    Gonzalez et al. 2024, arXiv:2407.19115.
    """
    return A if isinstance(A, Diagonal) else Diagonal(A.dense().diagonal(dim1=-2, dim2=-1))


@outside_autocast
def newton_scan(
    cell: Cell,
    inputs: Tensor,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    guess: Tensor | None = None,
    approximate: Callable[[Transition], Transition] | None = None,
    tolerance: float | None = None,
    iterations: int = 100,
) -> Solution:
    """h_t = f(h_{t-1}, x_t) for all t at once; NotConverged, which carries what was reached, when that fails.

    cell           gives f and the structure of its Jacobian; a cell that knows none has a dense one.
    inputs         [B, T, M], x_t; initial_state [B, N], reset [B, T] bool: the state is cleared before these steps.
    guess          [B, T, N] states to start from, those of a similar run; f(0, x_t) otherwise.
    approximate    makes a cheaper transition of the Jacobian, e.g. `diagonal_part`: more iterations, each less dear.
    tolerance      the largest residual |f(h_{t-1}, x_t) - h_t| / (level + |h_t|); 32 roundings of the dtype otherwise. The level is the
                   largest state of the sequence, or 1 if that is less: small states are as exact as large ones.
    iterations     how many at most.

    Paper    Lim et al. 2023 (DEER), arXiv:2309.12252; ParaRNN, arXiv:2510.21450; Gonzalez et al. 2024, arXiv:2407.19115.
    Raises   NotConverged; NotImplementedError under vmap, compile and on meta; ValueError and TypeError as `cell_scan`.
    """
    expect_cell_inputs(cell, inputs, initial_state, reset)
    expect_count("iterations", iterations, 1)
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"tolerance is {tolerance}, expected 0 or more")
    if guess is not None:
        expect_number("guess", guess)
        expect_real(guess=guess)
        expect_shape("guess", guess, (*inputs.shape[:2], cell.size), "batch, time, state")
    if torch.compiler.is_compiling():  # a graph break, or what fullgraph=True says
        raise NotImplementedError(f"newton_scan stops where values say so, and a compiled graph has none: {LOOP}")
    for part in (inputs, initial_state, reset, guess, *cell.tensors()):
        if part is not None and (part.is_meta or is_batched(part)):
            why = "meta tensors have none" if part.is_meta else "vmap hides them"
            raise NotImplementedError(f"newton_scan stops where values say so, and {why}: {LOOP}")
    wide, drive, start = enter(cell, inputs, initial_state)
    tolerance = ROUNDINGS * torch.finfo(drive.dtype).eps if tolerance is None else tolerance
    with torch.no_grad():
        solution = solve(wide, drive, start, reset, guess, approximate, tolerance, iterations)
    if not solution.converged:
        raise NotConverged(solution, tolerance)
    states, final = _Adjoint.apply(wide, drive, start, reset, solution.states, *wide.tensors())
    return solution._replace(states=states.to(inputs.dtype), final_state=final)


def is_batched(part: Tensor) -> bool:
    """Whether vmap holds it, under whatever other transforms."""
    while torch._C._functorch.is_functorch_wrapped_tensor(part):
        if torch._C._functorch.is_batchedtensor(part):
            return True
        part = torch._C._functorch.get_unwrapped(part)
    return False


def before(states: Tensor, start: Tensor, reset: Tensor | None) -> Tensor:
    """h_{t-1} at every step, cleared where it is reset.   states [B, T, N], start [B, N] -> [B, T, N]"""
    h = torch.cat([start.unsqueeze(1), states[:, :-1]], dim=1) if states.shape[1] else states
    return filled(h, reset, 0)


def solve(cell, x, start, reset, guess, approximate, tolerance, iterations) -> Solution:
    """Equation (1) until the residual is small."""
    states = cell.step(x.new_zeros(*x.shape[:2], cell.size), x) if guess is None else guess.to(x.dtype)
    value, A = linearize(cell, before(states, start, reset), x)
    residual, size = residual_of(value, states)
    rest, history, done, damped_above = torch.zeros_like(start), [largest(size)], 0, torch.inf
    while history[-1] > tolerance and done < iterations:
        damped = history[-1] > damped_above
        J = A if approximate is None else approximate(A)
        correction, _ = scan(non_expanding(J, residual) if damped else J, residual, rest, reset)
        candidate = states + correction
        value, later = linearize(cell, before(candidate, start, reset), x)
        new_residual, new_size = residual_of(value, candidate)
        done += 1
        if damped or (float(new_size.sum()) <= float(size.sum()) and largest(new_size) <= GREW * history[-1]):
            states, A, residual, size = candidate, later, new_residual, new_size
        else:
            damped_above = LEAVE * history[-1]
        history.append(largest(size))
        if history[-1] == torch.inf:  # damped, and yet: the recurrence itself overflows
            break
    return Solution(states, states[:, -1] if x.shape[1] else start, done, size, history, history[-1] <= tolerance)


def non_expanding(A: Transition, like: Tensor) -> Transition:
    """A with every row scaled down until the magnitudes in it add up to at most 1: it takes no state to a larger one.

    Magnitudes of the parts bound those of the matrix for every structure that is made of sums and products of them.
    """
    parts: dict[str, Any] = {name: x.abs() for name, x in A.tensors().items()}
    rows = replace(A, **parts).apply(like.new_ones(like.shape))  # type: ignore[type-var]
    return A.compose(Diagonal(1 / rows.clamp(min=1)))


def residual_of(value: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """The residual, and its size at every step [B, T], a NaN where states overflowed."""
    residual, largest = value - states, states.abs().amax(-1)
    # what f makes of the states counts too: at a guess of zeros it is all there is
    every = torch.maximum(largest, value.abs().amax(-1)).nan_to_num(nan=0)
    level = every.amax(1, keepdim=True).clamp(torch.finfo(value.dtype).tiny, 1) if every.numel() else every
    return residual, residual.abs().amax(-1) / (level + largest)


def largest(size: Tensor) -> float:
    """Over all steps; infinite where a state is not finite."""
    if size.numel() == 0:
        return 0.0
    return float(size.nan_to_num(nan=torch.inf).amax())


def _loop_is_better(*inputs: Any) -> str | None:
    """Measured on a CPU: an iteration costs a handful of steps' arithmetic for all steps at once, a loop some 20 to 100 us a step."""
    if not inputs:
        return None
    cell, x = inputs[:2]
    if torch.compiler.is_compiling() or x.is_meta:
        return "the number of its iterations depends on values"
    if x.shape[1] < LONG:
        return f"{x.shape[1]} steps are a short loop"
    with torch.no_grad():
        one, first, start = enter(cell, x[:, :1], None)
        _, A = linearize(one, start.unsqueeze(1), first)
    numbers = sum(part.numel() for part in A.tensors().values())
    if x.is_cpu and numbers > WIDE:
        return f"{type(A).__name__} Jacobians of {numbers} numbers a step cost more than the loop"
    return None


@form(refuses=_loop_is_better)
def cell_scan_newton(cell, x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """By Newton's iteration, and by the loop where that does not converge."""
    try:
        states, final, *_ = newton_scan(cell, x, initial_state, reset)
    except NotConverged as failure:
        log.info("%s Running the loop instead.", failure)
        return cell_scan_recurrent(cell, x, initial_state, reset)
    return states, final


class _Adjoint(torch.autograd.Function):
    """Equation (2) as the derivative of states that were found otherwise; differentiated twice, it is the loop's."""

    generate_vmap_rule = True

    @staticmethod
    def forward(cell: Any, x: Tensor, start: Tensor, reset: Tensor | None, states: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        return states.clone(), (states[:, -1] if states.shape[1] else start).clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.cell, x, start, reset, _, *tensors = inputs
        ctx.save_for_backward(x, start, reset, output[0], *tensors)

    @staticmethod
    def jvp(ctx, *moves):
        raise NotImplementedError(f"newton_scan has no forward derivatives: {LOOP}")

    @staticmethod
    def backward(ctx, grad_states, grad_final):
        x, start, reset, states, *tensors = ctx.saved_tensors
        inputs = (x, start, *tensors)
        needs = ctx.needs_input_grad[1:3] + ctx.needs_input_grad[5:]
        if torch.is_grad_enabled():

            def loop(*wanted: Tensor) -> tuple[Tensor, Tensor]:
                own = iter(wanted)
                x, start, *tensors = (next(own) if need else y for y, need in zip(inputs, needs))
                return cell_scan_recurrent(ctx.cell.with_tensors(tensors), x, start, reset)

            wanted = [y for y, need in zip(inputs, needs) if need]
            grads = torch.func.vjp(loop, *wanted)[1]((grad_states, grad_final))
        else:
            leaves = [y.detach().requires_grad_(need) for y, need in zip(inputs, needs)]
            wanted = [y for y in leaves if y.requires_grad]
            grads = adjoint(ctx.cell, leaves, reset, states.detach(), grad_states, grad_final, wanted)
        found = iter(grads)
        in_order = [next(found) if need else None for need in needs]
        return None, in_order[0], in_order[1], None, None, *in_order[2:]


def adjoint(cell, leaves, reset, states, grad_states, grad_final, wanted) -> list[Tensor | None]:
    """Equation (2): one reverse scan, the backward pass of (1) at the solution, and then f's own derivatives with the states held fixed."""
    x, start, *tensors = leaves
    here = cell.with_tensors(tensors)
    h = before(states, start.detach(), reset)
    with torch.no_grad():
        _, A = linearize(here, h, x)
    with torch.enable_grad():
        drive, first = torch.zeros_like(states).requires_grad_(), torch.zeros_like(start).requires_grad_()
        g, grad_start = torch.autograd.grad(scan(A, drive, first, reset), (drive, first), (grad_states, grad_final))
        through = [y for y in wanted if y is not start]
        value = here.step(h, x)
        own = list(torch.autograd.grad(value, through, g, allow_unused=True)) if through and value.requires_grad else [None] * len(through)
    found = iter(own)
    return [grad_start if y is start else next(found) for y in wanted]
