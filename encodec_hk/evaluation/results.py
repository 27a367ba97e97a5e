"""The results of an evaluation: rows of measures, a summary of them, and items to listen to.

A row holds the measures of one file with one codec at one bitrate. A measure that does not apply
(PESQ of music) or could not be taken is missing from the row, or NaN.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from encodec_hk.evaluation import measures
from encodec_hk.system import part_file

ALL = "all"  # the group of all files
_RESAMPLES = 2000
_COLUMNS = ("file", "group", "codec", "is_speech", "kbps", "seconds")

Row = dict[str, Any]
"""file, group, codec (strings), is_speech (bool), kbps and seconds (float), then measures."""

Summary = dict[str, Any]
"""What summary.json holds:

  means      {group: {codec: {kbps: {measure: {mean, low, high, count}}}}}; the group "all" has all
             files; kbps as text ("1.5"); low and high bound a 95 % bootstrap interval
  codecs     {codec: {"kind": "encodec" | "opus" | "mp3", ...}}, facts about each
  codebooks  {codec: {kbps: [{entropy, perplexity, used, dead}, ...]}}, for EnCodec models
  missing    [line, ...], unavailable measures and codecs, with the command that installs them
  failed     {file: reason}
  parity     {codec: {...}} with --compare, else empty
  machine    the processor's name
"""


@dataclasses.dataclass(frozen=True)
class Rendition:
    """A file after a codec, of the original's length and sample rate; names as in rows."""

    codec: str
    kbps: float
    samples: np.ndarray  # float32 [T, C]


@dataclasses.dataclass(frozen=True)
class Item:
    """A file to listen to, with its renditions in the order of the table; names as in rows."""

    file: str
    group: str
    sample_rate: int
    original: np.ndarray  # float32 [T, C]
    renditions: tuple[Rendition, ...]


def means(rows: Sequence[Row]) -> dict[str, Any]:
    """Return `means` of `Summary`: for every group, codec and bitrate, and for all files.

    Every file counts once, whatever its length. Files without a measure do not enter its mean.
    """
    found: dict[str, Any] = {ALL: {}}
    for row in rows:
        for group in dict.fromkeys((ALL, row["group"])):
            cells = found.setdefault(group, {}).setdefault(row["codec"], {})
            cell = cells.setdefault(f"{row['kbps']:g}", {})
            for measure in measures.MEASURES:
                if math.isfinite(row.get(measure, math.nan)):
                    cell.setdefault(measure, []).append(row[measure])
    for codecs in found.values():
        for cells in codecs.values():
            for cell in cells.values():
                cell.update({name: interval(values) for name, values in cell.items()})
    return found


def interval(values: Sequence[float]) -> dict[str, float | int]:
    """Return mean, low, high and count of values; low and high bound the mean with 95 %.

    The interval is a percentile bootstrap of 2000 resamples, drawn with one seed. With fewer than
    about ten values it is too narrow; with one, it is the value itself.
    """
    samples = np.asarray(values, np.float64)
    count = len(samples)
    rng = np.random.default_rng(0)
    step = max(1, 2**22 // count)  # bounds the memory
    drawn = [
        rng.choice(samples, (min(step, _RESAMPLES - start), count)).mean(axis=1)
        for start in range(0, _RESAMPLES, step)
    ]
    low, high = np.quantile(np.concatenate(drawn), (0.025, 0.975))
    return {"mean": float(samples.mean()), "low": float(low), "high": float(high), "count": count}


def unmeasured_lines(unmeasured: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a line for every measure that some rows lack, with the first reason."""
    return [
        f"{measures.MEASURES[name].label}: missing from {len(reasons)} rows, such as {reasons[0]}"
        for name, reasons in unmeasured.items()
    ]


def write_rows(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Write metrics.csv: a line per row; a missing measure is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, (*_COLUMNS, *measures.MEASURES), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {name: f"{v:.9g}" if isinstance(v, float) else v for name, v in row.items()}
        )
    part_file.write(path, text.getvalue().encode("utf-8", "replace"))


def write_summary(path: pathlib.Path, summary: Summary) -> None:
    """Write summary.json."""
    text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
    part_file.write(path, text.encode("utf-8", "replace"))
