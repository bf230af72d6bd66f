"""`separatrix fit`, `audit` and `forecast`: a run folder from its first line to its report.

runs/laser-s4d/      config.json  task.json  metrics.jsonl  checkpoint.safetensors  model.safetensors  state.safetensors  report.html
"""

from __future__ import annotations

import csv
import io
import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from separatrix.cli.screen import Advance, Stopped, err, out, part, polite, progress

if TYPE_CHECKING:
    from separatrix.data import Series, Task
    from separatrix.training import Forecaster

FITTING = 0.5  # of the bar: about the share of the time
LONGEST_LOSS = 60  # rows of free run in the loss; gradients through a longer chaotic run teach nothing

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `separatrix fit` wrote.", show_default=False)]
Source = typer.Argument(
    metavar="NAME_OR_FILE", help="A shipped series (see `separatrix data`), or a CSV or Parquet file.", show_default=False
)
Column = typer.Option(help="The column to use; without it, every column of numbers.", show_default=False)
Model = typer.Option(help="s4d, s5, lru, mamba, mamba2, gla, deltanet, gated_deltanet, lstm, gru, attention or mlp.", show_default="s4d")
Horizon = typer.Option(help="Rows to forecast and compare.", show_default="as the series is known for, or a tenth of it, at most 100")
Steps = typer.Option(help="Optimizer steps.", show_default="2000")
Seed = typer.Option(help="Seed of the weights and of the training windows.", show_default="0")
Out = typer.Option("--out", help="Where the run is kept.", show_default="runs/NAME-MODEL")
Resume = typer.Option(metavar="RUN", help="Go on with the interrupted run in this folder, to the same losses.", show_default=False)
Report = typer.Option("--report/--no-report", help="Measure the fitted model and write report.html.")
Rivals = typer.Option(help="Models to fit as yardsticks in the report, separated by commas; each costs a fit.", show_default="none")
Ahead = typer.Option(help="Rows to forecast.")
From = typer.Option("--from", help="Hear the rows before this one, then go on alone.", show_default="the end of the series")
Table = typer.Option("--csv", help="Write the forecast to this file instead of the screen.", show_default=False)


