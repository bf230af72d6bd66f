"""Companion transitions: a shift register whose last number is fed back.

    A = S + a e_Nᵀ,   (A h)_1 = a_1 h_N,   (A h)_i = h_{i-1} + a_i h_N                                             (1)
    h_t = A h_{t-1} + b u_t,   y_t = cᵀ h_t                                                                       (2)

S shifts down by one, and A's last column is a: every ARMA process of order N is (2). The eigenvalues are the roots of
z^N - a_N z^(N-1) - ... - a_1. Since S is nilpotent, everything about (2) is a quotient of polynomials in x = 1/z,

    sum_l x^l cᵀ A^l b = C_b(x) + x C_a(x) E_b(x) / Q(x),   Q = 1 - x E_a                                          (3)

with E_v = sum_k v_{N-k} x^k the powers of S seen from below and C_v = sum_k (sum_i c_{i+k} v_i) x^k those seen by c. So the convolution
kernel of (2) to length l and its last state cost products and one inverse of power series, by FFT: O(l + N) up to logarithms, and no power
of A is formed. The inverse is Newton's, G <- G (2 - Q G), twice as many exact coefficients a step.

An FFT leaves every coefficient with roundings of the largest. So where the response grows, x is measured in units of its growth r: series
in x / r, which do not grow, times r^l at the end.

Paper    Zhang et al. 2023 (SpaceTime), arXiv:2303.09489.
Departs  the paper evaluates (3) at roots of unity, which needs cᵀ(I - A^l); power series need no such correction. Coefficients are used as
         they come: |a|_1 <= 1, the paper's normalisation, keeps every root in the unit disc (`normalised` does it).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence.checks import (
    along_time,
    expect_axes,
    expect_count,
    expect_numbers,
    expect_real,
    expect_reset,
    expect_shape,
    expect_some,
    readable,
    working_dtype,
)
from separatrix.recurrence.dense import Dense, dense_scan
from separatrix.recurrence.dense_ssm import in_chunks
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared
from separatrix.recurrence.transition import Transition, at_least_single, expect_same_size, scan, start

CHUNK = 32
LARGE = 1e3  # a response may grow this much before its scale is changed: three digits of sixteen


@dataclass(frozen=True)
class Companion(Transition):
    """S + a e_Nᵀ: ones below the diagonal, a as the last column.   a [..., N]

    Paper    Zhang et al. 2023 (SpaceTime), arXiv:2303.09489.
    """

    runs_as = "dense_scan"

    a: Tensor

    @property
    def size(self) -> int:
        return self.a.shape[-1]

    def apply(self, h: Tensor) -> Tensor:
        return F.pad(h[..., :-1], (1, 0)) + self.a * h[..., -1:]

    def apply_to_columns(self, S: Tensor) -> Tensor:
        return F.pad(S[..., :-1, :], (0, 0, 1, 0)) + self.a.unsqueeze(-1) * S[..., -1:, :]

    def krylov(self, h: Tensor, count: int) -> Tensor:
        """h, A h, A² h, ...   [..., N] -> [..., N, count]"""
        vectors = [h]
        for _ in range(count - 1):
            vectors.append(self.apply(vectors[-1]))
        return torch.stack(vectors, dim=-1)

    def compose(self, later: Transition) -> Transition:
        expect_same_size(self, later)
        return Dense(self.dense()).compose(later)

    def spectrum(self) -> Tensor:
        return torch.linalg.eigvals(at_least_single(self.dense()))

    def norm(self) -> Tensor:
        """A Aᵀ is the identity but for a plane, so the largest singular value is the root of a quadratic."""
        if self.size == 1:
            return self.a.abs().squeeze(-1)
        s, first = 1 + self.a.abs().square().sum(-1), self.a[..., 0].abs()
        return ((s + ((s - 2 * first) * (s + 2 * first)).clamp(min=0).sqrt()) / 2).sqrt()

    def arguments(self) -> tuple[Tensor, ...]:
        return (self.dense(),)

    def dense(self) -> Tensor:
        N = self.size
        shift = torch.diag(self.a.new_ones(N - 1), -1)
        last = F.one_hot(torch.tensor(N - 1, device=self.a.device), N).to(self.a.dtype)
        return shift + self.a.unsqueeze(-1) * last


def normalised(a: Tensor, p: float = 1) -> Tensor:
    """a / |a|_p: with p = 1 the paper's constraint, no root outside the unit disc."""
    return F.normalize(a, p=p, dim=-1, eps=torch.finfo(a.dtype).tiny)


