"""Building layers by name, and what a constructor refuses."""

import inspect
import math
import re
from copy import deepcopy
from functools import partial
from io import BytesIO

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from separatrix.mixers import (
    LRU,
    MIXERS,
    S4D,
    S5,
    CausalAttention,
    DeltaNet,
    GatedDeltaNet,
    GatedLinearAttention,
    Mamba,
    Mamba2,
    build_mixer,
)
from separatrix.mixers.convolution import ShortConvolution
from separatrix.mixers.norm import RMSNorm
from separatrix.recurrence.discretize import bilinear
from separatrix.recurrence.init import s4d_lin


def test_names_stand_for_functions():
    layer = build_mixer("s4d", 4, init="lin", discretize="bilinear", d_state=8)
    assert layer.discretize is bilinear
    assert torch.equal(layer.A_imag, s4d_lin(8)[0].imag.float().repeat(4, 1))
    assert isinstance(build_mixer("s4d", 4, init=s4d_lin), S4D)


def test_a_count_of_numpys_is_a_count():
    for size in (np.int64(8), np.int32(8)):
        assert build_mixer("s5", size, d_state=size).d_model == 8


def test_unknown_names_and_settings_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"name is 'lstn' but the mixers are s4d, s5, .*attention"):
        build_mixer("lstn", 4)
    with pytest.raises(ValueError, match=r"mamba has no setting 'n_heads'. It takes d_conv, d_state, dt_range, dt_rank, expand"):
        build_mixer("mamba", 4, n_heads=2)
    with pytest.raises(ValueError, match=r"gru has no setting 'd_state'. It takes none"):
        build_mixer("gru", 4, d_state=2)
    with pytest.raises(ValueError, match="init is 'hippo' but s4d knows legs, lin, inv, real, random"):
        build_mixer("s4d", 4, init="hippo")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CausalAttention(10, n_heads=4), "d_model is 10 and n_heads is 4, but n_heads must divide d_model"),
        (lambda: CausalAttention(12, n_heads=4), "rotary positions need it even"),
        (lambda: CausalAttention(8, window=0), "window is 0"),
        (lambda: DeltaNet(10, n_heads=4), "n_heads must divide d_model"),
        (lambda: GatedLinearAttention(8, n_heads=3), "n_heads must divide expand_k"),
        (lambda: GatedLinearAttention(8, slowness=0), "slowness is 0"),
        (lambda: Mamba2(8, d_head=3), "d_head must divide expand"),
        (lambda: Mamba2(8, d_head=4, n_groups=3), "n_groups must divide the number of heads"),
        (lambda: Mamba(8, dt_range=(0.1, 0.001)), "dt_range is .* Swap the two"),
        (lambda: Mamba(8, dt_range=(0.0, 0.1)), "dt_range is 0.0, expected a positive finite number"),
        (lambda: Mamba(8, d_conv=0), "d_conv is 0"),
        (lambda: LRU(8, ring=(0.5, 1.0)), "ring is"),
        (lambda: S4D(8, d_state=7), "d_state is 7 but must be even"),
        (lambda: S5(8, d_state=8, blocks=3), "2 \\* blocks must divide d_state"),
        (lambda: Mamba(8, dt_range=(0.1, math.inf)), "dt_range is inf, expected a positive finite number"),
        (lambda: Mamba(8, dt_range=(0.1,)), r"dt_range is \(0.1,\) but must be two numbers, \(shortest, longest\)"),
        (lambda: Mamba(8, d_conv=2.5), "d_conv is 2.5, expected a whole number"),
        (lambda: Mamba2(8, d_head=4, n_groups=1.0), "n_groups is 1.0, expected a whole number"),
        (lambda: LRU(8, ring=(0.5,)), r"ring is \(0.5,\) but must be two numbers"),
        (lambda: LRU(8, max_phase=math.inf), "max_phase is inf"),
        (lambda: CausalAttention(8, window=2.5), "window is 2.5, expected a whole number"),
        (lambda: CausalAttention(8, n_heads=2.0), "n_heads is 2.0, expected a whole number"),
        (lambda: CausalAttention(8, base=math.inf), "base is inf"),
        (lambda: GatedLinearAttention(8, expand_v=math.inf), "expand_v is inf"),
        (lambda: GatedLinearAttention(8, slowness=math.nan), "slowness is nan"),
        (lambda: DeltaNet(8, expand_v=-1), "expand_v is -1"),
        (lambda: RMSNorm(8, groups=3), "groups must divide channels"),
        (lambda: RMSNorm(8, eps=-1.0), "eps is -1.0"),
        *((lambda kind=kind: kind(True), "d_model is True") for kind in MIXERS.values()),
        *((lambda kind=kind: kind(0), "d_model is 0") for kind in MIXERS.values()),
    ],
)
def test_a_constructor_refuses_what_cannot_be(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: DeltaNet(8, gated="no"), "gated is 'no' but must be True or False"),
        (lambda: DeltaNet(8, negative_eigenvalues=None), "negative_eigenvalues is None but must be True or False"),
        (lambda: S4D(8, init="s4d_lin"), "init is 's4d_lin' but must be a function, such as s4d_lin"),
        (lambda: S4D(8, discretize=None), "discretize is None but must be a function, such as zoh"),
        (lambda: S5(8, discretize="zoh"), "discretize is 'zoh' but must be a function, such as zoh"),
        (lambda: Mamba(8, dt_range=0.1), "dt_range is 0.1 but must be two numbers"),
    ],
)
def test_a_constructor_refuses_what_is_of_another_kind(build, message):
    with pytest.raises(TypeError, match=message):
        build()


