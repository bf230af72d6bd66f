"""Audit a finished run: load it, put every question to it, judge, and write report.html.

    audit("runs/laser-s4d-0")  ->  runs/laser-s4d-0/report.html  (and evidence.json beside it)
    audit("runs/tides-s4d", column="surge")  ->  runs/tides-s4d/report-column-2.html

An instrument that cannot run on this model or this data is named in the report with the reason; the verdict then says what is missing.
"""

from __future__ import annotations

import json
import logging
import math
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from separatrix.data import Series
from separatrix.files import write_texts
from separatrix.recurrence import State
from separatrix.report.finding import Finding, Run, counted, plain, show
from separatrix.report.measure.exponents import divergences, own_exponents
from separatrix.report.measure.forecasts import Forecasts, forecasts
from separatrix.report.measure.layers import layers, responses
from separatrix.report.measure.likeness import characters, portraits
from separatrix.report.measure.longrun import LongRun, long_run
from separatrix.report.measure.rivals import Peer, peers
from separatrix.report.page import Evidence, build, to_record
from separatrix.report.preamble import preamble
from separatrix.report.run_folder import fitted_series, knows_its_series, matching, recipe, trained
from separatrix.report.stretch import placed
from separatrix.report.subject import Progress, Subject
from separatrix.report.verdict import ENOUGH, Criterion, judge
from separatrix.training import Forecaster
from separatrix.training.nonlinearity import NONLINEAR

REPORT, EVIDENCE = "report.html", "evidence.json"
RIVALS = 0.6  # of the progress, when rivals are fitted: about their share of the time
log = logging.getLogger("separatrix")
T = TypeVar("T")


