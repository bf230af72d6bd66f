"""fit, forecast, audit: a run folder from its first line, and nothing half-written when it cannot be."""

import csv
import gzip
import html
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from separatrix import data
from separatrix.cli import app
from separatrix.mixers import MIXERS
from separatrix.training import Forecaster

SEPARATRIX = [sys.executable, "-c", "from separatrix.cli import main; main()"]
SHORT = ("--steps", "4", "--members", "2", "--no-report")


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = np.sin(np.arange(120) / 5)
    (tmp_path / "my.csv").write_text(
        "day,temp,word\n" + "".join(f"2024-{1 + i // 28:02}-{1 + i % 28:02},{x:.4f},a\n" for i, x in enumerate(rows))
    )
    return tmp_path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    where = tmp_path_factory.mktemp("run") / "lynx"
    result = run("fit", "lynx", *SHORT, "--out", where, "--horizon", 10)
    assert result.exit_code == 0, result.stderr
    return where


def test_a_shipped_series(fitted):
    assert {path.name for path in fitted.iterdir()} == {
        "config.json", "task.json", "metrics.jsonl", "checkpoint.safetensors", "model.safetensors", "state.safetensors",
        "errors.safetensors",  # of the members, which left rows out
    }  # fmt: skip
    config = json.loads((fitted / "config.json").read_text())
    assert config["data"]["rows"] == 104 and config["recipe"]["steps"] == 4 and config["versions"]["torch"]
    assert config["network"]["members"] == 2 and Forecaster().members == 4
    assert len((fitted / "metrics.jsonl").read_text().splitlines()) == 4


def test_a_file_with_gaps_and_another_model(here):
    result = run("fit", "my.csv", "--column", "temp", "--model", "gru", "--horizon", 6, *SHORT)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "model: runs/my-gru\n"
    assert "missing times became rows of gaps" in result.stderr
    assert json.loads(Path("runs/my-gru/config.json").read_text())["network"]["mask"] is True
    assert run("fit", "my.csv", "--column", "temp", "--model", "gru", *SHORT).stdout == "model: runs/my-gru-2\n"


def test_a_packed_file_is_a_file(here):
    Path("my.csv.gz").write_bytes(gzip.compress(Path("my.csv").read_bytes()))
    assert run("fit", "my.csv.gz", "--column", "temp", "--horizon", 6, *SHORT).stdout == "model: runs/my-s4d\n"
    forecast = run("forecast", "runs/my-s4d", "--steps", 3)
    assert forecast.exit_code == 0 and forecast.stdout.startswith("row,time,temp\n129,2024-05-09,"), forecast.stderr


def test_several_columns_in_the_order_they_were_asked_for(here):
    rows = [f"{x},{y},{z}" for x, y, z in zip(range(40), np.sin(np.arange(40)), np.cos(np.arange(40)))]
    Path("three.csv").write_text("\n".join(["t,a,b", *rows]))
    assert run("fit", "three.csv", "--column", "b", "--column", "a", *SHORT, "--out", "three").exit_code == 0
    assert run("forecast", "three", "--steps", 1).stdout.startswith("row,time,b,a\n40,40,")
    result = run("fit", "three.csv", "--column", "b", "--column", "b", *SHORT)
    assert result.exit_code == 2 and "must name at least one column, and each of them once" in result.stderr


def test_a_file_that_has_grown_is_heard_to_its_end(here):
    assert run("fit", "my.csv", "--column", "temp", "--horizon", 6, *SHORT, "--out", "grown").exit_code == 0
    with open("my.csv", "a") as file:
        file.write("2024-05-09,0.5,a\n")
    result = run("forecast", "grown", "--steps", 1)
    assert "1 row is new since the fit" in result.stderr and result.stdout.splitlines()[1].split(",")[1] == "2024-05-10"
    assert run("audit", "grown").exit_code == 0
    text = Path("my.csv").read_text()
    Path("my.csv").write_text(text.replace("2024-01-01,0.0000", "2024-01-01,0.5000"))
    result = run("forecast", "grown")
    assert result.exit_code == 2 and "has changed since the run was made" in result.stderr and "not by rows after its last" in result.stderr


def test_neither_the_data_nor_the_run_is_written_over(here):
    assert run("fit", "my.csv", "--column", "temp", *SHORT, "--out", "one").exit_code == 0
    before = {path: path.read_bytes() for path in (*Path("one").iterdir(), Path("my.csv"))}
    for words in (("forecast", "one", "--csv", "./my.csv"), ("forecast", "one", "--csv", "one/config.json")):
        result = run(*words)
        assert result.exit_code == 2 and "Choose another file." in result.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert run("forecast", "one", "--csv", "one/out.csv").exit_code == 0


