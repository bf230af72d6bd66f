"""What one writes in PyTorch without a kernel: one step after another, as plain as the equations.

Steps are collected in a list and stacked, so autograd stays linear in length (indexing a big tensor inside the loop, as some published
loops do, makes it quadratic).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def selective_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t,  y_t = C_t h_t + D u_t"""
    h = u.new_zeros(u.shape[0], u.shape[2], A.shape[1])
    rows = []
    for now, step, b, c in zip(u.unbind(1), delta.unbind(1), B.unbind(1), C.unbind(1)):
        h = torch.exp(step[..., None] * A) * h + (step * now)[..., None] * b[:, None]
        rows.append((h @ c[..., None])[..., 0])
    return torch.stack(rows, dim=1) + D * u


def diagonal_scan(a: Tensor, x: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + x_t"""
    h = torch.zeros_like(x[:, 0])
    rows = []
    for decay, now in zip(a.unbind(1), x.unbind(1)):
        h = decay * h + now
        rows.append(h)
    return torch.stack(rows, dim=1)


def log_scan(log_a: Tensor, log_x: Tensor) -> Tensor:
    """log h_t = log(exp(log a_t + log h_{t-1}) + exp(log x_t)), through running sums of log a as minGRU's paper has it"""
    total = log_a.cumsum(1)
    return total + torch.logcumsumexp(log_x - total, dim=1)


def diagonal_kernel(u: Tensor, a: Tensor, c: Tensor, skip: Tensor) -> Tensor:
    """y = k * u + skip u, with the kernel k_t = 2 Re(sum_n c_n a_n^t) written out as a Vandermonde matrix."""
    T = u.shape[1]
    powers = torch.exp(torch.log(a)[..., None] * torch.arange(T))  # [D, N, T]
    return long_convolution(2 * torch.einsum("dn,dnt->dt", c, powers).real, u) + skip * u


def long_convolution(kernel: Tensor, u: Tensor) -> Tensor:
    """y_t = sum_s kernel_s u_{t-s}, through the FFT of twice the length."""
    T = u.shape[1]
    spectrum = torch.fft.rfft(u, n=2 * T, dim=1) * torch.fft.rfft(kernel.T, n=2 * T, dim=0)
    return torch.fft.irfft(spectrum, n=2 * T, dim=1)[:, :T]


def short_convolution(u: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    C, K = weight.shape
    return F.silu(F.conv1d(F.pad(u.transpose(1, 2), (K - 1, 0)), weight[:, None], bias, groups=C)).transpose(1, 2)


def plrnn(A: Tensor, W: Tensor, x: Tensor) -> Tensor:
    """z <- A z + W relu(z) + x"""
    z = x.new_zeros(x.shape[0], x.shape[2])
    rows = []
    for now in x.unbind(1):
        z = A * z + z.relu() @ W.T + now
        rows.append(z)
    return torch.stack(rows, dim=1)


def diagonal_gru(A: Tensor, x: Tensor) -> Tensor:
    """z, r = sigmoid(A h + x), n = tanh(A_n r h + x_n), h <- (1 - z) h + z n, every channel alone"""
    h = x.new_zeros(x.shape[0], A.shape[1])
    rows = []
    for now in x.unbind(1):
        to_z, to_r, to_n = now.chunk(3, dim=-1)
        z, r = torch.sigmoid(A[0] * h + to_z), torch.sigmoid(A[1] * h + to_r)
        h = h + z * (torch.tanh(A[2] * (r * h) + to_n) - h)
        rows.append(h)
    return torch.stack(rows, dim=1)
