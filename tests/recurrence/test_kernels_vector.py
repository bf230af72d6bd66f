"""The kernels of vector states against the definitions: outputs, final states and every gradient, at ragged sizes and chunk edges.

Each kernel is wrapped as the autograd function it is written for; what it writes starts as NaN, so a forgotten cell shows.
"""

import platform
from functools import partial

import pytest
import torch
from agree import agree, gradient
from numba import njit

from separatrix.recurrence.dense import dense_scan_fused, dense_scan_recurrent
from separatrix.recurrence.diagonal import diagonal_scan_recurrent
from separatrix.recurrence.diagonal_ssm import diagonal_ssm_recurrent
from separatrix.recurrence.kernels import diagonal, diagonal_ssm, exponential, gates, selective
from separatrix.recurrence.kernels.lanes import ZERO, fill, load_first, store_first
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.selective import selective_scan_recurrent

LENGTHS = [0, 1, 2, 31, 32, 33, 70]
SUMS = "a sum over time rounds at every step, a nudge moves each number once"


def blank(*shape, like):
    return torch.full(shape, float("nan"), dtype=like.dtype)


def flat(*tensors):
    """The numbers of each as the kernels want them: one after another, complex ones as pairs."""
    return [
        None if x is None else (torch.view_as_real(x.resolve_conj()) if x.is_complex() else x).detach().contiguous().view(-1).numpy()
        for x in tensors
    ]


def whole(*tensors):
    """As `flat`, but a complex number is one."""
    return [None if x is None else x.resolve_conj().detach().contiguous().view(-1).numpy() for x in tensors]


