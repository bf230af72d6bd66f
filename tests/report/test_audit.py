"""From a run folder to its report, on runs that take a second to make: every kind of data and of layer gets a page."""

import json
import os
import shutil
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
import torch

from separatrix.data import Series
from separatrix.report.audit import EVIDENCE, REPORT, audit, numbers_of
from separatrix.report.measure import longrun
from separatrix.training import Forecaster

STEPS = 2000
rng = np.random.default_rng(0)
t = np.arange(500)
WAVE = 3 + np.sin(0.7 * t) + 0.5 * np.sin(0.31 * t) + 0.05 * rng.normal(size=500)


def series(values=WAVE, **changed):
    return replace(Series.from_array(values, name="wave"), period=9.0, **changed)


def run(folder, data, rows, mixer="s4d", members=2, calibrated=False, linear=None):
    settings = dict(steps=30, d_model=8, lags=5, horizon=4, members=members, linear=linear)
    fitted = replace(data, values=data.values[:rows])
    forecaster = Forecaster(mixer, **settings).fit(fitted, folder=folder)
    if calibrated:
        forecaster.calibrate(fitted, folder=folder)
    seen = []
    path = audit(folder, data, ahead=40, steps=STEPS, progress=lambda done, what: seen.append((done, what)))
    return path, json.loads((folder / EVIDENCE).read_text()), seen


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return run(tmp_path_factory.mktemp("plain"), series(), 400, calibrated=True)


def test_a_run_becomes_a_page(plain):
    path, evidence, seen = plain
    page = path.read_text()
    assert path.name == REPORT and len(page) < 2_000_000
    assert evidence["sentence"] in unescape(page) and evidence["verdict"] in ("marginal", "stable but wrong")
    assert any("only 2,000 were made" in missing for missing in evidence["missing"])
    wanted = [
        "free-run",
        "horizon",
        "bounded",
        "portrait",
        "histogram",
        "spectrum",
        "exponents",
        "eigenvalues",
        "memory",
        "response",
        "training",
    ]
    assert set(wanted) <= set(evidence["findings"])
    shares = [done for done, _ in seen]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] <= 1
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_an_audit_is_the_same_twice(plain):
    path, first, _ = plain
    audit(path.parent, series(), ahead=40, steps=STEPS)
    assert json.loads((path.parent / EVIDENCE).read_text())["numbers"] == first["numbers"]


def test_a_full_disk_leaves_the_old_page_beside_the_old_record(plain, monkeypatch, tmp_path):
    folder = shutil.copytree(plain[0].parent, tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    room, sync = iter([True]), os.fsync

    def full(handle):
        if not next(room, False):
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=EVIDENCE):
        audit(folder, series(), ahead=30, steps=STEPS)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_the_scored_forecast_is_what_predict_gives(plain):
    path, evidence, _ = plain
    truth, guess = WAVE[400:440], Forecaster.load(path.parent).predict(40)[:, 0]
    scored = next(n["value"] for n in evidence["numbers"] if n["name"].startswith("free-running NMSE"))
    assert scored == pytest.approx(np.mean((guess - truth) ** 2) / truth.var(), rel=1e-4)  # float32: many origins at once


def test_members_of_an_ensemble_are_scored_by_themselves(plain, tmp_path):
    path, evidence, _ = plain
    model, truth = Forecaster.load(path.parent).model, WAVE[400:440]
    with torch.no_grad():
        runs = [model.alone(i).free_run(torch.tensor(WAVE[None, :400, None]), 40)[0][0, :, 0].numpy() for i in range(2)]
    wanted = np.median([np.mean((guess - truth) ** 2) / truth.var() for guess in runs])
    name = "NMSE of a member alone, median"
    # float32: many origins at once
    assert next(n["value"] for n in evidence["numbers"] if n["name"] == name) == pytest.approx(wanted, rel=1e-4)
    path, evidence, _ = run(tmp_path, series(), 400, members=1)
    assert name not in {n["name"] for n in evidence["numbers"]} and "of rows inside" not in str(evidence["numbers"])