def test_a_forecast_beyond_the_limit_of_its_linear_part_is_said(here):
    Path("grows.csv").write_text("x\n" + "\n".join(f"{np.exp(i / 10):.6g}" for i in range(200)))
    assert run("fit", "grows.csv", "--linear", "--horizon", 40, *SHORT, "--out", "grows").exit_code == 0
    result = run("forecast", "grows", "--steps", 3)
    assert "the forecast of 'x' is held at" in result.stderr and "do not trust it" in result.stderr
    said = float(result.stderr.split("is held at ")[1].split(",")[0])
    assert abs(float(result.stdout.splitlines()[-1].split(",")[1]) / said - 1) < 0.1


def test_an_unfinished_fit_says_how_to_go_on(here):
    assert run("fit", "my.csv", "--column", "temp", *SHORT, "--out", "part").exit_code == 0
    for name in ("model.safetensors", "state.safetensors"):
        (Path("part") / name).unlink()
    for command in ("forecast", "audit"):
        result = run(command, "part")
        assert result.exit_code == 2 and "is not finished. Go on with it: separatrix fit --resume part" in result.stderr


def test_forecast_goes_on_from_the_end(fitted, tmp_path):
    result = run("forecast", fitted, "--steps", 5, "--csv", tmp_path / "out.csv")
    assert result.exit_code == 0, result.stderr
    rows = list(csv.reader((tmp_path / "out.csv").read_text().splitlines()))
    assert rows[0] == ["row", "time", "trappings"] and [row[0] for row in rows[1:]] == ["114", "115", "116", "117", "118"]
    assert [row[1] for row in rows[1:]] == ["1935", "1936", "1937", "1938", "1939"]
    heard = Forecaster.load(fitted).update(data.load("lynx").values[104:])
    assert np.allclose([float(row[2]) for row in rows[1:]], heard.predict(5)[:, 0], rtol=1e-11, atol=0)  # written to 12 digits
    from_origin = list(csv.reader(run("forecast", fitted, "--steps", 5, "--from", 104).stdout.splitlines()))
    # float32: the model heard the rows by another road
    assert np.allclose([float(row[2]) for row in from_origin[1:]], Forecaster.load(fitted).predict(5)[:, 0], rtol=1e-5)


