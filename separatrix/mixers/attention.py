"""Causal softmax attention, the yardstick: its state is everything it has seen.

    y_t = W_o sum_s softmax_s(q_t . R(s - t) k_s / sqrt(K)) v_s,   s = t - window + 1 .. t                          (1)

R and one step of (1) are in `recurrence/attention.py`. The state holds keys as they came, not rotated; `alive` is 0 for what a reset has
hidden. With a window the state is bounded, without one it grows.

Paper    Vaswani et al. 2017, arXiv:1706.03762; Su et al. 2021, arXiv:2104.09864 (rotation).
Cost     O(T window D); the state is [batch, up to window - 1, heads, d_head], twice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from separatrix.mixers.door import expect_input, parts
from separatrix.mixers.initial import linear
from separatrix.mixers.settings import expect_divides
from separatrix.recurrence import State
from separatrix.recurrence.attention import attention_step, rotate, turns
from separatrix.recurrence.checks import expect_count, expect_positive
from separatrix.recurrence.plan import finite

BLOCK = 512  # queries whose mask is built at once: memory grows with T, not with T²


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


def attend_one_by_one(q: Tensor, k: Tensor, v: Tensor, document: Tensor, window: int | None) -> Tensor:
    """The same, and no query meets what it does not hear: torch's kernels multiply that by zero, but 0 times NaN is NaN."""
    outputs = []
    for stop in range(k.shape[2] - q.shape[2] + 1, k.shape[2] + 1):
        low = 0 if window is None else max(0, stop - window)
        heard = (document[:, low:stop] == document[:, stop - 1 : stop])[:, None, :, None]
        keys, values = (part[:, :, low:stop].masked_fill(~heard, 0.0) for part in (k, v))
        now = q[:, :, stop - 1 - k.shape[2] + q.shape[2]].unsqueeze(2)
        outputs.append(F.scaled_dot_product_attention(now, keys, values, heard.transpose(2, 3)))
    return torch.cat(outputs, dim=2) if outputs else q


class CausalAttention(nn.Module):
    """Causal softmax attention with rotary positions.    x [B, T, D] -> y [B, T, D], k, v [B, S, H, K], alive [B, S]

        y_t = W_o sum_s softmax_s(q_t . R(s - t) k_s / sqrt(K)) v_s,  s = t - window + 1 .. t

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
        self.d_head = expect_divides("n_heads", n_heads, "d_model", d_model)
        if base is not None and self.d_head % 2:
            raise ValueError(f"d_model / n_heads is {self.d_head}, but rotary positions need it even. Change one, or pass base=None.")
        if window is not None:
            expect_count("window", window)
        self.d_model, self.n_heads, self.window = d_model, n_heads, window
        half = torch.arange(self.d_head // 2, dtype=torch.float64, device="cpu") * 2 / self.d_head
        self.rates = None if base is None else expect_positive("base", base) ** -half  # float64 whatever the layer is cast to
        self.in_proj = linear(d_model, 3 * d_model, generator=generator)
        self.out_proj = linear(d_model, d_model, generator=generator)

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        expect_input(x, self.d_model, self.in_proj.weight, reset)
        B, T, _ = x.shape
        heads = (self.n_heads, self.d_head)
        qkv = self.in_proj(x).to(self.in_proj.weight.dtype)  # keys and values are the state: not rounded because of autocast
        qkv = qkv.view(B, T, 3, *heads)
        before_k, before_v, alive = parts(state, B, k=(None, *heads), v=(None, *heads), alive=(None,))
        if before_k is None or before_v is None or alive is None:
            before_k, before_v, alive = qkv.new_empty(B, 0, *heads), qkv.new_empty(B, 0, *heads), qkv.new_empty(B, 0)
        if before_k.dtype is not qkv.dtype:
            before_k, before_v, alive = before_k.to(qkv), before_v.to(qkv), alive.to(qkv)
        S = before_k.shape[1]
        if T == 1 and reset is None and (self.window is None or self.window > S):
            forget = 0 if self.window is None else max(0, S + 2 - self.window)
            y, k, v, alive = attention_step(qkv[:, 0], before_k, before_v, alive, self.rates, forget)
            return self.out_proj(y.flatten(1).unsqueeze(1)), State(k=k, v=v, alive=alive)
        q, k, v = qkv.unbind(2)
        k, v, alive = torch.cat([before_k, k], 1), torch.cat([before_v, v], 1), torch.cat([alive, qkv.new_ones(B, T)], 1)
        # A document a step belongs to: counted from 1, 0 for what an earlier reset has hidden.
        document = (alive > 0.5).to(torch.long)
        if reset is not None:
            document = torch.cat([document[:, :S], 1 + reset.cumsum(1)], dim=1)
            alive = (document == document[:, -1:]).to(alive.dtype)
        queries, keys, values = q, k, v
        if self.rates is not None:
            turned = turns(self.rates, -S, T, k)
            queries, keys = rotate(q, turned[S:]), rotate(k, turned)
        queries, keys, values = (part.transpose(1, 2) for part in (queries, keys, values))
        if S == 0 < T and reset is None and (self.window is None or self.window >= T):
            y = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        else:
            y = attend(queries, keys, values, document, self.window)
        if not finite(y):
            y = attend_one_by_one(queries, keys, values, document, self.window)
        y = self.out_proj(y.transpose(1, 2).flatten(-2))
        first = 0 if self.window is None else max(0, S + T - self.window + 1)
        if first:
            k, v, alive = k[:, first:], v[:, first:], alive[:, first:]
        if first > k.shape[1]:  # a view would keep more alive than it shows
            k, v, alive = k.clone(), v.clone(), alive.clone()
        return y, State(k=k, v=v, alive=alive)
