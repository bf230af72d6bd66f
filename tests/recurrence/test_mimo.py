"""S5's and LRU's linear system: the published numbers, uneven samples, both directions, cuts and resets."""

import pytest
import torch
from torch import Tensor

from separatrix.recurrence import diagonal_ssm, mimo_ssm
from separatrix.recurrence.discretize import bilinear, zoh
from tests import golden

N, D, T = 6, 3, 40


def close(got: Tensor, want: Tensor, within: float = 1e-12) -> None:
    assert got.shape == want.shape
    assert float((got - want).abs().max()) <= within * float(want.abs().max())


def randc(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex128)


def system() -> dict[str, Tensor]:
    A = torch.complex(-torch.rand(N, dtype=torch.float64) - 0.05, 3 * torch.randn(N, dtype=torch.float64))
    return {"A": A, "B": randc(N, D), "C": randc(D, N), "D": torch.randn(D, dtype=torch.float64)}


def hold(A: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    return zoh(A, torch.ones_like(A), dt)


@pytest.mark.parametrize("rule", [zoh, bilinear])
def test_s5_is_the_published_one(rule):
    numbers, _ = golden.load_raw("s5")
    A, B, C, back, D, step, u = (numbers[f"in.{key}"] for key in ("Lambda", "B_tilde", "C_tilde", "C_tilde_bwd", "D", "log_step", "u"))
    a, b = rule(A, torch.ones_like(A), step.exp())
    y, final = mimo_ssm(u[None], a, b, B, C, D)
    close(y[0], numbers[f"out.{rule.__name__}.y"], 1e-10)
    close(final[0], numbers[f"out.{rule.__name__}.final_state"], 1e-10)
    close(mimo_ssm(u[None], a, b, B, C, D, C_backward=back)[0][0], numbers[f"out.{rule.__name__}.y_bidirectional"], 1e-10)


def test_the_equations_read_aloud():
    s = system()
    a, b = hold(s["A"], torch.rand(2, T, 1, dtype=torch.float64))
    u, h = torch.randn(2, T, D, dtype=torch.float64), randc(2, N)
    y, final = mimo_ssm(u, a, b, s["B"], s["C"], s["D"], h)
    for t in range(T):
        h = a[:, t] * h + b[:, t] * (u[:, t].to(h.dtype) @ s["B"].T)
        close(y[:, t], 2 * (h @ s["C"].T).real + s["D"] * u[:, t], 1e-11)
    close(final, h)
    wide = torch.randn(5, D, dtype=torch.float64)
    C = randc(5, N)
    y, _ = mimo_ssm(u, a, b, s["B"], C, wide, conjugate=False)
    states = mimo_ssm(u, a, b, s["B"], torch.cat([torch.eye(N), -1j * torch.eye(N)]).to(C.dtype), conjugate=False)[0]
    close(y, (torch.complex(states[..., :N], states[..., N:]) @ C.T).real + u @ wide.T)


def test_uneven_samples_are_exact_while_the_input_is_held():
    """Samples 1, 2, 3 ... units long against the same input on the grid of units, looked at where the samples end."""
    s = system()
    lengths = torch.tensor([1, 4, 2, 1, 7, 3, 5])
    u = torch.randn(1, len(lengths), D, dtype=torch.float64)
    uneven, last = mimo_ssm(u, *hold(s["A"], 0.1 * lengths[None, :, None].double()), s["B"], s["C"], s["D"])
    fine, end = mimo_ssm(u.repeat_interleave(lengths, dim=1), *hold(s["A"], torch.tensor(0.1, dtype=torch.float64)), s["B"], s["C"], s["D"])
    close(uneven, fine[:, lengths.cumsum(0) - 1])
    close(last, end)


@pytest.mark.parametrize("uneven", [False, True])
def test_cut_anywhere_is_whole(uneven: bool):
    s = system()
    a, b = hold(s["A"], torch.rand(2, T, 1, dtype=torch.float64) if uneven else torch.tensor(0.3))
    u, h = torch.randn(2, T, D, dtype=torch.float64), randc(2, N)

    def part(start: int, stop: int, state: Tensor) -> tuple[Tensor, Tensor]:
        steps = [x[:, start:stop] if uneven else x for x in (a, b)]
        return mimo_ssm(u[:, start:stop], *steps, s["B"], s["C"], s["D"], state)

    whole, final = part(0, T, h)
    for at in (0, 1, 17, T):
        first, state = part(0, at, h)
        second, state = part(at, T, state)
        close(torch.cat([first, second], dim=1), whole)
        close(state, final)


def test_packed_sequences_are_alone_in_both_directions():
    s = system()
    a, b = hold(s["A"], torch.rand(1, T, 1, dtype=torch.float64))
    u, back = torch.randn(1, T, D, dtype=torch.float64), randc(D, N)
    reset = torch.zeros(1, T, dtype=torch.bool)
    reset[0, [0, 11, 12]] = True
    packed, final = mimo_ssm(u, a, b, s["B"], s["C"], s["D"], randc(1, N), reset, C_backward=back)
    for start, stop in ((0, 11), (11, 12), (12, T)):
        cut = [x[:, start:stop] for x in (u, a, b)]
        alone, last = mimo_ssm(*cut, s["B"], s["C"], s["D"], C_backward=back)
        close(packed[:, start:stop], alone)
    close(final, last)


def test_gradients():
    s = system()
    a, b = hold(s["A"], torch.rand(1, 5, 1, dtype=torch.float64))
    leaves = [x.requires_grad_() for x in (torch.randn(1, 5, D, dtype=torch.float64), a, b, s["B"], s["C"], s["D"], randc(1, N))]
    assert torch.autograd.gradcheck(lambda *x: mimo_ssm(*x, C_backward=s["C"]), leaves, fast_mode=True)


def test_pairs_are_complex_numbers():
    s = system()
    a, b = hold(s["A"], torch.tensor(0.3))
    u = torch.randn(1, T, D, dtype=torch.float64)
    pairs = mimo_ssm(u, a, b, torch.view_as_real(s["B"]).transpose(1, 2), torch.view_as_real(s["C"]), s["D"])
    for got, want in zip(pairs, mimo_ssm(u, a, b, s["B"], s["C"], s["D"])):
        assert torch.equal(got, want)


def test_precision_follows_the_input():
    s = {key: x.to(torch.complex64 if x.is_complex() else torch.float32) for key, x in system().items()}
    a, b = hold(s["A"], torch.tensor(0.3))
    for dtype in (torch.float32, torch.bfloat16):
        y, final = mimo_ssm(torch.randn(1, T, D).to(dtype), a, b, s["B"], s["C"], s["D"])
        assert y.dtype is dtype and final.dtype is torch.complex64
    y, final = mimo_ssm(torch.randn(1, T, D, dtype=torch.float64), a, b, s["B"], s["C"], s["D"])
    assert y.dtype is torch.float64 and final.dtype is torch.complex128


def test_shapes_that_do_not_fit_are_refused():
    s, u = system(), torch.randn(1, T, D, dtype=torch.float64)
    a, b = hold(s["A"], torch.tensor(0.3))
    for change in ({"a": a[:2]}, {"B": s["B"].T}, {"C": s["C"][:, :2]}, {"b": b.expand(2, T, N)}, {"initial_state": randc(2, N)}):
        with pytest.raises(ValueError, match="expected"):
            mimo_ssm(**({"u": u, "a": a, "b": b, "B": s["B"], "C": s["C"]} | change))


def test_it_is_the_sum_of_the_channels_own_state_spaces():
    """S5 with the modes of S4D, shared by all channels: what output k hears of channel d is a diagonal_ssm of its own."""
    s = system()
    a, b = hold(s["A"], torch.tensor(0.3, dtype=torch.float64))
    u = torch.randn(2, T, D, dtype=torch.float64)
    y, final = mimo_ssm(u, a, b, s["B"], s["C"], s["D"])
    for k in range(D):
        heard, states = diagonal_ssm(u, a.expand(D, N), b * s["B"].T * s["C"][k])
        close(y[..., k], heard.sum(-1) + s["D"][k] * u[..., k])
    close(final, (states * (b * s["B"].T)).sum(1))