@pytest.mark.parametrize(
    "words, complaint",
    [
        ((), "nothing to fit"),
        (("lazer",), "neither a file nor a series that comes with the package. There are: laser"),
        (("none.csv",), "no such file: none.csv"),
        (("my.csv", "--column", "rain"), "has no column 'rain'. It has: day, temp, word."),
        (("my.csv", "--column", "word"), "column 'word' is not a number in data row 1: 'a'"),
        (("laser", "--model", "s9"), "the mixers are s4d, s5"),
        (("laser", "--rivals", "gru,s9"), "the mixers are s4d, s5"),
        (("laser", "--threads", "0"), "--threads is 0"),
        (("laser", "--horizon", "0"), "horizon is 0"),
        (("my.csv", "--horizon", "1000"), "a horizon of 1000 leaves too few"),
        (("laser", "--steps", "0"), "steps is 0"),
        (("laser", "--members", "0"), "members is 0"),
        (("shakespeare",), "is text, not a series of numbers"),
        (("laser", "--out", "my.csv"), "is there already and not an empty folder. Choose another --out.\n"),
        (("laser", "--out", "my.csv/run"), "my.csv"),
        (("laser", "--resume", "nowhere"), "has no task.json"),
        (("laser", "--resume", "nowhere", "--steps", "9"), "leave out --steps"),
        (("laser", "--resume", "nowhere", "--members", "9"), "leave out --members"),
        (("bad.csv",), "column 'x' is infinite in data row 2"),
        (("empty.csv",), "is empty"),
        (("-",), "- can be read only once"),
        (("torn.csv.gz",), "torn.csv.gz is damaged or no .gz file"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(here, words, complaint):
    (here / "bad.csv").write_text("x\n1\ninf\n")
    (here / "empty.csv").write_text("")
    (here / "torn.csv.gz").write_bytes(gzip.compress(b"x\n1\n")[:-4])
    before = sorted(here.rglob("*"))
    result = run("fit", *words, *(() if {"--steps", "--resume"} & set(words) else SHORT[:2]))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
    assert result.stderr.startswith("separatrix: ") and complaint in result.stderr
    assert sorted(here.rglob("*")) == before


@pytest.mark.skipif(os.name == "nt", reason="no /dev/stdin")
def test_a_pipe_is_refused_before_it_is_read(here):
    ended = subprocess.run([*SEPARATRIX, "fit", "/dev/stdin", *SHORT], input="x\n1\n", capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "") and sorted(here.iterdir()) == [here / "my.csv"]
    assert ended.stderr == (
        "separatrix: /dev/stdin can be read only once, but a run reads its series again when it is measured or goes on. "
        "Save it first, as in cat > my.csv, and give that file.\n"
    )


@pytest.mark.parametrize(
    "name, damage",
    [
        ("model.safetensors", b"x" * 100),
        ("state.safetensors", b""),
        ("config.json", b"{}"),
        ("task.json", b"[]"),
    ],
)
@pytest.mark.parametrize("command", ["forecast", "audit"])
def test_a_damaged_run(fitted, tmp_path, command, name, damage):
    broken = tmp_path / "run"
    broken.mkdir()
    for path in fitted.iterdir():
        (broken / path.name).write_bytes(damage if path.name == name else path.read_bytes())
    result = run(command, broken)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
    assert name in result.stderr and not (broken / "report.html").exists()


def test_a_foreign_checkpoint_is_not_resumed(fitted, tmp_path):
    for path in fitted.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "checkpoint.safetensors").write_bytes((fitted / "model.safetensors").read_bytes())
    result = run("fit", "--resume", tmp_path, "--no-report")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1) and "is not a checkpoint" in result.stderr


def test_a_forecast_may_say_how_far_off_it_is(tmp_path):
    assert run("fit", "lynx", *SHORT, "--out", tmp_path / "lynx", "--no-linear", "--intervals").exit_code == 0
    fitted = tmp_path / "lynx"
    assert (fitted / "errors.safetensors").is_file() and not (fitted / "folds").exists()
    plain = list(csv.reader(run("forecast", fitted, "--steps", 6).stdout.splitlines()))
    header, *rows = csv.reader(run("forecast", fitted, "--steps", 6, "--coverage", 0.8).stdout.splitlines())
    assert header == ["row", "time", "trappings", "trappings_low", "trappings_high"] and [row[:3] for row in rows] == plain[1:]
    numbers = np.array(rows, dtype=float)
    width = numbers[:, 4] - numbers[:, 2]
    assert (width > 0).all() and (np.diff(width) > -1e-6).all() and np.allclose(numbers[:, 2] - numbers[:, 3], width)
    for coverage, said in ((1.5, "must lie between 0 and 1"), (0.999, "at most")):
        refused = run("forecast", fitted, "--coverage", coverage)
        assert refused.exit_code == 2 and said in refused.stderr


def test_a_forecast_calibrates_where_the_fit_did_not(fitted, tmp_path):
    known = run("forecast", fitted, "--steps", 3, "--coverage", 0.5)
    assert known.exit_code == 0 and "calibrating" not in known.stderr and known.stdout.startswith("row,time,trappings,trappings_low")
    where = tmp_path / "lynx"
    assert run("fit", "lynx", *SHORT, "--out", where, "--no-linear").exit_code == 0
    first = run("forecast", where, "--steps", 3, "--coverage", 0.5)
    assert first.exit_code == 0 and "calibrating" in first.stderr and (where / "errors.safetensors").is_file()
    again = run("forecast", where, "--steps", 3, "--coverage", 0.5)
    assert again.stdout == first.stdout and "calibrating" not in again.stderr


def test_forecast_refuses_what_it_cannot_do(fitted, tmp_path):
    for words, complaint in [
        (("--steps", 0), "--steps is 0"),
        (("--from", 3), "--from is 3 but must be 104"),
        (("--csv", tmp_path / "no" / "out.csv"), f"{tmp_path / 'no' / 'out.csv'}: no such file or directory"),
        (("--csv", tmp_path), f"{tmp_path}: is a directory"),
    ]:
        result = run("forecast", fitted, *words)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1) and complaint in result.stderr, result.stderr
    result = run("forecast", tmp_path)
    assert result.exit_code == 2 and "has no task.json" in result.stderr


def test_a_fit_ends_with_the_verdict_and_the_report(here, monkeypatch):
    from separatrix.report import audit

    monkeypatch.setattr(audit, "audit", partial(audit.audit, steps=400))  # the verdict asks for 100,000: more than a test has time for
    result = run("fit", "my.csv", "--column", "temp", "--horizon", 6, "--steps", 4, "--rivals", "mlp")
    assert result.exit_code == 0, result.stderr
    verdict, report = result.stdout.splitlines()
    assert verdict.partition(":")[0] in ("holds", "marginal", "stable but wrong", "runs away")
    assert report == "report: runs/my-s4d/report.html"
    page = Path("runs/my-s4d/report.html").read_text()
    assert verdict.partition(": ")[2] in html.unescape(page)
    assert html.unescape(page).count("missing times became rows of gaps") >= 1
    assert "NMSE of MLP" in page


