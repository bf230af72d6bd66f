"""Causal softmax attention, the yardstick: its state is everything it has seen.

    y_t = W_o sum_s softmax_s(q_t . R(t - s) k_s / sqrt(K)) v_s,   s = t - window + 1 .. t                          (1)

R rotates neighbouring dimensions by angles proportional to t - s. The state holds keys as they came, not rotated: only differences of
time enter (1), so keys are turned relative to the call and the state has no clock that could run out of digits. `alive` is 0 for
what a reset has hidden. With a window the state is bounded, without one it grows.

Paper    Vaswani et al. 2017, arXiv:1706.03762; Su et al. 2021, arXiv:2104.09864 (rotation).
Cost     O(T window D); the state is [batch, up to window - 1, heads, d_head], twice.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from separatrix.mixers.door import check_input, parts
from separatrix.mixers.initial import check_divides, check_positive, linear
from separatrix.recurrence import State

BLOCK = 512  # queries whose mask is built at once: memory grows with T, not with T²


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Each pair of neighbours in x, as a complex number, times its turn.    x [B, T, H, K], turns [T, 1, K/2] complex"""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))  # there is no complex bfloat16
    return torch.view_as_real(torch.view_as_complex(wide.unflatten(-1, (-1, 2))) * turns).flatten(-2).to(x.dtype)


def turns_until_now(rates: Tensor, before: int, now: int, like: Tensor) -> Tensor:
    """R of the steps -before .. now - 1, relative to the first step of a call.    [before + now, 1, K/2] complex"""
    if now != 1 or torch.compiler.is_compiling() or not like.is_cpu:
        return turns(rates, -before, now, torch.promote_types(like.dtype, torch.float32), like.device)
    steps = max(256, 1 << before.bit_length())  # a step of generation: the last rows of a table that serves many
    return table(tuple(rates.tolist()), steps, torch.promote_types(like.dtype, torch.float32))[steps - 1 - before :]


@functools.lru_cache(maxsize=16)
def table(rates: tuple[float, ...], steps: int, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # it may be used where gradients are wanted
        return turns(torch.tensor(rates, dtype=torch.float64), 1 - steps, 1, dtype, torch.device("cpu"))


def turns(rates: Tensor, start: int, stop: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    angles = torch.arange(start, stop, device=device, dtype=dtype)[:, None, None] * rates.to(device, dtype)
    return torch.complex(angles.cos(), angles.sin())


def attend(q: Tensor, k: Tensor, v: Tensor, document: Tensor, window: int | None) -> Tensor:
    """Each query over the keys of its own document, no later than itself and less than `window` steps before.

    q [B, H, T, K], k, v [B, H, S + T, K], document [B, S + T] -> [B, H, T, K]; the last T keys are the queries' own steps
    """
    T, total = q.shape[2], k.shape[2]
    if T == 1 and (window is None or total <= window):
        return F.scaled_dot_product_attention(q, k, v, (document == document[:, -1:])[:, None, None])
    step = torch.arange(total, device=q.device)
    outputs = []
    for begin in range(0, T, BLOCK):
        end = min(begin + BLOCK, T)
        low, high = 0 if window is None else max(0, total - T + begin - window + 1), total - T + end
        now = step[total - T + begin : high, None]
        near = step[low:high] <= now
        if window is not None:
            near = near & (step[low:high] > now - window)
        mask = near & (document[:, low:high][:, None] == document[:, total - T + begin : high][:, :, None])
        outputs.append(F.scaled_dot_product_attention(q[:, :, begin:end], k[:, :, low:high], v[:, :, low:high], mask[:, None]))
    return torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0] if outputs else q


class CausalAttention(nn.Module):
    """Causal softmax attention with rotary positions.    x [B, T, D] -> y [B, T, D], k, v [B, S, H, K], alive [B, S]

        y_t = W_o sum_s softmax_s(q_t . R(t - s) k_s / sqrt(K)) v_s,  s = t - window + 1 .. t

    Paper    Vaswani et al. 2017, arXiv:1706.03762; Su et al. 2021, arXiv:2104.09864 (rotation R).

    d_model  D, channels in and out.
    n_heads  H, each with K = D / H dimensions.
    window   steps a query sees, itself included; None for all, and then the state grows with every step.
    base     rotations slow down from 1 to base^(2/K - 1) radians a step; None for no positions.
    """

    def __init__(
        self,
        d_model: int,
        *,
        n_heads: int = 4,
        window: int | None = None,
        base: float | None = 10_000.0,
        generator: Generator | None = None,
    ):
        super().__init__()
        self.d_head = check_divides(d_model, n_heads, "d_model", "n_heads")
        if base is not None and self.d_head % 2:
            raise ValueError(f"d_model / n_heads is {self.d_head}, but rotary positions need it even. Change one, or pass base=None.")
        if window is not None and window < 1:
            raise ValueError(f"window is {window} but a query sees at least itself. Use window >= 1, or None for all steps.")
        self.d_model, self.n_heads, self.window = d_model, n_heads, window
        half = torch.arange(self.d_head // 2, dtype=torch.float64) * 2 / self.d_head
        self.rates = None if base is None else check_positive(base, "base") ** -half  # float64 whatever the layer is cast to
        self.in_proj = linear(d_model, 3 * d_model, generator=generator)
        self.out_proj = linear(d_model, d_model, generator=generator)

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        check_input(x, self.d_model, self.in_proj.weight, reset)
        B, T, _ = x.shape
        heads = (self.n_heads, self.d_head)
        before_k, before_v, alive = parts(state, B, k=(None, *heads), v=(None, *heads), alive=(None,))
        qkv = self.in_proj(x).to(self.in_proj.weight.dtype)  # keys and values are the state: not rounded because of autocast
        q, k, v = qkv.unflatten(-1, (3, *heads)).unbind(2)
        present = k.new_ones(B, T)
        if before_k is not None and before_v is not None and alive is not None:
            k, v, alive = torch.cat([before_k, k], 1), torch.cat([before_v, v], 1), torch.cat([alive, present], 1)
        else:
            alive = present
        S = k.shape[1] - T
        queries, keys, values = q, k, v
        if self.rates is not None:
            turned = turns_until_now(self.rates, S, T, k)
            queries, keys = q if T == 1 else rotate(q, turned[S:]), rotate(k, turned)  # the first step of a call is not turned
        queries, keys, values = (part.transpose(1, 2) for part in (queries, keys, values))
        if S == 0 < T and reset is None and (self.window is None or self.window >= T):
            y = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        elif T == 1 and reset is None and (self.window is None or self.window > S):
            y = F.scaled_dot_product_attention(queries, keys, values, (alive > 0.5)[:, None, None])
        else:
            # A document a step belongs to: counted from 1, 0 for what an earlier reset has hidden.
            document = (alive > 0.5).to(torch.long)
            if reset is not None:
                started = reset.cumsum(1)
                document = torch.cat([document[:, :S], 1 + started], dim=1)
                alive = (document == document[:, -1:]).to(alive.dtype)
            y = attend(queries, keys, values, document, self.window)
        kept = slice(0 if self.window is None else max(0, S + T - self.window + 1), S + T)
        y = self.out_proj(y.transpose(1, 2).flatten(-2))
        if before_k is None or kept.start > S + T - kept.start:  # a view would keep more alive than it shows
            k, v, alive = (part[:, kept].clone() for part in (k, v, alive))
        elif kept.start:
            k, v, alive = k[:, kept], v[:, kept], alive[:, kept]
        return y, State(k=k, v=v, alive=alive)
