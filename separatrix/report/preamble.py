"""The lines that make the calls of a report run as they are printed: the model, the rows, and where the free runs start.

A call stands in its section and uses the names that are made here; a page shows those that its own calls use.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from separatrix.report.subject import Subject


def preamble(subject: Subject, folder: Path, *, steps: int, found: bool, calls: Iterable[str]) -> str:
    """The lines before every call.

    folder  of the run.
    steps   of the long free run.
    found   whether the run folder knows where its series came from.
    """
    channel, (first, last) = subject.channel, subject.unbroken
    series = "series = fitted_series(RUN, forecaster.config)"
    lines = {
        "np": "import numpy as np",
        "torch": "import torch",
        "sx": "import separatrix as sx",
        "fitted_series": "from separatrix.report.run_folder import fitted_series",
        "RUN": f"RUN = {str(folder)!r}",
        "forecaster": "forecaster = sx.Forecaster.load(RUN)",
        "model": "model = forecaster.model.requires_grad_(False)",
        "series": series if found else "# series: what was handed to audit(), of which no file is known",
        "values": "values = torch.tensor(series.values)  # [time, channels]",
        "data": f"data = values[{first}:{last}, {channel}]  # the longest stretch without a gap",
        "start": f"_, start = model(values[None, :{subject.origins[1][0]}])  # the state in which the free runs start",
        "run": f"run = sx.stability.free_run(model.as_system(state=start, dtype=torch.float32), steps={steps})",
        "seeded": f"seeded = lambda: torch.Generator().manual_seed({subject.seed})",
    }
    lines["run"] += f".observed[:, {channel}].double()  # the long run"
    used = set().union(*(_names(call) for call in calls))
    for name, line in reversed(lines.items()):
        if name in used:
            used |= _names(line)
    return "\n".join(line for name, line in lines.items() if name in used)


def _names(code: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
