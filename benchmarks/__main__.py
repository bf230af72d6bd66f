"""python -m benchmarks [--large] [--threads N] [--seconds S] [--only PART] [--peer-path NAME=CHECKOUT] [--resume]

Measures every operation and layer beside its rivals, one token of every mixer, and growth with length; writes the results as JSON after
every row and the table to docs/benchmarks.md (docs/benchmarks-large.md) at the end. `--resume` goes on from a JSON that was cut short.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description="Speed, side by side with peers and with the machine's limits.")
    parser.add_argument("--large", action="store_true", help="the large shapes instead (half an hour); no steps, no growth")
    parser.add_argument("--threads", type=int, default=2, help="threads of everyone (default 2)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of calls for each rival and direction (default 1)")
    parser.add_argument("--only", default="", metavar="PART", help="only rows whose name contains PART; 'steps' and 'growth' are rows too")
    parser.add_argument("--peer-path", action="append", default=[], metavar="NAME=CHECKOUT", help="a rival that is not on PyPI: s4, S5")
    parser.add_argument("--no-memory", action="store_true", help="time only")
    parser.add_argument("--resume", action="store_true", help="keep the rows that the JSON of this commit and machine already has")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "benchmarks" / "results.json", metavar="FILE")
    parser.add_argument("--page", type=Path, metavar="FILE", help="default docs/benchmarks[-large].md, none with --only")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    from benchmarks import machine

    machine.use_threads(options.threads)  # before the imports below start thread teams
    import torch

    from benchmarks import growth, packages, page, steps
    from benchmarks.measure import Scale
    from benchmarks.operations import OPERATIONS
    from benchmarks.run import ROWS, measure

    torch.set_num_threads(options.threads)
    paths = dict(pair.split("=", 1) for pair in options.peer_path)
    packages.PATHS.update(paths)
    started, here = time.perf_counter(), machine.record(options.threads)
    limits = machine.limits(options.threads)
    scale = None if options.no_memory else Scale(options.threads)
    results = _begin(options, here)
    results["machine"], results["limits"] = here, machine.describe(limits)
    say(
        f"{here['processor']}, {options.threads} threads: {limits.flops / 1e9:.0f} GFLOP/s ({limits.how}), "
        f"{results['limits']['bandwidth']['768 MB'] / 1e9:.0f} GB/s from memory"
    )

    def keep(section: str, name: str, make: Callable[..., Any], *inputs: Any) -> Any:
        found = results.setdefault(section, {})
        if name not in found:
            found[name] = make(*inputs)
            _save(options.json, results)
        return found[name]

    size = "L" if options.large else "S"
    for name, operation in ROWS.items():
        if options.only in name and size in operation.shapes:
            row = keep(size, name, measure, operation, operation.shapes[size], limits, options.seconds, scale, paths)
            say(f"{time.perf_counter() - started:5.0f} s  {size} {name}: {page.in_a_line(row)}")
    if options.only in "steps" and not options.large:
        keep("steps", "rows", steps.step_times, options.seconds / 4)
        say(f"{time.perf_counter() - started:5.0f} s  one token: {steps.summary(results['steps']['rows'])}")
    for name, operation in OPERATIONS.items():
        if operation.grows and not options.large and (options.only in name or options.only in "growth"):
            row = keep("growth", name, _attempt, growth.grow, operation, scale)
            say(f"{time.perf_counter() - started:5.0f} s  {name} against length: {page.growth_in_a_line(row)}")
    usual = ROOT / "docs" / ("benchmarks-large.md" if options.large else "benchmarks.md")
    written = options.page or (None if options.only else usual)
    if written is not None:
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(page.render(results))
    met, unmet, unknown = page.count_bars(results)
    say(f"{time.perf_counter() - started:5.0f} s  bars: {met} met, {unmet} not met, {unknown} without a rival here")
    say(f"{options.json}" + (f", {written}" if written else ""))
    return 1 if page.wrong(results) else 0


def _attempt(measurement, *args: Any) -> dict[str, Any]:
    """One failure must not cost the rows that came before."""
    try:
        return measurement(*args)
    except Exception as failure:
        return {"failed": f"{type(failure).__name__}: {failure}".splitlines()[0][:200]}


def _begin(options: argparse.Namespace, here: dict[str, object]) -> dict[str, Any]:
    if options.resume and options.json.exists():
        before = json.loads(options.json.read_text())
        if before.get("machine") == here:
            return before
        say("starting afresh: the JSON is of another machine, commit or set of packages")
    return {}


def _save(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    half.write_text(json.dumps(results, indent=1))
    half.replace(path)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
