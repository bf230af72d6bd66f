"""The linear part of a forecaster: ridge regression on the delay window, its ridge chosen as if every row had been left out once."""

import numpy as np
import pytest
import torch

from separatrix.models import RidgeAutoregression
from separatrix.models.autoregression import BEYOND, RIDGES, carried
from tests.agree import distance


def noisy(T=200, C=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    z = torch.zeros(T, C, dtype=torch.float64)
    turn = torch.tensor([[0.9, 0.3], [-0.3, 0.8]], dtype=torch.float64)[:C, :C]
    for t in range(1, T):
        z[t] = turn @ z[t - 1] + 0.2 * torch.randn(C, generator=g, dtype=torch.float64)
    return z


def design(z, lags):
    return z.unfold(0, lags, 1)[:-1].flatten(1), z[lags:]


@pytest.mark.parametrize("channels, lags", [(1, 1), (1, 5), (2, 3)])
def test_it_is_the_ridge_regression_with_the_least_cross_validated_error(channels, lags):
    z = noisy(C=channels)
    found = RidgeAutoregression(channels, lags).double().fit(z)
    w, y = design(z, lags)
    w0, y0, n = w - w.mean(0), y - y.mean(0), len(w)
    scores, fits = [], []
    for ridge in RIDGES:
        inverse = torch.linalg.solve(w0.T @ w0 + n * ridge * torch.eye(w.shape[1], dtype=w.dtype), w0.T)
        scores.append((y0 - w0 @ inverse @ y0).square().sum(0) / (n - 1 - (w0 @ inverse).trace()) ** 2)
        fits.append((inverse @ y0).T)
    best = torch.stack(scores).argmin(0)
    weight = torch.stack([fits[int(i)][channel] for channel, i in enumerate(best)])
    assert distance(found.weight, weight) < 1e-9
    assert distance(found(w), w @ weight.T + y.mean(0) - weight @ w.mean(0)) < 1e-9


def test_without_noise_it_is_exact():
    t = torch.arange(100, dtype=torch.float64)
    z = torch.stack([torch.sin(0.6 * t), torch.cos(0.3 * t)], dim=1)
    w, y = design(z, 3)
    assert distance(RidgeAutoregression(2, 3).double().fit(z)(w), y) < 1e-4


def test_a_mean_of_orders_says_the_mean_of_what_they_say():
    z, shares = noisy(), {2: 0.5, 5: 0.2, 3: 0.3}
    found = RidgeAutoregression(2, 5).double().fit(z, shares)
    windows = design(z, 5)[0].unflatten(1, (2, 5))
    said = sum(q * RidgeAutoregression(2, L).double().fit(z)(windows[:, :, 5 - L :].flatten(1)) for L, q in shares.items())
    assert distance(found(windows.flatten(1)), said) < 1e-12
    one, same = RidgeAutoregression(2, 5).fit(z), RidgeAutoregression(2, 5).fit(z, {5: 1.0})
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), same.buffers(), strict=True))


def test_a_gap_is_never_a_target_and_holds_the_last_value():
    z = noisy()
    z[[3, 50, 51, 120], [0, 0, 0, 1]] = torch.nan
    found = RidgeAutoregression(2, 3).double().fit(z)
    w, _ = design(carried(z), 3)
    assert distance(found.bias, (z[3:] - w @ found.weight.T).nanmean(0)) < 1e-9
    assert carried(z)[51, 0] == carried(z)[50, 0] == z[49, 0] and carried(z)[50, 1] == z[50, 1]
    assert carried(torch.tensor([[torch.nan], [2.0], [torch.nan]])).flatten().tolist() == [0.0, 2.0, 2.0]
    assert torch.isfinite(found.weight).all() and torch.isfinite(found.limit).all()


@pytest.mark.parametrize("channels, lags", [(1, 1), (1, 5), (2, 1), (2, 3)])
def test_its_transition_is_how_windows_move(channels, lags):
    z = noisy(C=channels)
    linear = RidgeAutoregression(channels, lags).double().fit(z)
    rows = z[40 : 40 + lags]
    after = torch.cat([rows, linear.free_run(rows[None], 7)[0]])[-lags:]
    still = torch.linalg.solve(torch.eye(channels, dtype=z.dtype) - linear.weight.view(channels, channels, lags).sum(2), linear.bias)
    transition, h = linear.transition(rows), rows.T.flatten() - still.repeat_interleave(lags)
    if channels == 1:  # a companion matrix holds the same numbers in another basis
        roots = torch.tensor(np.roots([1, *(-linear.weight[0].flip(0)).tolist()]))
        assert distance(transition.spectrum().flatten().abs().sort().values, roots.abs().sort().values) < 1e-9
    else:
        for _ in range(7):
            h = transition.apply(h[None, None])[0, 0]
        assert distance(h + still.repeat_interleave(lags), after.T.flatten()) < 1e-9


def test_it_never_leaves_its_limits_and_reads_no_marks():
    z = noisy(C=1)
    found = RidgeAutoregression(1, 4).double().fit(z)
    assert float(found.limit) == BEYOND * float(z.abs().max())
    wild = 1e6 * torch.randn(50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert bool((found(wild).abs() <= found.limit).all())
    assert torch.equal(found(wild), found(wild[:, :4]))


@pytest.mark.parametrize("rows", [0, 1, 4, 5])
def test_of_too_few_rows_it_says_nothing_or_something_finite(rows):
    found = RidgeAutoregression(1, 4).fit(torch.ones(rows, 1))
    assert torch.isfinite(found(torch.ones(3, 4))).all()


def test_windows_and_rows_of_another_size_are_refused():
    linear = RidgeAutoregression(2, 3).fit(noisy(C=2).float())
    with pytest.raises(ValueError, match=r"w is \(1, 5\) but must end in channels \* lags = 2 \* 3 values or more"):
        linear(torch.ones(1, 5))
    for rows in (torch.ones(1, 4, 2), torch.ones(1, 3, 1), torch.ones(3, 2)):
        with pytest.raises(ValueError, match=r"rows is .* but must be \[batch, 3, 2\]"):
            linear.free_run(rows, 5)
