"""bench: every method is scored, and a model that does not exist is refused before the first fit."""

import json

import pytest
from typer.testing import CliRunner

from separatrix.cli import app


def run(*words):
    return CliRunner().invoke(app, words, env={"COLUMNS": "160"})


def test_every_method_is_scored():
    words = ("bench", "laser", "--models", "s4d,mlp", "--seeds", "2", "--steps", "2")
    scores = json.loads(run(*words, "--json").stdout)
    assert [(score["name"], len(score["nmse"])) for score in scores] == [("AR(20)", 1), ("seasonal", 1), ("s4d", 2), ("mlp", 2)]
    assert scores[0]["median"] == pytest.approx(0.925, abs=0.002)
    shown = run(*words).stdout
    assert all(name in shown for name in ("AR(20)", "seasonal", "s4d", "mlp", "NMSE"))


def test_what_is_refused():
    for words, complaint in [
        (("chess",), "no task is called 'chess'. There are: laser, noise, settings."),
        (("laser", "--models", "s4d,s9"), "the mixers are s4d"),
        (("laser", "--seeds", "0"), "--seeds is 0"),
        (("settings", "--steps", "40"), "Leave out --steps and --members"),
    ]:
        result = run("bench", *words)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1) and complaint in result.stderr
