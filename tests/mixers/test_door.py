"""What a layer refuses, and what it says then: the argument, what came, what was expected, what to do."""

from typing import Any

import pytest
import torch
from torch import nn

from separatrix.recurrence import State
from tests.mixers.cases import D, every_case


@every_case
def test_the_door(case):
    layer = case.build()
    x = torch.randn(2, 3, D)
    _, state = layer(x)
    refused(ValueError, "x is (2, 3, 9)", "d_model = 8", layer, torch.randn(2, 3, D + 1))
    refused(ValueError, "x is (3, 8)", "[batch, time, d_model]", layer, x[0])
    refused(TypeError, "torch.int64", "Convert it", layer, x.long())
    refused(TypeError, "x is torch.float64", "computes in torch.float32", layer, x.double())
    refused(TypeError, "x is a list", "tensor", layer, [1.0])
    refused(ValueError, "reset is (2, 4)", "(2, 3)", layer, x, None, torch.zeros(2, 4, dtype=torch.bool))
    refused(ValueError, "torch.float32", "torch.bool", layer, x, None, torch.zeros(2, 3))
    refused(TypeError, "reset is a list", "torch.bool", layer, x, None, [[False] * 3] * 2)
    back = "Pass the state this layer returned, or None to start at rest."
    refused(TypeError, "state is a tuple", back, layer, x, (x,))
    whole = state.map(lambda part: (part.real if part.is_complex() else part).long())
    refused(TypeError, "is torch.int64 but this layer keeps floating point numbers", back, layer, x, whole)
    if state.tensors() and not any(part.is_complex() for part in state.tensors().values()):
        turned = state.map(lambda part: part.to(torch.complex64))
        refused(TypeError, "is torch.complex64 but this layer keeps real numbers", back, layer, x, turned)
    refused(ValueError, "state has the parts ['other']", back, layer, x, State(other=x))
    refused(ValueError, "for a batch of 2", back, layer, x, state[:1])
    refused(ValueError, "for a batch of 2", back, layer, x, state.map(lambda part: part[..., None]))


def refused(kind: type[Exception], came: str, expected: str, layer: nn.Module, *arguments: Any) -> None:
    with pytest.raises(kind) as error:
        layer(*arguments)
    assert came in str(error.value) and expected in str(error.value), str(error.value)
    assert "\n" not in str(error.value)
