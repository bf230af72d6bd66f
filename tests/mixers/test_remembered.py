"""What a layer works out of its parameters: never stale, and worked out once where nobody changes them."""

import pytest
import torch

from separatrix.mixers.remembered import held
from tests.agree import agree
from tests.mixers.cases import CASES, D


@pytest.mark.parametrize("name", ["s4d", "s5", "lru", "mamba"])
@torch.no_grad()
def test_what_is_remembered_is_never_stale(name):
    """Whatever way the parameters change, the next step hears of it."""
    layer, fresh = CASES[name].build(), CASES[name].build(seed=1)
    x = torch.randn(1, 4, D)
    before = layer(x)[0]
    assert torch.equal(layer(x)[0], before)
    for parameter, other in zip(layer.parameters(), fresh.parameters()):
        parameter.data.copy_(other.data)  # leaves no version behind
    assert torch.equal(layer(x)[0], fresh(x)[0])
    agree(lambda x: layer.double()(x)[0], lambda x: fresh.double()(x)[0], (x.double(),), torch.float64)
    with torch.enable_grad():
        layer(x.double())[0].sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.parametrize("name", ["s4d", "s5", "lru"])
def test_what_is_held_is_worked_out_once_and_shares_a_gradient(name):
    """Five steps, one discretisation, the same numbers; afterwards a changed parameter is heard of."""
    layer = CASES[name].build().double()
    worked_out, work_out = [], layer.work_out
    layer.work_out = lambda: worked_out.append(1) or work_out()
    x = torch.randn(2, 5, D, dtype=torch.float64)

    def steps() -> torch.Tensor:
        said, state = [], None
        for t in range(x.shape[1]):
            y, state = layer(x[:, t : t + 1], state)
            said.append(y)
        return torch.cat(said, dim=1)

    apart = steps()
    assert len(worked_out) == 5
    with held():
        together = steps()
        with torch.no_grad():
            layer(x)  # has no graph and leaves none for the others
        again = steps()
    assert len(worked_out) == 7
    assert torch.equal(apart, together) and torch.equal(together, again)
    parameters = list(layer.parameters())
    for one, other in zip(*(torch.autograd.grad(y.square().sum(), parameters) for y in (apart, together + 0 * again))):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)  # float64: the same terms, summed in another order
    with torch.no_grad():
        layer.D.add_(1)
        assert not torch.equal(steps(), apart)
