"""A claim says its bar first, its record says what was found, and the page and the map say nothing else."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import separatrix.claims
from separatrix.claims import Claim, page, runner, statement_of
from separatrix.cli import app
from separatrix.papers import Paper, literature, papers
from separatrix.stability.number import Number

ROOT = Path(__file__).parents[2]
MODULE = '''"""{sentence}

Paper    Nobody 2026.
Scale    one line,
         on one core.
Holds    two and two are below five.

Told at greater length here.
"""
import logging

from separatrix.claims import Claim
from separatrix.stability.number import Number


def claim(seeds=(0, 1, 2)):
    logging.getLogger("separatrix.claims").info("adding")
    {body}
    found = dict(sums=[2 + 2 for _ in seeds], gap=Number(0.5, "bound", high=0.5))
    return Claim(holds={holds}, numbers=found, figure=lambda figure: figure.subplots().plot([1, 2], [3, 4]), dtype="float32", seeds=seeds)
'''


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Four claims on four papers, in an empty working directory: one holds, one does not, one fails, one is interrupted."""
    claims = tmp_path / "claims"
    claims.mkdir()
    for name, holds, body in (
        ("so_it_is", True, ""),
        ("so_it_is_not", False, ""),
        ("it_breaks", True, "raise ValueError('the sum\\n  is odd')"),
        ("it_waits", True, "raise KeyboardInterrupt"),
    ):
        monkeypatch.delitem(sys.modules, f"separatrix.claims.{name}", raising=False)
        (claims / f"{name}.py").write_text(MODULE.format(sentence=f"Sums of {name}.", holds=holds, body=body))
    row = dict(room="mixers", kind="layer", tier=1, objects=("mixers.S4D",), verdict="", bar="b", notes="")
    names = ("so-it-is", "so-it-is-not", "it-breaks", "it-waits", "nobody-tried")
    rows = tuple(Paper(id=f"P{i:03d}", slug=slug, title=slug, **row) for i, slug in enumerate(names))
    monkeypatch.setattr(literature, "_everything", lambda: rows)
    monkeypatch.setattr(literature, "CLAIMS", claims)
    monkeypatch.setattr(separatrix.claims, "__path__", [*separatrix.claims.__path__, str(claims)])
    monkeypatch.chdir(tmp_path)
    return claims


def run(*words):
    return CliRunner().invoke(app, ["reproduce", *words], env={"COLUMNS": "160"})


def keep(seeds=()):
    return dict(holds=True, numbers=dict(x=1.0), figure=lambda figure: None, dtype="float32", seeds=seeds)


def test_numbers_carry_their_kind():
    claim = Claim(**keep() | dict(numbers=dict(
        one=1, several=torch.tensor([1.0, 2.0]), single=np.float64(3), scalar=torch.tensor(4.0), proved=Number(2.0, "bound", high=2.0)
    )))  # fmt: skip
    assert {name: [n.value for n in found] for name, found in claim.numbers.items()} == {
        "one": [1.0], "several": [1.0, 2.0], "single": [3.0], "scalar": [4.0], "proved": [2.0],
    }  # fmt: skip
    assert claim.numbers["proved"][0].kind == "bound" and claim.numbers["one"][0].kind == "measured"
    assert (claim.kind, claim.verdict) == ("measured", "holds")
    assert Claim(**keep() | dict(numbers=dict(p=Number(1.0, "certified")))).kind == "certified"
    assert Claim(**keep() | dict(holds=np.bool_(False))).verdict == "does not hold here"


@pytest.mark.parametrize(
    "change, complaint",
    [
        (dict(holds=0.97), "holds is 0.97, expected True or False"),
        (dict(figure=None), "figure is None"),
        (dict(numbers={}), "no numbers were given"),
        (dict(numbers=dict(x="many")), r"numbers\['x'\] is 'many'"),
    ],
)
def test_what_a_claim_may_not_say(change, complaint):
    with pytest.raises((TypeError, ValueError), match=complaint):
        Claim(**keep() | change)


