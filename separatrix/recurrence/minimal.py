"""Minimal gated networks: gates that never see the state, so that a GRU and an LSTM become diagonal scans.

    minGRU     h_t = (1 - σ(z_t)) h_{t-1} + σ(z_t) h̃_t                                                             (1)
    minLSTM    h_t = f'_t h_{t-1} + i'_t h̃_t,   f' = σ(f) / (σ(f) + σ(i)),  i' = 1 - f'                             (2)

(2) is (1) with z = log σ(i) - log σ(f), which is how it is computed: two closed gates are no 0/0. Where states are positive the same
recurrence runs on their logarithms,

    log h_t = log(exp(log a_t + log h_{t-1}) + exp(log x_t))                                                      (3)

and neither a long product of small gates nor a gate of exp(-1000) is rounded to 0.

Paper    Feng et al. 2024, arXiv:2410.01201; Heinsen 2023, arXiv:2311.06281 (log space).
Departs  the paper takes running sums of log a, which cancel; (3) is a tree of pairs here, sums and log-sum-exps only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence.checks import along_time, expect_number, expect_numbers, expect_real, expect_reset, expect_shape, working_dtype
from separatrix.recurrence.diagonal import diagonal_scan
from separatrix.recurrence.fused import double, operators
from separatrix.recurrence.plan import form, run, runs_as
from separatrix.recurrence.resets import cleared
from separatrix.recurrence.tree import Semiring, tree
from separatrix.recurrence.twins import twin


@runs_as("diagonal_scan")
def min_gru(z: Tensor, h_tilde: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """minGRU: h_t = (1 - σ(z_t)) h_{t-1} + σ(z_t) h̃_t.

    z before its sigmoid, h_tilde [B, T, ...], initial_state [B, ...], reset [B, T] bool  ->  h [B, T, ...], final state [B, ...].

    Paper    Feng et al. 2024, arXiv:2410.01201.
    Raises   ValueError for shapes that do not fit; TypeError unless all are real floats, reset bool.
    """
    expect_numbers("z", z, h_tilde=h_tilde)
    expect_real(z=z, h_tilde=h_tilde)
    expect_shape("h_tilde", h_tilde, tuple(z.shape), "batch, time, ...")
    expect_numbers("z", z, initial_state=initial_state)
    expect_real(initial_state=initial_state)
    working = working_dtype(z, h_tilde)
    z = z.to(working)
    h, final = diagonal_scan((-z).sigmoid(), z.sigmoid() * h_tilde.to(working), initial_state, reset)
    return h.to(h_tilde.dtype), final


@runs_as("diagonal_scan")
def min_lstm(
    f: Tensor, i: Tensor, h_tilde: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """minLSTM: h_t = f'_t h_{t-1} + (1 - f'_t) h̃_t,  f' = σ(f) / (σ(f) + σ(i)).

    f, i before their sigmoids, h_tilde [B, T, ...], initial_state [B, ...], reset [B, T] bool  ->  h [B, T, ...], final state [B, ...].

    Paper    Feng et al. 2024, arXiv:2410.01201.
    Raises   ValueError for shapes that do not fit; TypeError unless all are real floats, reset bool.
    """
    expect_number("h_tilde", h_tilde)
    return min_gru(input_over_forget(f, i, h_tilde), h_tilde, initial_state, reset)


@runs_as("log_scan")
def log_min_gru(z: Tensor, log_h_tilde: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`min_gru` of positive numbers, on their logarithms: log h_t = log((1 - σ(z_t)) h_{t-1} + σ(z_t) h̃_t).

    z before its sigmoid, log_h_tilde [B, T, ...], initial_state [B, ...] a log, reset [B, T] bool  ->  log h [B, T, ...], the last one.
    `log_positive` makes a log_h_tilde of any number.

    Paper    Feng et al. 2024, arXiv:2410.01201; Heinsen 2023, arXiv:2311.06281 (log space).
    Raises   ValueError for shapes that do not fit; TypeError unless all are real floats, reset bool.
    """
    expect_numbers("z", z, log_h_tilde=log_h_tilde)
    expect_real(z=z, log_h_tilde=log_h_tilde)
    expect_shape("log_h_tilde", log_h_tilde, tuple(z.shape), "batch, time, ...")
    working = working_dtype(z, log_h_tilde)
    z = z.to(working)
    h, final = log_scan(F.logsigmoid(-z), F.logsigmoid(z) + log_h_tilde.to(working), initial_state, reset)
    return h.to(log_h_tilde.dtype), final


