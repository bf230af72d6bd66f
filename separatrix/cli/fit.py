"""`separatrix fit`: a run folder from its first line to its report.

runs/laser-s4d/      config.json  task.json  metrics.jsonl  checkpoint.safetensors  model.safetensors  state.safetensors  report.html
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from separatrix.cli.runs import Rivals, Threads, calibrate, conclude, measure, rival_names
from separatrix.cli.screen import Advance, Stopped, err, part, polite, progress, threads

if TYPE_CHECKING:
    from separatrix.data import Series, Task
    from separatrix.training import Forecaster

REPORT = 0.25  # of the time that the fit takes
LONGEST_LOSS = 60  # rows of free run in the loss; gradients through a longer chaotic run teach nothing

Source = typer.Argument(
    metavar="NAME_OR_FILE",
    help="A shipped series (see `separatrix data`), or a CSV or Parquet file, also packed as .gz, .bz2 or .xz.",
    show_default=False,
)
Column = typer.Option(
    "--column", help="The column to use; say it again for several. Without it, every column of numbers.", show_default=False
)
Model = typer.Option(help="s4d, s5, lru, mamba, mamba2, gla, deltanet, gated_deltanet, lstm, gru, attention or mlp.", show_default="s4d")
Horizon = typer.Option(help="Rows to forecast and compare.", show_default="as the series is known for, or a tenth of it, at most 100")
Steps = typer.Option(help="Optimizer steps.", show_default="the forecaster's own")
Members = typer.Option(help="Networks in the ensemble; one alone is fitted sooner, and depends more on the seed.", show_default="4")
Linear = typer.Option(
    "--linear/--no-linear",
    help="Whether the networks correct a linear autoregression or learn the whole map.",
    show_default="correct one where the series shows nothing that is not linear",
)
Seed = typer.Option(help="Seed of the weights and of the training windows.", show_default="0")
Out = typer.Option("--out", help="Where the run is kept.", show_default="runs/NAME-MODEL")
Resume = typer.Option(metavar="RUN", help="Go on with the interrupted run in this folder, to the same losses.", show_default=False)
Intervals = typer.Option(
    "--intervals",
    help="Find out how far off forecasts are, for the report and `forecast --coverage`; takes as long as the fit again, or "
    "nothing where the networks correct a linear autoregression.",
)
Page = typer.Option("--report/--no-report", help="Measure the fitted model and write report.html.")


class Wanted(NamedTuple):
    """What is to be had beside the fit."""

    intervals: bool
    report: bool
    rivals: tuple[str, ...]

    @property
    def fit(self) -> float:
        """The share of the bar that belongs to the fit; a calibration has as much."""
        return 1.0 / (1.0 + self.intervals + REPORT * self.report)


@polite
def fit(
    source: Annotated[str | None, Source] = None,
    columns: Annotated[list[str] | None, Column] = None,
    model: Annotated[str | None, Model] = None,
    horizon: Annotated[int | None, Horizon] = None,
    steps: Annotated[int | None, Steps] = None,
    members: Annotated[int | None, Members] = None,
    linear: Annotated[bool | None, Linear] = None,
    seed: Annotated[int | None, Seed] = None,
    folder: Annotated[Path | None, Out] = None,
    resume: Annotated[Path | None, Resume] = None,
    intervals: Annotated[bool, Intervals] = False,
    report: Annotated[bool, Page] = True,
    rivals: Annotated[str | None, Rivals] = None,
    cores: Annotated[int | None, Threads] = None,
) -> None:
    """Train a model on a series, let it run free, measure it, and write a report.

    Examples:

      separatrix fit laser

      separatrix fit my.csv --column temp --model mamba --horizon 48

      separatrix fit --resume runs/laser-s4d
    """
    settings = {"--column": columns or None, "--model": model, "--horizon": horizon, "--steps": steps, "--members": members,
                "--linear": linear, "--seed": seed, "--out": folder}  # fmt: skip
    if resume is not None:
        if given := [name for name, value in settings.items() if value is not None]:
            raise ValueError(f"--resume goes on with the settings of the run: leave out {', '.join(given)}, or start a new run.")
        _go_on(resume, source, Wanted(intervals, report, rival_names(rivals)), cores)
        return
    if source is None:
        raise ValueError("nothing to fit. Name a series that comes with the package (separatrix data lists them) or a file.")

    from separatrix.data import Task
    from separatrix.training import Forecaster

    column = columns[0] if columns and len(columns) == 1 else columns or None
    task, series = Task.of(source, column, horizon, shlex.join(["separatrix", *sys.argv[1:]]))
    wanted = Wanted(intervals, report, rival_names(rivals))
    loss = None if horizon is None else max(1, min(horizon, LONGEST_LOSS, task.origin // 4))
    chosen: dict[str, Any] = {
        name: value for name, value in (("steps", steps), ("members", members), ("linear", linear)) if value is not None
    }
    forecaster = Forecaster(model or "s4d", horizon=loss, random_state=seed or 0, **chosen)
    with progress(f"fitting {forecaster.mixer} to {series.name}") as advance:
        with threads(cores, forecaster.members), _new_folder(folder, f"{series.name}-{forecaster.mixer}") as where:
            task.save(where)
            _train(forecaster, task, series, where, part(advance, 0.0, wanted.fit), resumed=False)
        page = _measure(forecaster, task, series, where, wanted, advance, cores)
    conclude(where, page)


def _go_on(where: Path, source: str | None, wanted: Wanted, cores: int | None) -> None:
    from separatrix.data import Task
    from separatrix.training import Forecaster
    from separatrix.training.forecaster import read_config

    task = Task.load(where)
    if source is not None and source != task.source and str(Path(source).resolve()) != task.source:
        raise ValueError(f"{where} is a run on {task.source}, not on {source}. Leave the name out.")
    series, forecaster = task.series(), Forecaster.of(read_config(where))
    with progress(f"fitting {forecaster.mixer} to {series.name}") as advance:
        with threads(cores, forecaster.members):
            _train(forecaster, task, series, where, part(advance, 0.0, wanted.fit), resumed=True)
        page = _measure(forecaster, task, series, where, wanted, advance, cores)
    conclude(where, page)


def _train(forecaster: Forecaster, task: Task, series: Series, where: Path, advance: Advance, *, resumed: bool) -> None:
    from separatrix.data.drift import drifts

    rows = task.fitted(series)
    config = forecaster.plan(rows)
    for remark in (*series.remarks, *([] if config.network.linear else drifts(rows))):
        err().print(f"note: {remark}", markup=False)
    try:
        for step in forecaster.fitting(rows, folder=where, resume=resumed, config=config):
            advance(step.done, step.loss, f"step {step.step}")
    except KeyboardInterrupt:
        raise Stopped(_what_is_kept(where)) from None
    except OSError as error:
        if (kept := _step_kept(where)) is None or not error.strerror:
            raise
        raise ValueError(
            f"{error.filename or where}: {error.strerror.lower()}. Step {kept} is kept; mend this and go on with: {_resume(where)}"
        ) from None


def _measure(
    forecaster: Forecaster, task: Task, series: Series, where: Path, wanted: Wanted, advance: Advance, cores: int | None
) -> Path | None:  # fmt: skip
    if wanted.intervals:
        calibrate(where, forecaster, task.fitted(series), part(advance, wanted.fit, 2 * wanted.fit), cores)
    if not wanted.report:
        return None
    return measure(where, task, series, wanted.rivals, part(advance, 1.0 - REPORT * wanted.fit, 1.0), cores)


def _what_is_kept(where: Path) -> str:
    step = _step_kept(where)
    if step is None:
        return "stopped before the first checkpoint: nothing is kept."
    return f"stopped: step {step} is kept in {where}\ngo on with: {_resume(where)}"


def _step_kept(where: Path) -> int | None:
    """Of the checkpoint; None where there is none."""
    from separatrix.training.checkpoint import read_checkpoint
    from separatrix.training.loop import CHECKPOINT

    return read_checkpoint(where / CHECKPOINT).step if (where / CHECKPOINT).is_file() else None


def _resume(where: Path) -> str:
    return shlex.join(["separatrix", "fit", "--resume", str(where)])


@contextmanager
def _new_folder(wanted: Path | None, name: str) -> Iterator[Path]:
    """The folder of a new run: `wanted`, or runs/name with the first free number. It goes again if the run ends with nothing to keep."""
    from separatrix.training.loop import CHECKPOINT

    if wanted is None:
        number = 1
        while not _made(where := Path("runs") / (name if number == 1 else f"{name}-{number}")):
            number += 1
        made = True
    else:
        where, made = wanted, _made(wanted)
        if not made and (not where.is_dir() or any(where.iterdir())):
            go_on = f", or go on with: --resume {where}" if (where / CHECKPOINT).is_file() else "."
            raise ValueError(f"{where} is there already and not an empty folder. Choose another --out{go_on}")
    try:
        yield where
    except FloatingPointError:
        raise  # it names the batch that is kept there
    except BaseException:
        if not (where / CHECKPOINT).is_file():
            for file in where.iterdir():
                file.unlink()
            if made:
                shutil.rmtree(where)
        raise


def _made(where: Path) -> bool:
    """Whether the folder was made here and now: of two fits that begin together, one has it."""
    try:
        where.mkdir(parents=True)
    except FileExistsError:
        return False
    return True
