"""The linear systems inside S4D, S5 and LRU against published code.

The references and their conventions are in tests/golden/README.md. Everything is float64 and agrees to 1e-10 of the largest number.
"""

import pytest
import torch
import torch.nn.functional as F

from separatrix.mixers import LRU, S4D, S5
from separatrix.recurrence.discretize import bilinear, zoh
from tests import golden
from tests.golden import close


def test_lru_and_its_gradients():
    numbers, _ = golden.load_raw("lru")
    given = {name.removeprefix("in."): x.requires_grad_() for name, x in numbers.items() if name.startswith("in.")}
    N, D = given["Bre"].shape
    layer = LRU(D, d_state=N).double()
    parameters = {
        "nu_log": given["nu_log"],
        "theta_log": given["theta_log"],
        "B": torch.stack([given["Bre"], given["Bim"]], dim=1),
        "C": torch.stack([given["Cre"], given["Cim"]], dim=-1),
        "D": given["D"],
    }
    for name, value in parameters.items():
        del layer._parameters[name]
        setattr(layer, name, value)
    y, h = layer.respond(given["u"], torch.complex(given["x0re"], given["x0im"]))
    close(y, numbers["out.o"])
    close(h, torch.complex(numbers["out.state_re"], numbers["out.state_im"]))
    gradients = torch.autograd.grad((y * numbers["w.o"]).sum(), list(given.values()))
    for name, gradient in zip(given, gradients):
        close(gradient, numbers[f"grad_o.{name}"])


@pytest.mark.parametrize("rule", [zoh, bilinear])
@torch.no_grad()
def test_s5(rule):
    numbers, _ = golden.load_raw("s5")
    N, D = numbers["in.B_tilde"].shape
    layer = S5(D, d_state=2 * N, discretize=rule).double()
    layer.log_dt.copy_(numbers["in.log_step"])
    layer.log_A_real.copy_((-numbers["in.Lambda"].real).log())
    layer.A_imag.copy_(numbers["in.Lambda"].imag)
    layer.B.copy_(torch.view_as_real(numbers["in.B_tilde"]).transpose(1, 2))
    layer.C.copy_(torch.view_as_real(numbers["in.C_tilde"]))
    layer.D.copy_(numbers["in.D"])
    y, h = layer.respond(numbers["in.u"][None])
    close(y[0], numbers[f"out.{rule.__name__}.y"])
    close(h[0], numbers[f"out.{rule.__name__}.final_state"])


@torch.no_grad()
def test_s5_begins_in_the_basis_of_the_reference():
    numbers, _ = golden.load_raw("s5")
    for blocks in (1, 2):
        layer = S5(4, d_state=16, blocks=blocks)
        want = numbers[f"P16.J{blocks}.conj1.Lambda"]
        got = torch.complex(-torch.exp(layer.log_A_real.double()), layer.A_imag.double())
        assert (got - want).abs().max() <= 1e-6 * want.abs().max()  # the parameters are float32


@pytest.mark.parametrize("case", ["zoh_legs_a", "zoh_legs_b", "zoh_lin_a", "zoh_lin_b", "zoh_inv_a", "bilinear_lin_a", "bilinear_lin_b"])
@torch.no_grad()
def test_s4d_convolves_with_the_kernel_of_the_reference(case):
    numbers, _ = golden.load_raw(f"s4d_kernel_{case}")
    H, N = numbers["in.A"].shape
    layer = S4D(H, d_state=2 * N, discretize=zoh if case.startswith("zoh") else bilinear).double()
    layer.log_dt.copy_(numbers["in.dt"].log())
    layer.log_A_real.copy_((-numbers["in.A"].real).log())
    layer.A_imag.copy_(numbers["in.A"].imag)
    layer.C.copy_(torch.view_as_real(numbers["in.B"] * numbers["in.C"]))
    layer.D.zero_()
    L = numbers["out.K"].shape[1]
    impulse = F.one_hot(torch.zeros((), dtype=torch.long), L).double()[None, :, None].expand(1, L, H)
    close(layer.respond(impulse)[0][0].T, numbers["out.K"])
    close(layer.respond(numbers["in.u"].transpose(1, 2))[0].transpose(1, 2), numbers["out.y"])