@runs_as("log_scan")
def log_min_lstm(
    f: Tensor, i: Tensor, log_h_tilde: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`min_lstm` of positive numbers, on their logarithms: log h_t = log(f'_t h_{t-1} + (1 - f'_t) h̃_t),  f' = σ(f) / (σ(f) + σ(i)).

    f, i before their sigmoids; the rest as for `log_min_gru`.

    Paper    Feng et al. 2024, arXiv:2410.01201; Heinsen 2023, arXiv:2311.06281 (log space).
    Raises   ValueError for shapes that do not fit; TypeError unless all are real floats, reset bool.
    """
    expect_number("log_h_tilde", log_h_tilde)
    return log_min_gru(input_over_forget(f, i, log_h_tilde), log_h_tilde, initial_state, reset)


def input_over_forget(f: Tensor, i: Tensor, like: Tensor) -> Tensor:
    """The z that makes (1) out of (2), in the working precision."""
    expect_numbers("f", f, i=i)
    expect_real(f=f, i=i)
    expect_shape("i", i, tuple(f.shape), "batch, time, ...")
    working = working_dtype(f, i, like)
    return F.logsigmoid(i.to(working)) - F.logsigmoid(f.to(working))


def positive(x: Tensor) -> Tensor:
    """The paper's map to positive states: x + 1/2 above 0, σ(x) below.

    Paper    Feng et al. 2024, arXiv:2410.01201.
    Raises   TypeError unless x holds real floats.
    """
    expect_number("x", x)
    expect_real(x=x)
    return torch.where(x >= 0, x + 0.5, x.sigmoid())


def log_positive(x: Tensor) -> Tensor:
    """log(positive(x)), without rounding σ(x) to 0 first.

    Paper    Feng et al. 2024, arXiv:2410.01201.
    Raises   TypeError unless x holds real floats.
    """
    expect_number("x", x)
    expect_real(x=x)
    return torch.where(x >= 0, (x.clamp(min=0) + 0.5).log(), F.logsigmoid(x))


def log_scan(log_a: Tensor, log_x: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """log h_t = log(exp(log a_t + log h_{t-1}) + exp(log x_t)), logs in and logs out; rest is log 0 = -inf.

    log_x [B, T, ...], log_a of the same shape, initial_state [B, ...] a log, reset [B, T] bool  ->  log h [B, T, ...], the last [B, ...].

    Paper    Heinsen 2023, arXiv:2311.06281.
    Raises   ValueError for shapes that do not fit; TypeError unless all are real floats, reset bool.
    """
    expect_numbers("log_x", log_x, log_a=log_a, initial_state=initial_state)
    expect_real(log_x=log_x, log_a=log_a, initial_state=initial_state)
    if log_x.ndim < 2:
        raise ValueError(f"log_x is {list(log_x.shape)}, expected [batch, time, ...]")
    expect_shape("log_a", log_a, tuple(log_x.shape), "batch, time, ...")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (log_x.shape[0], *log_x.shape[2:]), "batch, ...")
    expect_reset(reset, *log_x.shape[:2])
    return run("log_scan", log_x.shape[1], log_a, log_x, initial_state, reset)


@form
def log_scan_recurrent(log_a, log_x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (3), read aloud."""
    log_a, log_x, h, dtype = _enter(log_a, log_x, initial_state)
    steps = []
    for t, (a, x) in enumerate(zip(log_a.unbind(1), log_x.unbind(1))):
        h = cleared(h, reset, t, rest=-torch.inf)
        h = log_add(a + h, x)
        steps.append(h)
    return along_time(steps, log_x).to(dtype), h


@twin("log_scan")
@form
def log_scan_chunked(log_a, log_x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """A tree of pairs: chunks of two steps, of four, of eight."""
    log_a, log_x, h, dtype = _enter(log_a, log_x, initial_state)
    if log_x.shape[1] == 0:
        return log_x.to(dtype), h
    states = tree(Semiring(torch.add, torch.add, log_add, -torch.inf), log_a, log_x, h, reset)
    return states.to(dtype), states[:, -1].clone()


@form(refuses=double, pays_from=1)
def log_scan_fused(log_a, log_x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    rest = log_x.new_full((log_x.shape[0], *log_x.shape[2:]), -torch.inf) if initial_state is None else initial_state
    a, x, h = log_a.float(), log_x.float(), rest.float()
    if log_x.shape[1] == 0:
        return log_x, h
    states, final = operators().log_scan(a, x, h, reset)
    return states.to(log_x.dtype), final


def log_add(x: Tensor, y: Tensor) -> Tensor:
    """log(exp x + exp y); of two zeros it is log 0, with no gradient that is a NaN."""
    high, low = torch.maximum(x, y), torch.minimum(x, y)
    gap = torch.where(low.isneginf(), -torch.inf, low - torch.where(low.isneginf(), 0, high))
    return high + gap.exp().log1p()


def _enter(log_a: Tensor, log_x: Tensor, initial_state: Tensor | None) -> tuple[Tensor, Tensor, Tensor, torch.dtype]:
    working = working_dtype(log_a, log_x, initial_state)
    dtype, log_a, log_x = log_x.dtype, log_a.to(working), log_x.to(working)
    rest = log_x.new_full((log_x.shape[0], *log_x.shape[2:]), -torch.inf)
    return log_a, log_x, rest if initial_state is None else initial_state.to(working), dtype
