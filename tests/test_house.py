"""Imports walk one way through the house: see docs/house.md."""

import ast
from pathlib import Path

import pytest

import separatrix

ROOT = Path(separatrix.__file__).parent
WALK = ["recurrence", "mixers", "data", "systems", "models", "training", "tasks", "stability", "report", "claims", "cli"]
OPEN = {"files", "machine", "papers"}  # to all


def imported(path: Path) -> set[str]:
    """The rooms that a file imports from, wherever in it that stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "separatrix":
            found |= {alias.name for alias in node.names} - {"__version__"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("separatrix."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("separatrix.")}
    return found


def test_every_room_has_a_place():
    assert {folder.name for folder in ROOT.iterdir() if (folder / "__init__.py").is_file()} == {*WALK, "papers"}


@pytest.mark.parametrize("room", WALK)
def test_a_room_imports_only_from_rooms_before_it(room):
    allowed = {*WALK[: WALK.index(room) + 1], *OPEN, *(["doctor"] if room == "cli" else [])}
    wrong = {str(path.relative_to(ROOT)): imported(path) - allowed for path in (ROOT / room).rglob("*.py")}
    assert not {path: rooms for path, rooms in wrong.items() if rooms}
