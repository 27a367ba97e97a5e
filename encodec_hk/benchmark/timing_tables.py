"""Benchmark figures as text for a terminal, or as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from encodec_hk.benchmark import implementations
from encodec_hk.system import columns

Rows = list[list[str]]


def text(figures: Mapping[str, Any]) -> str:
    """Return all figures as aligned columns."""
    return "\n\n".join(_paragraphs(figures, columns.aligned))


def markdown(figures: Mapping[str, Any]) -> str:
    """Return all figures as Markdown."""
    return "\n\n".join(_paragraphs(figures, _piped)) + "\n"


def shortfalls(
    cases: Sequence[Mapping[str, Any]], min_ratios: Sequence[tuple[str, str, float, int, float]]
) -> list[str]:
    """Return a line for each case whose ratio is below its minimum.

    Args:
      cases: yielded by `measurements.whole`.
      min_ratios: (reference, direction, seconds, batch, minimum ratio); ignored where no case
        matches.
    """
    lines = []
    for kind, direction, seconds, batch, minimum in min_ratios:
        for case in cases:
            key = (case["direction"], case["seconds"], case["batch"])
            ratio = case["ratio"].get(kind, math.inf)
            if key == (direction, seconds, batch) and ratio < minimum:
                lines.append(
                    f"{direction} {seconds:g} s x {batch}: {ratio:.2f} times as fast as {kind}, "
                    f"must be at least {minimum:g}"
                )
    return lines


def _paragraphs(figures: Mapping[str, Any], form: Callable[[Rows], str]) -> Iterator[str]:
    yield _heading(figures)
    for name, tables in _TABLES:
        if name in figures:
            yield from map(form, tables(figures))
    if "start" in figures:
        start = figures["start"]
        yield (
            f"run.py infer, 2 s of sound, process start to end: {start['first']:.1f} s with "
            f"nothing compiled before, {start['second']:.1f} s after that"
        )


def _heading(figures: Mapping[str, Any]) -> str:
    """Return a line that names the variant, its settings, the machine and the versions."""
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    line = (
        f"{figures['name']}, {figures['kbps']:g} kbps, {figures['weights']} weights; "
        f"{figures['machine']}, threads: {figures['threads']}; {versions}"
    )
    if (peak := figures.get("matrix_multiply_adds")) is not None:
        line += f"; float32 matrix products: {2 * peak / 1e9:.0f} GFLOP/s"
    return line


def _whole(figures: Mapping[str, Any]) -> list[Rows]:
    """Return a table of speed and memory; two, if one beside several references is too wide."""
    references = list(figures["whole"][0]["ratio"])
    is_split = len(references) > 1

    def beside(text: str) -> list[str]:
        return [] if is_split else [text]

    speed = [["", "ours", "x real time", "of the peak", *beside("memory")]]
    for name in references:
        speed[0] += [name, *beside("memory"), "ratio"]
    memory = [["memory", "ours", *references]]
    for case in sorted(figures["whole"], key=lambda case: case["direction"], reverse=True):
        name = f"{case['direction']} {case['seconds']:g} s x {case['batch']}"
        own = case["median"][implementations.OURS]
        peak = case["multiply_adds"] / own / figures["matrix_multiply_adds"]
        sizes = {kind: _size(size) for kind, size in case["memory"].items()}
        row = [name, _time(own), f"{case['real_time']:.1f}", f"{peak:.0%}"]
        row += beside(sizes[implementations.OURS])
        for kind in references:
            row += [_time(case["median"][kind]), *beside(sizes[kind]), f"{case['ratio'][kind]:.2f}"]
        speed.append(row)
        memory.append([name, sizes[implementations.OURS], *(sizes[kind] for kind in references)])
    return [speed, memory] if is_split else [speed]


def _layers(figures: Mapping[str, Any]) -> list[Rows]:
    by_batch: dict[int, list[dict[str, Any]]] = {}
    for layer in figures["layers"]:
        by_batch.setdefault(layer["batch"], []).append(layer)
    head = [f"layers of a block of {figures['block_seconds']:.3g} s"]
    for batch in by_batch:
        head += [f"{batch} row{'s' * (batch > 1)}", "of the peak"]
    rows = [head]
    for same in zip(*by_batch.values(), strict=True):
        row = [same[0]["name"]]
        for layer in same:
            share = layer["multiply_adds"] / layer["seconds"] / figures["matrix_multiply_adds"]
            row += [_time(layer["seconds"]), f"{share:.0%}" if share else "-"]
        rows.append(row)
    return [rows]


def _stream(figures: Mapping[str, Any]) -> list[Rows]:
    stream = figures["stream"]
    length = stream["ms_of_a_push"]
    rows = [[f"pushes of {length:.4g} ms, {stream['pushes']}", "median", "99 %", "x real time"]]
    for name in ("encode", "decode"):
        median, late = stream[name]["median_ms"], stream[name]["p99_ms"]
        rows.append([name, f"{median:.2f} ms", f"{late:.2f} ms", f"{length / median:.1f}"])
    return [rows]


def _tokenize(figures: Mapping[str, Any]) -> list[Rows]:
    rows = [["tokenize, x real time", "encode alone", "tokenize", "ratio", "device waited"]]
    for case in figures["tokenize"]:
        name = f"{case['format']} {case['sample_rate'] / 1000:g} kHz x {case['channels']}, "
        name += f"{case['items']} x 10 s, batch {case['batch']}"
        name += f", {case['readers']} reader{'s' * (case['readers'] != 1)}"
        rates = [f"{case[kind]:.1f}" for kind in ("encode", "tokenize")]
        rows.append([name, *rates, f"{case['ratio']:.2f}", f"{case['device_waited']:.0%}"])
    return [rows]


_TABLES = (
    ("whole", _whole),
    ("layers", _layers),
    ("stream", _stream),
    ("tokenize", _tokenize),
)


def _time(seconds: float) -> str:
    """Format a time with three digits."""
    number, unit = (seconds, "s") if seconds >= 1 else (1000 * seconds, "ms")
    return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f} {unit}"


def _size(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:,.0f} MB"


def _piped(rows: Rows) -> str:
    rule = ["---"] + ["---:"] * (len(rows[0]) - 1)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, f"|{'|'.join(rule)}|")
    return "\n".join(lines)
