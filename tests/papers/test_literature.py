"""The map is whole, and says nothing about the library that the library does not keep."""

import pkgutil

import pytest

from separatrix.papers import Paper, papers

ROOMS = {"recurrence", "mixers", "models", "probabilistic", "systems", "data", "reconstruct", "training", "stability", "control",
         "compression", "decoding", "tasks", "report"}  # fmt: skip


def test_the_map_is_whole():
    everything = papers()
    assert [paper.id for paper in everything] == [f"P{i:03d}" for i in range(234)]
    assert len({paper.slug for paper in everything}) == 234
    for paper in everything:
        assert paper.title and paper.bar and paper.room in ROOMS and paper.tier in (1, 2, 3)
        assert paper.slug.replace("-", "_").isidentifier()


def test_a_room_and_a_tier():
    assert {paper.room for paper in papers(room="mixers")} == {"mixers"}
    assert len(papers(room="mixers")) == 23
    assert sum(len(papers(tier=tier)) for tier in (1, 2, 3)) == 234
    with pytest.raises(ValueError, match=r"no room is called 'kitchen'\. There are: compression, control"):
        papers(room="kitchen")
    with pytest.raises(ValueError, match="tier must be 1"):
        papers(tier=4)


def test_every_object_that_the_map_names_exists():
    for name in {name for paper in papers() for name in paper.objects}:
        assert pkgutil.resolve_name(f"separatrix.{name}") is not None


def test_a_verdict_needs_a_claim():
    for paper in papers():
        assert not paper.verdict or (paper.claim and paper.objects and paper.verdict in ("holds", "does not hold here")), paper.slug


def test_status_is_no_better_than_its_evidence():
    row = dict(id="P000", slug="no-such-claim", title="t", room="mixers", kind="layer", tier=1, bar="b", notes="")
    assert Paper(**row, objects=(), verdict="").status == "open"
    assert Paper(**row, objects=("mixers.S4D",), verdict="").status == "parts"
    assert Paper(**row, objects=("mixers.S4D",), verdict="holds").status == "parts"
