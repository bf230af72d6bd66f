"""A state that is only compared never fades: min-max recurrences remember a bit for as long as nobody overwrites it.

    h_t = max(min(a_t, h_{t-1}), b_t),   a_t and b_t affine in the input                                           (1)

Flip-flop: at every step the input writes a bit, says a bit that is to be ignored, or asks for the bit that was written last. A sequence has
some six writes whatever its length, so what must be remembered grows with the length.

Paper    MinMax recurrent neural cascades 2026, arXiv:2605.06384.
Scale    one layer of (1) and one LSTM, both 32 wide, 600 steps of Adam on 64 sequences of 64 steps; one core, a few minutes. Length 65,536
         was added after the first seed had shown the LSTM right to the last answer at 4096; it does not count.
Holds    the recurrent, chunked and fused forms agree to the last bit at length 4096, forward and gradient; the gradient of a latched state
         after 100,000 steps is exactly 1; on 3 seeds of 3, at length 4096, at least 99% of the questions are answered right, and more than
         the LSTM answers.
"""

from __future__ import annotations

import logging
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from separatrix.claims.claim import Claim
from separatrix.mixers.initial import linear
from separatrix.mixers.recurrent import LSTM
from separatrix.recurrence import OPERATIONS, minmax_scan
from separatrix.report.ink import DATA, MODEL
from separatrix.report.labels import Label, axis_names, name_line

WIDTH, SYMBOLS, ASK = 32, 5, 4  # write 0, write 1, ignore 0, ignore 1, ask
TRAINED, COUNTS, LENGTHS = 64, 4096, (64, 256, 1024, 4096, 65_536)
STEPS, LATCHED = 600, 100_000
WRITES, QUESTIONS = 6, 0.1  # a sequence; a step


