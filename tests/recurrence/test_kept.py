"""Machine code on disk: read where it can be, never of old text, and no reason to fail."""

import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from separatrix.recurrence.kernels import kept

KERNEL = "from separatrix.recurrence.kernels.kept import njit\n\n@njit(cache=True)\ndef double(x):\n    return 2 * x\n"


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A file with one kernel, loaded as a new process would."""
    path = tmp_path / "kernel.py"
    path.write_text(KERNEL)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def load():
        spec = importlib.util.spec_from_file_location("kernel", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.double

    kept._say.cache_clear()
    yield load
    kept._say.cache_clear()


def hits(function):
    assert function(3) == 6
    return sum(function.stats.cache_hits.values())


def test_code_is_found_again(kernel):
    assert hits(kernel()) == 0
    assert hits(kernel()) == 1


def test_a_second_process_compiles_no_launcher(tmp_path):
    """Launchers are made by `shared`, not written in the file that Numba thinks they stand in; a launcher that cannot be read again fails
    silently: every start would compile it anew."""
    code = (
        "import torch; from separatrix.recurrence import minmax_scan\n"
        "minmax_scan(torch.ones(1, 2, 3), -torch.ones(1, 2, 3))\n"
        "from separatrix.recurrence.kernels.minmax import forward\n"
        "print(sum(forward.launch.stats.cache_hits.values()), sum(forward.launch.stats.cache_misses.values()))"
    )
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(kept.__file__).parents[3])}
    for _ in range(2):  # the first may find it beside the package
        told = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout.split()
    assert told == ["1", "0"]


@pytest.fixture
def nothing_can_be_written(monkeypatch):
    def refused(self):
        raise PermissionError(13, "Permission denied")

    for place in (kept._Asked, kept._Beside, kept._Home):
        monkeypatch.setattr(place, "ensure_cache_path", refused)


def test_where_nothing_can_be_written_kernels_are_compiled_and_it_is_said_once(kernel, nothing_can_be_written, caplog):
    with caplog.at_level(logging.WARNING, "separatrix"):
        assert hits(kernel()) == hits(kernel()) == 0
    assert len(caplog.messages) == 1 and "NUMBA_CACHE_DIR" in caplog.text
    assert "each process compiles again; set NUMBA_CACHE_DIR" in kept.where()


def test_code_beside_a_package_that_cannot_be_written_is_read(kernel, request):
    kernel()(3)
    request.getfixturevalue("nothing_can_be_written")
    assert hits(kernel()) == 1


def test_a_full_disk_costs_no_answer(kernel, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept._InWritten, "_save_overload", full)
    with caplog.at_level(logging.WARNING, "separatrix"):
        assert hits(kernel()) == 0
    assert "no space left on device" in caplog.text


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("text", [b"", b"\x80\x04half", b"not a pickle"])
def test_damaged_code_is_compiled_again(kernel, tmp_path, suffix, text):
    kernel()(3)
    for path in (tmp_path / "__pycache__").glob(f"*.{suffix}"):
        path.write_bytes(text)
    assert hits(kernel()) == 0
    assert hits(kernel()) == 1


def test_an_edit_of_a_file_that_a_kernel_imports_makes_its_code_old(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "KERNELS", tmp_path)
    names = ("a", "b", "c")
    for name, imported in zip(names, ("b", "c", "a")):  # in a circle too
        (tmp_path / f"{name}.py").write_text(f"from separatrix.recurrence.kernels.{imported} import x\n")
    (tmp_path / "d.py").write_text("x = 1\n")

    def stamps():
        kept.stamp.cache_clear()
        return [kept.stamp(str(tmp_path / f"{name}.py")) for name in (*names, "d")]

    before = stamps()
    assert stamps() == before
    with (tmp_path / "c.py").open("a") as file:
        file.write("y = 2\n")
    after = stamps()
    assert [x != y for x, y in zip(before, after)] == [True, True, True, False]
    kept.stamp.cache_clear()


@pytest.mark.parametrize("features, width", [("", "32"), ("+avx2,+fma", "32"), ("+avx2,+fma,+avx512f", "64")])
def test_kernels_have_the_lanes_of_what_numba_compiles_for(features, width):
    """Numba finds machine code by these features, not by the machine: another processor that reads it must count lanes in the same way."""
    env = {**os.environ, "NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features, "PYTHONPATH": str(Path(kept.__file__).parents[3])}
    code = "from separatrix.recurrence.kernels.lanes import WIDTH; print(WIDTH)"
    told = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout
    assert told.strip() == width


def test_where_nothing_is_compiled_layers_run_in_torch():
    code = """
import torch
from separatrix.mixers import Mamba
from separatrix.models import Stepper
from separatrix.recurrence import plan
from separatrix.stability import lyapunov_spectrum
from separatrix.systems import henon
torch.manual_seed(0)
layer, x = Mamba(8), torch.randn(1, 5, 8, requires_grad=True)
y, _ = layer(x)
y.sum().backward()
fast = Stepper(layer)
_, state = fast(x[:, :4])
torch.testing.assert_close(fast(x[:, 4:], state)[0], y[:, 4:].detach())
assert lyapunov_spectrum(henon, steps=500).exponents[0] > 0
print(plan("delta_rule", 9))
"""
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(Path(kept.__file__).parents[3])}
    told = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout
    assert told.startswith("delta_rule, chunked") and "NUMBA_DISABLE_JIT is set" in told


def test_every_kernel_uses_this_njit():
    for path in kept.KERNELS.glob("*.py"):
        assert path.name == "kept.py" or "from numba import njit" not in path.read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="no fork")
def test_functions_run_without_numba_s_compiler():
    code = "from separatrix.recurrence.kernels.kept import njit\n@njit(cache=True)\ndef f(x): return x\nassert f('a') == 'a'"
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(Path(kept.__file__).parents[3])}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