def test_the_interval_is_counted_against_what_came(plain):
    path, evidence, _ = plain
    forecaster, truth = Forecaster.load(path.parent), WAVE[400:440]
    low, high = forecaster.predict_interval(40, coverage=0.9)
    numbers = {n["name"]: n for n in evidence["numbers"]}
    inside, count = numbers["share of rows inside the 90% interval"], ((low[:, 0] <= truth) & (truth <= high[:, 0])).sum()
    assert (inside["kind"], inside["unit"]) == ("measured", "%") and inside["value"] == pytest.approx(100 * count / 40)
    assert inside["how"].startswith(f"{count} of 40;")
    hidden = numbers["NMSE over 40 steps on hidden rows"]
    each = forecaster.errors[:, :, :40, 0].square().mean((1, 2)) / WAVE[:400].var()
    assert hidden["value"] == pytest.approx(float(each.mean()), rel=1e-6)  # sums in float32, and in float64
    assert (hidden["low"], hidden["high"]) == pytest.approx((float(each.min()), float(each.max())), rel=1e-6)
    assert "the interval that should hold 90% of the rows" in path.read_text()


def test_the_output_of_the_network_is_bounded_by_proof(plain):
    numbers = {n["name"]: n for n in plain[1]["numbers"]}
    low, high = (numbers[f"no forecast can be {side}"] for side in ("below", "above"))
    assert low["kind"] == high["kind"] == "bound"
    assert low["value"] <= numbers["lowest value"]["value"] <= numbers["highest value"]["value"] <= high["value"]


def test_another_file_in_its_place_is_refused(plain):
    folder = plain[0].parent
    with pytest.raises(ValueError, match="are not what the run was fitted to"):
        audit(folder, series(WAVE + 1), steps=STEPS)
    with pytest.raises(ValueError, match="not a shipped series"):
        audit(folder, steps=STEPS)
    with pytest.raises(ValueError, match="not the folder of a run"):
        audit(folder / "nowhere", steps=STEPS)


def test_two_channels_with_gaps_and_gates(tmp_path):
    both = np.stack([np.where((t % 97 < 3) | (t == 420), np.nan, WAVE), 100 * np.cos(0.7 * t)], axis=1)
    path, evidence, _ = run(tmp_path, series(both), 400, "mamba")
    assert f"of {series(both).names[0]}, one of 2 columns," in path.read_text()
    assert "values missing" in path.read_text() and {"free-run", "eigenvalues"} <= set(evidence["findings"])
    assert np.isfinite(next(n["value"] for n in evidence["numbers"] if n["name"].startswith("free-running NMSE")))
    before = path.read_bytes()
    second = audit(tmp_path, series(both), ahead=40, steps=STEPS, column="value 1")
    assert second.name == "report-column-2.html" and "Pictures and scores are of value 1" in second.read_text()
    numbers = json.loads(numbers_of(second).read_text())["numbers"]
    span = [next(n["value"] for n in numbers if n["name"] == f"{end} value") for end in ("lowest", "highest")]
    assert span != [next(n["value"] for n in evidence["numbers"] if n["name"] == f"{end} value") for end in ("lowest", "highest")]
    assert path.read_bytes() == before and numbers_of(path).name == EVIDENCE
    with pytest.raises(ValueError, match="column is 'y9' but the run was fitted to 'value 0', 'value 1'"):
        audit(tmp_path, series(both), column="y9")


def test_gaps_everywhere_and_few_rows_cost_the_yardsticks_not_the_free_run(tmp_path):
    often = np.where(t % 15 < 2, np.nan, WAVE)  # no 21 rows without a gap for AR(20), no 32 to read a cycle from
    for name, data, rows in [("often", Series.from_array(often), 400), ("few", Series.from_array(WAVE[:20]), 18)]:
        _, evidence, _ = run(tmp_path / name, data, rows)
        assert "free-running steps within the limit" in {n["name"] for n in evidence["numbers"]}, evidence["absent"]
        assert {"free-run", "eigenvalues"} <= set(evidence["findings"]) and "seasonal" not in evidence["findings"]["free-run"]


def test_a_horizon_of_gaps_is_told_as_gaps(tmp_path):
    days = dict(start="2020-01-01", unit="day")
    path, evidence, _ = run(tmp_path, series(np.where(t < 400, WAVE, np.nan)[:440], **days), 402)
    page = unescape(path.read_text())
    assert "how far forecasts hold" in evidence["missing"] and "all 38 days are gaps" in evidence["findings"]["free-run"]
    assert "Row 399 (2021-02-03) is the last value the model saw; rows 400 to 401 (2021-02-05) are gaps." in page
    assert "38 days from row 402 (2021-02-06) on are gaps." in page


def test_layers_without_eigenvalues_and_nothing_new_to_forecast_are_said(tmp_path):
    path, evidence, _ = run(tmp_path, series(WAVE[:400]), 400, "gru", linear=False)
    assert "linear in its state" in evidence["absent"]["eigenvalues"] and "linear in its state" in path.read_text()
    assert "These rows were fitted" in path.read_text()


