"""The page in a real browser: nothing is requested, nothing complains, every picture is seen, on every screen and on paper.

Needs a Chromium (Debian: apt-get install chromium) and the Python package playwright; SEPARATRIX_CHROMIUM names another binary.
"""

import hashlib
import json
import os
import shutil
from dataclasses import replace

import pytest

from separatrix.report.compare import compare
from separatrix.report.page import build, to_record

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright (the dev extra has it)")

BINARY = os.environ.get("SEPARATRIX_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCREENS = {"light": (1000, "light"), "dark": (1000, "dark"), "phone": (390, "light"), "small dark phone": (320, "dark")}

pytestmark = pytest.mark.skipif(BINARY is None, reason="no Chromium on this machine: apt-get install chromium, or set SEPARATRIX_CHROMIUM")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=BINARY, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(page, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def visit(browser, address):
    """Open the page; whatever it requests or complains about fails the test at the end."""
    contexts, requests, complaints = [], [], []

    def at(width=1000, scheme="light", **settings):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **settings)
        contexts.append(context)
        tab = context.new_page()
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(address)
        return tab

    yield at
    assert set(requests) == {address}
    assert complaints == []
    for context in contexts:
        context.close()


SIZES = """[...document.querySelectorAll('svg[role=img]')].map(picture => {
    const box = picture.getBoundingClientRect(); return [box.width, box.height, box.left, box.right] })"""


@pytest.mark.parametrize("screen", SCREENS)
def test_every_picture_is_seen_and_nothing_sticks_out(visit, sample, screen):
    width, scheme = SCREENS[screen]
    tab = visit(width, scheme)
    sizes = tab.evaluate(SIZES)
    assert len(sizes) == sum(len(f.picture.panels) for f in sample.findings if f.picture is not None)
    for wide, high, left, right in sizes:
        assert wide > 150 and high > 60 and left >= 0 and right <= width
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator("h1").is_visible()


def test_no_line_ends_inside_an_option(visit, sample):
    said = "Pictures and scores are of x<y; for another column: separatrix audit RUN --column surge. " * 8
    run = replace(sample.run, command="separatrix fit my.csv" + 40 * " --column surge", notice="Choose others with --column. " * 9)
    tab = visit()
    tab.set_content(build(replace(sample, summary=[said], run=run)))
    for width in (400, 411, 433, 1200):
        tab.set_viewport_size({"width": width, "height": 900})
        pieces = tab.evaluate(
            """() => { const found = [], texts = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
               for (let node; node = texts.nextNode();) for (const { index } of node.data.matchAll(/--column/g)) {
                 const range = document.createRange();
                 range.setStart(node, index); range.setEnd(node, index + 8); found.push(range.getClientRects().length) }
               return found }"""
        )
        assert pieces == [1] * (8 + 40 + 9)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_text_on_a_phone_is_not_tiny(visit):
    tab = visit(390)
    sizes = tab.evaluate(
        """[...document.querySelectorAll('svg[role=img] text')]
           .map(t => parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getScreenCTM().a)"""
    )
    assert min(sizes) > 9


def test_pictures_follow_the_theme(visit):
    light, dark = visit(1000, "light"), visit(1000, "dark")
    ask = "getComputedStyle(document.querySelector('#pictures svg path[style*=\"--model\"]')).stroke"
    assert light.evaluate(ask) == "rgb(1, 90, 157)" and dark.evaluate(ask) == "rgb(111, 186, 244)"
    paper = "getComputedStyle(document.body).backgroundColor"
    assert light.evaluate(paper) == "rgb(254, 253, 252)" and dark.evaluate(paper) == "rgb(21, 23, 26)"


def test_words_can_be_read_in_either_theme(visit):
    """Contrast of text on paper, as WCAG defines it, at least 4.5."""
    luminance = """c => { const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = c.match(/[\\d.]+/g).map(v => linear(v / 255)); return 0.2126 * r + 0.7152 * g + 0.0722 * b }"""
    contrast = f"""() => {{ const lum = {luminance}; const paper = lum(getComputedStyle(document.body).backgroundColor);
        return [...document.querySelectorAll('p, h1, h2, h3, td, th, dd, dt, figcaption, small, svg[role=img] text')].map(e => {{
          const style = getComputedStyle(e), ink = lum(e.namespaceURI.endsWith('svg') ? style.fill : style.color);
          return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05) }}) }}"""
    for scheme in ("light", "dark"):
        assert min(visit(1000, scheme).evaluate(contrast)) >= 4.5


def test_baselines_come_and_go(visit):
    tab = visit()
    buttons = tab.locator(".switches button")
    assert buttons.count() == 4
    hidden = buttons.locator("nth=0") if buttons.locator("nth=0").get_attribute("aria-pressed") == "false" else buttons.locator("nth=1")
    line = f'[id*="{hidden.get_attribute("data-lines")}line"]'
    shown = "e => getComputedStyle(e).display"
    assert tab.locator(line).first.evaluate(shown) == "none"
    hidden.click()
    assert tab.locator(line).first.evaluate(shown) == "inline" and hidden.get_attribute("aria-pressed") == "true"
    hidden.click()
    assert tab.locator(line).first.evaluate(shown) == "none"


def test_the_pointer_reads_values(visit, sample):
    tab = visit()
    picture = tab.locator("#picture-1 svg").first
    picture.hover(position={"x": 300, "y": 150})
    reading = tab.locator("#picture-1 .reading").inner_text()
    assert "data" in reading and "model" in reading and "samples after the last value seen" in reading
    tab.mouse.move(2, 2)
    assert tab.locator("#picture-1 .reading").inner_text() == ""


def test_without_script_nothing_is_lost(visit, sample):
    tab = visit(1000, "light", java_script_enabled=False)
    assert tab.locator("svg[role=img]").count() == sum(len(f.picture.panels) for f in sample.findings if f.picture is not None)
    assert tab.locator("#all-numbers tr").count() > sum(len(f.numbers) for f in sample.findings)
    assert not tab.locator(".switches").first.is_visible()
    for finding in sample.findings:
        assert tab.locator(f"#{finding.slug} h3").is_visible()


def test_names_in_tables_have_the_whole_width_of_a_phone(visit):
    wide = visit(390).evaluate(
        """[...document.querySelectorAll('.stack tbody tr:not(.group)')].map(
             r => r.cells[0].getBoundingClientRect().width / r.getBoundingClientRect().width)"""
    )
    assert min(wide) > 0.99


def test_two_reports_side_by_side_fit_the_screen(visit, sample, tmp_path):
    for name in ("one", "two"):
        record = to_record(sample)
        record["run"]["config"] = {"data.sha256": hashlib.sha256(name.encode()).hexdigest()}
        (tmp_path / name).mkdir()
        (tmp_path / name / "evidence.json").write_text(json.dumps(record, default=str))
    for width in (320, 1000):
        tab = visit(width)
        tab.set_content(compare(tmp_path / "one", tmp_path / "two"))
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_a4_is_light_and_cuts_no_picture(visit):
    tab = visit(1000, "dark")
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()") == "#1a1b1c"
    assert tab.evaluate("[...document.querySelectorAll('figure')].every(f => getComputedStyle(f).breakInside === 'avoid')")
    tallest = max(high for _, high, _, _ in tab.evaluate(SIZES.replace("svg[role=img]", "figure")))
    assert tallest < 261 / 25.4 * 96  # fits between the margins of a page, so it can be kept whole
    assert tab.pdf(format="A4", prefer_css_page_size=True).startswith(b"%PDF")
