"""`make docs`: every public name has its place, its words as they were written, and every room a picture drawn on the spot."""

import importlib
import re
from html import unescape

import pytest

import separatrix

pytest.importorskip("pdoc", reason="pip install pdoc (the dev extra has it)")

from docs.reference.__main__ import FILES, ROOMS, build


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    front = build(tmp_path_factory.mktemp("reference"))
    inside = front.parent / "separatrix"
    found = {".".join(path.relative_to(inside).with_suffix("").parts): path.read_text(encoding="utf-8") for path in inside.rglob("*.html")}
    assert found.keys() == {*ROOMS, *FILES}
    return {"separatrix": front.read_text(encoding="utf-8"), **found}


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_its_place(pages, room):
    page, exports = pages[room], importlib.import_module(f"separatrix.{room}")
    assert hasattr(exports, "__all__") or any(name.startswith(f"{room}.") for name in FILES)
    for name in getattr(exports, "__all__", []):
        assert f'<section id="{name}">' in page, name
        own = vars(getattr(exports, name)).get("__doc__") if callable(getattr(exports, name)) else None
        said = [unescape(text) for text in re.findall(r'<pre class="docstring">(.*?)</pre>', page, flags=re.S)]
        if own and not own.startswith(f"{name}("):  # what a dataclass writes about itself
            assert any(own.strip().splitlines()[0] in text for text in said), name


def test_files_are_found_from_their_rooms(pages):
    for room, _, file in (name.partition(".") for name in FILES):
        assert f'href="{room}/{file}.html"' in pages[room], file


def test_what_the_map_names_has_its_place(pages):
    for paper in separatrix.papers.papers():
        for thing in paper.objects:
            page, _, name = thing.rpartition(".")
            assert f'<section id="{name}">' in pages[page], thing


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_a_picture(pages, room):
    (figure,) = re.findall(r"<figure>(.*?)<figcaption>(.+?)</figcaption>", pages[room], flags=re.S)
    assert figure[0].count("<path") + figure[0].count("<use") > 5 or "data:image/png;base64," in figure[0]


def test_fields_are_told_in_their_own_words(pages):
    assert not any("Alias for field number" in page for page in pages.values())
    assert "[M] steps, infinite on and outside the unit circle" in pages["stability"]


def test_nothing_is_fetched_from_elsewhere(pages):
    for name, page in pages.items():
        assert not re.findall(r'(?:src|href)="(?:https?:)?//(?!pdoc\.dev")[^"]*"', page), name
    assert f"separatrix {separatrix.__version__}" in pages["separatrix"]
