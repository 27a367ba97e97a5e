"""Sound files by PyAV, an optional package: what libsndfile does not read, and Opus faster."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from encodec_hk.blocks import step_queue
from encodec_hk.sound import truncation
from encodec_hk.system import extras
from encodec_hk.system import file_errors
from encodec_hk.system import file_paths

SUFFIXES = frozenset({".aac", ".m4a", ".m4b", ".mka", ".mp4", ".webm", ".wma"})
"""Suffixes of files that libsndfile does not read."""

_TOLERANCE = 0.25  # seconds by which the stated duration may exceed the decoded one


class AvReader:
    """Reads a sound file with PyAV, block by block; the interface is that of `SoundReader`.

    The decoder removes priming samples, so that the first sample is that of the original. Padding
    at the end is removed where the file says how much it is: in MP4 and Opus.

    Attributes:
      sample_rate: Hz.
      channels: C.
      num_samples: according to the file; None if it does not say.
      is_exact: False: durations are rounded.
    """

    is_exact = False

    def __init__(self, path: str | os.PathLike[str], file: BinaryIO):
        """Open a file.

        Args:
          path: a name for messages.
          file: to read from; closed by `close`.

        Raises:
          CutOffError: if the end of an Opus file is missing.
          ValueError: if it cannot be read, has no sound, or PyAV is not installed.
        """
        self._path = file_paths.shown(path)
        self._file = file
        self._av = pyav()
        self._waiting = step_queue.StepQueue()
        self._count = 0
        if where := truncation.find(file):
            raise truncation.CutOffError(f"{self._path}: cut off after {where}")
        self._container = self._try(lambda: self._av.open(file, "r"))
        if not self._container.streams.audio:
            self._container.close()
            raise ValueError(f"{self._path}: the file holds no sound")
        stream = self._container.streams.audio[0]
        self.sample_rate: int = stream.rate
        self.channels: int = stream.channels
        seconds = None
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        elif self._container.duration is not None:
            seconds = self._container.duration / self._av.time_base
        self.num_samples = None if seconds is None else round(seconds * self.sample_rate)
        self._pieces = self._decode(stream)

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._file.close()

    def skip(self, size: int) -> None:
        """Pass over samples; raises ValueError as `read`."""
        while size and (passed := len(self.read(min(size, self.sample_rate)))):
            size -= passed

    def read(self, size: int) -> np.ndarray:
        """Return the next `size` samples, float32 [T, C]; fewer at the end, then none.

        Raises:
          ValueError: if the file cannot be read, ends before the duration that it states, or holds
            NaN or infinity.
        """
        while len(self._waiting) < size:
            piece = self._try(lambda: next(self._pieces, None))
            if piece is None:
                self._check_length()
                break
            self._waiting.put(piece)
            self._count += len(piece)
        empty = np.zeros((0, self.channels), np.float32)
        samples = np.concatenate([empty, *self._waiting.take(size)])
        if not np.isfinite(samples).all():
            raise ValueError(f"{self._path}: the file holds samples that are NaN or infinite")
        return samples

    def _decode(self, stream: Any) -> Iterator[np.ndarray]:
        resampler = self._av.AudioResampler(format="fltp")  # keeps rate and channels
        held: list[np.ndarray] = []
        stated = 0  # samples of the held frame that are sound; 0 if the file does not say
        for frame in self._container.decode(stream):
            yield from held
            held = []
            for part in resampler.resample(frame):
                samples = part.to_ndarray().T
                if samples.shape[1] != self.channels:
                    raise ValueError(f"{self._path}: the number of channels changes")
                held.append(np.ascontiguousarray(samples, np.float32))
            is_exact = frame.time_base is not None and frame.time_base * self.sample_rate == 1
            stated = frame.duration if is_exact and frame.duration else 0
        # The encoder padded the last frame. MP4 files say how much of it is sound.
        for samples in held:
            yield samples[: stated or None]

    def _check_length(self) -> None:
        if self.num_samples is None:
            return
        if self._count < self.num_samples - _TOLERANCE * self.sample_rate:
            found = f"{self._count} of {self.num_samples} samples"
            raise ValueError(f"{self._path}: damaged, ends after {found}")
        if not self._count:
            raise ValueError(f"{self._path}: the file holds no samples")

    def _try(self, call: Any) -> Any:
        """Return what a call returns; FFmpeg's errors become ValueErrors, the system's stay."""
        try:
            return call()
        except self._av.FFmpegError as error:
            if isinstance(error, OSError) and error.errno in errno.errorcode:
                raise OSError(error.errno, error.strerror, self._path) from error
            raise ValueError(f"{self._path}: {file_errors.reason(error)}") from error


def pyav() -> Any:
    """Return PyAV; raise ValueError if it is not installed."""
    try:
        return extras.require("av", "tokens")
    except ValueError as error:
        raise ValueError("m4a, webm and --decoder=av need PyAV: pip install av") from error
