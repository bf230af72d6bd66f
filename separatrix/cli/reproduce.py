"""`separatrix reproduce`: run the claims of papers."""

from __future__ import annotations

import json
import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from separatrix.cli.runs import Threads
from separatrix.cli.screen import TRACEBACK, Advance, Stopped, err, out, polite, progress, threads

Slugs = typer.Argument(metavar="SLUG...", help="Claims to run, by the slug of their paper.", show_default=False)
Everything = typer.Option("--all", help="Every claim; what these sources already ran on this machine is not run again.")
Listing = typer.Option("--list", help="List the claims instead of running any.")
Again = typer.Option("--again", help="With --all: run also what was run before.")
ListAsJson = typer.Option("--json", help="With --list: print JSON.")


@polite
def reproduce(
    slugs: Annotated[list[str] | None, Slugs] = None,
    everything: Annotated[bool, Everything] = False,
    again: Annotated[bool, Again] = False,
    listing: Annotated[bool, Listing] = False,
    as_json: Annotated[bool, ListAsJson] = False,
    cores: Annotated[int, Threads] = 1,
) -> None:
    """Run a paper's claim: one sentence, a bar that was written first, what was measured, and whether it holds here.

    Examples:

      separatrix reproduce minmax-rnc

      separatrix reproduce --list

      separatrix reproduce --all
    """
    if listing + everything + bool(slugs) != 1:
        raise ValueError("name the claims to run, or give one of --list (what there is) and --all.")
    if again and not everything:
        raise ValueError("--again belongs to --all: a claim that is named is always run.")
    if as_json and not listing:
        raise ValueError("--json belongs to --list: a claim that runs writes its claim.json.")

    from separatrix.claims import runner

    if listing:
        _list(as_json)
        return
    wanted = list(runner.claimed().values()) if everything else runner.find(slugs or [])
    failed = []
    with threads(cores):
        for i, paper in enumerate(wanted):
            if everything and not again and (record := runner.kept(paper)) is not None:
                out().print(f"{paper.slug}: {record['verdict']}, as these sources found before (--again runs it again)", markup=False)
                continue
            try:
                with progress(paper.slug) as advance, _news(advance):
                    advance(0.0, said=f"{i + 1} of {len(wanted)}" if len(wanted) > 1 else "running")
                    record = runner.run(paper)
            except KeyboardInterrupt:
                done = f"{i} of {len(wanted)} claims are done" if i else "nothing of it is kept"
                raise Stopped(f"stopped in {paper.slug}: {done}") from None
            except Exception as error:
                if os.environ.get(TRACEBACK):
                    raise
                at = traceback.extract_tb(error.__traceback__)[-1]
                failed.append(
                    f"{paper.slug}: {type(error).__name__}: {' '.join(str(error).split())} ({Path(at.filename).name}:{at.lineno})"
                )
                err().print(failed[-1], markup=False)
                continue
            _show(record)
    if failed:
        if len(wanted) > 1:
            err().print(f"{len(failed)} of {len(wanted)} claims failed.", markup=False)
        raise typer.Exit(1)


def _show(record: dict[str, Any]) -> None:
    """The sentence, the bar, the numbers; then two lines: the verdict, and where the files are."""
    from separatrix.claims.page import shown
    from separatrix.claims.runner import FIGURE, FOLDER, RECORD

    console, where = out(), FOLDER / record["slug"]
    console.print(f"[bold]{record['slug']}[/bold]  {record['id']}")
    lines = {"claim": record["sentence"], "bar": record["bar"]}
    lines |= {name.replace("_", " "): shown(found) for name, found in record["numbers"].items()}
    width = max(map(len, lines))
    for heading, said in lines.items():
        console.print(f"  {heading:<{width}}  {said}", markup=False)
    seeds = f", seeds {' '.join(map(str, record['seeds']))}" if record["seeds"] else ""
    console.print(f"{record['verdict']}: {record['kind']}, {record['dtype']}{seeds}, {record['seconds']:.0f} s", markup=False)
    console.print(f"files: {where / RECORD}, {where / FIGURE}", markup=False)


def _list(as_json: bool) -> None:
    from separatrix.claims import statement_of
    from separatrix.claims.runner import claimed, source

    rows = [{"slug": p.slug, "id": p.id, "verdict": p.verdict, **statement_of(source(p))._asdict()} for p in claimed().values()]
    if as_json:
        out().print_json(json.dumps(rows))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("slug", "id", "verdict", "claim"):
        table.add_column(heading, header_style="bold", no_wrap=heading != "claim")
    for row in rows:
        table.add_row(row["slug"], row["id"], row["verdict"] or "not run", row["sentence"])
    out().print(table)


@contextmanager
def _news(advance: Advance) -> Iterator[None]:
    """What a claim logs while it runs (logging.getLogger("separatrix.claims").info) is shown beside its bar."""

    class Bar(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno < logging.WARNING:
                advance(0.0, said=record.getMessage())

    logger, bar = logging.getLogger("separatrix.claims"), Bar(logging.INFO)
    level = logger.level
    logger.addHandler(bar)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(bar)