def test_two_reports_side_by_side(tmp_path):
    record = {"verdict": "holds", "sentence": "Bounded.", "numbers": [], "findings": {}, "missing": [], "criteria": [],
              "run": {"name": "x", "model": "s4d", "data": "laser", "seed": 0, "config": {}}}  # fmt: skip
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "evidence.json").write_text(json.dumps(record))
    result = run("audit", tmp_path / "a", tmp_path / "b")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"comparison: {tmp_path / 'a' / 'beside-b.html'}\n" and (tmp_path / "a" / "beside-b.html").exists()
    both = tmp_path / "b"
    refused = [
        ((tmp_path / "c",), "Make the report first"),
        ((both, "--rivals", "gru"), "--rivals belongs to"),
        ((both, "--column", "x"), "--column belongs to"),
    ]
    for words, complaint in refused:
        result = run("audit", tmp_path / "a", *words)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1) and complaint in result.stderr


def test_ctrl_c_keeps_the_checkpoint_and_says_how_to_go_on(here):
    words = ["fit", "lynx", "--steps", "300", "--members", "2", "--no-report"]  # far more than go by before the interrupt arrives
    process = subprocess.Popen(
        [*SEPARATRIX, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background of a shell is born deaf to it
    )  # fmt: skip
    metrics = here / "runs" / "lynx-s4d" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 52) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    kept, command = said.strip().splitlines()[-2:]
    assert re.fullmatch(r"stopped: step (50|100|150|200|250) is kept in runs/lynx-s4d", kept)
    assert command == "go on with: separatrix fit --resume runs/lynx-s4d"
    subprocess.run([*SEPARATRIX, *shlex.split(command.partition(": separatrix ")[2]), "--no-report"], check=True, capture_output=True)
    subprocess.run([*SEPARATRIX, *words, "--out", "whole"], check=True, capture_output=True)
    assert metrics.read_text() == Path("whole/metrics.jsonl").read_text()
    assert metrics.with_name("model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("awaited, kept", [("metrics.jsonl", False), ("checkpoint.safetensors", True)])
def test_being_told_to_end_is_a_ctrl_c(here, number, awaited, kept):
    command = [*SEPARATRIX, "fit", "lynx", "--steps", "100000", "--members", "1", "--no-report", "--out", "run"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    deadline = time.monotonic() + 120
    while not Path("run", awaited).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert re.search(r"stopped: step \d+ is kept in run\n" if kept else "stopped before the first checkpoint: nothing is kept", said)
    assert Path("run").exists() == kept


def test_a_full_disk_keeps_the_checkpoint_and_says_how_to_go_on(here, monkeypatch):
    from separatrix.training import loop

    save, saved = loop.save_checkpoint, []

    def once(path, *rest):
        if saved:
            raise OSError(28, "No space left on device", str(path))
        saved.append(path)
        save(path, *rest)

    monkeypatch.setattr(loop, "save_checkpoint", once)
    result = run("fit", "lynx", "--steps", 120, "--members", 1, "--no-report", "--out", "r")
    assert result.exit_code == 2 and result.stderr.splitlines()[-1] == (
        "separatrix: r/checkpoint.safetensors: no space left on device. Step 50 is kept; mend this and go on with: "
        "separatrix fit --resume r"
    )
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert run("fit", "--resume", "r", "--no-report").exit_code == 0
    assert len((here / "r" / "metrics.jsonl").read_text().splitlines()) == 120


def test_a_fit_that_diverges_at_once_keeps_the_batch_that_it_names(here, monkeypatch):
    from separatrix.training import loop

    monkeypatch.setattr(loop, "_pull", lambda *_: loop.Pull(float("nan"), float("nan"), {}))
    result = run("fit", "lynx", *SHORT, "--no-report", "--out", "r")
    assert result.exit_code == 1 and "the batch is in r/bad-batch.safetensors" in result.stderr
    assert (here / "r" / "bad-batch.safetensors").is_file()


def test_two_fits_that_begin_together_have_a_folder_each(here):
    from separatrix.cli.fit import _new_folder

    with _new_folder(None, "a-s4d") as one, _new_folder(None, "a-s4d") as other:
        assert {one.name, other.name} == {"a-s4d", "a-s4d-2"}


def test_a_task_of_another_run_is_refused(fitted, tmp_path):
    from separatrix.data import Task

    where = shutil.copytree(fitted, tmp_path / "r")
    Task.of("nile", None, 10)[0].save(where)
    result = run("forecast", where, "--steps", 3)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "is a run on 'lynx', whose 104 fitted rows are not those that its task.json names" in result.stderr


def test_help_names_the_models():
    said = run("fit", "--help").stdout
    assert all(re.search(rf"\b{name}\b", said) for name in MIXERS)
