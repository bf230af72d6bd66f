"""docs/claims.md and the map's verdicts, from what the claims said.    python -m separatrix.claims.page

    runs/claims/<slug>/claim.json    ->  docs/claims/<slug>.json          where newer than what is there
    runs/claims/<slug>/figure.svg    ->  docs/img/claims/<slug>.svg
    docs/claims/*.json               ->  docs/claims.md, the `verdict` column of separatrix/papers/map.tsv

The table is a function of the records kept in docs/claims, so it can be made again at any time, and rows made on different machines stand
beside each other.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import separatrix
from separatrix.claims.runner import FIGURE, FOLDER, RECORD
from separatrix.files import write_text
from separatrix.report.finding import show
from separatrix.stability.number import Kind, Number

ROOT = Path(separatrix.__file__).parents[1]
HEAD = """# Claims

What papers promise, tried at the scale of a laptop. The bar was written before the first run and stands in the claim's module
(`separatrix/claims`); "does not hold here" is a result like the other one. Made by `make claims` from the records in `docs/claims`.
"""
COLUMNS = ("paper", "claim", "bar", "verdict", "numbers", "figure", "machine", "command")


def publish(root: Path = ROOT, runs: Path = FOLDER) -> list[str]:
    """Take over what was run, and write the table and the verdicts again; the slugs that were taken over."""
    if not (root / "docs").is_dir():
        raise ValueError(f"{root} has no docs: claims are published from a checkout of the repository")
    taken = []
    for path in sorted(runs.glob(f"*/{RECORD}")):
        record = json.loads(path.read_text(encoding="utf-8"))
        old = root / "docs" / "claims" / f"{record['slug']}.json"
        if old.is_file() and json.loads(old.read_text(encoding="utf-8"))["when"] >= record["when"]:
            continue
        for folder in (old.parent, root / "docs" / "img" / "claims"):
            folder.mkdir(parents=True, exist_ok=True)
        write_text(root / "docs" / "img" / "claims" / f"{record['slug']}.svg", (path.parent / FIGURE).read_text(encoding="utf-8"))
        write_text(old, path.read_text(encoding="utf-8"))
        taken.append(record["slug"])
    found = published(root)
    write_text(root / "docs" / "claims.md", render(found))
    table = root / "separatrix" / "papers" / "map.tsv"
    write_text(table, with_verdicts(table.read_text(encoding="utf-8"), {record["slug"]: record["verdict"] for record in found}))
    return taken


def published(root: Path = ROOT) -> list[dict[str, Any]]:
    """The records in docs/claims, in the order of the map."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in (root / "docs" / "claims").glob("*.json")]
    return sorted(records, key=lambda record: record["id"])


def render(records: list[dict[str, Any]]) -> str:
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *(_row(record) for record in records)]
    table = "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)
    return f"{HEAD}\n{table}\n"


def with_verdicts(table: str, verdicts: dict[str, str]) -> str:
    """The map with these verdicts, and none where no record is; every other cell as it was."""
    head, *rows = (line.split("\t") for line in table.rstrip("\n").split("\n"))
    slug, verdict = head.index("slug"), head.index("verdict")
    for row in rows:
        row[verdict] = verdicts.get(row[slug], "")
    return "\n".join("\t".join(row) for row in (head, *rows)) + "\n"


def shown(found: list[dict[str, Any]]) -> str:
    """What a claim found under one name: one number, or one a seed; the kind where it is more than measured."""
    numbers = [_number(**number) for number in found]
    kind = "" if numbers[0].kind == "measured" else f" ({numbers[0].kind})"
    return f"{', '.join(show(number, unit=False) for number in numbers)} {numbers[0].unit}".strip() + kind


def _number(value: Any, kind: Kind, low: Any = None, high: Any = None, unit: str = "", how: str = "") -> Number:
    """From JSON, where infinity and NaN are words."""
    return Number(float(value), kind, None if low is None else float(low), None if high is None else float(high), unit, how)


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    slug, here = record["slug"], record["machine"]
    numbers = "; ".join(f"{name.replace('_', ' ')} {shown(found)}" for name, found in record["numbers"].items())
    seeds = f", {len(record['seeds'])} seeds" if record["seeds"] else ""
    return (
        f"{record['id']} {record['paper'].rstrip('.')}",
        record["sentence"],
        record["bar"],
        f"**{record['verdict']}**",
        numbers,
        f"[figure](img/claims/{slug}.svg)",
        f"{here['processor']}, threads {here['threads']}, {record['dtype']}{seeds}, {record['seconds']:.0f} s, {record['commit']}",
        f"`separatrix reproduce {slug}`",
    )


def main() -> int:
    try:
        taken = publish()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"docs/claims.md: {', '.join(taken) or 'nothing new'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