def companion_kernel(a: Tensor, b: Tensor, c: Tensor, length: int) -> Tensor:
    """K_l = cᵀ A^l b for l < length.   a, b, c [..., N] real -> [..., length]

    In float64 whatever comes in, by power series. Where a root has left the unit disc taps grow, and are infinite beyond the dtype.

    Paper    Zhang et al. 2023 (SpaceTime), arXiv:2303.09489.
    Raises   ValueError for shapes that do not fit and a length below 0; TypeError unless all are real floats.
    """
    expect_numbers("a", a, b=b, c=c)
    expect_real(a=a, b=b, c=c)
    if a.ndim == 0:
        raise ValueError("a is [], expected [..., state]")
    for name, x in (("b", b), ("c", c)):
        expect_shape(name, x, tuple(a.shape), "..., state")
    expect_some(state=a.shape[-1])
    expect_count("length", length, 0)
    out, (a, b, c) = working_dtype(a, b, c), (x.double() for x in (a, b, c))
    if a.numel() == 0:
        return ((c * b).sum(-1, keepdim=True) * a.new_zeros(length)).to(out)
    N, taps, length = a.shape[-1], length, max(length, 1)
    spectrum = torch.fft.rfft(c, 2 * N)
    seen_a, seen_b = (torch.fft.irfft(spectrum * torch.fft.rfft(v, 2 * N).conj(), 2 * N)[..., :N] for v in (a, b))
    r = growth_rate(a, length)
    shrunk, grown = geometric(1 / r, N), geometric(r, length)
    fed_back = multiply(multiply(seen_a * shrunk, feedback(a, r, length), length), b.flip(-1) * shrunk, length) * grown
    return (_to(seen_b, length) + F.pad(fed_back, (1, 0))[..., :length])[..., :taps].to(out)


def geometric(r: Tensor, length: int) -> Tensor:
    """r^0, r^1, ...   [..., 1] -> [..., length]"""
    return r ** torch.arange(length, dtype=r.dtype, device=r.device)


@torch.no_grad()
def growth_rate(a: Tensor, length: int) -> Tensor:
    """The factor by which a response grows a step, where it comes to matter and values may be looked at; else 1.   [..., N] -> [..., 1]"""
    a = a.detach()
    still = torch.ones_like(a[..., :1])
    if not readable(a) or bool((a.abs().sum(-1) <= 1).all()) or bool(feedback(a, still, length).abs().amax() <= LARGE):
        return still
    return Companion(a).spectrum().abs().amax(-1, keepdim=True).clamp(min=1)


def feedback(a: Tensor, r: Tensor, length: int) -> Tensor:
    """1 / Q at x / r, the response of the number that is fed back to a unit in it.   a [..., N], r [..., 1] -> [..., length]"""
    Q = _to(F.pad(-a.flip(-1), (1, 0), value=1) * geometric(1 / r, a.shape[-1] + 1), length)
    G = torch.ones_like(Q[..., :1])
    while G.shape[-1] < length:
        n = min(2 * G.shape[-1], length)
        rest = multiply(Q[..., :n], G, n)[..., G.shape[-1] :]  # Q G = 1 + x^m rest
        G = torch.cat([G, -multiply(G, rest, n - G.shape[-1])], dim=-1)
    return G[..., :length]


def companion_state(a: Tensor, b: Tensor, u: Tensor) -> Tensor:
    """The last state of h_t = A h_{t-1} + b u_t from rest, sum_j A^(T-1-j) b u_j.   a, b [H, N], u [B, T, H] real -> [B, H, N]

    Paper    Zhang et al. 2023 (SpaceTime), arXiv:2303.09489.
    Raises   ValueError for shapes that do not fit; TypeError unless all are real floats.
    """
    expect_numbers("u", u, a=a, b=b)
    expect_real(u=u, a=a, b=b)
    expect_axes("u", u, "batch, time, channels")
    expect_axes("a", a, "channels, state")
    for name, x in (("a", a), ("b", b)):
        expect_shape(name, x, (u.shape[2], a.shape[1]), "channels, state")
    out, (a, b, u) = working_dtype(a, b, u), (x.double() for x in (a, b, u))
    time, N = u.shape[1], a.shape[-1]
    expect_some(state=N)
    if u.numel() == 0:
        return (u.sum(1).unsqueeze(-1) * b).to(out)
    drive = u.transpose(1, 2)  # [B, H, T]
    r = growth_rate(a, time)
    arrived = multiply(drive * geometric(1 / r, time), b.flip(-1) * geometric(1 / r, N), time)
    last = multiply(arrived, feedback(a, r, time), time) * geometric(r, time)  # h_t[N] for all t
    before = F.pad(last, (1, 0))[..., :-1]

    def shifted_in(v: Tensor, s: Tensor) -> Tensor:
        """sum_j v[i - j] s_{T-1-j}: the last N numbers, each moved down as far as it has come."""
        return multiply(v, _to(s.flip(-1), N), N)

    return (shifted_in(a, before) + shifted_in(b, drive)).to(out)


