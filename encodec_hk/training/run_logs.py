"""The logs of a run: CSV tables, TensorBoard, and means of metrics."""

from __future__ import annotations

import csv
import io
import math
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import tensorboardX

from encodec_hk.sound import spectra
from encodec_hk.system import part_file

TABLES = ("metrics", "validation")


class Logs:
    """The logs in the folder of a run: `metrics.csv`, `validation.csv` and `tensorboard/`.

    Rows after the step from which a run resumes are dropped, so that a killed run leaves the same
    files as an undisturbed one.
    """

    def __init__(self, workdir: pathlib.Path, step: int):
        """Open the logs of a run after `step` steps."""
        self._workdir = workdir
        self._columns = {table: _drop_after(workdir / f"{table}.csv", step) for table in TABLES}
        self._board = tensorboardX.SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    def add_row(self, table: str, step: int, values: Mapping[str, float]) -> None:
        """Add a row to one of TABLES; a new name in `values` becomes a column of all rows."""
        for name, value in values.items():
            self._board.add_scalar(f"{table}/{name}", value, step)
        path, row = self._workdir / f"{table}.csv", {"step": step, **values}
        columns = self._columns[table]
        added = [name for name in row if name not in columns]
        if added:
            columns += added
            _write(path, columns, [*_read(path)[0], row])
            return
        with path.open("a", newline="") as file:
            csv.DictWriter(file, columns, restval="").writerow(row)

    def add_sound(self, name: str, step: int, audio: np.ndarray, sample_rate: int) -> None:
        """Add audio [T, C] and its spectrogram to TensorBoard."""
        self._board.add_audio(name, np.clip(audio, -1, 1), step, sample_rate)
        self._board.add_image(f"{name}/spectrogram", picture(audio), step, dataformats="HW")

    def flush(self) -> None:
        """Write buffered TensorBoard events to disk."""
        self._board.flush()

    def close(self) -> None:
        """Close the logs."""
        self._board.close()


class Meter:
    """Means of the metrics of the steps since the last row of the log, and the speed."""

    def __init__(self, samples_per_step: int):
        """Start before the first step.

        Args:
          samples_per_step: samples of a batch, of all devices.
        """
        self._samples = samples_per_step
        self._metrics: list[Mapping[str, jax.Array]] = []
        self._began: float | None = None
        self._steps = 0

    def restart(self) -> None:
        """Exclude the time until the next step from the speed."""
        self._began = None

    def add(self, metrics: Mapping[str, jax.Array]) -> None:
        """Add the metrics of a step."""
        self._metrics.append(metrics)
        if self._began is None:  # a first step compiles: measure from its end
            jax.block_until_ready(metrics)
            self._began, self._steps = time.perf_counter(), 0
        else:
            self._steps += 1

    def take(self, sample_rate: int) -> dict[str, float]:
        """Return the means since the last call, and seconds of audio per second."""
        metrics = jax.device_get(self._metrics)
        elapsed = time.perf_counter() - (self._began or math.nan)
        values: dict[str, float] = {}
        for name in sorted(set().union(*metrics)):  # some metrics are missing in some steps
            if name == "is_finite":
                continue
            found = [row[name] for row in metrics if name in row]
            mean = np.mean(found, axis=0)
            if mean.ndim:
                values |= {f"{name}/{index}": float(v) for index, v in enumerate(mean)}
            else:
                values[name] = float(mean)
        if self._steps:
            values["audio_per_second"] = self._steps * self._samples / sample_rate / elapsed
        self._metrics, self._steps, self._began = [], 0, time.perf_counter()
        return values


def picture(audio: np.ndarray, window: int = 512) -> np.ndarray:
    """Return a spectrogram of audio [T, C] as an image, uint8 [bins, frames].

    White is the largest magnitude; see `spectra.levels`.
    """
    mono = audio.mean(axis=1)
    mono = np.pad(mono, (0, max(0, window - len(mono))))
    windows = np.lib.stride_tricks.sliding_window_view(mono, window)[:: window // 4]
    magnitude = np.abs(np.fft.rfft(windows * np.hanning(window), axis=1)).T
    decibels = 20 * np.log10(np.maximum(magnitude, 1e-9) / max(magnitude.max(), 1e-9))
    return spectra.levels(decibels, top=0.0)


def _drop_after(path: pathlib.Path, step: int) -> list[str]:
    """Drop the rows after a step and an incomplete last row; return the columns."""
    rows, columns = _read(path)
    is_incomplete = bool(rows) and not path.read_bytes().endswith(b"\n")
    complete = rows[: len(rows) - is_incomplete]
    kept = [row for row in complete if int(row["step"]) <= step]
    if len(kept) < len(rows):
        _write(path, columns, kept)
    return columns


def _read(path: pathlib.Path) -> tuple[list[Mapping[str, Any]], list[str]]:
    if not path.exists():
        return [], []
    with path.open(newline="") as file:
        reader = csv.DictReader(file, restval="")
        return list(reader), list(reader.fieldnames or [])


def _write(path: pathlib.Path, columns: list[str], rows: list[Mapping[str, Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    part_file.write(path, text.getvalue().encode())