def audit(
    folder: str | Path,
    series: Series | None = None,
    *,
    ahead: int | None = None,
    steps: int = ENOUGH,
    command: str = "",
    rivals: Sequence[str] = (),
    column: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the stability report of a run folder and return its path.

    series     all that was measured, fitted rows first; None: what the run's task names, or the shipped series of that name.
    ahead      rows of the free run that is scored; None: what the series suggests, else 100.
    steps      of the long free run.
    command    the command line that made the run, for the recipe.
    rivals     kinds of network to fit as yardsticks beside the two that cost nothing, e.g. ("mlp", "gru"); each costs as much as a fit.
    column     the one that is drawn and compared, of several that were fitted together; None: the first.
    progress   called with (share done, what is being done).
    """
    folder = Path(folder)
    forecaster = Forecaster.load(folder)
    config = forecaster.config
    assert config is not None
    series = fitted_series(folder, config) if series is None else matching(series, config)
    channel = 0 if column is None else _place(column, series.names)
    say = progress or (lambda done, what: None)
    share = RIVALS if rivals else 0.0
    rows = replace(series, values=series.values[: config.data.rows])
    fitted = peers(folder, config, rows, rivals, lambda done, what: say(share * done, what))
    ahead = ahead or series.horizon or 100
    noisy = config.network.linear and (config.nonlinearity or 0.0) > NONLINEAR
    subject = Subject(forecaster.model, series, config.data.rows, ahead, config.seed, channel, forecaster.errors, noisy)
    evidence = evidence_of(
        subject,
        recipe(config, series, command),
        trained(folder, config),
        steps=steps,
        against=fitted,
        progress=lambda done, what: say(share + (1 - share) * done, what),
    )
    found, calls = knows_its_series(folder, config), [finding.made.call for finding in evidence.findings]
    evidence = replace(evidence, preamble=preamble(subject, folder, steps=steps, found=found, calls=calls))
    record = json.dumps(to_record(evidence), indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n"
    page, numbers = (folder / name for name in (REPORT, EVIDENCE))
    if channel:
        page, numbers = (path.with_stem(f"{path.stem}-column-{channel + 1}") for path in (page, numbers))
    write_texts({page: build(evidence), numbers: record})
    return page


def numbers_of(page: Path) -> Path:
    """The file with the numbers of a report, for programs."""
    return page.with_name(page.stem.replace(Path(REPORT).stem, Path(EVIDENCE).stem, 1) + ".json")


def _place(column: str, names: Sequence[str]) -> int:
    if column not in names:
        raise ValueError(f"column is {column!r} but the run was fitted to {', '.join(map(repr, names))}. Choose one of them.")
    return list(names).index(column)


def evidence_of(
    subject: Subject,
    run: Run,
    history: Sequence[Finding] = (),
    *,
    steps: int = ENOUGH,
    against: Sequence[Peer] = (),
    progress: Progress | None = None,
) -> Evidence:
    """Every instrument on one subject, and the verdict."""
    inquiry = Inquiry(progress)
    inquiry.say(0.0, "forecasts from many origins")
    made = inquiry.ask("forecasts", lambda: forecasts(subject, against))
    inquiry.findings += [] if made is None else made.findings
    ran, character = None, ""
    if made is not None:
        start = made.states[0]
        ran = inquiry.ask(
            "long free run",
            lambda: long_run(subject, start, steps, lambda done, all_: inquiry.say(0.05 + 0.6 * done / all_, "long free run")),
        )
        if ran is not None:
            inquiry.findings.append(ran.finding)
            inquiry.criteria.append(ran.criterion)
            character = aftermath(inquiry, subject, ran, start, steps)
    inquiry.say(0.96, "eigenvalues, memory and response")
    inquiry.findings += inquiry.ask("eigenvalues", lambda: layers(subject)) or []
    answered = inquiry.ask("response", lambda: responses(subject))
    inquiry.findings += [] if answered is None else [answered]
    inquiry.say(0.99, "the page")
    judgement = judge(
        None if ran is None else ran.steps,
        inquiry.criteria,
        escape=None if ran is None else ran.escape,
        horizon=None if made is None else made.horizon,
        character=character,
    )
    return Evidence(run, judgement, [*inquiry.findings, *history], summary(subject, made), inquiry.absent)


def aftermath(inquiry: Inquiry, subject: Subject, ran: LongRun, start: State, steps: int) -> str:
    """What the long free run is like, beside the data.    -> what they share in a word"""
    if ran.escape is not None:
        inquiry.absent["portrait, spectrum and exponents"] = "The free run left, so it has no long run to compare."
        return ""
    inquiry.say(0.66, "portrait, spectrum, histogram")
    drawn = inquiry.ask("portrait", lambda: portraits(subject, ran.series))
    if drawn is not None:
        inquiry.findings.append(drawn[0])
        inquiry.criteria.append(drawn[1])
    inquiry.say(0.68, "divergence of nearby starts")
    parting = divergences(subject, ran.series)
    inquiry.findings += [] if parting.finding is None else [parting.finding]
    inquiry.criteria.append(parting.criterion)
    if parting.trouble:
        inquiry.absent["comparison of the largest exponents"] = parting.trouble
    alike = inquiry.ask("spectrum and histogram", lambda: characters(subject, ran.series))
    if alike is not None:
        inquiry.findings += alike[0]
        inquiry.criteria += alike[1]
    inquiry.say(0.7, "Lyapunov exponents of the model")
    own = inquiry.ask("Lyapunov exponents of the model", lambda: own_exponents(subject, start, max(200, steps // 10), parting.of_run))
    if own is None:
        return ""
    inquiry.findings.append(own[0])
    return parting.character if own[1] else ""  # coloured noise parts like chaos in a series; equations do not


class Inquiry:
    """What has been found so far, and what could not be."""

    def __init__(self, progress: Progress | None):
        self.progress = progress
        self.findings: list[Finding] = []
        self.criteria: list[Criterion] = []
        self.absent: dict[str, str] = {}

    def say(self, share: float, what: str) -> None:
        if self.progress is not None:
            self.progress(share, what)

    def ask(self, name: str, question: Callable[[], T]) -> T | None:
        """The answer, or None and a line in `absent`: one instrument that cannot run must not cost the others."""
        began = time.perf_counter()
        try:
            return question()
        except (ValueError, RuntimeError, ArithmeticError) as error:
            self.absent[name] = f"{str(error)[:1].upper()}{str(error)[1:]}"
            log.info("%s could not be measured: %s", name, error)
            return None
        finally:
            log.debug("%s took %.1f s", name, time.perf_counter() - began)


def summary(subject: Subject, made: Forecasts | None) -> list[str]:
    """What was reached, beside the best yardstick."""
    if made is None:
        return []
    steps, origins, new = subject.origins
    names = subject.series.names
    which = f" of {names[subject.channel]}, one of {len(names)} columns," if len(names) > 1 else ""
    start = f"from row {placed(origins[0], subject.clock(origins[0]))}"
    if math.isnan(made.nmse.value):
        return [f"How good the forecast{which} is could not be measured: {counted(steps, subject.unit)} {start} on are gaps."]
    sentence = f"Free-running NMSE{which} {show(made.nmse)} over {counted(steps, subject.unit)} {start}"
    if made.best is not None:
        sentence += f"; the best baseline, {made.best[0]}, reaches {plain(made.best[1])}"
    sentences = [sentence + ("." if new else ". These rows were fitted: no later ones exist, so take this as the best case.")]
    if made.longest is not None and len(origins) > 1:
        who, number = made.longest
        compared = (
            "farther" if number.value > made.horizon.steps.value else "less far" if number.value < made.horizon.steps.value else "as far"
        )
        reached = f"{show(number)} against {show(made.horizon.steps, unit=False)}"
        sentences.append(f"Over {len(origins)} origins the best baseline, {who}, reaches {compared}: {reached}.")
    others = [name for name in names if name != names[subject.channel]]
    if others:
        again = f"separatrix audit RUN --column {shlex.quote(others[0])}"
        sentences.append(f"Pictures and scores are of {names[subject.channel]}; for another column: {again}.")
    return sentences
