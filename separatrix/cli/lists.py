"""What is here: the sequences that come with the package, and the map of the literature."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from separatrix.cli.screen import AsJson, out, polite


@polite
def data(
    name: Annotated[str | None, typer.Argument(help="One of them, in detail.")] = None,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """List the sequences that come with the package, or describe one.

    Examples:  separatrix data  |  separatrix data laser  |  separatrix data --json
    """
    from separatrix.data import about, load

    if name is not None and name not in about():
        load(name)  # the error that lists the names
    rows = [_describe(entry, line) for entry, line in about().items() if name in (None, entry)]
    if as_json:
        out().print_json(json.dumps(rows))
        return
    table = Table(box=None, show_header=name is None, pad_edge=False)
    if name is not None:
        for key, value in rows[0].items():
            table.add_row(f"[bold]{key}", "; ".join(value) if isinstance(value, list) else f"{value}")
    else:
        for heading in ("name", "rows", "columns", "step", "gaps", "what"):
            table.add_column(heading, justify="right" if heading in ("rows", "columns", "gaps") else "left", header_style="bold")
        for row in rows:
            table.add_row(row["name"], f"{row['rows']:,}", str(len(row["columns"])), row["step"], f"{row['gaps']:,}", row["about"])
    out().print(table)


def _describe(name: str, line: str) -> dict[str, Any]:
    from separatrix.data import TEXTS, load, text

    if name in TEXTS:
        words = text(name)
        size = {"rows": len(words.content), "columns": ["byte"], "step": "1 byte", "gaps": 0, "period": "", "remarks": []}
        return {"name": name, "about": line, **size, "notice": words.notice, "sha256": words.sha256}
    series = load(name)
    columns = [f"{column} ({unit})" if unit else column for column, unit in zip(series.names, series.channel_units)]
    period = f"{series.period:g} steps, the {series.period_name}" if series.period else ""
    size = {"rows": len(series), "columns": columns, "step": _step(series.step, series.unit), "gaps": series.gaps, "period": period}
    return {"name": name, "about": line, **size, "remarks": list(series.remarks), "notice": series.notice, "sha256": series.sha256}


def _step(step: float, unit: str) -> str:
    return f"1/{1 / step:.0f} {unit}" if step < 1 else f"{step:g} {unit}"


@polite
def papers(
    room: Annotated[str | None, typer.Option(help="Only this room of the library, for example mixers.")] = None,
    tier: Annotated[int | None, typer.Option(help="Only this tier: 1 core, 2 adjacent, 3 far.")] = None,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """List the papers the library stands on: what implements each, and what its claim said.

    Status "works": implemented, and its claim was run; the verdict says how it went. "parts": implemented, claim not run. "open": neither.

    Examples:  separatrix papers --room mixers --tier 1  |  separatrix papers --json
    """
    from separatrix.papers import papers as chosen

    found = chosen(room, tier)
    keys = ("id", "slug", "title", "room", "tier", "objects", "claim", "verdict", "status", "bar")
    if as_json:
        out().print_json(json.dumps([{key: getattr(paper, key) for key in keys} for paper in found]))
        return
    console = out()
    table = Table(box=None, pad_edge=False, expand=console.is_terminal)  # the title and the objects share what the others leave
    for heading in ("id", "slug", "room", "tier", "status", "claim", "verdict", "title", "objects"):
        long = heading in ("title", "objects")
        overflow: Literal["fold", "ellipsis"] = "fold" if heading == "objects" else "ellipsis"
        table.add_column(heading, header_style="bold", ratio=1 if long else None, overflow=overflow, no_wrap=heading != "objects")
    for paper in found:
        claim = "yes" if paper.claim else ""
        table.add_row(
            paper.id, paper.slug, paper.room, str(paper.tier), paper.status, claim, paper.verdict, paper.title, " ".join(paper.objects)
        )
    console.print(table)
    count = Counter(paper.status for paper in found)
    console.print(f"{len(found)} papers: {count['works']} work, {count['parts']} have parts here, {count['open']} are open")
