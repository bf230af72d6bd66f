"""Which way the arrows point: forms import operators, operators import kernels, and none of them looks back.

What an operator needs of plain torch, its twin, stands in a table that the forms fill.
"""

import ast
import re
import shutil
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest

import separatrix.recurrence
from separatrix.recurrence import operators
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.twins import TWINS

ROOM = Path(separatrix.recurrence.__file__).parent
KERNELS, OPERATORS, TABLE = (f"separatrix.recurrence.{name}" for name in ("kernels", "operators", "twins"))

OURS = {name: x for name, x in vars(operators).items() if isinstance(x, Operator) and x.recorded is not None}


def imported(file: Path) -> set[str]:
    """What a file imports of this library, in its functions too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "separatrix"}


@pytest.mark.parametrize("folder, allowed", [("kernels", [KERNELS]), ("operators", [KERNELS, OPERATORS, TABLE])])
def test_nothing_imports_what_stands_on_it(folder: str, allowed: list[str]):
    files = sorted((ROOM / folder).glob("*.py"))
    assert files
    for file in files:
        for name in imported(file):
            assert any(f"{name}.".startswith(f"{module}.") for module in allowed), f"{folder}/{file.name} imports {name}"


def test_every_operator_has_a_twin():
    assert OURS.keys() == TWINS.keys()


@pytest.mark.parametrize("name", OURS)
def test_a_twin_takes_the_arguments_of_its_operator(name: str):
    arguments = list(signature(OURS[name].implementation).parameters)
    signature(TWINS[name]).bind(*[x for x in arguments if x != "keep"])


def test_twins_are_there_before_operators_are():
    """Whoever reaches an operator has imported `separatrix.recurrence`, and nothing else need be."""
    code = (
        "import sys, separatrix.recurrence; from separatrix.recurrence.twins import TWINS; print(*TWINS); sys.exit('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert set(done.stdout.split()) == OURS.keys()


WITHOUT = {
    "missing": ("import sys; sys.modules['numba'] = None", r"with numba, which does not load \(.*\): pip install -U numba"),
    "zipped": ("import sys; sys.path.insert(0, sys.argv[1])", r"from its files, which .*all\.zip packs up\. Install it with pip\."),
}


@pytest.mark.parametrize("what", WITHOUT)
def test_kernels_that_cannot_be_compiled_here_say_so(what: str, tmp_path: Path):
    before, complaint = WITHOUT[what]
    package = ROOM.parent
    archive = shutil.make_archive(str(tmp_path / "all"), "zip", package.parent, package.name) if what == "zipped" else str(package.parent)
    code = f"{before}\ntry: import separatrix.recurrence.kernels\nexcept ImportError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code, archive], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert re.search(complaint, done.stdout), done.stdout
