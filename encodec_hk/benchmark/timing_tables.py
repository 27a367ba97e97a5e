"""Benchmark figures as text for a terminal, or as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from encodec_hk.benchmark import implementations
from encodec_hk.system import columns

Rows = list[tuple[str, ...]]


def text(figures: Mapping[str, Any]) -> str:
    """Return all figures as aligned columns."""
    return "\n\n".join(_paragraphs(figures, columns.aligned))


def markdown(figures: Mapping[str, Any]) -> str:
    """Return all figures as Markdown."""
    return "\n\n".join(_paragraphs(figures, _piped)) + "\n"


def _paragraphs(figures: Mapping[str, Any], form: Any) -> Iterator[str]:
    yield heading(figures)
    if "whole" in figures:
        yield form(_whole(figures))
    if "layers" in figures:
        yield form(_layers(figures))
    if "stream" in figures:
        yield form(_stream(figures["stream"]))
    if "start" in figures:
        start = figures["start"]
        yield (
            f"run.py infer, 2 s of sound, process start to end: {start['first']:.1f} s with "
            f"nothing compiled before, {start['second']:.1f} s after that"
        )


def heading(figures: Mapping[str, Any]) -> str:
    """Return a line that names the variant, its settings, the machine and the versions."""
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    line = (
        f"{figures['name']}, {figures['kbps']:g} kbps, {figures['weights']} weights; "
        f"{figures['machine']}, threads: {figures['threads']}; {versions}"
    )
    peak = figures.get("matrix_multiply_adds")
    if peak is not None:
        line += f"; float32 matrix products: {2 * peak / 1e9:.0f} GFLOP/s"
    return line


def _whole(figures: Mapping[str, Any]) -> Rows:
    references = list(figures["whole"][0]["ratio"])
    head = ["", "ours", "x real time", "of the peak", "memory"]
    for name in references:
        head += [name, "memory", "ratio"]
    rows = [tuple(head)]
    for case in sorted(figures["whole"], key=lambda case: case["direction"], reverse=True):
        own = case["median"][implementations.OURS]
        row = [
            f"{case['direction']} {case['seconds']:g} s x {case['batch']}",
            _time(own),
            f"{case['real_time']:.1f}",
            f"{case['multiply_adds'] / own / figures['matrix_multiply_adds']:.0%}",
            _size(case["memory"][implementations.OURS]),
        ]
        for name in references:
            memory = _size(case["memory"][name])
            row += [_time(case["median"][name]), memory, f"{case['ratio'][name]:.2f}"]
        rows.append(tuple(row))
    return rows


def _layers(figures: Mapping[str, Any]) -> Rows:
    by_batch: dict[int, list[dict[str, Any]]] = {}
    for layer in figures["layers"]:
        by_batch.setdefault(layer["batch"], []).append(layer)
    head = [f"layers of a block of {figures['block_seconds']:.3g} s"]
    for batch in by_batch:
        head += [f"{batch} row{'s' * (batch > 1)}", "of the peak"]
    rows = [tuple(head)]
    for same in zip(*by_batch.values(), strict=True):
        row = [same[0]["name"]]
        for layer in same:
            share = layer["multiply_adds"] / layer["seconds"] / figures["matrix_multiply_adds"]
            row += [_time(layer["seconds"]), f"{share:.0%}" if share else "-"]
        rows.append(tuple(row))
    return rows


def _stream(stream: Mapping[str, Any]) -> Rows:
    length = stream["ms_of_a_push"]
    head = (f"pushes of {length:.4g} ms, {stream['pushes']}", "median", "99 %", "x real time")
    rows: Rows = [head]
    for name in ("encode", "decode"):
        median, late = stream[name]["median_ms"], stream[name]["p99_ms"]
        rows.append((name, f"{median:.2f} ms", f"{late:.2f} ms", f"{length / median:.1f}"))
    return rows


def _time(seconds: float) -> str:
    """Format a time with three digits."""
    if seconds >= 1:
        return f"{seconds:.{2 if seconds < 10 else 1 if seconds < 100 else 0}f} s"
    ms = 1000 * seconds
    return f"{ms:.{2 if ms < 10 else 1 if ms < 100 else 0}f} ms"


def _size(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:,.0f} MB"


def _piped(rows: Rows) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    head, *rest = rows
    rule = "|" + "|".join(["---"] + ["---:"] * (len(head) - 1)) + "|"
    return "\n".join([line(head), rule, *map(line, rest)])
