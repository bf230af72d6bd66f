"""Files that belong together are all new or all old, and an error names the file that was asked for."""

import os
from pathlib import Path

import pytest

from separatrix.files import atomic, write_texts

PAIR = ("page", "record")


def pair(folder: Path, said: str) -> dict[str | Path, str]:
    return {folder / name: f"{said} {name}" for name in PAIR}


def read(folder: Path) -> dict[str | Path, str]:
    """All that is there, so that nothing temporary is left either."""
    return {path: path.read_text() for path in folder.iterdir()}


def full(call, after: int):
    """`call` on a disk that takes `after` more of them."""
    left = iter(range(after))

    def on_a_full_disk(*arguments):
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        return call(*arguments)

    return on_a_full_disk


@pytest.mark.parametrize(("call", "after", "named"), [("fsync", 0, "page"), ("fsync", 1, "record"), ("replace", 0, "page")])
def test_a_full_disk_leaves_the_old_pair(tmp_path, monkeypatch, call, after, named):
    write_texts(pair(tmp_path, "old"))
    monkeypatch.setattr(os, call, full(getattr(os, call), after))
    with pytest.raises(OSError, match=rf"No space left on device: .*{named}'"):
        write_texts(pair(tmp_path, "new"))
    assert read(tmp_path) == pair(tmp_path, "old")
    monkeypatch.undo()
    write_texts(pair(tmp_path, "new"))
    assert read(tmp_path) == pair(tmp_path, "new")


@pytest.mark.parametrize("broken", PAIR)
def test_a_folder_in_the_place_of_one_leaves_the_other(tmp_path, broken):
    write_texts(pair(tmp_path, "old"))
    (tmp_path / broken).unlink()
    (tmp_path / broken).mkdir()
    (kept,) = set(PAIR) - {broken}
    with pytest.raises(IsADirectoryError, match=broken):
        write_texts(pair(tmp_path, "new"))
    assert (tmp_path / kept).read_text() == f"old {kept}" and len(list(tmp_path.iterdir())) == 2


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(tmp_path / "a") as temporary:
        temporary.write_text("new")
        1 / 0  # noqa: B018
    assert read(tmp_path) == {tmp_path / "a": "old"}
    with pytest.raises(FileNotFoundError, match="nowhere"), atomic(tmp_path / "nowhere" / "a"):
        pass
