"""What README and CONTRIBUTING show is run, and what they list is compared with the library."""

import inspect
import re
import tomllib
from pathlib import Path

import torch

from separatrix.mixers import MIXERS
from separatrix.recurrence import OPERATIONS
from tests.mixers import test_contract, test_registry

ROOT = Path(__file__).parents[1]


def snippets(document):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), flags=re.S | re.M)


def test_the_readme_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, *others = snippets("README.md")
    assert len(first.strip().splitlines()) == 5
    space: dict = {"__name__": "readme"}
    for example in (first, *others):
        exec(compile(example, "README.md", "exec"), space)


def test_the_mixer_of_contributing_keeps_the_contract(monkeypatch):
    (source,) = snippets("CONTRIBUTING.md")
    space = {"__name__": "contributing"}
    exec(compile(source, "CONTRIBUTING.md", "exec"), space)
    test_registry.test_a_docstring_begins_with_equation_and_paper(space["Leak"])
    test_registry.test_arguments_are_written_about(space["Leak"])
    test_registry.test_a_constructor_refuses_what_cannot_be(lambda: space["Leak"](0), "d_model is 0")
    monkeypatch.setitem(MIXERS, "leak", space["Leak"])
    monkeypatch.setitem(test_contract.CASES, "leak", test_contract.Case("leak"))
    test_contract.test_the_transition_is_what_the_state_undergoes("leak", T=6)
    layer = space["Leak"](8, generator=torch.Generator().manual_seed(0)).double()
    x = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y, _ = layer(x)
    first, state = layer(x[:, :4])
    second, _ = layer(x[:, 4:], state)
    assert torch.allclose(torch.cat([first, second], 1), y, rtol=1e-12, atol=1e-14)  # float64, in another order
    h = x.new_zeros(2, 8)
    a = layer.transition(x).a
    for t in range(9):
        h = a[:, t] * h + (1 - a[:, t]) * x[:, t]
        assert torch.allclose(layer.out_proj(h), y[:, t], rtol=1e-12, atol=1e-14)


def test_the_table_of_mixers_is_the_registry():
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+?) \| (.+?) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M)
    assert [(name, kind) for name, kind, _, _ in rows] == [(name, kind.__name__) for name, kind in MIXERS.items()]
    for name, _, equation, paper in rows:
        assert "=" in equation
        for reference in re.findall(r"(?:arXiv:|doi:)[\w./-]+", paper):
            assert reference in inspect.getsource(inspect.getmodule(MIXERS[name])), (name, reference)
        assert re.search(r"arXiv:|doi:", paper), name


def test_the_table_of_operations_is_what_the_engine_has():
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = {
        name: (forms, paper) for name, forms, paper in re.findall(r"^\| `(\w+)` \| .+? \| ([a-z0-9, ]+) \| (.+?) \|$", text, flags=re.M)
    }
    assert rows.keys() == OPERATIONS.keys()
    for name, (forms, paper) in rows.items():
        assert sorted(forms.split(", ")) == sorted(OPERATIONS[name]), name
        sources = "".join(inspect.getsource(inspect.getmodule(inspect.unwrap(form.function))) for form in OPERATIONS[name].values())
        for reference in re.findall(r"arXiv:[\d.]+", paper):
            assert reference in sources, (name, reference)


def test_the_example_of_the_operations_runs(capsys):
    (example,) = snippets("docs/operations.md")
    exec(compile(example, "operations.md", "exec"), {"__name__": "operations"})
    assert capsys.readouterr().out.startswith("delta_rule, fused: ")


def test_a_source_distribution_holds_what_its_tests_import():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]["sdist"]
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    imported = {name for source in sources for name in re.findall(r"^(?:from|import) (\w+)", source, flags=re.M)}
    assert {name for name in imported if (ROOT / name).is_dir()} <= set(settings["include"])