def test_the_text_is_read_without_running(tiny):
    assert statement_of(tiny / "it_breaks.py") == (
        "Sums of it_breaks.",
        "Nobody 2026.",
        "one line, on one core.",
        "two and two are below five.",
    )
    (tiny / "bare.py").write_text('"""A sentence.\n\nPaper    P.\nHolds    h.\n"""\n')
    with pytest.raises(ValueError, match=r"bare.py: the docstring lacks Scale\."):
        statement_of(tiny / "bare.py")


@pytest.mark.parametrize("slug, verdict", [("so-it-is", "holds"), ("so-it-is-not", "does not hold here")])
def test_a_claim_says_yes_or_no(tiny, slug, verdict):
    result = run(slug)
    assert result.exit_code == 0, result.stderr
    *_, said, files = result.stdout.splitlines()
    assert said.startswith(f"{verdict}: measured, float32, seeds 0 1 2, ")
    assert files == f"files: runs/claims/{slug}/claim.json, runs/claims/{slug}/figure.svg"
    for part in (f"Sums of {slug.replace('-', '_')}.", "two and two are below five.", "4, 4, 4", "at most 0.5 (bound)"):
        assert part in result.stdout
    assert "adding" in result.stderr
    where = Path("runs/claims") / slug
    record = json.loads((where / "claim.json").read_text())
    assert sorted(path.name for path in where.iterdir()) == ["claim.json", "figure.svg"]
    assert (record["verdict"], record["bar"], record["seeds"]) == (verdict, "two and two are below five.", [0, 1, 2])
    assert record["numbers"]["gap"] == [{"value": 0.5, "kind": "bound", "high": 0.5}]
    assert record["machine"]["threads"] == 1 and record["versions"]["torch"] and record["seconds"] >= 0
    assert (where / "figure.svg").read_text().count("<svg") == 1


def test_the_same_claim_draws_the_same_figure(tiny):
    def once():
        assert run("so-it-is").exit_code == 0
        return Path("runs/claims/so-it-is/figure.svg").read_text()

    assert once() == once()


@pytest.mark.parametrize(
    "words, complaint",
    [
        (("so-it-iss",), "no claim is called 'so-it-iss'. Did you mean so-it-is or so-it-is-not or"),
        (("xyzzy",), "no claim is called 'xyzzy'. See: separatrix reproduce --list"),
        (("nobody-tried",), "nobody-tried is on the map but has no claim yet."),
        ((), "name the claims to run"),
        (("so-it-is", "--all"), "name the claims to run"),
        (("so-it-is", "--again"), "--again belongs to --all"),
        (("so-it-is", "--json"), "--json belongs to --list"),
        (("so-it-is", "so-it-iss"), "no claim is called"),
    ],
)
def test_what_is_refused(tiny, words, complaint):
    result = run(*words)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1) and complaint in result.stderr, result.stderr
    assert not Path("runs").exists()


def test_one_failure_does_not_stop_the_others(tiny):
    (tiny / "it_waits.py").unlink()
    result = run("--all")
    assert result.exit_code == 1
    assert "it-breaks: ValueError: the sum is odd (it_breaks.py:" in result.stderr and "1 of 3 claims failed." in result.stderr
    assert sorted(path.name for path in Path("runs/claims").iterdir()) == ["so-it-is", "so-it-is-not"]


def test_all_runs_what_these_sources_have_not_run(tiny):
    for name in ("it_waits", "it_breaks"):
        (tiny / f"{name}.py").unlink()
    record = Path("runs/claims/so-it-is/claim.json")
    assert run("so-it-is").exit_code == 0
    before = record.stat().st_mtime_ns
    result = run("--all")
    assert "so-it-is: holds, as these sources found before" in result.stdout and "so-it-is-not" in result.stdout
    assert record.stat().st_mtime_ns == before
    assert run("--all", "--again").exit_code == 0 and record.stat().st_mtime_ns > before
    (tiny / "so_it_is.py").write_text((tiny / "so_it_is.py").read_text() + "# changed\n")
    assert "as these sources found before" not in run("--all").stdout
    record.write_text("{")
    assert "so-it-is: holds, as" not in run("--all").stdout


