"""`separatrix audit` and `forecast`: what a fitted run can be asked."""

from __future__ import annotations

import csv
import io
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from separatrix.cli.screen import Advance, Stopped, err, out, polite, progress, threads, write

if TYPE_CHECKING:
    from separatrix.data import Series, Task
    from separatrix.training import Forecaster

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `separatrix fit` wrote.", show_default=False)]
Other = typer.Argument(metavar="OTHER", help="A second run: the two reports side by side, differences first.", show_default=False)
Page = typer.Option("--out", help="Where the comparison is written.", show_default="RUN/beside-OTHER.html")
Rivals = typer.Option(help="Models to fit as yardsticks in the report, separated by commas; each costs a fit.", show_default="none")
Drawn = typer.Option(
    "--column", help="The column to draw and compare, of several that were fitted together.", show_default="the first of them"
)
Threads = typer.Option(
    "--threads", help="Threads to compute on.", show_default="one for each network of an ensemble, at most as many as there are cores"
)
Ahead = typer.Option(help="Rows to forecast.")
From = typer.Option("--from", help="Hear the rows before this one, then go on alone.", show_default="the end of the series")
Coverage = typer.Option(
    help="Add columns NAME_low and NAME_high, between which this share of the rows should fall: 0.9, say. The first time it costs a fit.",
    show_default=False,
)
Table = typer.Option("--csv", help="Write the forecast to this file instead of the screen.", show_default=False)


def rival_names(rivals: str | None) -> tuple[str, ...]:
    """The rivals, each a model that exists."""
    from separatrix.training import Forecaster

    names = () if rivals is None else tuple(name.strip() for name in rivals.split(","))
    for name in names:
        Forecaster(name)
    return names


def measure(
    where: Path, task: Task, series: Series, rivals: tuple[str, ...], advance: Advance, cores: int | None, column: str | None = None
) -> Path:
    """Put every question to the fitted model and write the report."""
    from separatrix.report.audit import audit as examine
    from separatrix.training.forecaster import read_config

    try:
        with threads(cores, read_config(where).network.members if rivals else 1):
            return examine(
                where, series, ahead=task.horizon, command=task.command, rivals=rivals, column=column,
                progress=lambda done, what: advance(done, None, what, "measuring"),
            )  # fmt: skip
    except KeyboardInterrupt:
        again = shlex.join(["separatrix", "audit", str(where)])
        raise Stopped(f"stopped: the fitted model is kept in {where}\nmeasure it with: {again}") from None


def calibrate(where: Path, forecaster: Forecaster, rows: Series, advance: Advance, cores: int | None) -> None:
    """Find out how far off forecasts of a run are; stopped, it goes on from there the next time."""
    from separatrix.training.folds import FOLDS

    try:
        with threads(cores, FOLDS):
            for step in forecaster.calibrating(rows, folder=where):
                advance(step.done, step.loss, f"step {step.step}", "calibrating")
    except KeyboardInterrupt:
        again = shlex.join(["separatrix", "forecast", str(where), "--coverage", "0.9"])
        raise Stopped(f"stopped: the fitted model is kept in {where}\ngo on calibrating with: {again}") from None


def conclude(where: Path, page: Path | None) -> None:
    """Two lines: the verdict, and where the report is."""
    if page is None:
        out().print(f"model: {where}", markup=False)
        return
    from separatrix.report.audit import numbers_of

    found = json.loads(numbers_of(page).read_text(encoding="utf-8"))
    out().print(f"{found['verdict']}: {found['sentence']}", markup=False)
    out().print(f"report: {page}", markup=False)


@polite
def audit(
    run: RunFolder,
    other: Annotated[Path | None, Other] = None,
    rivals: Annotated[str | None, Rivals] = None,
    column: Annotated[str | None, Drawn] = None,
    page: Annotated[Path | None, Page] = None,
    cores: Annotated[int | None, Threads] = None,
) -> None:
    """Measure a fitted model again and rebuild its report; with a second run, put the two reports side by side.

    Examples:

      separatrix audit runs/laser-s4d

      separatrix audit runs/laser-s4d --rivals gru,mlp

      separatrix audit runs/tides-s4d --column surge

      separatrix audit runs/laser-s4d runs/laser-gru
    """
    from separatrix.data import Task

    if other is not None:
        for option, given in (("--rivals", rivals), ("--column", column)):
            if given is not None:
                raise ValueError(f"{option} belongs to the report of one run: leave it out, or leave out the second run.")
        _beside(run, other, page)
        return
    if page is not None:
        raise ValueError("--out belongs to the comparison of two runs: the report of one is written into its folder.")
    task = Task.load(run)
    series, names = _again(task), rival_names(rivals)
    with progress("measuring") as advance:
        written = measure(run, task, series, names, advance, cores, column)
    conclude(run, written)


