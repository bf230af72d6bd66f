"""`separatrix doctor`: what runs where on this machine."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from separatrix.cli.screen import AsJson, out, polite, progress


@polite
def doctor(
    warmup: Annotated[bool, typer.Option(help="Compile every kernel now, so that nothing waits for it later.")] = False,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """Say what is installed, how many threads run, and which form each operation takes here.

    Examples:  separatrix doctor  |  separatrix doctor --warmup
    """
    from separatrix.doctor import as_dict, examine

    if warmup:
        from separatrix.recurrence.warmup import warmup as compile_all

        with progress("compiling kernels") as advance:
            count = compile_all(lambda operation, done, of: advance(done / of, said=operation))
            advance(1.0, said=f"{count} combinations")
    found = examine()
    if as_json:
        out().print_json(json.dumps(as_dict(found)))
        return
    console = out()
    for heading, facts in (("versions", found.versions), ("machine", found.machine), ("threads", found.threads)):
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, fact in facts.items():
            table.add_row(f"  {name}", fact or "not installed")
        console.print(f"[bold]{heading}")
        console.print(table)
    console.print("[bold]operations")
    table = Table(box=None, pad_edge=False)
    lengths = list(next(iter(found.operations.values())))
    for heading in ("  operation", *(f"{steps:,} {'step' if steps == 1 else 'steps'}" for steps in lengths), f"why, at {lengths[-1]:,}"):
        table.add_column(heading, no_wrap=not heading.startswith("why"))
    for name, at in found.operations.items():
        table.add_row(f"  {name}", *(form for form, _ in at.values()), at[lengths[-1]][1])
    console.print(table)
    for operation in sorted(set(found.composed.values())):
        console.print(f"  run as {operation}: {', '.join(name for name, its in found.composed.items() if its == operation)}")