class MinMaxLayer(nn.Module):
    """Equation (1).    x [B, T, D] -> h [B, T, D], h [B, D]"""

    def __init__(self, d_model: int, *, generator: Generator):
        super().__init__()
        self.caps, self.floors = (linear(d_model, d_model, bias=True, generator=generator) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return minmax_scan(self.caps(x), self.floors(x))


def flip_flop(length: int, batch: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Symbols [B, T], and the bit written last [B, T]. The first step writes."""
    chance = torch.rand(batch, length, generator=generator)
    bit = torch.randint(2, (batch, length), generator=generator)
    symbol = torch.where(chance < QUESTIONS, ASK, 2 + bit)
    writes = chance > 1 - (WRITES - 1) / length
    writes[:, 0] = True
    symbol = torch.where(writes, bit, symbol)
    last = torch.where(writes, torch.arange(length), 0).cummax(1).values
    return symbol, bit.gather(1, last)


def network(kind: type[nn.Module], seed: int) -> nn.ModuleList:
    generator = Generator().manual_seed(seed)
    return nn.ModuleList([
        linear(SYMBOLS, WIDTH, generator=generator), kind(WIDTH, generator=generator), linear(WIDTH, 2, bias=True, generator=generator)
    ])  # fmt: skip


def answers(model: nn.ModuleList, symbol: Tensor) -> Tensor:
    """Two logits a step."""
    embed, mixer, read = model
    return read(mixer(embed(nn.functional.one_hot(symbol, SYMBOLS).float()))[0])


def accuracies(kind: type[nn.Module], seed: int) -> list[float]:
    """Train at TRAINED steps; the share of right answers at each of LENGTHS."""
    model, data = network(kind, seed), Generator().manual_seed(1000 + seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        symbol, bit = flip_flop(TRAINED, 64, data)
        asked = symbol == ASK
        loss = cross_entropy(answers(model, symbol)[asked], bit[asked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found, fresh = [], Generator().manual_seed(2000 + seed)
    with torch.no_grad():
        for length in LENGTHS:
            symbol, bit = flip_flop(length, min(64, 64 * COUNTS // length), fresh)
            asked = symbol == ASK
            found.append(float((answers(model, symbol)[asked].argmax(-1) == bit[asked]).double().mean()))
    logging.getLogger(__name__).info("%s, seed %d: %.4f at %d", kind.__name__, seed, found[LENGTHS.index(COUNTS)], COUNTS)
    return found


def largest_differences(length: int, seed: int) -> tuple[float, float]:
    """Between the forms of `minmax_scan`: of the states, and of the gradients of a random loss, sums that each form rounds in its order."""
    generator = Generator().manual_seed(seed)
    a, b, weights = (torch.randn(2, length, WIDTH, generator=generator) for _ in range(3))
    found = []
    for form in ("recurrent", "chunked", "fused"):
        leaves = [x.clone().requires_grad_() for x in (a, b)]
        h, _ = OPERATIONS["minmax_scan"][form](*leaves)
        found.append([h.detach(), *torch.autograd.grad((h * weights).sum(), leaves)])
    gaps = [[float((x - y).abs().max()) for x, y in zip(other, found[0])] for other in found[1:]]
    return max(gap[0] for gap in gaps), max(max(gap[1:]) for gap in gaps)


def latch(steps: int, seed: int) -> Tensor:
    """dh_T / dh_0 of states that neither a cap nor a floor touches."""
    generator = Generator().manual_seed(seed)
    caps, lows = (0.5 + torch.rand(1, steps, WIDTH, generator=generator) for _ in range(2))
    state = (torch.rand(1, WIDTH, generator=generator) - 0.5).requires_grad_()
    _, final = minmax_scan(caps, -lows, state)
    return torch.autograd.grad(final.sum(), state)[0]


def claim(seeds: tuple[int, ...] = (0, 1, 2)) -> Claim:
    states, gradients = (max(gaps) for gaps in zip(*(largest_differences(COUNTS, seed) for seed in seeds)))
    gradient = torch.stack([latch(LATCHED, seed) for seed in seeds])
    minmax, lstm = ([accuracies(kind, seed) for seed in seeds] for kind in (MinMaxLayer, LSTM))
    right = {length: ([f[i] for f in minmax], [f[i] for f in lstm]) for i, length in enumerate(LENGTHS)}
    ours, theirs = right[COUNTS]
    return Claim(
        holds=states == gradients == 0 and bool((gradient == 1).all()) and min(ours) >= 0.99 and all(x > y for x, y in zip(ours, theirs)),
        numbers={
            "forms_differ_in_states_by": states,
            "forms_differ_in_gradients_by": gradients,
            "least_gradient_of_a_latch": gradient.min(),
            "largest_gradient_of_a_latch": gradient.max(),
            **{
                f"right_at_{length}{name}": found
                for length in (TRAINED, COUNTS, LENGTHS[-1])
                for name, found in zip(("", "_LSTM"), right[length])
            },
        },
        figure=partial(draw, minmax, lstm),
        dtype="float32",
        seeds=seeds,
    )


def draw(minmax: list[list[float]], lstm: list[list[float]], figure: Figure) -> None:
    axes = figure.add_axes((0.1, 0.16, 0.74, 0.72))
    for runs, colour, name, dy in ((lstm, DATA, "LSTM", -6), (minmax, MODEL, "min-max", 6)):
        for found in runs:
            axes.plot(LENGTHS, found, color=colour, linewidth=1.4, marker="o", markersize=3)
        name_line(axes, LENGTHS[-1], Label(name, sum(found[-1] for found in runs) / len(runs), colour), dx=6, dy=dy)
    axes.set_xscale("log", base=2)
    axes.set_xticks(LENGTHS, [str(length) for length in LENGTHS])
    axes.set_ylim(0.45, 1.03)
    axes.axhline(0.5, color=DATA, linewidth=0.6, linestyle=":")
    axis_names(axes, "length of the test; trained at 64", "answers that are right; a guess is 0.5")
