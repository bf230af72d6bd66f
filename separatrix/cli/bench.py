"""`separatrix bench`: a model and its yardsticks on a task with a known metric, over several seeds."""

from __future__ import annotations

import importlib
import json
from typing import Annotated

import typer
from rich.table import Table

from separatrix.cli.runs import Threads
from separatrix.cli.screen import AsJson, out, polite, progress, threads

WORDS = {
    "laser": "Free-running NMSE over 100 rows from row 1,000, measured; the mean scores 1, the winner of 1991 about 0.03.",
    "noise": (
        "NMSE of free runs from many origins after the fitted rows, measured, against the variance of the fitted rows. "
        "mean: that of the fitted rows; alone: the networks without the linear autoregression that the forecaster gives them to correct."
    ),
    "settings": (
        "NMSE of free runs of 100 rows into quarters of the laser's first 1,000 rows that were left out of the fit, measured; geometric "
        "mean over the quarters. level: not worse than the best by more than one standard error of the difference."
    ),
}
Name = typer.Argument(
    metavar="TASK",
    help="laser: continue the Santa Fe laser for 100 rows. noise: five series of weather and nature. "
    "settings: loss horizon, lags and steps, by rows of the laser that were left out.",
    show_default=False,
)
Models = typer.Option(help="Models to fit, separated by commas.", show_default="s4d,lstm,gru,mlp for the laser, else s4d")
Seeds = typer.Option(help="How many seeds, from 0 on.")
Members = typer.Option(help="Networks in the ensemble of each fit.", show_default="the forecaster's own")
Steps = typer.Option(help="Optimizer steps of each fit.", show_default="the forecaster's own")


@polite
def bench(
    task: Annotated[str, Name],
    models: Annotated[str | None, Models] = None,
    seeds: Annotated[int, Seeds] = 3,
    steps: Annotated[int | None, Steps] = None,
    members: Annotated[int | None, Members] = None,
    as_json: Annotated[bool, AsJson] = False,
    cores: Annotated[int | None, Threads] = None,
) -> None:
    """Fit models of equal size over several seeds, and score them beside forecasts that cost nothing.

    Examples:

      separatrix bench laser

      separatrix bench laser --models s4d,mamba --seeds 5

      separatrix bench noise

      separatrix bench settings    (24 fits, half an hour on two cores)
    """
    if task not in WORDS:
        raise ValueError(f"no task is called {task!r}. There are: {', '.join(WORDS)}.")
    if seeds < 1:
        raise ValueError(f"--seeds is {seeds} but a score needs at least one.")
    if task == "settings" and (steps is not None or members is not None):
        raise ValueError("bench settings compares numbers of steps, by one network for each quarter. Leave out --steps and --members.")

    from separatrix.training import Forecaster, Step

    room = importlib.import_module(f"separatrix.tasks.{task}")
    names = tuple(room.MODELS) if models is None else tuple(name.strip() for name in models.split(","))
    for name in names:
        Forecaster(name)  # an unknown name is refused before the first fit
    settings = {name: value for name, value in (("steps", steps), ("members", members)) if value is not None}
    with threads(cores, members or Forecaster().members), progress(f"bench {task}") as advance:

        def news(done: float, what: str, step: Step) -> None:
            advance(done, step.loss, what)

        scores = list(room.competition(names, range(seeds), settings=settings, news=news))
    if as_json:
        out().print_json(json.dumps([{**score._asdict(), "median": score.median} for score in scores]))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("series", "method", "NMSE, median", "each seed", "parameters", "seconds a fit"):
        table.add_column(heading, justify="left" if heading in ("series", "method", "each seed") else "right")
    order = list(dict.fromkeys(score.series for score in scores))
    for score in sorted(scores, key=lambda score: (order.index(score.series), score.median)):
        each = " ".join(f"{x:.3f}" for x in score.nmse) if len(score.nmse) > 1 else ""
        seconds = f"{score.seconds:.0f}" if score.seconds else ""
        table.add_row(score.series, score.name, f"{score.median:.3f}", each, f"{score.parameters:,}", seconds)
    console = out()
    console.print(table)
    console.print(WORDS[task])