def companion_ssm(
    u: Tensor, a: Tensor, b: Tensor, c: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """h_t = A h_{t-1} + b u_t,  y_t = cᵀ h_t,  A the companion matrix of a, one system a channel.

    u [B, T, H], a, b, c [H, N] real, initial_state [B, H, N], reset [B, T] bool  ->  y [B, T, H], final state [B, H, N].

    Paper    Zhang et al. 2023 (SpaceTime), arXiv:2303.09489.
    Raises   ValueError for shapes that do not fit; TypeError unless all are real floats, reset bool.
    """
    expect_numbers("u", u, a=a, b=b, c=c, initial_state=initial_state)
    expect_real(u=u, a=a, b=b, c=c, initial_state=initial_state)
    expect_axes("u", u, "batch, time, channels")
    expect_axes("a", a, "channels, state")
    shape = (u.shape[2], a.shape[1])
    expect_some(state=a.shape[1])
    for name, x in (("a", a), ("b", b), ("c", c)):
        expect_shape(name, x, shape, "channels, state")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (u.shape[0], *shape), "batch, channels, state")
    expect_reset(reset, *u.shape[:2])
    return run("companion_ssm", u.shape[1], u, a, b, c, initial_state, reset)


@form
def companion_ssm_recurrent(u, a, b, c, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (2), read aloud."""
    dtype = u.dtype
    u, a, b, c, h = _enter(u, a, b, c, initial_state)
    A, reads = Companion(a), []
    for t, drive in enumerate(u.unbind(1)):
        h = A.apply(cleared(h, reset, t)) + b * drive.unsqueeze(-1)
        reads.append((c * h).sum(-1))
    return along_time(reads, u).to(dtype), h


@form(mixes=True)
def companion_ssm_chunked(u, a, b, c, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Inside a chunk of C steps a triangle of the kernel, and what c sees of the state before it; between chunks the powers A^C.

    O(C + N) a step as matrix products, where (1) one by one is O(N) memory traffic.
    """
    dtype, chunk = u.dtype, max(1, min(CHUNK, u.shape[1]))
    u, a, b, c, h = _enter(u, a, b, c, initial_state)
    N = a.shape[1]
    pushed, columns = Companion(a).krylov(torch.stack([b, a]), chunk).unbind()
    # A e_i = e_{i+1} and A e_N = a: Aⁿ is made of the columns n to n + N of e_1, ..., e_N, a, A a, ..., and cᵀ Aⁿ of what c sees of them
    seen = torch.cat([c[:, 1:], (c.unsqueeze(-2) @ columns).squeeze(-2)], dim=-1).unfold(-1, chunk, 1)

    def raised(n: int) -> Tensor:
        if n >= N:
            return columns[..., n - N : n]
        return torch.cat([torch.eye(N, dtype=a.dtype, device=a.device)[:, n:].expand(len(a), -1, -1), columns[..., :n]], dim=-1)

    y, last = in_chunks(u, raised, (c.unsqueeze(-2) @ pushed).squeeze(-2), pushed, seen, h, reset)
    return y.to(dtype), last


def companion_closed_loop(a: Tensor, b: Tensor, c: Tensor, k: Tensor, state: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """A companion system driven by its own prediction u = kᵀ h: h_{t+1} = (A + b kᵀ) h_t from h_0 = state.

    a, b, c, k [H, N], state [B, H, N] -> y_t = cᵀ h_t, u_t = kᵀ h_t for t = 0 ... horizon - 1, each [B, horizon, H]; t = 0 reads `state`.
    Coefficients are used as they come. The paper's code normalises b, k and c by their 1-norms for the rollout and predicts u with k as it
    is: pass `normalised` b, k, c for its y, and scale u by |k|_1 for its u.

    Paper    Zhang et al. 2023 (SpaceTime), arXiv:2303.09489.
    Raises   ValueError for shapes that do not fit and a horizon below 0; TypeError unless all are floats or complex.
    """
    expect_numbers("state", state, a=a, b=b, c=c, k=k)
    expect_axes("state", state, "batch, channels, state")
    for name, x in (("a", a), ("b", b), ("c", c), ("k", k)):
        expect_shape(name, x, tuple(state.shape[1:]), "channels, state")
    expect_count("horizon", horizon, 0)
    dtype = working_dtype(a, b, c, k, state)
    a, b, c, k, state = (x.to(dtype) for x in (a, b, c, k, state))
    A, h, states = Companion(a), state, []
    for _ in range(horizon):
        states.append(h)
        h = A.apply(h) + b * (k * h).sum(-1, keepdim=True)
    every = along_time(states, state.new_zeros(state.shape[0], 0, *state.shape[1:]))
    return (every * c).sum(-1), (every * k).sum(-1)


def multiply(p: Tensor, q: Tensor, length: int) -> Tensor:
    """The first coefficients of the product of two power series.   p, q [..., any] -> [..., length]"""
    n = p.shape[-1] + q.shape[-1] - 1
    return _to(torch.fft.irfft(torch.fft.rfft(p, n) * torch.fft.rfft(q, n), n), length)


def _to(p: Tensor, length: int) -> Tensor:
    return F.pad(p[..., :length], (0, max(0, length - p.shape[-1])))


def _enter(u: Tensor, a: Tensor, b: Tensor, c: Tensor, initial_state: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    working = working_dtype(u, a, b, c, initial_state)
    u, a, b, c = (x.to(working) for x in (u, a, b, c))
    return u, a, b, c, u.new_zeros(u.shape[0], *a.shape) if initial_state is None else initial_state.to(working)


@scan.register
def _(A: Companion, drive: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return dense_scan(A.dense(), drive, start(A, drive, initial_state), reset)
