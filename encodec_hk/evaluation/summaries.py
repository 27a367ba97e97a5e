"""From rows to means with intervals, and the files that hold both."""

from __future__ import annotations

import csv
import io
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from encodec_hk.evaluation import results
from encodec_hk.system import part_file

ALL = "all"  # the group of all files
_RESAMPLES = 2000
_LEVEL = 0.95
_COLUMNS = ("file", "group", "codec", "is_speech", "kbps", "seconds")


def means(rows: Sequence[results.Row]) -> dict[str, Any]:
    """`means` of `results.Summary`: of every group, codec and rate, and of all files.

    Means are over files, each counting once, whatever its length; files that lack a measure are
    left out of its mean.
    """
    found: dict[str, Any] = {ALL: {}}
    for row in rows:
        for group in dict.fromkeys((ALL, row["group"])):
            cells = found.setdefault(group, {}).setdefault(row["codec"], {})
            cell = cells.setdefault(f"{row['kbps']:g}", {})
            for measure in results.MEASURES:
                if math.isfinite(row.get(measure, math.nan)):
                    cell.setdefault(measure, []).append(row[measure])
    for codecs in found.values():
        for cells in codecs.values():
            for cell in cells.values():
                cell.update({name: interval(values) for name, values in cell.items()})
    return found


def interval(values: Sequence[float]) -> dict[str, float | int]:
    """The mean of values and its 95 % interval by bootstrap: mean, low, high, count.

    The percentile method, on 2000 resamples of the values, drawn alike at every call. Of one value,
    low and high are the value itself: nothing can be said. Of less than about ten they are too near
    to each other.
    """
    samples = np.asarray(values, np.float64)
    rng = np.random.default_rng(0)
    step = max(1, 2**22 // len(samples))
    drawn = [
        rng.choice(samples, (min(step, _RESAMPLES - start), len(samples))).mean(axis=1)
        for start in range(0, _RESAMPLES, step)
    ]
    low, high = np.quantile(np.concatenate(drawn), ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2))
    return {
        "mean": float(samples.mean()),
        "low": float(low),
        "high": float(high),
        "count": len(samples),
    }


def untaken(found: dict[str, list[str]]) -> list[str]:
    """A line for every measure that could not be taken of some rows, with the first reason."""
    return [
        f"{results.MEASURES[measure].label}: not of {len(reasons)} rows, such as {reasons[0]}"
        for measure, reasons in found.items()
    ]


def write_rows(path: pathlib.Path, rows: Sequence[results.Row]) -> None:
    """Writes metrics.csv: a line per file, codec and rate; what is missing is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, (*_COLUMNS, *results.MEASURES), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {name: f"{v:.9g}" if isinstance(v, float) else v for name, v in row.items()}
        )
    _write(path, text.getvalue())


def write_summary(path: pathlib.Path, summary: results.Summary) -> None:
    """Writes summary.json."""
    _write(path, json.dumps(summary, indent=1, allow_nan=False) + "\n")


def _write(path: pathlib.Path, text: str) -> None:
    part = part_file.PartFile(path)
    part.file.write(text.encode("utf-8", "replace"))
    part.commit()
