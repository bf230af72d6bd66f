"""Mixture of memories: several matrix states, of which a step reads and writes only the few it is routed to.

    p = softmax(logits_t)          the topk largest are kept, w_m = p_m over their sum                            (1)
    S_m <- rule(S_m, inputs_tm)                                 for the chosen m; the others are left as they are, without even a decay
    o_t = Σ_m w_m o_tm                                          over the chosen m

A memory sees its own steps in order and nothing of those between them. So the steps of every memory are packed into a sequence of their
own, one operation runs all B M of them at once, and the outputs are put back where they came from. What fills up the shorter sequences
is zero in every input: a step that, in every matrix-state operation, neither decays nor writes.

Paper    Du et al. 2025, arXiv:2502.13685.
Cost     that of the operation over topk T steps when the routing is balanced; B M times the longest memory's share when it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from separatrix.recurrence.checks import (
    expect_axes,
    expect_count,
    expect_numbers,
    expect_real,
    expect_reset,
    expect_shape,
    expect_tensor,
    readable,
)


class Routing(NamedTuple):
    """Which of so many memories every step reads and writes, and with what weight.

    Paper    Du et al. 2025, arXiv:2502.13685.
    """

    weights: Tensor  # [B, T, topk]
    chosen: Tensor  # [B, T, topk] int64, different memories
    memories: int


def route(logits: Tensor, topk: int) -> Routing:
    """p = softmax(logits_t), of which the topk largest are kept and divided by their sum.   logits [B, T, M] -> [B, T, topk]

    Paper    Du et al. 2025, arXiv:2502.13685.
    Raises   ValueError for logits not [B, T, M] and topk not in 1 .. M; TypeError unless logits are real floats.
    """
    expect_numbers("logits", logits)
    expect_axes("logits", logits, "batch, time, memories")
    expect_real(logits=logits)
    expect_count("topk", topk, 1)
    if topk > logits.shape[2]:
        raise ValueError(f"topk is {topk}, expected between 1 and the {logits.shape[2]} memories")
    weights, chosen = logits.softmax(-1).topk(topk, dim=-1)
    return Routing(weights / weights.sum(-1, keepdim=True), chosen, logits.shape[2])


def mixture_of_memories(
    rule: Callable[..., tuple[Tensor, Tensor]],
    routing: Routing,
    *inputs: Tensor | None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`rule`, any matrix-state operation, on every memory's own steps.

    rule(*inputs, initial_state=, reset=) -> (o, state); `inputs` are its tensors for every choice, [B, T, topk, heads, ...] (expand what
    the choices share), or None; initial_state [B, M, H, K, V], reset [B, T] bool: clears all memories  ->  o [B, T, H, V], final state.

    Paper    Du et al. 2025, arXiv:2502.13685.
    Raises   ValueError for shapes that do not fit; TypeError unless inputs are tensors, reset bool.
    """
    if not isinstance(routing, Routing):
        raise TypeError(f"routing is a {type(routing).__name__}, expected a Routing: route(logits, topk) makes one")
    weights, chosen, memories = routing
    batch, time, topk = chosen.shape
    for i, x in enumerate(inputs):
        if x is not None:
            expect_tensor(f"input {i} of the rule", x)
            expect_shape(f"input {i} of the rule", x, (batch, time, topk, *x.shape[3:]), "batch, time, topk, ...")
    if initial_state is not None:
        expect_tensor("initial_state", initial_state)
        expect_shape("initial_state", initial_state, (batch, memories, *initial_state.shape[2:]), "batch, memories, heads, key, value")
    expect_reset(reset, batch, time)

    taken = torch.zeros(batch, time, memories, dtype=torch.int64, device=chosen.device).scatter(2, chosen, 1)
    share = taken.sum(1)  # steps of each memory
    longest = int(share.max()) if readable(share) and time else time
    place = chosen * longest + (taken.cumsum(1) - 1).gather(2, chosen)  # of each choice among the packed steps
    nothing = time * topk  # the number of the step that fills up
    order = torch.full((batch, memories * longest), nothing, device=chosen.device)
    order = order.scatter(1, place.flatten(1), torch.arange(nothing, device=chosen.device).expand(batch, -1))

    def pack(x: Any) -> Any:
        """[B, T, topk, ...] -> [B M, longest, ...]"""
        return None if x is None else rows(torch.cat([x.flatten(1, 2), x.new_zeros(batch, 1, *x.shape[3:])], dim=1), order)

    def rows(x: Tensor, index: Tensor) -> Tensor:
        first = torch.arange(batch, device=x.device).unsqueeze(1) * x.shape[1]
        return x.flatten(0, 1).index_select(0, (first + index).flatten()).unflatten(0, (batch * memories, longest))

    start = None if initial_state is None else initial_state.flatten(0, 1)
    if reset is None:
        o, final = rule(*(pack(x) for x in inputs), initial_state=start, reset=None)
    else:
        cleared = reset.cumsum(1)  # how often, up to each step
        seen = pack(cleared.unsqueeze(-1).expand(-1, -1, topk))
        before = torch.cat([seen.new_zeros(batch * memories, 1), seen.cummax(1).values[:, :-1]], dim=1) if longest else seen
        o, final = rule(*(pack(x) for x in inputs), initial_state=start, reset=seen > before)
        last = seen.amax(1) if longest else seen.new_zeros(batch * memories)
        stale = cleared[:, -1:].expand(-1, memories).flatten() > last if time else torch.zeros_like(last, dtype=torch.bool)
        final = final.masked_fill(stale.reshape(-1, *[1] * (final.ndim - 1)), 0)
    every = o.unflatten(0, (batch, memories)).flatten(1, 2)
    first = torch.arange(batch, device=o.device).reshape(-1, 1, 1) * every.shape[1]
    o = every.flatten(0, 1)[(first + place).flatten()].unflatten(0, (batch, time, topk))
    mixed = (weights.reshape(batch, time, topk, *[1] * (o.ndim - 3)) * o).sum(2)
    return mixed.to(every.dtype), final.unflatten(0, (batch, memories))
