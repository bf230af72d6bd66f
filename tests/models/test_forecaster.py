"""The forecaster's network: every way of running it is the same run, gaps are free runs, and its System is itself."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from separatrix.models import Backbone, ForecastModel, Pointwise, RidgeAutoregression, Stepper
from separatrix.recurrence import State
from separatrix.training.networks import build_network
from separatrix.training.recipe import Network
from tests.agree import agree, distance

NETWORKS = {
    "s4d": dict(mixer="s4d", settings=dict(d_state=4)),
    "s5": dict(mixer="s5"),
    "lru": dict(mixer="lru"),
    "mamba": dict(mixer="mamba", settings=dict(d_state=4)),
    "mamba2": dict(mixer="mamba2", settings=dict(d_state=4, d_head=8)),
    "gla": dict(mixer="gla"),
    "deltanet": dict(mixer="deltanet"),
    "gated_deltanet": dict(mixer="gated_deltanet"),
    "lstm": dict(mixer="lstm"),
    "gru": dict(mixer="gru"),
    "mlp": dict(mixer="mlp"),
    "attention": dict(mixer="attention"),
    "no lags": dict(mixer="s4d", lags=1, settings=dict(d_state=4)),
    "masked": dict(mixer="s4d", mask=True, settings=dict(d_state=4)),
    "two layers": dict(mixer="gru", layers=2),
    "ensemble": dict(mixer="s4d", members=3, settings=dict(d_state=4)),
    "linear": dict(mixer="gru", members=2, linear=True),
}
RECURRENT = [name for name in NETWORKS if name != "attention"]


def network(name, dtype=torch.float64):
    settings = dict(channels=2, d_model=16, layers=1, d_ff=16, lags=3) | NETWORKS[name]
    model = build_network(Network(**settings), torch.Generator().manual_seed(0))
    x = 10 + 3 * torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    model.measure_scale(x)
    if model.linear is not None:
        model.linear.fit(model.scaled(x))
    return model.to(dtype)


def series(B=2, T=12, gaps=()):
    x = 10 + 3 * torch.randn(B, T, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for row, t, channel in gaps:
        x[row, t, channel] = torch.nan
    return x


GAPS = ((0, 0, 0), (0, 4, 1), (1, 5, 0), (1, 5, 1), (0, 6, 1), (1, 11, 0))


@pytest.mark.parametrize("gaps", [(), GAPS], ids=["whole", "gaps"])
@pytest.mark.parametrize("name", NETWORKS)
def test_cut_anywhere(name, gaps):
    model, x = network(name), series(gaps=gaps)

    def in_pieces(x, cut):
        y, state = model(x[:, :cut])
        z, state = model(x[:, cut:], state)
        return torch.cat([y, z], dim=1), state.guess

    def at_once(x, cut):
        y, state = model(x)
        return y, state.guess

    with torch.no_grad():
        for cut in (0, 1, 5, 6, 12):
            # NaN marks a gap, so nudging keeps gaps where they are
            agree(in_pieces, at_once, (x, cut), torch.float64, factor=100, because="chunks of the mixers meet elsewhere after a cut")


@pytest.mark.parametrize("name", NETWORKS)
@given(cut=st.integers(0, 7))
def test_a_free_run_cut_anywhere(name, cut):
    model, x = network(name), series()
    with torch.no_grad():
        whole, after = model.free_run(x, 7)
        first, state = model.free_run(x, cut)
        rest, state = model.free_run(None, 7 - cut, state)
    assert torch.equal(torch.cat([first, rest], dim=1), whole) and torch.equal(state.guess, after.guess)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_free_run_is_hearing_what_it_said(name):
    model, x = network(name), series()
    with torch.no_grad():
        said, _ = model.free_run(x, 6)
        heard, _ = model(torch.cat([x, said], dim=1))
    assert distance(heard[:, 11:17], said) < 1e-11


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "masked"])
def test_a_gap_is_a_short_free_run(name):
    model, x = network(name), series(B=1)
    holed = x.clone()
    holed[:, 5:9] = torch.nan
    with torch.no_grad():
        said, _ = model.free_run(x[:, :5], 4)
        filled = torch.cat([x[:, :5], said, x[:, 9:]], dim=1)
        assert distance(model.fill(holed), filled) < 1e-11
        assert distance(model(holed)[0], model(filled)[0]) < 1e-11


def test_the_mask_tells_a_gap_from_a_measurement():
    model, x = network("masked"), series(B=1)
    with torch.no_grad():
        said, _ = model.free_run(x[:, :5], 1)
        holed = x.clone()
        holed[:, 5] = torch.nan
        filled = torch.where(torch.isnan(holed), said, holed)
        y, z = model(holed)[0], model(filled)[0]
    assert torch.equal(y[:, :5], z[:, :5]) and not torch.allclose(y[:, 5:8], z[:, 5:8])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_future_cannot_touch_the_past(name):
    model, x = network(name), series()
    other = x.clone()
    other[:, 7:] = series(T=20)[:, 15:]
    with torch.no_grad():
        assert torch.equal(model(x[:, :7])[0][:, :7], model(x[:, :7])[0]) and distance(model(other)[0][:, :7], model(x)[0][:, :7]) < 1e-12


@pytest.mark.parametrize("name", NETWORKS)
def test_no_time_changes_nothing(name):
    model, x = network(name), series()
    with torch.no_grad():
        _, state = model(x)
        y, same = model(x[:, :0], state)
        assert y.shape == (2, 0, 2) and torch.equal(same.vector(), state.vector())
        y, _ = model.free_run(None, 0, state)
        assert y.shape == (2, 0, 2)


@pytest.mark.parametrize("name", RECURRENT)
def test_the_system_is_the_free_run(name):
    model, x = network(name), series(B=1)
    system = model.as_system(x)
    said, _ = model.free_run(x, 5)
    state, seen = system.start, []
    for _ in range(5):
        state = system.step(state)
        seen.append(system.observe(state))
    assert distance(torch.stack(seen), said[0].detach()) < 1e-12
    assert state.shape == (system.dimension,) and system.dt == 1.0


@pytest.mark.parametrize("name", ["s4d", "mamba", "lstm", "mlp", "masked", "two layers"])
def test_a_system_starts_from_a_state_that_was_kept(name, tmp_path):
    model = network(name)
    _, state = model(series(B=1))
    state.save(tmp_path / "state.safetensors")
    system, loaded = (model.as_system(state=s) for s in (state, State.load(tmp_path / "state.safetensors")))
    assert torch.equal(loaded.start, system.start)
    assert torch.equal(loaded.observe(loaded.step(loaded.start)), system.observe(system.step(system.start)))


@pytest.mark.parametrize("name", ["s4d", "mamba", "gated_deltanet", "lstm", "mlp", "no lags", "masked", "two layers"])
def test_its_derivative_is_that_of_its_step(name):
    system = network(name).as_system(series(B=1))
    v = torch.randn(3, system.dimension, dtype=torch.float64)
    exact = system.jacobian_vector(system.start, v)
    gap = [distance((system.step(system.start + h * v) - system.step(system.start - h * v)) / (2 * h), exact) for h in (2e-3, 1e-3)]
    assert gap[1] < 1e-3 and (gap[1] < 1e-9 or 3 < gap[0] / gap[1] < 5)  # second order: half the step, a quarter of the error


def test_a_state_of_another_size_is_refused():
    system = network("s4d").as_system(series(B=1))
    with pytest.raises(ValueError, match=r"must end in the .* numbers of this system"):
        system.step(system.start[:-1])


def test_one_direction_is_a_row_of_many():
    system = network("s4d").as_system(series(B=1))
    v = torch.randn(2, 3, system.dimension, dtype=torch.float64)
    assert distance(system.jacobian_vector(system.start, v[1, 2]), system.jacobian_vector(system.start, v)[1, 2]) < 1e-12


@pytest.mark.parametrize("name", ["s4d", "mamba", "gru", "mlp"])
def test_rows_of_a_system_are_independent(name):
    system = network(name).as_system(series(B=1))
    states = system.start + 0.1 * torch.randn(2, 3, system.dimension, dtype=torch.float64)
    together = system.step(states)
    assert together.shape == states.shape
    assert distance(torch.stack([torch.stack([system.step(s) for s in row]) for row in states]), together) < 1e-12


def test_a_driven_system_hears_the_input():
    model, x = network("s4d"), series(B=1)
    system = model.as_system(x[:, :6])
    driven = system.step(system.start, x[0, 6])
    assert distance(driven, model.as_system(x[:, :7]).start) < 1e-12
    v = torch.randn(2, system.dimension, dtype=torch.float64)
    h = 1e-5
    slope = (system.step(system.start + h * v, x[0, 6]) - system.step(system.start - h * v, x[0, 6])) / (2 * h)
    assert distance(system.jacobian_vector(system.start, v, x[0, 6]), slope) < 1e-6


def test_a_system_is_a_copy():
    model = network("s4d", torch.float32)
    system = model.as_system(series(B=1))
    before = system.step(system.start)
    with torch.no_grad():
        model.members[0].head.weight.zero_()
    assert torch.equal(system.step(system.start), before)
    assert (
        model.members[0].head.weight.requires_grad
        and model.members[0].head.weight.dtype == torch.float32
        and system.start.dtype == torch.float64
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_forecasts_stay_in_their_box(name):
    model = network(name)
    low, high = model.output_range()
    with torch.no_grad():
        wild = 1e4 * torch.randn(1, 12, 2, dtype=torch.float64)
        y, _ = model.free_run(wild, 30)
    assert bool((y >= low).all()) and bool((y <= high).all())


@torch.no_grad()
def test_a_fit_begins_as_the_linear_autoregression():
    model, x = network("linear"), series()
    model.start_linear(model.scaled(x[0]))
    windows, _ = model.delays(model.scaled(x), None, None)
    assert distance(model(x)[0], model.unscaled(model.linear(windows))) < 1e-12
    alone = model.alone(1)
    assert alone.linear is model.linear and distance(alone(x)[0], model(x)[0]) < 1e-12


def test_an_ensemble_is_the_mean_of_its_members_and_all_of_them_hear_it():
    model, x = network("ensemble"), series()
    with torch.no_grad():
        heard, state = model(x)
        each = [model.alone(i) for i in range(3)]
        ours, states = zip(*(one(x) for one in each))
        assert distance(torch.stack(ours).mean(0), heard) < 1e-12  # of what was measured, all have heard the same
        said, z = [], model.scaled(heard[:, -1])
        for _ in range(5):
            said.append(model.unscaled(z))
            guesses, states = zip(*(one.hear(z[:, None], before) for one, before in zip(each, states)))
            z = torch.stack(guesses).mean(0)[:, 0]
        assert distance(torch.stack(said, dim=1), model.free_run(None, 5, state)[0]) < 1e-12
        assert distance(each[0].free_run(x, 5)[0], torch.stack(said, dim=1)) > 1e-3  # by itself, a member goes elsewhere


def test_a_member_alone_shares_its_weights_and_touches_nothing():
    model, before = network("ensemble"), torch.get_rng_state()
    one = model.eval().alone(1)
    assert torch.equal(torch.get_rng_state(), before) and not one.training
    assert [id(p) for p in one.parameters()] == [id(p) for p in model.members[1].parameters()]
    model.measure_scale(7 + series()[0])
    assert torch.equal(one.mean, model.mean) and torch.equal(one.scale, model.scale)
    shared = [Pointwise(8), Pointwise(8)]
    shared[1].maps[0] = shared[0].maps[0]
    for backbones in ([], [Pointwise(8)] * 2, shared):
        with pytest.raises(ValueError, match="one for every member"):
            ForecastModel(1, backbones)


def test_no_norm_no_box():
    class Linear(torch.nn.Module):
        d_model = 8

        def forward(self, x, state=None, reset=None):
            return x, State()

    assert ForecastModel(1, Linear(), lags=2).output_range() is None


def test_walk_visits_the_layers_along_the_data():
    model, x = network("two layers"), series(gaps=GAPS)
    with torch.no_grad():
        visits = list(model.walk(x))
        _, state = model(x)
    assert [visit.name for visit in visits] == ["layer0", "layer1"]
    assert distance(visits[1].after.h, state.member0.layer1.h) < 1e-12
    assert list(network("mlp").walk(x)) == []
    assert [visit.name for visit in network("ensemble").walk(x)] == ["member0.layer0", "member1.layer0", "member2.layer0"]


def test_a_walk_shows_the_linear_part_and_no_network_that_nobody_hears():
    model, x = network("linear"), series()
    seen = [visit.name for visit in model.walk(x)]
    assert seen[0] == "linear" and len(seen) > 1
    assert [visit.name for visit in model.keep_share(0.0).walk(x)] == ["linear"]


def test_scale_leaves_gaps_out_and_keeps_constants():
    model = ForecastModel(2, Pointwise(8))
    model.measure_scale(torch.tensor([[1.0, 5.0], [torch.nan, 5.0], [3.0, 5.0]]))
    assert torch.equal(model.mean, torch.tensor([2.0, 5.0], dtype=torch.float64))
    assert torch.equal(model.scale, torch.tensor([1.0, 1.0], dtype=torch.float64))
    model.measure_scale(torch.tensor([[0.0, -1e-9]] * 3, dtype=torch.float64))  # a forecast of 0.005 would be no constant of 1e-9
    assert torch.equal(model.scale, torch.tensor([1.0, 1e-9], dtype=torch.float64))
    model.measure_scale(torch.full((60, 2), 0.1, dtype=torch.float64))  # its mean is not 0.1
    assert torch.equal(model.scale, torch.full((2,), 0.1, dtype=torch.float64))


def test_the_generator_decides_the_weights_and_nothing_else():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b = (network("s4d").state_dict() for _ in range(2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: m(torch.zeros(3, 4)), ValueError, "x is (3, 4)"),
        (lambda m: m(torch.zeros(1, 3, 4)), ValueError, "2 channels"),
        (lambda m: m(torch.zeros(1, 3, 2, dtype=torch.int64)), TypeError, "int64"),
        (lambda m: m(np.zeros((1, 3, 2))), TypeError, "ndarray"),
        (lambda m: m(torch.full((1, 3, 2), torch.inf)), ValueError, "infinite"),
        (lambda m: m.free_run(None, 3), ValueError, "both None"),
        (lambda m: m.free_run(torch.zeros(1, 3, 2), -1), ValueError, "steps is -1"),
        (lambda m: m.as_system(), ValueError, "both None"),
        (lambda m: m.as_system(torch.zeros(2, 3, 2)), ValueError, "2 rows"),
        (lambda m: network("attention").as_system(torch.zeros(1, 3, 2)), ValueError, "attention"),
        (lambda m: ForecastModel(0, Pointwise(8)), ValueError, "channels is 0"),
        (lambda m: ForecastModel(1, Pointwise(8), lags=2.5), ValueError, "lags is 2.5"),
        (lambda m: ForecastModel(1, Pointwise(8), mask="no"), TypeError, "mask is 'no'"),
        (lambda m: ForecastModel(1, Pointwise), TypeError, "backbone is <class"),
        (lambda m: Pointwise(8, layers=-1), ValueError, "layers is -1"),
        (lambda m: Pointwise(8)(torch.zeros(3, 8)), ValueError, "x is (3, 8)"),
        (lambda m: m.free_run([1.0], 3), TypeError, "x is a list"),
        (lambda m: m.fill(torch.zeros(1, 3, 1)), ValueError, "2 channels"),
        (lambda m: m(torch.zeros(1, 3, 2), [1.0]), TypeError, "state is a list"),
        (lambda m: m.free_run(None, 3, [1.0]), TypeError, "state is a list"),
        (lambda m: m.as_system(state=[1.0]), TypeError, "state is a list"),
        (lambda m: m.as_system([1.0]), TypeError, "x is a list"),
        (lambda m: m.as_system(torch.zeros(1, 3, 2), dt=0.0), ValueError, "dt is 0.0"),
        (lambda m: m.measure_scale(torch.zeros(9, 1)), ValueError, "x is (9, 1)"),
        (lambda m: m.keep_share(-0.5), ValueError, "share is -0.5"),
        (lambda m: RidgeAutoregression(2, 0), ValueError, "lags is 0"),
        (lambda m: RidgeAutoregression(2, 3).fit(torch.zeros(9, 1)), ValueError, "z is (9, 1)"),
        (lambda m: RidgeAutoregression(2, 3).fit(torch.full((9, 2), torch.inf)), ValueError, "z holds infinite"),
        (lambda m: Stepper("gru"), TypeError, "module is 'gru'"),
    ],
)
def test_bad_input_is_refused_by_name(call, error, words):
    with pytest.raises(error, match=words.replace("(", r"\(").replace(")", r"\)")):
        call(network("s4d"))


def test_backbone_stands_in():
    model = ForecastModel(1, Backbone(8, []), lags=2)
    y, _ = model(torch.randn(1, 5, 1))
    assert y.shape == (1, 5, 1)