def test_an_interrupted_claim_leaves_nothing(tiny):
    result = run("so-it-is", "it-waits", "so-it-is-not")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (130, "stopped in it-waits: 1 of 3 claims are done")
    assert [path.name for path in Path("runs/claims").iterdir()] == ["so-it-is"]
    assert run("it-waits").stderr.splitlines()[-1] == "stopped in it-waits: nothing of it is kept"


def test_the_list(tiny):
    rows = json.loads(run("--list", "--json").stdout)
    assert [row["slug"] for row in rows] == ["so-it-is", "so-it-is-not", "it-breaks", "it-waits"]
    assert rows[0]["bar"] == "two and two are below five."
    assert "Sums of it_breaks." in run("--list").stdout


def test_numbers_that_are_not_finite_are_words_in_json(tiny):
    (tiny / "so_it_is.py").write_text(MODULE.format(sentence="S.", holds=True, body="return Claim(True, dict(loss=[float('inf'), "
                                                    "float('nan')]), lambda figure: None, 'float32')"))  # fmt: skip
    result = run("so-it-is")
    assert result.exit_code == 0 and "without bound, not a number" in result.stdout
    json.loads(Path("runs/claims/so-it-is/claim.json").read_text(), parse_constant=pytest.fail)


def test_publishing(tiny, tmp_path):
    (tmp_path / "docs").mkdir()
    table = tmp_path / "separatrix" / "papers" / "map.tsv"
    table.parent.mkdir(parents=True)
    table.write_text("id\tslug\tverdict\tbar\nP000\tso-it-is\t\tb \nP001\tso-it-is-not\tholds\tc\nP002\tit-breaks\tholds\t\n")
    assert run("so-it-is", "so-it-is-not").exit_code == 0
    assert page.publish(tmp_path) == ["so-it-is", "so-it-is-not"]
    expected = "id\tslug\tverdict\tbar\nP000\tso-it-is\tholds\tb \nP001\tso-it-is-not\tdoes not hold here\tc\nP002\tit-breaks\t\t\n"
    assert table.read_text() == expected
    shown = (tmp_path / "docs" / "claims.md").read_text()
    for part in ("**holds**", "**does not hold here**", "(img/claims/so-it-is.svg)", "`separatrix reproduce so-it-is-not`", "sums 4, 4, 4"):
        assert part in shown
    assert page.publish(tmp_path) == [] and (tmp_path / "docs" / "claims.md").read_text() == shown
    with pytest.raises(ValueError, match="has no docs"):
        page.publish(tmp_path / "separatrix")


# -- what stands in the repository ---------------------------------------------------------------------------------------------------------


def test_every_claim_says_its_bar():
    for paper in runner.claimed().values():
        text = statement_of(runner.source(paper))
        assert all(text) and re.search(r"arXiv:\d{4}\.\d{5}|doi:", text.paper), paper.slug


def test_the_page_and_the_map_say_what_the_records_say():
    records = page.published(ROOT)
    assert (ROOT / "docs" / "claims.md").read_text(encoding="utf-8") == page.render(records)
    assert {paper.slug: paper.verdict for paper in papers() if paper.verdict} == {record["slug"]: record["verdict"] for record in records}
    for record in records:
        assert (ROOT / "docs" / "img" / "claims" / f"{record['slug']}.svg").is_file()
        assert statement_of(runner.source(runner.find([record["slug"]])[0])) == tuple(
            record[key] for key in ("sentence", "paper", "scale", "bar")
        )
