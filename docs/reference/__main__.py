"""The reference: a page for each room, made of what help() says, and a picture that the library draws while the page is built.

python -m docs.reference [FOLDER]     (build/reference when none is named)
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pdoc
import pdoc.doc
import pdoc.render

import separatrix
from docs.reference.pictures import drawn

HERE = Path(__file__).parent
ROOMS = tuple(name for name in separatrix.__all__ if name != "Forecaster")
# Files that are called by their own name, not through the room.
FILES = (
    *(f"recurrence.{name}" for name in ("basis", "discretize", "hippo", "init", "prophecy", "ptd", "s4", "spectral")),
    *(f"tasks.{name}" for name in ("baselines", "laser", "noise")),
)


def build(folder: Path) -> Path:
    """The front page. Rooms have pages, most of their files do not: what a room exports is what there is to know."""
    separatrix.Forecaster = separatrix.Forecaster  # pdoc does not ask __getattr__
    pdoc.render.configure(template_directory=HERE, footer_text=f"separatrix {separatrix.__version__}")
    pdoc.render.env.globals.update(picture=picture, files_of=files_of, kind_of=kind_of, field=field)
    pdoc.render.env.tests["record"] = is_record
    rooms = rf"!separatrix\.(?!({'|'.join(ROOMS)})$)"
    pdoc.pdoc("separatrix", rooms, *(f"separatrix.{name}" for name in FILES), output_directory=folder)
    return folder / "separatrix.html"


def picture(room: str) -> str:
    """The figure of a room as HTML; nothing for other pages."""
    name = room.removeprefix("separatrix.")
    return drawn(name) if name in ROOMS else ""


def files_of(room: str) -> list[str]:
    """Those of a room that have pages, by path."""
    return [name.replace(".", "/") for name in FILES if f"separatrix.{name}".startswith(f"{room}.")]


def kind_of(member: Any) -> Any:
    """The class that a member belongs to, the module where it belongs to none."""
    kind = sys.modules[member.modulename]
    for name in member.qualname.split(".")[:-1]:
        kind = getattr(kind, name)
    return kind


def is_record(kind: Any) -> bool:
    """Whether its constructor only takes the fields that are listed below it."""
    return hasattr(kind, "_fields") or hasattr(kind, "__dataclass_fields__")


def field(member: Any) -> str:
    """What stands behind a field of a record in the source; nothing for other members."""
    if member.kind != "variable" or not is_record(kind := kind_of(member)):
        return ""
    lines = "".join(inspect.getsource(owner) for owner in kind.__mro__ if owner.__module__.startswith("separatrix"))
    said = re.search(rf"^    {member.name}: [^#\n]*(?:# (.*))?$", lines, flags=re.M)
    return said[1] or " " if said else ""


if __name__ == "__main__":
    print(build(Path(sys.argv[1] if len(sys.argv) > 1 else "build/reference")))