def test_a_constant_series_is_told_as_it_is(tmp_path):
    _, evidence, _ = run(tmp_path, replace(Series.from_array(np.full(500, 2.0), name="flat"), period=9.0), 400, "mlp")
    assert evidence["verdict"] == "marginal" and "spread of the long run, model / data" in evidence["missing"]
    assert "times the data's" not in evidence["sentence"]


@pytest.mark.parametrize("sign, word", [(1, "grows"), (-1, "sinks")])
def test_growth_without_end_is_stopped_by_the_clip_and_said_so(tmp_path, sign, word):
    _, evidence, _ = run(tmp_path, series(sign * (np.exp(t / 150) + 0.1 * WAVE)), 400, linear=True)
    assert f"it {word} to where its linear part is clipped" in evidence["sentence"]


def test_a_linear_part_shows_its_eigenvalues(tmp_path):
    path, evidence, _ = run(tmp_path, series(), 400, "gru", linear=True)
    largest = next(n["value"] for n in evidence["numbers"] if n["name"] == "largest modulus, linear, RidgeAutoregression")
    assert "corrections of 2 networks that hear their mean, each gru, 1 layer" in path.read_text()
    A = Forecaster.load(path.parent).model.linear.weight[0].double().numpy()
    assert largest == pytest.approx(np.abs(np.roots([1, *-A[::-1]])).max(), rel=1e-6) and "eigenvalues" not in evidence["absent"]


@pytest.mark.parametrize(("mixer", "says"), [("deltanet", "choose their transitions"), ("s4d", "do not depend on the data")])
def test_what_depends_on_the_data_is_told_from_what_does_not(tmp_path, mixer, says):
    """A reflection has the norm 1 whatever it reflects, and is another one at every step."""
    path, *_ = run(tmp_path, series(), 400, mixer, linear=False)
    assert says in path.read_text()


def test_a_forecast_of_noise_may_settle(tmp_path):
    noise = np.random.default_rng(1).normal(size=500)
    _, evidence, _ = run(tmp_path / "noise", series(noise), 400)
    assert (
        evidence["verdict"] == "stable but wrong" and "settles to a fixed point, as the best forecast of noise does" in evidence["sentence"]
    )
    config = json.loads((tmp_path / "noise" / "config.json").read_text())
    (tmp_path / "noise" / "config.json").write_text(json.dumps({**config, "nonlinearity": 0.5}))  # the caller wanted a linear part
    audit(tmp_path / "noise", series(noise), ahead=40, steps=STEPS)
    assert "noise does" not in json.loads((tmp_path / "noise" / EVIDENCE).read_text())["sentence"]


def test_small_units_are_named_and_one_origin_is_called_one(tmp_path):
    path, evidence, _ = run(tmp_path, series(1e-6 * WAVE[:440], channel_units=("A",), unit="year"), 400)
    page, numbers = path.read_text(), {n["name"]: n for n in evidence["numbers"]}
    assert "never forecasts below 0" not in page and "10⁻⁶ or above" in page
    names = ("lowest value", "highest value", "no forecast can be below", "no forecast can be above")
    assert {numbers[name]["unit"] for name in names} == {"A"}
    assert not [words for words in ("free run(s)", "sequence(s)", "1 origins") if words in page]
    assert {n["unit"] for n in evidence["numbers"] if n["finding"] in ("memory", "response")} == {"years", ""}
    assert "horizon" not in evidence["findings"] and "section on the horizon" not in page and "Over several origins" not in page


def test_a_run_that_leaves_at_once_says_no_number_that_it_has_not(plain, monkeypatch, tmp_path):
    folder = shutil.copytree(plain[0].parent, tmp_path / "away")
    monkeypatch.setattr(longrun, "LIMIT", 1e-3)
    page = audit(folder, series(), ahead=40, steps=STEPS).read_text()
    assert json.loads((folder / EVIDENCE).read_text())["verdict"] == "runs away"
    assert "after 1 free step the output left 0.001 times" in page and "not a number" not in page
    assert '<td data-is="Found">0 <small>' in page  # as many as the section on the long run counts


def test_rivals_are_fitted_once_and_never_the_model_itself(plain):
    folder, said = plain[0].parent, []
    for _ in range(2):
        audit(folder, series(), ahead=40, steps=STEPS, rivals=("s4d", "gru"), progress=lambda done, what: said.append(what))
    assert said.count("baseline gru") == 30 and "baseline s4d" not in said
    names = [n["name"] for n in json.loads((folder / EVIDENCE).read_text())["numbers"]]
    assert "NMSE of GRU" in names and "NMSE of S4D" not in names and "forecast horizon, GRU" in names
