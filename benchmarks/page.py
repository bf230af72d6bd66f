"""The page of results: bars first, then every number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from benchmarks.decoding import CALLED
from benchmarks.operation import DIRECTIONS, OURS
from benchmarks.operations import MATRIX_STATES, OPERATIONS
from benchmarks.steps import AHEAD, ALLOWED, BEHIND, D_MODEL

# Whom a geometric mean is beside: the names of rivals that do not count begin with one of these.
BESIDE = {
    "the fastest that comes in a package": ("JAX", "PyTorch", "C++"),
    "the fastest, loops that we wrote in JAX, PyTorch and C++ included": (),
}
FASTER = {"forward": 8, "both": 20}  # on the mean of all operations
FLOORS = {"forward": 3, "both": 5}  # where the state is a matrix

HEAD = """# Benchmarks

Every operation forward and forward + backward, beside the strongest peers that run on a CPU, in one run on one machine. Each rival, ours
included, first had to agree with the definition in float64 (ours to a few roundings of its inputs, outputs and all gradients). Rivals
take turns; times are medians of the turns. Memory is the peak that one call adds, its output included, its inputs not. The floor is the
leanest known algorithm at this machine's peaks, which are measured once, before the rows: on a machine that shares its cores they drift,
and multiples of the floor with them, even below 1. A bar's "reached" is our time over theirs, unless it says otherwise. One step of ours
goes on from a state, by a `Stepper` and by a call of the function; rivals, which know none, take it from rest.
"""


def render(results: dict[str, Any]) -> str:
    parts = [HEAD, _machine(results), _bars(results)]
    for size, title in (("S", "Small shapes"), ("L", "Large shapes")):
        if rows := results.get(size):
            parts += [f"## {title}\n", _overview(rows), *(_row(name, row) for name, row in rows.items())]
    if "steps" in results:
        parts.append(_steps(results["steps"]["rows"]))
    if "growth" in results:
        parts.append(_growth(results["growth"]))
    return "\n".join(parts)


def in_a_line(row: dict[str, Any]) -> str:
    ours = row["ways"][OURS]
    if ours["state"] != "timed":
        return f"{ours['state']}: {ours['why']}"
    said = []
    for way in DIRECTIONS:
        if way in ours:
            peer, ratio = against_best(row, way)
            said.append(f"{DIRECTIONS[way]} {milliseconds(ours[way]['median'])} ms" + (f", {speed(ratio)} {peer}" if peer else ""))
    return "; ".join(said)


def growth_in_a_line(row: dict[str, Any]) -> str:
    if "failed" in row:
        return str(row["failed"])
    exponents = ", ".join(f"{name} T^{value:.2f}" for name, value in row["exponent"].items() if value is not None)
    return f"{exponents} ({milliseconds(row['forward'][-1])} and {milliseconds(row['both'][-1])} ms at {row['lengths'][-1]})"


def against_best(row: dict[str, Any], way: str, apart: tuple[str, ...] = ()) -> tuple[str | None, float]:
    """The fastest rival in this direction, those whose names begin with one of `apart` aside, and ours / theirs."""
    rivals = {name: said for name, said in row["ways"].items() if name != OURS and not name.startswith(apart)}
    ours, times = row["ways"][OURS].get(way), {name: said[way]["median"] for name, said in rivals.items() if way in said}
    if not ours or not times:
        return None, float("nan")
    best = min(times, key=lambda name: times[name])
    return best, ours["median"] / times[best]


def count_bars(results: dict[str, Any]) -> tuple[int, int, int]:
    verdicts = [met for *_, met in every_bar(results)]
    return verdicts.count(True), verdicts.count(False), verdicts.count(None)


def wrong(results: dict[str, Any]) -> bool:
    """Whether something of ours failed or was wrong."""
    return any(row["ways"][OURS]["state"] != "timed" for size in ("S", "L") for row in results.get(size, {}).values())


def every_bar(results: dict[str, Any]) -> Iterable[tuple[str, str, str, bool | None]]:
    """name, bar, reached, met"""
    for size in ("S", "L"):
        for name, row in results.get(size, {}).items():
            for bar in row["bars"] if size == "S" else ():
                yield name, bar["text"], f"{bar['reached']:.3g} x" if bar["reached"] is not None else "-", bar["met"]
            peak = row["ways"][OURS].get("both", {}).get("bytes")
            if size == "S" and peak is not None and name in OPERATIONS:
                times = peak / row["input_bytes"]
                yield name, "memory of forward + backward: at most 10 x its inputs", f"{times:.2g} x", times <= 10
            yield from _everywhere(name, row)
    for whom, apart in BESIDE.items():
        for way, times in FASTER.items():
            if ratios := _ratios(results.get("S", {}), way, apart):
                mean = 1 / _mean(ratios)
                what = f"geometric mean of {len(ratios)} operations, {DIRECTIONS[way]}"
                yield what, f"at least {times} x faster than {whom}", f"{mean:.3g} x faster", mean >= times
    for name, row in results.get("steps", {}).get("rows", {}).items():
        if "met" in row:
            bar = f"at most {ALLOWED * 1e3:.1f} ms at d_model {D_MODEL}"
            yield f"{name}, one token", bar, f"{milliseconds(row['median'])} ms", row["met"]
    for name, row in results.get("growth", {}).items():
        if "failed" in row:
            yield f"{name}, growth", "time and memory linear in length", row["failed"], False
            continue
        found = {key: value for key, value in row["exponent"].items() if value is not None}
        for what, keys, allowed in (
            ("time", ("forward", "both"), max(1.1, found["copy"])),
            ("memory", ("forward_bytes", "both_bytes"), 1.1),
        ):
            if reached := [found[key] for key in keys if key in found]:
                bar = f"{what} linear in length: exponent at most {allowed:.2f}"
                yield f"{name}, growth", bar, f"{max(reached):.2f}", max(reached) <= allowed


def _everywhere(name: str, row: dict[str, Any]) -> Iterable[tuple[str, str, str, bool]]:
    """Bars that hold for operations of every size."""
    for way, times in FLOORS.items() if name in MATRIX_STATES else ():
        if ours := row["ways"][OURS].get(way):
            reached = ours["median"] / row["floor"][way]
            yield name, f"{DIRECTIONS[way]}: at most {times} x the floor", f"{reached:.1f} x", reached <= times
    if name in OPERATIONS:
        for way in DIRECTIONS:
            peer, ratio = against_best(row, way)
            if peer:
                yield name, f"{DIRECTIONS[way]}: slower than no peer", f"{speed(ratio)} {peer}".replace("*", ""), ratio <= 1


def _machine(results: dict[str, Any]) -> str:
    here, limits = results["machine"], results["limits"]
    rates = ", ".join(f"{rate / 1e9:.0f} GB/s at {size}" for size, rate in limits["bandwidth"].items())
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    command = "python -m benchmarks" + (" --large" if "L" in results else "")
    return (
        f"Made by `{command}` at {here['commit']} on {here['processor']} ({here['system']}, {here['simd']}), "
        f"{here['threads']} threads, float32.\n"
        f"Multiply-adds: {limits['flops'] / 1e9:.0f} GFLOP/s ({limits['how']}); bandwidth: {rates}.\n"
        f"Packages: {versions}, Python {here['python']}.\n"
    )


def _bars(results: dict[str, Any]) -> str:
    said = {True: "met", False: "**not met**", None: "no rival here"}
    return "## Bars\n\n" + _table(("what", "bar", "reached", "verdict"), [(n, b, r, said[met]) for n, b, r, met in every_bar(results)])


def _overview(rows: dict[str, Any]) -> str:
    lines = []
    for name, row in rows.items():
        ours = row["ways"][OURS]
        cells = [name]
        for way in ("forward", "both"):
            peer, ratio = against_best(row, way)
            cells += [
                milliseconds(ours[way]["median"]) if way in ours else ours["state"],
                f"{speed(ratio)} {peer}" if peer else "-",
                f"{ours[way]['median'] / row['floor'][way]:.1f}" if way in ours else "-",
            ]
        peer, ratio = against_best(row, "step")
        cells += [milliseconds(ours["step"]["median"]) if "step" in ours else "-", f"{speed(ratio)} {peer}" if peer else "-"]
        lines.append(tuple(cells))
    directions = [head for way in ("forward", "both") for head in (f"{DIRECTIONS[way]}, ms", "beside the fastest peer", "x floor")]
    return _table(("what", *directions, "one step, ms", "beside the fastest peer"), lines) + _means(rows)


def _means(rows: dict[str, Any]) -> str:
    said = []
    for whom, apart in BESIDE.items():
        for way in ("forward", "both"):
            if ratios := _ratios(rows, way, apart):
                slower = ", ".join(name for name, ratio in ratios.items() if ratio > 1) or "none"
                said.append(f"- {DIRECTIONS[way]}, {len(ratios)} operations: {speed(_mean(ratios))} {whom}; slower in {slower}")
    return "\nGeometric means:\n\n" + "\n".join(said) + "\n" if said else ""


def _ratios(rows: dict[str, Any], way: str, apart: tuple[str, ...]) -> dict[str, float]:
    """Ours / theirs of every operation that has a rival."""
    return {name: ratio for name, row in rows.items() if name in OPERATIONS for peer, ratio in [against_best(row, way, apart)] if peer}


def _mean(ratios: dict[str, float]) -> float:
    return math.exp(sum(map(math.log, ratios.values())) / len(ratios))


def _row(name: str, row: dict[str, Any]) -> str:
    shape = " ".join(f"{axis}{size}" for axis, size in row["shape"].items())
    lines = []
    for rival, said in row["ways"].items():
        if said["state"] != "timed":
            lines.append((rival, said["state"], said.get("why", ""), "", "", ""))
            continue
        cells = [rival, *(_both_times(said, way) for way in DIRECTIONS)]
        cells += [megabytes(said.get(way, {}).get("bytes")) for way in ("forward", "both")]
        lines.append(tuple(cells))
        if "called" in said:
            lines.append((CALLED, "-", "-", _both_times(said, "called"), "-", "-"))
    floor = ("floor", *(milliseconds(row["floor"][way]) for way in ("forward", "both")), "", "", "")
    heads = ("way", "forward, ms: median (least)", "forward + backward", "one step", "forward, MB", "forward + backward, MB")
    table = _table(heads, [*lines, floor])
    return f"### {name}\n\n{shape}; inputs {megabytes(row['input_bytes'])} MB\n\n{table}"


def _both_times(said: dict[str, Any], way: str) -> str:
    return f"{milliseconds(said[way]['median'])} ({milliseconds(said[way]['least'])})" if way in said else "-"


def _steps(rows: dict[str, Any]) -> str:
    lines = [
        (n, milliseconds(row["median"]), milliseconds(row["least"])) if row["state"] == "timed" else (n, row["state"], row["why"])
        for n, row in rows.items()
    ]
    table = _table(("layer", "median, ms", "least, ms"), lines)
    setting = (
        f"One sequence, d_model {D_MODEL}, no gradients, {AHEAD} tokens after {BEHIND} others. The first rows are the steps of a "
        f"`Stepper`; those called layer are the layer's own, inside `held()`: no parameter changes between steps."
    )
    return f"## One token\n\n{setting}\n\n{table}"


def _growth(rows: dict[str, Any]) -> str:
    rows = {name: row for name, row in rows.items() if "failed" not in row}
    if not rows:
        return ""
    lengths = next(iter(rows.values()))["lengths"]
    lines = []
    for name, row in rows.items():
        for key, label, unit in (
            ("forward", "forward, ms", milliseconds),
            ("both", "forward + backward, ms", milliseconds),
            ("copy", "a copy of the inputs, ms", milliseconds),
            ("both_bytes", "forward + backward, MB", megabytes),
            ("input_bytes", "inputs, MB", megabytes),
        ):
            if row[key]:
                exponent = row["exponent"].get(key)
                lines.append((name, label, *(unit(value) for value in row[key]), "" if exponent is None else f"{exponent:.2f}"))
    said = "Ours, one sequence; the exponent is from the shortest to the longest: 1 is linear. A copy of the inputs stands beside it."
    table = _table(("operation", "what", *(f"T {length}" for length in lengths), "exponent"), lines)
    return f"## Against length\n\n{said}\n\n{table}"


def _table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rows = [head, tuple("---" for _ in head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows) + "\n"


def speed(ratio: float) -> str:
    """ours / theirs, in words."""
    return f"{1 / ratio:.3g} x faster than" if ratio < 1 else f"**{ratio:.3g} x slower** than"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def megabytes(size: float | None) -> str:
    return "-" if size is None else f"{size / 1e6:.3g}"
