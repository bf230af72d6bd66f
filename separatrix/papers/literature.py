"""The map of the literature: every paper the library stands on, and how far it got.

`map.tsv` holds one row a paper and is the only place that says which objects implement it. Its columns:

    id, slug, title, room, kind      what the paper is and where in the library it belongs
    tier                             1 core, 2 adjacent, 3 far but realisable small
    objects                          names inside `separatrix` that implement it, separated by spaces
    verdict                          what its claim said when it was last run ("holds", "does not hold here"); empty: never run
    bar                              the least that must exist, and one falsifiable sentence at laptop scale
    notes                            what to know before trying it
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Status = Literal["works", "parts", "open"]
CLAIMS = files("separatrix") / "claims"


@dataclass(frozen=True)
class Paper:
    """One row of the map."""

    id: str
    slug: str
    title: str
    room: str
    kind: str
    tier: int
    objects: tuple[str, ...]
    verdict: str
    bar: str
    notes: str

    @property
    def claim(self) -> str:
        """The module that tests the paper's headline, "" while nobody has written it."""
        name = self.slug.replace("-", "_")
        return f"separatrix.claims.{name}" if (CLAIMS / f"{name}.py").is_file() else ""

    @property
    def status(self) -> Status:
        """works: implemented, and its claim was run (the verdict says how it went). parts: implemented, claim not run. open: neither."""
        if not self.objects:
            return "open"
        return "works" if self.claim and self.verdict else "parts"


@cache
def _everything() -> tuple[Paper, ...]:
    text = (files("separatrix.papers") / "map.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    return tuple(
        Paper(
            id=row["id"],
            slug=row["slug"],
            title=row["title"],
            room=row["room"],
            kind=row["kind"],
            tier=int(row["tier"]),
            objects=tuple(row["objects"].replace(",", " ").split()),
            verdict=row["verdict"],
            bar=row["bar"],
            notes=row["notes"],
        )
        for row in rows
    )


def papers(room: str | None = None, tier: int | None = None) -> tuple[Paper, ...]:
    """The papers of the map, all of them or those of one room or tier."""
    rooms = sorted({paper.room for paper in _everything()})
    if room is not None and room not in rooms:
        raise ValueError(f"no room is called {room!r}. There are: {', '.join(rooms)}.")
    if tier is not None and tier not in (1, 2, 3):
        raise ValueError(f"tier must be 1 (core), 2 (adjacent) or 3 (far), got {tier}.")
    return tuple(p for p in _everything() if (room is None or p.room == room) and (tier is None or p.tier == tier))
