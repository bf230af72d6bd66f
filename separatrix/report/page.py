"""The page: one offline HTML file for ten seconds, one minute and ten minutes.

    ten seconds   the verdict and the numbers that carry it
    one minute    four pictures, each under a title that is a finding
    ten minutes   one section an instrument, every number with its kind, the recipe

Nothing is loaded from anywhere: style, script, pictures and numbers are inside, and without the script the page is complete.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from separatrix import __version__
from separatrix.report.finding import Finding, Picture, Run, ends, plain, record, show, table, to_json
from separatrix.report.ink import labelled
from separatrix.report.verdict import RULES, Judgement, Standing

FOUR = ("free-run", "portrait", "eigenvalues", "divergence")
LARGEST = 2_000_000  # bytes a page may have
OPTION = re.compile(r"--[a-z-]{1,20}")
KINDS = {
    "measured": "found on these inputs; says nothing about others",
    "estimated": "inferred, with an interval that holds about 95 times in 100 what the method would find in endless data",
    "bound": "proved under the assumptions that are named with it",
    "certified": "a bound with a witness that was checked again",
}


@dataclass(frozen=True)
class Evidence:
    """All that a report shows.

    summary   what was reached, in sentences under the verdict.
    absent    pictures or instruments that do not apply or could not run: name -> why.
    preamble  the lines after which the calls of the findings run as they are printed.
    """

    run: Run
    judgement: Judgement
    findings: Sequence[Finding]
    summary: Sequence[str] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    preamble: str = ""


def build(evidence: Evidence) -> str:
    """The report as one HTML document."""
    slugs = [finding.slug for finding in evidence.findings]
    if twice := sorted({slug for slug in slugs if slugs.count(slug) > 1}):
        raise ValueError(f"findings {twice} come twice. A slug is an address inside the page: give each finding its own.")
    four = [finding for slug in FOUR for finding in evidence.findings if finding.slug == slug and finding.picture is not None]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"show": show, "ends": ends, "plain": plain, "picture": _picture, "seconds": _seconds, "setting": _setting}
    environment.filters["unbroken"] = _unbroken
    here = files("separatrix.report")
    page = environment.from_string((here / "page.html.j2").read_text(encoding="utf-8")).render(
        e=evidence,
        run=evidence.run,
        j=evidence.judgement,
        four=four,
        in_four={finding.slug: i for i, finding in enumerate(four, 1)},
        rules=RULES,
        standings=list(Standing),
        kinds=KINDS,
        rows=table(evidence.findings),
        version=__version__,
        css=Markup((here / "page.css").read_text(encoding="utf-8")),
        js=Markup((here / "page.js").read_text(encoding="utf-8")),
        evidence_json=Markup(to_json(to_record(evidence))),
        mark=Markup(MARK[evidence.judgement.standing]),
    )
    if (size := len(page.encode())) > LARGEST:
        raise ValueError(f"the page has {size:,} bytes, at most {LARGEST:,} are allowed. Draw fewer points or fewer panels.")
    return page


def to_record(evidence: Evidence) -> dict[str, object]:
    """The same evidence for programs: evidence.json and the block inside the page."""
    judgement, run = evidence.judgement, evidence.run
    return {
        "verdict": judgement.standing.value,
        "sentence": judgement.sentence,
        "weakest_kind": judgement.weakest,
        "missing": list(judgement.missing),
        "criteria": [
            {"name": c.name, "accepted": c.band, "outcome": c.outcome.value, "number": None if c.number is None else record(c.number)}
            for c in judgement.criteria
        ],
        "numbers": table(evidence.findings),
        "findings": {finding.slug: finding.title for finding in evidence.findings},
        "preamble": evidence.preamble,
        "calls": {finding.slug: finding.made.call for finding in evidence.findings},
        "absent": dict(evidence.absent),
        "run": {
            "name": run.name,
            "model": run.model,
            "data": run.data,
            "data_sha256": run.data_sha256,
            "seed": run.seed,
            "created": run.created,
            "machine": run.machine,
            "command": run.command,
            "config": dict(run.config),
            "versions": dict(run.versions),
            "choices": dict(run.choices),
        },
        "separatrix": __version__,
    }


def _picture(picture: Picture) -> Markup:
    """The panels of a picture; each carries the lines that a pointer may read."""
    out = []
    for i, panel in enumerate(picture.panels):
        alt = picture.alt if i == 0 else f"Part {i + 1} of the picture before. {picture.caption}"
        hover = f'<script type="application/json">{to_json(panel.hover)}</script>' if panel.hover else ""
        out.append(f'<div class="panel">{labelled(panel, alt)}{hover}</div>')
    switches = "".join(
        f'<button type="button" data-lines="{escape(start)}" aria-pressed="{str(shown).lower()}">{escape(name)}</button>'
        for name, (start, shown) in picture.switches.items()
    )
    control = f'<p class="switches" hidden>Show {switches}</p>' if switches else ""
    return Markup(
        f'<div class="panels n{len(picture.panels)}">{"".join(out)}</div><output class="reading" aria-live="off"></output>{control}'
    )


def _unbroken(text: str) -> Markup:
    """Text that may name options of a command, each in one piece: a browser breaks --column after either hyphen."""
    return Markup(OPTION.sub(r'<span class="option">\g<0></span>', escape(text)))


def _seconds(value: float) -> str:
    return "under 0.1 s" if value < 0.1 else f"{value:.1f} s" if value < 100 else f"{value / 60:.1f} min"


def _setting(value: object) -> str:
    return plain(value) if isinstance(value, float) else str(value)


# One glyph a verdict, so that it does not hang on colour: a closed orbit, an orbit that touches its line, a point, an arrow that leaves.
MARK = {
    Standing.HOLDS: '<ellipse cx="16" cy="16" rx="13" ry="8" transform="rotate(-25 16 16)"/><circle cx="16" cy="16" r="2" class="dot"/>',
    Standing.MARGINAL: '<ellipse cx="15" cy="17" rx="12" ry="8" transform="rotate(-25 15 17)"/><path d="M28 2V30" stroke-dasharray="3 3"/>',
    Standing.WRONG: '<path d="M29 16A13 13 0 1 0 16 29A9 9 0 1 0 9 18A6 6 0 0 0 16 22"/><circle cx="16" cy="20" r="3" class="dot"/>',
    Standing.RUNS_AWAY: '<path d="M12 20A5 5 0 1 1 18 23C10 30 2 22 3 13C6 2 22 2 30 4M24 1L30 4L26 10"/>',
}