def _again(task: Task) -> Series:
    """The series of a run, which may have grown since."""
    series = task.series()
    if task.rows and (new := len(series) - task.rows):
        rows = "1 row is" if new == 1 else f"{new:,} rows are"
        err().print(f"note: {rows} new since the fit, and heard without another one.", markup=False)
    return series


def _spare(target: Path, run: Path, suffix: str, option: str) -> None:
    """Refuse to write over the data or over what a run consists of."""
    from separatrix.data.task import TASK, Task
    from separatrix.report.audit import REPORT

    place = target.resolve()
    of_run = place.parent == run.resolve() and (place.suffix != suffix or place.match(f"{Path(REPORT).stem}*.html"))
    if of_run or ((run / TASK).is_file() and place == Path(Task.load(run).source).resolve()):
        what = f"a file of the run in {run}" if of_run else "the series that the run was fitted to"
        raise ValueError(f"{option} is {target}, {what}. Choose another file.")


def _beside(run: Path, other: Path, page: Path | None) -> None:
    from separatrix.files import write_text
    from separatrix.report.compare import compare

    text = compare(run, other)
    where = page or run / f"beside-{other.resolve().name}.html"
    for folder in (run, other):
        _spare(where, folder, ".html", "--out")
    write_text(where, text)
    out().print(f"comparison: {where}", markup=False)


@polite
def forecast(
    run: RunFolder,
    steps: Annotated[int, Ahead] = 100,
    start: Annotated[int | None, From] = None,
    coverage: Annotated[float | None, Coverage] = None,
    table: Annotated[Path | None, Table] = None,
    cores: Annotated[int | None, Threads] = None,
) -> None:
    """Go on from the end of the series, without another fit.

    Examples:

      separatrix forecast runs/laser-s4d --steps 500

      separatrix forecast runs/laser-s4d --steps 500 --csv out.csv

      separatrix forecast runs/laser-s4d --coverage 0.9
    """
    import numpy as np

    from separatrix.data import Task
    from separatrix.data.clock import time_of
    from separatrix.data.drift import below_zero, held_at_limit, left_range
    from separatrix.data.task import TASK
    from separatrix.files import write_text
    from separatrix.training import Forecaster

    if steps < 1:
        raise ValueError(f"--steps is {steps} but a forecast has at least one row.")
    task = Task.load(run)
    forecaster, series = Forecaster.load(run), _again(task)
    fitted = forecaster.config
    if fitted is not None and task.fitted(series).fingerprint != fitted.data.sha256:
        raise ValueError(
            f"{run} is a run on {fitted.data.name!r}, whose {fitted.data.rows:,} fitted rows are not those that its {TASK} names. "
            f"Use another copy, or fit again."
        )
    if table is not None:
        _spare(table, run, ".csv", "--csv")
    end = len(series) if start is None else start
    if not task.origin <= end <= len(series):
        raise ValueError(f"--from is {end} but must be {task.origin} (where the fitted rows end) to {len(series)} (where the series ends).")
    for remark in [] if forecaster.model.linear is not None else left_range(series, task.origin, end):
        err().print(f"note: {remark}", markup=False)
    if coverage is not None:
        if not 0 < coverage < 1:
            raise ValueError(f"--coverage is {coverage} but must lie between 0 and 1, such as 0.9.")
        if forecaster.errors is None:
            with progress("calibrating") as advance:
                calibrate(run, forecaster, task.fitted(series), advance, cores)
    if end > task.origin:
        forecaster.update(series.values[task.origin : end])
    rows, names = forecaster.predict(steps), list(series.names)
    linear, scale = forecaster.model.linear, forecaster.model.scale
    for remark in [] if linear is None else held_at_limit(series, rows, forecaster.model.mean.numpy(), (linear.limit * scale).numpy()):
        err().print(f"note: {remark}", markup=False)
    if coverage is not None:
        low, high = forecaster.predict_interval(steps, coverage)
        for remark in below_zero(series, low):
            err().print(f"note: {remark}", markup=False)
        rows = np.concatenate([rows, low, high], axis=1)
        names += [f"{name}_{end}" for end in ("low", "high") for name in series.names]
    clock = bool(time_of(series, end))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", *["time"] * clock, *names])
    writer.writerows([i, *[time_of(series, i)] * clock, *(f"{value:.12g}" for value in row)] for i, row in enumerate(rows, start=end))
    if table is None:
        write(text.getvalue())
    else:
        write_text(table, text.getvalue())
        out().print(f"{steps} rows from row {end} on: {table}", markup=False)
