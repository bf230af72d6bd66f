"""Every call on a page runs as it is printed, after the lines that the page prints once, and gives the numbers that stand above it."""

import ast
import json
import re
from html import unescape

import numpy as np
import pytest

import separatrix
from separatrix.data import Series, Task, load
from separatrix.report.audit import EVIDENCE, audit
from separatrix.report.run_folder import unfitted
from separatrix.training import Forecaster

# What a call returns -> numbers of its section, by the beginnings of their names.
GIVES = {
    "free-run": lambda nmse: {"free-running NMSE": nmse},
    "horizon": lambda found: {"forecast horizon, model": found.steps.value},
    "bounded": lambda run: {
        "free-running steps within": run.bounded.value,
        "lowest value": run.low[-1].value,
        "highest value": run.high[-1].value,
    },
    "portrait": lambda found: {"overlap of delay portraits, model": found.shared.value, "overlap of delay portraits, two": found.own.value},
    "histogram": lambda found: {"distance of values, run to data": found.values.distance.value},
    "spectrum": lambda found: {"distance of spectra, run to data": found.rhythm.distance.value},
    "divergence": lambda found: {f"largest exponent of the {who}": one.exponent.value for who, one in zip(("data", "model"), found)},
    "exponents": lambda found: {f"Lyapunov exponent {i + 1}": float(value) for i, value in enumerate(found.exponents)},
    "eigenvalues": lambda found: {"largest modulus": found[0].largest.value, "largest norm of one step": found[0].norm.value},
    "memory": lambda found: {"median half-life": found[0].median.value, "longest half-life": found[0].longest.value},
    "response": lambda pair: {"age at which one percent": pair[0].faded.value, "largest amplification": pair[1].value},
    "training": lambda loss: {"loss, median of the last tenth": float(np.median(loss[-max(1, len(loss) // 10) :]))},
}


def told(folder, **asked):
    """The page and the record of a run on two columns of a file, one with a gap."""
    t = np.arange(500)
    columns = 3 + np.sin(0.7 * t) + np.cos(0.31 * t), 100 * np.cos(0.7 * t) + np.sin(0.9 * t)
    rows = [f"{a:.6f},{b:.6f}" if i != 70 else f",{b:.6f}" for i, (a, b) in enumerate(zip(*columns))]
    source = folder / "waves.csv"
    source.write_text("\n".join(["one,two", *rows]) + "\n")
    task, series = Task.of(str(source), horizon=60)
    where = folder / "run"
    Forecaster("s4d", steps=10, horizon=4, d_model=8, members=2, linear=False, random_state=3).fit(task.fitted(series), folder=where)
    task.save(where)
    page = audit(where, series, ahead=40, steps=2000, **asked)
    return unescape(page.read_text()), json.loads((where / EVIDENCE.replace(".", "-column-2.")).read_text())


def computed(call, names):
    """The value of the last line."""
    *before, last = ast.parse(call).body
    names = dict(names)
    exec(compile(ast.Module(before, []), "call", "exec"), names)
    return eval(compile(ast.Expression(last.value), "call", "eval"), names)


def test_every_call_gives_the_numbers_of_its_section(tmp_path):
    page, evidence = told(tmp_path, column="two")
    names = {}
    assert evidence["preamble"] in page and re.search(r"10 steps · float32 · seed 3 · [\d.]+ (s|min)", page)
    exec(evidence["preamble"], names)
    assert set(evidence["calls"]) == set(GIVES), evidence["absent"]
    for slug, call in evidence["calls"].items():
        assert call in page and "..." not in call
        of_section = {number["name"]: number["value"] for number in evidence["numbers"] if number["finding"] == slug}
        for beginning, value in GIVES[slug](computed(call, names)).items():
            printed = next(number for name, number in of_section.items() if name.startswith(beginning))
            assert value == pytest.approx(float(printed), rel=1e-4), (
                slug,
                beginning,
            )  # forecasts from many origins are made at once, in float32


@pytest.mark.parametrize(
    "settings",
    [
        dict(),
        dict(mixer="s4d", settings={"d_state": 4}, horizon=7, layers=2),
        dict(mixer="gru", members=1, linear=True),
        dict(mixer="mlp", lags=3, linear=True, steps=9),
    ],
    ids=str,
)
def test_the_call_of_a_fit_plans_that_fit(settings):
    rows = load("sunspots").values[:300]
    plan = Forecaster(**settings).plan(Series.from_array(rows))
    again = eval(unfitted(plan), {"sx": separatrix}).plan(Series.from_array(rows))
    assert again.differences(plan) == []
