"""Ridge attention: the published numbers, regression as it is done elsewhere, and what the iterative solvers promise."""

import pytest
import torch

from separatrix.recurrence import OPERATIONS, AdaptiveRidge, ConjugateGradient, State
from separatrix.recurrence.plan import objection
from tests import golden
from tests.recurrence.test_golden import TOLERANCE, cast, error

CASES = [*golden.names("mesa"), *golden.names("gated_kalmanet")]
EXACT = [
    pytest.param(form, None, dtype, id=f"{form} {str(dtype)[6:]}")
    for form in OPERATIONS["ridge_attention"]
    for dtype in TOLERANCE
    if form != "fused" or objection("ridge_attention", (torch.zeros(1, dtype=dtype),)) is None
]
ITERATED = [
    pytest.param(form, ConjugateGradient(60, 1e-13), torch.float64, id=f"{form}, conjugate gradients") for form in ("recurrent", "chunked")
]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("form, solver, dtype", EXACT + ITERATED)
def test_every_form_gives_the_reference_numbers(name: str, form: str, solver: ConjugateGradient | None, dtype: torch.dtype):
    """Gradients go through the adaptive ridge, and through every number of the initial P by itself."""
    reference = golden.load(name)
    given = {key: cast(x, dtype).requires_grad_() for key, x in reference.inputs.items()}
    state = State(P=given["Hkk0"], R=given["Hkv0"]) if "Hkk0" in given else None
    ridge = given.get("lamb", AdaptiveRidge(0.05))
    o, final = OPERATIONS["ridge_attention"][form](*(given[x] for x in ("q", "k", "v", "beta", "g")), ridge, solver, state)
    outputs, gradients = TOLERANCE[dtype]
    for part, y in {"o": o, "state": final.R, "state_kk": final.P}.items():
        assert error(y, reference.outputs[part], dtype) < outputs, part
        if part in reference.weights:
            loss = (y * cast(reference.weights[part], dtype)).sum()
            for key, x in given.items():
                expected = reference.gradients[part].get(key)
                if expected is not None:
                    (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
                    assert error(gradient, expected, dtype) < gradients, f"d {part} / d {key}"
