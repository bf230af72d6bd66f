"""Runs claims and keeps what they said.

    runs/claims/<slug>/    claim.json    sentence, bar, verdict, numbers, seeds, dtype, seconds, machine, versions, commit
                           figure.svg

A claim belongs to a paper of the map, and is found by that paper's slug. Both files are written after the claim has returned, the JSON
last: a folder with a claim.json is whole.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
import math
import subprocess
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import separatrix
from separatrix.claims.claim import Claim, statement_of
from separatrix.files import write_text
from separatrix.machine import this_machine, versions
from separatrix.papers import Paper, literature, papers
from separatrix.report.ink import on_paper

FOLDER = Path("runs") / "claims"
RECORD, FIGURE = "claim.json", "figure.svg"
SIZE = (480 / 72, 250 / 72)  # inches, before the claim's own set_size_inches


def claimed() -> dict[str, Paper]:
    """The papers that have a claim, by slug."""
    return {paper.slug: paper for paper in papers() if paper.claim}


def find(slugs: list[str]) -> list[Paper]:
    """The papers of these slugs, each with a claim."""
    known = claimed()
    for slug in slugs:
        if slug not in known:
            like = difflib.get_close_matches(slug, known, n=3, cutoff=0.5)
            hint = f"Did you mean {' or '.join(like)}?" if like else "See: separatrix reproduce --list"
            on_the_map = any(paper.slug == slug for paper in papers())
            raise ValueError(f"{slug} is on the map but has no claim yet. {hint}" if on_the_map else f"no claim is called {slug!r}. {hint}")
    return [known[slug] for slug in dict.fromkeys(slugs)]


def source(paper: Paper) -> Path:
    return Path(str(literature.CLAIMS)) / f"{paper.claim.rpartition('.')[2]}.py"


def run(paper: Paper, folder: Path = FOLDER) -> dict[str, Any]:
    """Run the claim of a paper, keep its record and figure, and return the record."""
    text, of = statement_of(source(paper)), {"commit": commit(), "sources": sources()}  # now: files may change while it runs
    started = time.perf_counter()
    said: Claim = importlib.import_module(paper.claim).claim()
    if not isinstance(said, Claim):
        raise TypeError(f"{paper.claim}.claim returned {type(said).__name__}, expected a Claim")
    record = {
        "slug": paper.slug, "id": paper.id, "title": paper.title,
        **text._asdict(),
        "verdict": said.verdict, "kind": said.kind,
        "numbers": {name: [_plain(asdict(number)) for number in found] for name, found in said.numbers.items()},
        "seeds": list(said.seeds), "dtype": said.dtype,
        "seconds": round(time.perf_counter() - started, 1),
        "machine": this_machine(), "versions": versions(), **of,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    figure, _ = on_paper(said.figure, *SIZE)  # on any page it has to be readable
    where = folder / paper.slug
    where.mkdir(parents=True, exist_ok=True)
    (where / RECORD).unlink(missing_ok=True)  # never an old record beside a new figure
    write_text(where / FIGURE, figure)
    write_text(where / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return record


def kept(paper: Paper, folder: Path = FOLDER) -> dict[str, Any] | None:
    """The record of an earlier run by these sources on this machine, or None."""
    try:
        record = json.loads((folder / paper.slug / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = isinstance(record, dict) and record.get("sources") == sources() and record.get("machine") == this_machine()
    return record if same else None


def commit() -> str:
    """Which version of the repository this is, "" outside of one."""
    describe = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(describe, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def sources() -> str:
    """A fingerprint of the package's code: what a commit is, for a work tree with changes and for an installed package too."""
    found = hashlib.sha256()
    root = Path(separatrix.__file__).parent
    for path in sorted({*root.rglob("*.py"), *Path(str(literature.CLAIMS)).glob("*.py")}):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def _plain(number: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it, which knows neither infinity nor NaN."""
    return {key: str(x) if isinstance(x, float) and not math.isfinite(x) else x for key, x in number.items() if x not in (None, "")}
