"""A linear autoregression, fitted in closed form, of one order or as the mean of several.

    y = clip(A w + a, -r, r)                                                                                        (1)
    A, a = argmin  1/n Σ_t (z_{t+1} - A w_t - a)² + λ |A|²,        w_t = (z_{t-L+1}, ..., z_t)                      (2)
    λ    = argmin  Σ_t (z_{t+1} - A w_t - a)² / (n - 1 - Σ_i d_i / (d_i + λ))²,      d the eigenvalues of cov(w)    (3)
    A, a = Σ_L q_L (A_L, a_L),     Σ_L q_L = 1             of several orders L, 0 where A_L does not reach          (4)

for each channel of z by itself. (3) is generalized cross-validation: the error of leaving rows out, without leaving any out. (4) is again
one autoregression, as long as the longest, with one spectrum. The clip is far outside of what was measured; it is there so that a free run
of an autoregression that grows stays finite.

Paper    Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634 (2); Golub, Heath & Wahba 1979, doi:10.1080/00401706.1979.10489751 (3);
         Hansen 2007, doi:10.1111/j.1468-0262.2007.00785.x (4).
Cost     O(C T (C L)²) and an eigenvalue problem of size C L for each channel and order, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from separatrix.recurrence import Companion, Dense, State, Transition
from separatrix.recurrence.checks import expect_count

RIDGES = torch.logspace(-8, 1, 28, dtype=torch.float64)  # λ, in units where every value has variance 1
BEYOND = 4.0  # r, in multiples of the largest value measured


class RidgeAutoregression(nn.Module):
    """y = clip(A w + a, -r, r), a ridge regression on delay windows.    w [..., C L or more] -> y [..., C]

    A window holds L values of each channel, oldest first, and what follows them is not read.

    Its numbers are buffers: statistics of the data, like a mean, and no gradient changes them. Before `fit`, and of no more than L rows,
    it says 0.
    """

    weight: Tensor
    bias: Tensor
    limit: Tensor

    def __init__(self, channels: int, lags: int):
        super().__init__()
        self.channels, self.lags = expect_count("channels", channels), expect_count("lags", lags)
        self.register_buffer("weight", torch.zeros(channels, channels * lags))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("limit", torch.zeros(channels))

    def forward(self, w: Tensor) -> Tensor:
        """The forecast of the row after the window."""
        if w.shape[-1] < self.channels * self.lags:
            raise ValueError(f"w is {tuple(w.shape)} but must end in channels * lags = {self.channels} * {self.lags} values or more.")
        y = nn.functional.linear(w[..., : self.channels * self.lags], self.weight, self.bias)
        return torch.minimum(torch.maximum(y, -self.limit), self.limit)  # clamp's derivative is not recorded

    def fit(self, z: Tensor, orders: Mapping[int, float] | None = None) -> RidgeAutoregression:
        """Find A and a by least squares with a penalty λ |A|², λ by generalized cross-validation.    z [T, C] of about unit variance

        A gap, NaN, is held at the last value in a window and is never a target.

        orders  lengths of window, the longest `lags`, and the share of each one's fit in the mean of them; None: one fit of all `lags`.
        """
        if z.ndim != 2 or z.shape[1] != self.channels or not z.is_floating_point():
            raise ValueError(f"z is {tuple(z.shape)} {z.dtype} but must be [time, channels] with {self.channels} channels of real numbers.")
        if bool(torch.isinf(z).any()):
            raise ValueError("z holds infinite values. Mark what is missing as NaN and repair the rest.")
        if orders is not None:
            parts = [RidgeAutoregression(self.channels, L).double().fit(z) for L in orders]
            self.load_state_dict(mean_of_orders(parts, list(orders.values())).state_dict())
            return self
        if len(z) <= self.lags:
            return self
        z = z.double()
        self.limit.copy_(BEYOND * z.abs().nan_to_num(0.0).amax(0))
        windows, targets = carried(z).unfold(0, self.lags, 1)[:-1].flatten(1), z[self.lags :]
        for channel, target in enumerate(targets.unbind(1)):
            known = ~torch.isnan(target)
            if int(known.sum()) > 1:
                weight, bias = ridge_regression(windows[known], target[known])
                self.weight[channel], self.bias[channel] = weight.to(self.weight), bias.to(self.bias)
        return self

    def transition(self, w: Tensor, before: State | None = None) -> Transition:
        """How its windows move in free run, inside the clip: the same at every step, whatever `w` is.    -> [1, 1] of size C L

        Of one channel it is a Companion, whose eigenvalues are the roots of the characteristic polynomial.
        """
        A = self.weight.double()
        if self.channels == 1:
            return Companion(A[None])
        shift = torch.diag(A.new_ones(self.lags - 1), 1).repeat(self.channels, 1, 1)
        step = torch.block_diag(*shift)
        step[self.lags - 1 :: self.lags] = A
        return Dense(step[None, None])

    def free_run(self, rows: Tensor, steps: int) -> Tensor:
        """Fed with its own output.    rows [B, L, C], the last ones -> y [B, steps, C]"""
        if rows.ndim != 3 or rows.shape[1] != self.lags or rows.shape[2] != self.channels:
            raise ValueError(f"rows is {tuple(rows.shape)} but must be [batch, {self.lags}, {self.channels}]: the last rows, one a lag.")
        w, said = rows.transpose(1, 2), []
        for _ in range(steps):
            said.append(self(w.flatten(1)))
            w = torch.cat([w[:, :, 1:], said[-1][:, :, None]], dim=2)
        return torch.stack(said, dim=1)


def mean_of_orders(parts: Sequence[RidgeAutoregression], shares: Sequence[float]) -> RidgeAutoregression:
    """(4), of fits to the same rows."""
    longest = max(parts, key=lambda part: part.lags)
    C, lags = longest.channels, longest.lags
    mean = RidgeAutoregression(C, lags).to(longest.weight)
    for part, share in zip(parts, shares, strict=True):
        mean.weight.view(C, C, lags)[:, :, lags - part.lags :] += share * part.weight.view(C, C, part.lags)
        mean.bias += share * part.bias
        mean.limit.copy_(torch.maximum(mean.limit, part.limit))
    return mean


def ridge_regression(w: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(2) with (3) for one channel.    w [n, K], y [n] float64 -> A [K], a"""
    centre, mean, n = w.mean(0), y.mean(), len(w)
    w, y = w - centre, y - mean
    d, basis = torch.linalg.eigh(w.T @ w / n)
    d, along, ridges = d.clamp(min=0.0), basis.T @ (w.T @ y) / n, RIDGES[:, None]
    left = y.square().mean() - (along.square() * (d + 2 * ridges) / (d + ridges).square()).sum(1)
    free = 1 - (1 + (d / (d + ridges)).sum(1)) / n
    score = torch.where(free > 0, left.clamp(min=0.0) / free.square(), torch.inf)
    A = basis @ (along / (d + RIDGES[score.argmin()]))
    return A, mean - A @ centre


def carried(z: Tensor) -> Tensor:
    """Every gap filled by the last value before it, 0 where there is none.    [T, C] -> [T, C]"""
    rows = torch.arange(len(z))[:, None]
    last = torch.where(torch.isnan(z), -1, rows).cummax(0).values
    return torch.where(last >= 0, z.gather(0, last.clamp(min=0)), 0.0)