def starts(batch, T, some):
    """Resets, where asked: at the first step, in the middle and at a chunk's edge."""
    reset = torch.zeros(batch, T, dtype=torch.bool)
    if some:
        reset[0, T // 2 :: 5] = True
        reset[-1, :1] = True
        reset[-1, 32:33] = True
    return reset


class DiagonalScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, block, a, x, start, reset):
        batch, T, D = x.shape
        h, final = blank(*x.shape, like=x), blank(batch, D, like=x)
        ctx.strides = (0 if a.shape[0] == 1 else a.shape[1] * D, 0 if a.shape[1] == 1 else D)
        ctx.block, ctx.units = block, batch * -(-D // block)
        ctx.save_for_backward(a, start, reset, h)
        diagonal.forward(0, ctx.units, (T, D), block, *ctx.strides, *whole(a, x, reset.to(torch.uint8), start, h, final))
        return h, final

    @staticmethod
    def backward(ctx, dy, dfinal):
        a, start, reset, h = ctx.saved_tensors
        batch, T, D = h.shape
        dx, dstart = blank(*h.shape, like=h), blank(batch, D, like=h)
        da = blank(batch, T if ctx.strides[1] else 1, D, like=h)
        kernel = diagonal.backward
        kernel(0, ctx.units, (T, D), ctx.block, *ctx.strides, *whole(a, reset.to(torch.uint8), start, h, dy, dfinal, dx, da, dstart))
        alone = blank(*h.shape, like=h)
        kernel(
            0, ctx.units, (T, D), ctx.block, *ctx.strides, *whole(a, reset.to(torch.uint8), start, None, dy, dfinal, alone, None, dstart)
        )
        assert torch.equal(alone, dx)
        return None, da if a.shape[0] == batch else da.sum(0, keepdim=True), dx, dstart, None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", [torch.float64, torch.complex128], ids=["real", "complex"])
@pytest.mark.parametrize("T", [0, 1, 2, 33])
def test_diagonal(T, kind, dtype):
    for D, vary, block, some in [
        (1, (True, True), 64, False),
        (37, (True, False), 64, True),
        (150, (False, False), 64, True),
        (150, (False, True), 512, True),
        (129, (True, True), 512, False),
    ]:
        batch = 2
        a = torch.randn(batch if vary[0] else 1, T if vary[1] else 1, D, dtype=kind)
        a = a / (1 + a.abs())
        inputs = (a, torch.randn(batch, T, D, dtype=kind), torch.randn(batch, D, dtype=kind), starts(batch, T, some))
        fast = partial(DiagonalScan.apply, block)
        agree(fast, diagonal_scan_recurrent, inputs, dtype)
        agree(gradient(fast), gradient(diagonal_scan_recurrent), inputs, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("N", [1, 5, 16, 37])
def test_dense_matrices_column_by_column(N, dtype):
    """What `torch.linalg` returns is read, and its gradient written, as it lies."""
    for shared in ((2, 9), (1, 9), (2, 1), (1, 1)):
        A = (torch.randn(*shared, 3, N, N, dtype=torch.float64) / (2 * N**0.5)).mT
        inputs = (A, torch.randn(2, 9, 3, N, dtype=torch.float64), torch.randn(2, 3, N, dtype=torch.float64), starts(2, 9, True))
        agree(dense_scan_fused, dense_scan_recurrent, inputs, dtype)
        agree(gradient(dense_scan_fused), gradient(dense_scan_recurrent), inputs, dtype)
        matrices = A.to(dtype).requires_grad_()
        (grad,) = torch.autograd.grad(dense_scan_fused(matrices, *(x.to(dtype) for x in inputs[1:3]))[0].sum(), matrices)
        assert grad.mT.is_contiguous()


def complex_of(planes):
    """[N, 2, D] -> [D, N] complex"""
    return torch.complex(planes[:, 0], planes[:, 1]).T


class DiagonalSSM(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, a, c, skip, start, reset):
        (batch, T, D), N = u.shape, a.shape[1]
        units, chunks = batch * -(-D // diagonal_ssm.LANES), -(-T // diagonal_ssm.CHUNK)
        checkpoints, y, final = blank(batch, chunks + 1, N, 2, D, like=u), blank(*u.shape, like=u), blank(batch, D, N, like=a)
        inputs = flat(u, a, c, skip, reset.to(torch.uint8))
        diagonal_ssm.forward(0, units, (T, D, N), *inputs, *flat(start, y, final, checkpoints))
        again, state = blank(*u.shape, like=u), blank(batch, D, N, like=a)
        diagonal_ssm.forward(0, units, (T, D, N), *inputs, *flat(start, again, state, None))
        assert torch.equal(y, again) and torch.equal(final, state)
        ctx.save_for_backward(u, a, c, skip, reset, checkpoints)
        return y, final

    @staticmethod
    def backward(ctx, dy, dfinal):
        u, a, c, skip, reset, checkpoints = ctx.saved_tensors
        (batch, T, D), N = u.shape, a.shape[1]
        du, da, dc = blank(*u.shape, like=u), blank(batch, N, 2, D, like=u), blank(batch, N, 2, D, like=u)
        dskip, dstart = blank(batch, D, like=u), blank(batch, D, N, like=a)
        inputs = flat(u, a, c, skip, reset.to(torch.uint8), checkpoints, dy, dfinal)
        diagonal_ssm.backward(0, batch * -(-D // diagonal_ssm.LANES), (T, D, N), *inputs, *flat(du, da, dc, dskip, dstart))
        return du, complex_of(da.sum(0)), complex_of(dc.sum(0)), dskip.sum(0), dstart, None


@pytest.mark.parametrize("T", [0, 1, 3, 4, 63, 64, 65, 70])
def test_diagonal_ssm(T):
    def by_definition(u, a, c, skip, start, reset):
        return diagonal_ssm_recurrent(u, a, c, skip, start, reset)

    for D, N, some in [(3, 4, False), (20, 5, True), (33, 2, False), (40, 7, True)]:
        batch = 2
        u, skip = torch.randn(batch, T, D), torch.randn(D)
        a = torch.polar(1 - torch.rand(D, N) ** 3, 3 * torch.rand(D, N))
        c, start = torch.randn(D, N, dtype=torch.complex64), torch.randn(batch, D, N, dtype=torch.complex64)
        inputs = (u.double(), *(z.to(torch.complex128) for z in (a, c)), skip.double(), start.to(torch.complex128), starts(batch, T, some))
        agree(DiagonalSSM.apply, by_definition, inputs, torch.float32)
        agree(gradient(DiagonalSSM.apply), gradient(by_definition), inputs, torch.float32, factor=6, because=SUMS)


class SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, group, soft, u, delta, A, B, C, D, z, bias, start, reset):
        (batch, T, channels), N = u.shape, A.shape[1]
        chunks, blocks = -(-T // selective.CHUNK), -(-channels // selective.LANES)
        checkpoints, y, final = blank(batch, chunks + 1, N, channels, like=u), blank(*u.shape, like=u), blank(batch, channels, N, like=u)
        inputs = *flat(u, delta, A, B, C, D, z, bias), soft, *flat(reset.to(torch.uint8), start)
        selective.forward(0, batch * blocks, (T, channels, N), *inputs, *flat(y, final, checkpoints))
        again, state = blank(*u.shape, like=u), blank(batch, channels, N, like=u)
        selective.forward(0, batch * blocks, (T, channels, N), *inputs, *flat(again, state, None))
        assert torch.equal(y, again) and torch.equal(final, state)
        ctx.save_for_backward(u, delta, A, B, C, D, z, bias, reset, checkpoints)
        ctx.group, ctx.soft = group, soft
        return y, final

    @staticmethod
    def backward(ctx, dy, dfinal):
        *inputs, reset, checkpoints = ctx.saved_tensors
        u, A, z = inputs[0], inputs[2], inputs[6]
        (batch, T, channels), N, groups = u.shape, A.shape[1], -(-u.shape[2] // ctx.group)
        du, ddelta, dA = blank(*u.shape, like=u), blank(*u.shape, like=u), blank(batch, N, channels, like=u)
        dB, dC = blank(groups, batch, T, N, like=u), blank(groups, batch, T, N, like=u)
        dD, dbias, dstart = blank(batch, channels, like=u), blank(batch, channels, like=u), blank(batch, channels, N, like=u)
        dz = None if z is None else blank(*u.shape, like=u)
        given = *flat(*inputs), ctx.soft, *flat(reset.to(torch.uint8), checkpoints, dy, dfinal)
        wanted = flat(du, ddelta, dA, dB, dC, dD, dz, dbias, dstart)
        selective.backward(0, batch * groups, (batch, T, channels, N), ctx.group, *given, *wanted)
        return None, None, du, ddelta, dA.sum(0).T, dB.sum(0), dC.sum(0), dD.sum(0), dz, dbias.sum(0), dstart, None


@pytest.mark.parametrize("T", LENGTHS)
def test_selective(T):
    for channels, N, group, some, gated, soft in [
        (3, 4, 128, False, False, False),
        (33, 5, 128, True, True, True),
        (70, 16, 32, True, False, True),
        (150, 3, 128, False, True, False),
    ]:
        batch = 2
        u, B, C = torch.randn(batch, T, channels), torch.randn(batch, T, N), torch.randn(batch, T, N)
        delta = 3 * torch.randn(batch, T, channels) if soft else torch.rand(batch, T, channels)
        A, D, bias = -3 * torch.rand(channels, N), torch.randn(channels), torch.rand(channels)
        z = 3 * torch.randn(batch, T, channels) if gated else None
        inputs = u, delta, A, B, C, D, z, bias, torch.randn(batch, channels, N)
        inputs = *(x if x is None else x.double() for x in inputs), starts(batch, T, some)

        def by_definition(u, delta, A, B, C, D, z, bias, start, reset, soft=soft):
            return selective_scan_recurrent(u, delta, A, B, C, D, z, bias, soft, start, reset)

        fast = partial(SelectiveScan.apply, group, soft)
        agree(fast, by_definition, inputs, torch.float32)
        agree(gradient(fast), gradient(by_definition), inputs, torch.float32, factor=6, because=SUMS)


def test_gates():
    """Relative precision everywhere, overflow nowhere, and a NaN stays one."""
    x = torch.cat([torch.linspace(-80, 80, 4001), torch.logspace(-30, 2, 200), -torch.logspace(-30, 2, 200), torch.tensor([1e30, -1e30])])
    one, two, three = (blank(len(x), like=x) for _ in range(3))
    gates_of(*flat(x, one, two, three))
    exact = x.double()
    soft = torch.where(exact > 0, exact, 0.0) + torch.log1p(torch.exp(-exact.abs()))
    assert torch.allclose(one.double(), soft, rtol=1e-5, atol=1e-37)  # e^-80 has an exponent of its own: 80 roundings of x
    assert torch.allclose(two.double(), torch.sigmoid(exact), rtol=1e-5, atol=1e-37) and torch.equal(two, three)
    near = exact.abs() < 1
    assert ((one - soft) / soft)[near].abs().max() < 4e-7 and (two / torch.sigmoid(exact) - 1)[near].abs().max() < 4e-7
    x = torch.full((16,), float("nan"))
    gates_of(*flat(x, one[:16], two[:16], three[:16]))
    assert all(out[:16].isnan().all() for out in (one, two, three))


@njit
def gates_of(x, soft, slope, share):
    zero = fill(16, ZERO)
    for i in range(0, len(x), 16):
        n = len(x) - i
        lanes = load_first(zero, x, i, n)
        value, derivative = gates.softplus(lanes)
        store_first(soft, i, value, n)
        store_first(slope, i, derivative, n)
        store_first(share, i, gates.sigmoid(lanes), n)


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="elsewhere the smallest numbers are kept")
def test_a_fading_state_ends_at_zero():
    """Numbers below 1.2e-38 would make the silence after a sound hundreds of times as slow as the sound."""
    T, D = 2000, 5
    h, final = torch.full((T * D,), float("nan")), torch.full((D,), float("nan"))
    arrays = flat(torch.full((D,), 0.9), torch.zeros(T * D), torch.zeros(T, dtype=torch.uint8), torch.ones(D), h, final)
    share(diagonal.forward, 1, T * D, (T, D), 64, 0, 0, *arrays)
    assert final.eq(0).all() and h.ge(1e-38).sum() > 800 * D
    assert torch.full((1,), 1e-38) * torch.full((1,), 0.01) > 0, "the caller's own arithmetic is as before"


@njit
def powers(x, y, out):
    zero = fill(16, ZERO)
    for i in range(0, x.size, 16):
        store_first(out, i, exponential.power(load_first(zero, x, i, x.size - i), y), x.size - i)


@njit
def logarithms(x, out):
    zero = fill(16, ZERO)
    for i in range(0, x.size, 16):
        store_first(out, i, exponential.log2(load_first(zero, x, i, x.size - i)), x.size - i)


def test_logarithms_are_right_to_two_roundings_of_what_they_are_or_of_one():
    x = torch.cat([torch.logspace(-37, 38, 4001), torch.linspace(0.4, 2.1, 4001), torch.ones(1)])
    out = torch.empty_like(x)
    logarithms(x.numpy(), out.numpy())
    exact = x.double().log2()
    assert ((out - exact).abs() / exact.abs().clamp(min=1)).max() < 2e-7 and out[-1] == 0


@pytest.mark.parametrize("y", [0.2, 1.0, 1.2, 10.0])
def test_powers_lose_no_more_than_their_exponent_rounds(y):
    x = torch.cat([torch.logspace(-30, 0, 4001), torch.zeros(1)])
    out = torch.empty_like(x)
    powers(x.numpy(), torch.tensor(y).numpy()[()], out.numpy())
    exact = x.double() ** torch.tensor(y).double()
    large = exact > 2.0**-124
    allowed = 3e-7 * (1 + y * x.double().log2().abs())
    assert (((out - exact).abs() / exact) < allowed)[large].all()
    assert out[~large & (exact < 2.0**-126) & (x > 0)].eq(0).all()
    assert out[-1] == 0 or y * 127 < 125
