"""data, papers, doctor: what they list, and that JSON is JSON."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import requires

import pytest
from typer.testing import CliRunner

from separatrix import data, doctor
from separatrix.cli import app
from separatrix.papers import papers


def run(*words):
    return CliRunner().invoke(app, words, env={"COLUMNS": "160"})


def test_help_lists_every_command_with_a_line():
    result = run("--help")
    assert result.exit_code == 0
    for command in ("fit", "forecast", "audit", "data", "papers", "doctor", "bench", "reproduce"):
        assert re.search(rf"{command}\s+\w+", result.stdout), command


@pytest.mark.parametrize("command", ["fit", "forecast", "audit", "data", "papers", "doctor", "bench", "reproduce"])
def test_every_command_shows_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0 and f"separatrix {command}" in result.stdout


def test_data():
    result = run("data")
    assert result.exit_code == 0
    for name in data.about():
        assert name in result.stdout
    rows = json.loads(run("data", "--json").stdout)
    assert [row["name"] for row in rows] == list(data.about())
    assert rows[0]["rows"] == 10_093


def test_one_series():
    result = run("data", "weather_jfk")
    assert result.exit_code == 0 and "24 missing times became rows of gaps." in result.stdout
    result = run("data", "wether")
    assert result.exit_code == 2 and "There are: laser" in result.stderr and result.stderr.count("\n") == 1


def test_papers():
    rows = json.loads(run("papers", "--json").stdout)
    assert len(rows) == 234
    assert set(rows[0]) >= {"id", "slug", "title", "room", "tier", "objects", "claim", "verdict", "status"}
    result = run("papers", "--room", "mixers", "--tier", "1")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[1:-1]] == [paper.id for paper in papers("mixers", 1)]
    result = run("papers", "--room", "kitchen")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1


def test_doctor_names_every_dependency_and_operation():
    from separatrix.recurrence.plan import COMPOSED, OPERATIONS

    result = run("doctor", "--json")
    found = json.loads(result.stdout)
    declared = {re.match(r"[A-Za-z0-9-]+", line).group() for line in requires("separatrix") if "extra ==" not in line}
    assert declared <= set(found["versions"])
    assert all(found["versions"][name] for name in declared)
    assert set(found["operations"]) == set(OPERATIONS) and found["composed"] == COMPOSED
    assert "torch" in found["threads"]
    result = run("doctor")
    for name in (*OPERATIONS, *COMPOSED):
        assert name in result.stdout


def test_doctor_leaves_threads_alone():
    import torch

    before = torch.get_num_threads()
    doctor.examine()
    assert torch.get_num_threads() == before


def test_help_starts_without_torch():
    code = "import sys; import separatrix.cli; sys.exit(bool({'torch', 'numba', 'matplotlib', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_the_terminal_cannot_write_does_not_cost_the_answer():
    command = [sys.executable, "-m", "separatrix", "data", "nino"]
    result = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0 and "El Ni?o cycle" in result.stdout, result.stderr


@pytest.mark.parametrize(
    "encoding, said", [("ascii", "^5, 8.01 x 10^-9 at 3 ?"), ("cp1252", "^5, 8.01 × 10^-9 at 3 °"), ("utf-8", "⁵, 8.01 × 10⁻⁹ at 3 °")]
)
def test_a_number_keeps_its_exponent_where_it_cannot_be_raised(encoding, said):
    code = "import sys; from separatrix.cli.app import app, main; from separatrix.cli.screen import out\n"
    code += "app.command('say')(lambda: out().print('⁵, 8.01 × 10⁻⁹ at 3 °'))\nsys.argv = ['separatrix', 'say']\nmain()"
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=env)
    assert ended.stdout.decode(encoding).strip() == said