@polite
def fit(
    source: Annotated[str | None, Source] = None,
    column: Annotated[str | None, Column] = None,
    model: Annotated[str | None, Model] = None,
    horizon: Annotated[int | None, Horizon] = None,
    steps: Annotated[int | None, Steps] = None,
    seed: Annotated[int | None, Seed] = None,
    folder: Annotated[Path | None, Out] = None,
    resume: Annotated[Path | None, Resume] = None,
    report: Annotated[bool, Report] = True,
    rivals: Annotated[str | None, Rivals] = None,
) -> None:
    """Train a model on a series, let it run free, measure it, and write a report.

    Examples:

      separatrix fit laser

      separatrix fit my.csv --column temp --model mamba --horizon 48

      separatrix fit --resume runs/laser-s4d
    """
    settings = {"--column": column, "--model": model, "--horizon": horizon, "--steps": steps, "--seed": seed, "--out": folder}
    if resume is not None:
        if given := [name for name, value in settings.items() if value is not None]:
            raise ValueError(f"--resume goes on with the settings of the run: leave out {', '.join(given)}, or start a new run.")
        _go_on(resume, source, report, _names(rivals))
        return
    if source is None:
        raise ValueError("nothing to fit. Name a series that comes with the package (separatrix data lists them) or a file.")

    from separatrix.data import Task
    from separatrix.training import Forecaster

    task, series = Task.of(source, column, horizon, shlex.join(["separatrix", *sys.argv[1:]]))
    names = _names(rivals)
    loss = None if horizon is None else max(1, min(horizon, LONGEST_LOSS, task.origin // 4))
    forecaster = Forecaster(model or "s4d", horizon=loss, steps=2000 if steps is None else steps, random_state=seed or 0)
    with progress(f"fitting {forecaster.mixer} to {series.name}") as advance:
        with _new_folder(folder, f"{series.name}-{forecaster.mixer}") as where:
            task.save(where)
            _train(forecaster, task, series, where, report, advance, resumed=False)
        page = _measure(where, task, series, names, part(advance, FITTING, 1.0)) if report else None
    _conclude(where, page)


def _go_on(where: Path, source: str | None, report: bool, rivals: tuple[str, ...]) -> None:
    from separatrix.data import Task

    task = Task.load(where)
    if source is not None and source != task.source and str(Path(source).resolve()) != task.source:
        raise ValueError(f"{where} is a run on {task.source}, not on {source}. Leave the name out.")
    series, forecaster = task.series(), _forecaster_of(where)
    with progress(f"fitting {forecaster.mixer} to {series.name}") as advance:
        _train(forecaster, task, series, where, report, advance, resumed=True)
        page = _measure(where, task, series, rivals, part(advance, FITTING, 1.0)) if report else None
    _conclude(where, page)


def _names(rivals: str | None) -> tuple[str, ...]:
    """The rivals, each a model that exists."""
    from separatrix.training import Forecaster

    names = () if rivals is None else tuple(name.strip() for name in rivals.split(","))
    for name in names:
        Forecaster(name)
    return names


def _forecaster_of(where: Path) -> Forecaster:
    """An unfitted forecaster with the settings of the run."""
    from separatrix.training import Forecaster
    from separatrix.training.forecaster import read_config

    config = read_config(where)
    network, recipe = config.network, config.recipe
    return Forecaster(
        network.mixer, horizon=recipe.horizon, lags=network.lags, steps=recipe.steps, d_model=network.d_model, layers=network.layers,
        settings=network.settings, random_state=config.seed,
    )  # fmt: skip


def _train(
    forecaster: Forecaster, task: Task, series: Series, where: Path, report: bool, advance: Advance, *, resumed: bool
) -> None:  # fmt: skip
    for remark in series.remarks:
        err().print(f"note: {remark}", markup=False)
    advance = part(advance, 0.0, FITTING if report else 1.0)
    try:
        for step in forecaster.fitting(task.fitted(series), folder=where, resume=resumed):
            advance(step.done, step.loss, f"step {step.step}")
    except KeyboardInterrupt:
        raise Stopped(_what_is_kept(where)) from None


def _what_is_kept(where: Path) -> str:
    from separatrix.training.checkpoint import read_checkpoint
    from separatrix.training.loop import CHECKPOINT

    if not (where / CHECKPOINT).is_file():
        return "stopped before the first checkpoint: nothing is kept."
    step = read_checkpoint(where / CHECKPOINT).step
    return f"stopped: step {step} is kept in {where}\ngo on with: {shlex.join(['separatrix', 'fit', '--resume', str(where)])}"


def _measure(where: Path, task: Task, series: Series, rivals: tuple[str, ...], advance: Advance) -> Path:
    """Put every question to the fitted model and write the report."""
    from separatrix.report.audit import audit as measure

    try:
        return measure(
            where, series, ahead=task.horizon, command=task.command, progress=lambda done, what: advance(done, None, what, "measuring")
        )
    except KeyboardInterrupt:
        again = shlex.join(["separatrix", "audit", str(where)])
        raise Stopped(f"stopped: the fitted model is kept in {where}\nmeasure it with: {again}") from None


def _conclude(where: Path, page: Path | None) -> None:
    """Two lines: the verdict, and where the report is."""
    if page is None:
        out().print(f"model: {where}", markup=False)
        return
    from separatrix.report.audit import EVIDENCE

    found = json.loads((where / EVIDENCE).read_text(encoding="utf-8"))
    out().print(f"{found['verdict']}: {found['sentence']}", markup=False)
    out().print(f"report: {page}", markup=False)


@contextmanager
def _new_folder(wanted: Path | None, name: str) -> Iterator[Path]:
    """The folder of a new run: `wanted`, or runs/name with the first free number. It goes again if the run ends without a checkpoint."""
    from separatrix.training.loop import CHECKPOINT

    if wanted is None:
        number = 1
        while (where := Path("runs") / (name if number == 1 else f"{name}-{number}")).exists():
            number += 1
    else:
        where = wanted
        if where.exists() and (not where.is_dir() or any(where.iterdir())):
            raise ValueError(f"{where} is there already and not an empty folder. Choose another --out, or go on with: --resume {where}")
    made = not where.exists()
    where.mkdir(parents=True, exist_ok=True)
    try:
        yield where
    except BaseException:
        if not (where / CHECKPOINT).is_file():
            for file in where.iterdir():
                file.unlink()
            if made:
                shutil.rmtree(where)
        raise


@polite
def audit(run: RunFolder, rivals: Annotated[str | None, Rivals] = None) -> None:
    """Measure a fitted model again and rebuild its report.

    Examples:

      separatrix audit runs/laser-s4d

      separatrix audit runs/laser-s4d --rivals gru,mlp
    """
    from separatrix.data import Task

    task = Task.load(run)
    series, names = task.series(), _names(rivals)
    with progress("measuring") as advance:
        page = _measure(run, task, series, names, advance)
    _conclude(run, page)


@polite
def forecast(
    run: RunFolder,
    steps: Annotated[int, Ahead] = 100,
    start: Annotated[int | None, From] = None,
    table: Annotated[Path | None, Table] = None,
) -> None:
    """Go on from the end of the series, without another fit.

    Examples:

      separatrix forecast runs/laser-s4d --steps 500

      separatrix forecast runs/laser-s4d --steps 500 --csv out.csv
    """
    from separatrix.data import Task
    from separatrix.files import write_text
    from separatrix.training import Forecaster

    if steps < 1:
        raise ValueError(f"--steps is {steps} but a forecast has at least one row.")
    task = Task.load(run)
    forecaster, series = Forecaster.load(run), task.series()
    end = len(series) if start is None else start
    if not task.origin <= end <= len(series):
        raise ValueError(f"--from is {end} but must be {task.origin} (where the fitted rows end) to {len(series)} (where the series ends).")
    if end > task.origin:
        forecaster.update(series.values[task.origin : end])
    rows = forecaster.predict(steps)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", *series.names])
    writer.writerows([end + i, *(f"{value:.6g}" for value in row)] for i, row in enumerate(rows))
    if table is None:
        sys.stdout.write(text.getvalue())
    else:
        write_text(table, text.getvalue())
        out().print(f"{steps} rows from row {end} on: {table}", markup=False)
