"""The forecaster that everybody calls: fit, predict, hear more, keep, load."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import separatrix as sx
from separatrix.data import Series
from separatrix.training import Forecaster
from separatrix.training.forecaster import STEPPED
from separatrix.training.loop import CHECKPOINT

TINY = dict(steps=6, horizon=4, lags=3, d_model=8, members=2)


def signal(T=60, C=2):
    t = np.arange(T)[:, None]
    return 5 + 2 * np.sin(0.6 * t + np.arange(C)) + 0.1 * np.cos(1.7 * t)


def holed():
    x = signal()
    x[5:8, 0], x[20, :], x[40, 1] = np.nan, np.nan, np.nan
    return x


@pytest.mark.parametrize("mixer", ["s4d", "s5", "lru", "mamba", "gla", "deltanet", "gated_deltanet", "lstm", "gru", "attention", "mlp"])
def test_every_mixer_fits_forecasts_and_comes_back(mixer, tmp_path):
    x = holed()
    forecaster = Forecaster(mixer, **TINY).fit(x, folder=tmp_path)
    forecast = forecaster.predict(7)
    assert forecast.shape == (7, 2) and forecast.dtype == np.float64 and np.isfinite(forecast).all()
    assert np.array_equal(forecaster.predict(7), forecast)
    loaded = Forecaster.load(tmp_path)
    assert np.array_equal(loaded.predict(7), forecast)
    assert np.array_equal(loaded.update(signal()[:3]).predict(4), forecaster.update(signal()[:3]).predict(4))


@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode])
def test_a_fit_has_gradients_wherever_it_is_called(without_gradients):
    wanted = Forecaster("gru", **TINY).fit(signal()).predict(3)
    with without_gradients():
        forecaster = Forecaster("gru", **TINY).fit(signal())
        assert np.array_equal(forecaster.predict(3), wanted)
    assert np.array_equal(forecaster.update(signal()[:3]).fit(signal()).predict(3), wanted)


@pytest.mark.parametrize("mixer", ["s4d", "attention"])
def test_a_long_forecast_is_the_free_run_and_begins_as_a_shorter_one(mixer):
    forecaster = Forecaster(mixer, **TINY).fit(holed())
    long, expected = forecaster.predict(STEPPED + 60), forecaster.model.free_run(None, STEPPED + 60, forecaster.state)[0]
    assert np.array_equal(long[: STEPPED + 7], forecaster.predict(STEPPED + 7))
    assert np.abs(long - expected[0].detach().double().numpy()).max() < 1e-3


def test_update_is_hearing_the_same_values():
    x, more = holed(), holed()[:25]
    forecaster = Forecaster("s4d", **TINY).fit(x)
    model = forecaster.model
    with torch.no_grad():
        _, state = model(torch.tensor(np.concatenate([x, more]))[None])
        expected, _ = model.free_run(None, 5, state)
    one_by_one = Forecaster("s4d", **TINY).fit(x)
    for row in more:
        one_by_one.update(row[None])
    forecast = forecaster.update(more).predict(5)
    assert np.abs(forecast - expected[0].double().numpy()).max() < 1e-4
    assert np.abs(one_by_one.predict(5) - forecast).max() < 1e-4


def test_a_channel_may_be_missing_for_a_while():
    forecaster = Forecaster("gru", **TINY).fit(holed())
    more = signal()[:4]
    more[:, 1] = np.nan
    assert np.isfinite(forecaster.update(more).predict(3)).all()


@pytest.mark.parametrize(
    "form", [list, np.asarray, torch.as_tensor, lambda x: Series.from_array(x)], ids=["list", "numpy", "torch", "series"]
)
def test_every_form_of_a_series_is_the_same_series(form):
    x = signal(C=1)[:, 0]
    forecast = Forecaster("s4d", **TINY).fit(form(x)).predict(3)
    plain = Forecaster("s4d", **TINY).fit(x).predict(3)
    assert plain.shape == (3,) and np.array_equal(forecast.reshape(3), plain)


@pytest.mark.parametrize("unit, offset", [(1e160, 0.0), (1e-200, 0.0), (1.0, 1e9)])
def test_no_unit_is_too_large_or_too_small(unit, offset):
    x = signal()
    plain = Forecaster("s4d", **TINY).fit(x).predict(STEPPED + 3)
    scaled = Forecaster("s4d", **TINY).fit(unit * x + offset).predict(STEPPED + 3)
    assert np.abs((scaled - offset) / unit - plain).max() < 1e-2  # beside 1e9 the data themselves are rounded


def test_a_run_keeps_its_precision_whatever_the_default_is_later(tmp_path):
    forecaster = Forecaster("s4d", **TINY).fit(signal(), folder=tmp_path / "run")
    torch.set_default_dtype(torch.float64)
    try:
        loaded = Forecaster.load(tmp_path / "run")
        assert np.array_equal(loaded.predict(4), forecaster.predict(4))
        with pytest.raises(ValueError, match=r"torch\.float32 in the file but torch\.float64 here"):
            Forecaster("s4d", **TINY).fit(signal(), folder=tmp_path / "run", resume=True)
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_seed_decides():
    x = signal()
    a, b, c = (Forecaster("s4d", **TINY, random_state=seed).fit(x).predict(3) for seed in (0, 0, 1))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_a_cut_run_goes_on(tmp_path):
    x, settings = signal(), TINY | dict(steps=120)
    straight = Forecaster("s4d", **settings).fit(x, folder=tmp_path / "straight")
    for step in Forecaster("s4d", **settings).fitting(x, folder=tmp_path / "cut"):
        if step.step == 70:
            break
    seen = []
    resumed = Forecaster("s4d", **settings).fit(x, folder=tmp_path / "cut", resume=True, on_step=seen.append)
    assert [step.step for step in seen] == list(range(51, 121))
    assert np.array_equal(resumed.predict(5), straight.predict(5))
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_a_run_has_one_writer(tmp_path):
    """The other one hears so at once, writes nothing, and may go on when the first is gone."""
    first = Forecaster("gru", **TINY).fitting(signal(), folder=tmp_path)
    next(first)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for other in (Forecaster("gru", **TINY), Forecaster("lstm", **TINY)):
        with pytest.raises(ValueError, match="being written by another fit"):
            other.fit(signal(), folder=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    first.close()
    assert np.isfinite(Forecaster("lstm", **TINY).fit(signal(), folder=tmp_path).predict(3)).all()
    assert not (tmp_path / ".lock").exists()


def test_a_killed_writer_lets_go(tmp_path):
    code = (
        "import numpy as np, os, signal, separatrix as sx\n"
        f"steps = sx.Forecaster('gru', **{TINY}).fitting(np.sin(np.arange(60.0)), folder={str(tmp_path)!r})\n"
        "next(steps)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode != 0
    assert np.isfinite(Forecaster("gru", **TINY).fit(signal(), folder=tmp_path).predict(3)).all()


def test_another_run_is_not_gone_on_with(tmp_path):
    x = signal()
    Forecaster("s4d", **TINY).fit(x, folder=tmp_path)
    with pytest.raises(ValueError, match=r"holds another run: .*d_model 8 and 16"):
        Forecaster("s4d", **TINY | dict(d_model=16)).fit(x, folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"data\.sha256"):
        Forecaster("s4d", **TINY).fit(x + 1, folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match="no checkpoint"):
        Forecaster("s4d", **TINY).fit(x, folder=tmp_path / "elsewhere", resume=True)
    with pytest.raises(ValueError, match="needs the folder"):
        Forecaster("s4d", **TINY).fit(x, resume=True)


def test_the_configuration_says_it_all(tmp_path):
    Forecaster("s4d", **TINY, settings={"d_state": 4}, random_state=3).fit(holed(), folder=tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["seed"] == 3 and config["network"]["settings"]["d_state"] == 4 and config["network"]["mask"]
    assert config["data"]["rows"] == 60 and config["data"]["gaps"] == 6 and len(config["data"]["sha256"]) == 64
    assert config["versions"]["torch"] and config["machine"]["cores"] >= 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Forecaster("s4"), "mixers are"),
        (lambda: Forecaster(steps=0), "steps is 0"),
        (lambda: Forecaster(horizon=2.5), "horizon is 2.5"),
        (lambda: Forecaster(random_state=None), "random_state is None"),
        (lambda: Forecaster(random_state=2**64), "random_state is 18446"),
        (lambda: Forecaster(horizon=True), "horizon is True"),
        (lambda: Forecaster(random_state=True), "random_state is True"),
        (lambda: Forecaster("s4d", **TINY, settings={"d_model": 4}).fit(signal()), "settings holds 'd_model'"),
        (lambda: Forecaster().predict(3), "not fitted"),
        (lambda: Forecaster("gru", **TINY).fit(signal()).predict(2.5), "steps is 2.5"),
        (lambda: Forecaster("gru", **TINY).fit(signal()).update(None), "shape"),
        (lambda: Forecaster(**TINY).fit(np.ones(4)), "at least 8"),
        (lambda: Forecaster(**TINY).fit([]), "empty"),
        (lambda: Forecaster(**TINY).fit(np.full(30, np.nan)), "no number"),
        (lambda: Forecaster(**TINY).fit(np.r_[np.ones(20), np.inf]), "infinite"),
        (lambda: Forecaster(**TINY | dict(horizon=500)).fit(signal()), "shorter horizon"),
        (lambda: Forecaster("mlp", **TINY, settings={"d_state": 4}).fit(signal()), "has none"),
        (lambda: Forecaster("s4d", **TINY, settings={"d_stat": 4}).fit(signal()), "d_stat"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(("settings", "words"), [(3, "settings is 3"), ({"init": np.sin}, "give its name")])
def test_settings_are_what_a_file_can_keep(settings, words):
    with pytest.raises(TypeError, match=words):
        Forecaster("s4d", **TINY, settings=settings).fit(signal())


def test_numbers_and_tensors_of_any_kind_will_do():
    x = signal(C=1)[:, 0]
    counts = {name: np.int64(number) for name, number in TINY.items()}
    forecast = Forecaster("gru", **counts, random_state=np.int64(1)).fit(torch.as_tensor(x).bfloat16()).predict(np.int64(3))
    assert np.array_equal(forecast, Forecaster("gru", **TINY, random_state=1).fit(torch.as_tensor(x).bfloat16().float()).predict(3))


def test_channels_must_match():
    with pytest.raises(ValueError, match="1 channels but the series had 2"):
        Forecaster("gru", **TINY).fit(signal()).update([1.0, 2.0])


def test_steps_are_a_whole_number():
    forecaster = Forecaster("gru", **TINY).fit(signal())
    for steps in (-1, 1.5, None, "3"):
        with pytest.raises(ValueError, match="expected a whole number of at least 0"):
            forecaster.predict(steps)
    assert forecaster.predict(0).shape == (0, 2)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "not the folder of a run"),
        (lambda folder: (folder / "config.json").write_text("{}"), "not the configuration"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), "damaged"),
        (lambda folder: (folder / "model.safetensors").unlink(), "is not finished. Go on with it"),
        (lambda folder: (folder / "state.safetensors").write_bytes(b""), "damaged"),
        (lambda folder: [file.unlink() for file in folder.glob("[cm]*.safetensors")], "does not exist"),
    ],
)
def test_a_broken_folder_is_named(break_it, words, tmp_path):
    Forecaster("gru", **TINY).fit(signal(), folder=tmp_path)
    break_it(tmp_path)
    with pytest.raises(ValueError, match=words):
        Forecaster.load(tmp_path)


def test_a_new_fit_in_an_old_folder_starts_afresh(tmp_path):
    Forecaster("gru", **TINY).fit(signal(), folder=tmp_path)
    steps = [step.step for step in Forecaster("gru", **TINY, random_state=1).fitting(signal(), folder=tmp_path)]
    assert steps == list(range(1, 7)) and (tmp_path / CHECKPOINT).is_file()


def test_it_is_the_package_s_forecaster_and_says_nothing():
    assert sx.Forecaster is Forecaster
    code = (
        "import numpy, separatrix as sx; sx.Forecaster('gru', steps=2, horizon=2, d_model=8).fit(numpy.sin(numpy.arange(40.0))).predict(2)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "error"}, check=True
    )
    assert done.stdout == "" and done.stderr == ""


def test_a_plan_is_for_one_series():
    forecaster = Forecaster("gru", **TINY)
    config = forecaster.plan(Series.from_array(signal()))
    for _ in forecaster.fitting(signal(), config=config):
        pass
    assert np.array_equal(forecaster.predict(3), Forecaster("gru", **TINY).fit(signal()).predict(3))
    with pytest.raises(ValueError, match="config is a plan for 60 other rows"):
        next(forecaster.fitting(signal(70), config=config))