@pytest.mark.parametrize("kind", MIXERS.values(), ids=MIXERS.keys())
def test_a_docstring_begins_with_equation_and_paper(kind):
    """README's table is made from these lines."""
    title, equation, paper = inspect.getdoc(kind).split("\n\n")[:3]
    assert title.endswith("]") or title.endswith("complex")
    assert equation.startswith("    ") and "=" in equation
    assert re.match(r"Paper    .+ \d{4}, (arXiv:\d{4}\.\d{5}|arXiv:\d{4}\.\d{4}|doi:10\.)", paper)


@pytest.mark.parametrize("kind", MIXERS.values(), ids=MIXERS.keys())
def test_arguments_are_written_about(kind):
    text = inspect.getdoc(DeltaNet if kind is GatedDeltaNet else kind)
    for name in set(inspect.signature(kind).parameters) - {"generator"}:
        assert re.search(rf"^{name} ", text, re.MULTILINE), name


def test_eigenvalues_reach_minus_one_on_request():
    x = 10 * torch.randn(1, 200, 8)
    spectrum = {flag: DeltaNet(8, n_heads=2, negative_eigenvalues=flag).transition(x).spectrum().real.detach() for flag in (False, True)}
    assert float(spectrum[False].min()) >= 0
    assert -1 <= float(spectrum[True].min()) < -0.5


def test_a_short_convolution_is_torchs():
    layer = ShortConvolution(6, 4)
    x = torch.randn(2, 11, 6)
    want = F.conv1d(F.pad(x.transpose(1, 2), (3, 0)), layer.weight, layer.bias, groups=6).transpose(1, 2)
    torch.testing.assert_close(layer(x)[0], F.silu(want))


def saved_and_loaded(x, **how):
    file = BytesIO()
    torch.save(x, file)
    file.seek(0)
    return torch.load(file, **how)


ROADS = {
    "copied": deepcopy,
    "saved": partial(saved_and_loaded, weights_only=False),
    "converted": nn.Module.double,
    "emptied": partial(nn.Module.to_empty, device="cpu"),
}


@pytest.mark.parametrize("road", ROADS.values(), ids=ROADS.keys())
def test_marks_survive(road):
    marked = {name for name, p in road(Mamba(8)).named_parameters() if getattr(p, "_no_weight_decay", False)}
    assert marked == {"A_log", "D", "dt_proj.bias"}


def test_a_marked_parameter_is_loaded_as_data():
    before = Mamba(8).D.requires_grad_(False)
    before.note = "an attribute of its own"
    after = saved_and_loaded({"D": before})["D"]
    assert type(after) is type(before) and torch.equal(after, before) and not after.requires_grad and after.note == before.note
