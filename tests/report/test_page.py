"""The page as a file: complete, small, closed in itself, and every number in it."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from separatrix.report import Escape, Evidence, ReportedHorizon, build, judge
from separatrix.report.finding import Finding, Made, Run
from separatrix.report.page import LARGEST
from separatrix.stability.number import Number

VOID = {"meta", "link", "br", "path", "use", "ellipse", "circle", "img", "input", "hr"}


class Reader(HTMLParser):
    """Ids, links and the nesting of tags."""

    def __init__(self):
        super().__init__()
        self.ids, self.links, self.open, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag in ("a", "use") and (attrs.get("href") or "").startswith("#"):
            self.links.append(attrs["href"][1:])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return reader


def test_the_page_asks_for_nothing(page):
    assert "http" not in page.lower()
    for tag, attrs in read(page).tags:
        assert "src" not in attrs and "srcset" not in attrs, tag
        if "href" in attrs:
            assert attrs["href"].startswith(("#", "data:,")), attrs["href"]
    assert not re.search(r"@import|url\((?!#)", page)


def test_the_page_is_small_and_whole(page):
    assert len(page.encode()) < LARGEST
    reader = read(page)
    assert len(set(reader.ids)) == len(reader.ids)
    assert set(reader.links) <= set(reader.ids)


def test_every_picture_says_its_finding_in_words(page, sample):
    pictures = [attrs for tag, attrs in read(page).tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(pictures) == sum(len(f.picture.panels) for f in sample.findings if f.picture is not None)
    assert all(len(attrs["aria-label"]) > 20 for attrs in pictures)


def test_pictures_take_every_colour_from_the_theme(page):
    for svg in re.findall(r'<svg viewBox="[^"]*" role="img".*?</svg>', page, flags=re.S):
        for colour in re.findall(r"(?:fill|stroke): *([^;\"]+)", svg):
            assert colour.startswith(("var(--", "none")), colour
        assert "font-family" not in svg and "<style" not in svg


def test_every_number_is_on_the_page_and_in_its_record(page, sample):
    inside = json.loads(re.search(r'id="evidence-json">(.*?)</script>', page, flags=re.S)[1])
    assert len(inside["numbers"]) == sum(len(f.numbers) for f in sample.findings)
    assert inside["verdict"] == sample.judgement.standing.value
    table = page[page.index('id="all-numbers"') :]
    for row in inside["numbers"]:
        assert row["name"] in table
    assert all(row["kind"] in ("measured", "estimated", "bound", "certified") for row in inside["numbers"])


def test_the_order_is_verdict_pictures_evidence_numbers_recipe(page, sample):
    places = [page.index(mark) for mark in ("<h1>", 'id="pictures"', 'id="evidence"', 'id="numbers"', 'id="recipe"')]
    assert places == sorted(places)
    for finding in sample.findings:
        assert f'<article id="{finding.slug}">' in page
    assert sample.judgement.sentence in page


def test_the_same_evidence_makes_the_same_page(page, sample):
    assert build(sample) == page


def bare(**changed) -> Evidence:
    given = dict(run=Run("x <y>", "m & n", "d", "cmd"), judgement=judge(None, []), findings=[])
    return Evidence(**(given | changed))


def test_a_page_without_evidence_says_so():
    page = build(bare(absent={"eigenvalues": "no layer is linear in its state."}))
    read(page)
    assert "evidence is missing" in page and "no layer is linear" in page
    assert "x &lt;y&gt;" in page and "m &amp; n" in page


def test_a_run_that_left_is_told_with_step_and_state():
    page = build(
        bare(
            judgement=judge(
                500, [], escape=Escape(321, "the output left 10 times the range"), horizon=ReportedHorizon(Number(3, "measured"))
            )
        )
    )
    assert "after 321 free steps the output left 10 times the range" in page and 'class="runs_away"' in page


def test_strange_text_stays_text():
    finding = Finding(
        "x", "<script>alert(1)</script>", "?", {"a </td> b": Number(float("nan"), "measured")}, Made("<b>", "f(a < b)"), "<i>"
    )
    page = build(bare(findings=[finding]))
    read(page)
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page


def test_a_finding_twice_or_a_page_too_large_is_refused(sample):
    with pytest.raises(ValueError, match="come twice"):
        build(replace(sample, findings=[sample.findings[0], sample.findings[0]]))
    with pytest.raises(ValueError, match="bytes"):
        build(bare(summary=["x" * LARGEST]))
