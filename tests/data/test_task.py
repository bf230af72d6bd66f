"""A task names its rows, and notices another file in the place of its own."""

import json
from dataclasses import replace

import numpy as np
import pytest

from separatrix.data import Task


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("x\n" + "\n".join(map(str, range(50))))
    return path


def test_the_field_agreed_on_the_laser():
    task, series = Task.of("laser")
    assert (task.origin, task.horizon, task.source) == (1000, 100, "laser")
    assert len(task.fitted(series)) == 1000 and np.array_equal(task.truth(series), series.values[1000:1100])
    assert Task.of("laser", horizon=40)[0].horizon == 40


def test_the_last_rows_of_a_file_are_kept_back(file):
    task, series = Task.of(str(file))
    assert (task.origin, task.horizon) == (45, 5)
    assert task.truth(series)[:, 0].tolist() == [45, 46, 47, 48, 49]


def test_kept_and_found_again(file, tmp_path):
    task, series = Task.of(str(file), "x", 7, "separatrix fit mine.csv")
    task.save(tmp_path)
    assert Task.load(tmp_path) == task
    assert np.array_equal(task.series().values, series.values)
    file.write_text("x\n1\n2\n")
    with pytest.raises(ValueError, match="has changed since the run was made"):
        task.series()
    file.unlink()
    with pytest.raises(ValueError, match="no such file"):
        task.series()


@pytest.mark.parametrize("horizon", [0, -3, 43, 500])
def test_horizons_that_leave_nothing(file, horizon):
    with pytest.raises(ValueError, match="horizon"):
        Task.of(str(file), None, horizon)


def test_a_file_too_short_for_any_horizon_is_not_told_to_shorten_it(tmp_path):
    (tmp_path / "few.csv").write_text("x\n" + "1\n2\n" * 4)
    with pytest.raises(ValueError, match=r"8 rows: a horizon of 1 .* Give a longer series"):
        Task.of(str(tmp_path / "few.csv"))


@pytest.mark.parametrize("text", ["", "[]", "{", json.dumps({"source": "laser"})])
def test_a_damaged_or_foreign_folder(tmp_path, text):
    with pytest.raises(ValueError, match=r"has no task\.json"):
        Task.load(tmp_path)
    (tmp_path / "task.json").write_text(text)
    with pytest.raises(ValueError, match="is damaged"):
        Task.load(tmp_path)


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"origin": "45"}, "origin is '45' but must be a whole number of at least 8"),
        ({"origin": 45.0}, r"origin is 45\.0"),
        ({"origin": True}, "origin is True"),
        ({"origin": -5}, "origin is -5"),
        ({"horizon": 0}, "horizon is 0 but must be a whole number of at least 1"),
        ({"source": None}, "source is None but must be text"),
        ({"column": 1}, "column is 1 but must be text"),
        ({"sha256": 7}, "sha256 is 7"),
        ({"command": ["separatrix"]}, "command is "),
    ],
)
def test_a_task_changed_by_hand(file, tmp_path, change, complaint):
    kept = {"source": str(file), "column": None, "origin": 45, "horizon": 5, "sha256": "", "command": ""}
    (tmp_path / "task.json").write_text(json.dumps(kept | change))
    with pytest.raises(ValueError, match=rf"task\.json is damaged: {complaint}"):
        Task.load(tmp_path)


def test_a_task_that_asks_for_more_rows_than_there_are(file):
    with pytest.raises(ValueError, match=r"asks for 55 rows but .*mine\.csv has 50"):
        replace(Task.of(str(file))[0], origin=50).series()
