"""The compiled norm against torch's own, and what must see through it."""

import pytest
import torch
from torch.autograd.functional import hvp
from torch.func import jvp

from separatrix.mixers.norm import RMSNorm
from separatrix.recurrence.norm import rms_norm, rms_norm_plain
from tests.agree import agree, gradient
from tests.recurrence.roads import randn

SHAPES = {"one row": ((1,), 1, 7), "odd": ((3, 5), 1, 33), "groups": ((2, 3), 4, 18), "many rows": ((70,), 2, 64), "none": ((0, 4), 1, 8)}


@pytest.mark.parametrize("gated", [False, True], ids=["no gate", "gate"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_is_the_definition(shape: str, gated: bool):
    rows, groups, size = SHAPES[shape]
    inputs = (3 * randn(*rows, groups * size), randn(groups, size), 4 * randn(*rows, groups * size) if gated else None)
    fast, slow = (lambda x, w, z: rms_norm(x, w, z, 1e-3)), (lambda x, w, z: rms_norm_plain(x, w, z, 1e-3))
    agree(fast, slow, inputs, torch.float32)
    agree(gradient(fast), gradient(slow), inputs, torch.float32)


def test_plain_form_is_torchs():
    x, norm, theirs = randn(2, 3, 8), RMSNorm(8, eps=1e-4).double(), torch.nn.RMSNorm(8, eps=1e-4).double()
    theirs.load_state_dict(norm.state_dict())
    assert torch.equal(norm(x), theirs(x))


@pytest.mark.parametrize("x, z, message", [((2, 6), None, r"x is \[2, 6\], expected 8 channels"), ((2, 8), (8,), r"z is \[8\]")])
def test_what_does_not_fit_is_refused(x: tuple, z: tuple | None, message: str):
    with pytest.raises(ValueError, match=message):
        rms_norm(torch.zeros(x), torch.ones(2, 4), None if z is None else torch.zeros(z))


def test_a_row_of_zeros_has_finite_gradients():
    x = torch.zeros(2, 6, requires_grad=True)
    y = rms_norm(x, torch.ones(1, 6), None, 1e-5)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(2, 6)) and x.grad is not None and bool(torch.isfinite(x.grad).all())


def test_derivatives_of_every_kind():
    x, z, w = torch.randn(3, 8), torch.randn(3, 8), torch.randn(2, 4)
    norm = lambda x: rms_norm(x, w, z, 1e-5)  # noqa: E731
    exact = lambda x: rms_norm_plain(x, w, z, 1e-5)  # noqa: E731
    torch.testing.assert_close(jvp(norm, (x,), (z,))[1], jvp(exact, (x,), (z,))[1])
    rows = torch.func.vmap(lambda x, z: rms_norm(x, w, z, 1e-5))(x, z)
    torch.testing.assert_close(rows, exact(x))
    twice = [lambda x, w, z, f=f: hvp(lambda x: f(x, w, z, 1e-5).square().sum(), x, z)[1] for f in (rms_norm, rms_norm_plain)]
    agree(*twice, (x.double(), w.double(), z.double()), torch.float32)


@pytest.mark.parametrize("size", [1e20, 1e30])
def test_numbers_whose_squares_are_infinite(size: float):
    x, w, z = randn(3, 40) * size, randn(1, 40), randn(3, 40)
    fast, slow = (lambda x, w, z: rms_norm(x, w, z, 1e-5)), (lambda x, w, z: rms_norm_plain(x, w, z, 1e-5))
    agree(fast, slow, (x, w, z), torch.float32)
    agree(gradient(fast), gradient(slow), (x, w, z), torch.float32)
