"""Sound files to train on: found by their headers, and read in crops.

Shapes: T samples, C channels. Samples are float32 with full scale at 1.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math

import numpy as np
import soundfile
from absl import logging

from encodec_hk.sound import file_formats
from encodec_hk.sound import resampling
from encodec_hk.system import file_errors
from encodec_hk.system import file_paths

_FILTER = 128  # samples of the lower rate: the reach of soxr's HQ filter, to 1e-6
_LEAD = 1.0  # seconds that an MP3 file is decoded before a part: sound of 8 kbps is spread as far
_OPEN_FILES = 16  # at a time in `scan`, which waits for disks
_WARNINGS = 5  # about single files, then a count
_UNKNOWN = 2**62  # libsndfile gives lengths near 2**63 to files whose end it does not find
_HOLD_OUT = 20  # one file in so many is held out
FEWEST_TO_HOLD_OUT = _HOLD_OUT // 2 + 1
"""Of fewer files none is held out."""


@dataclasses.dataclass(frozen=True)
class SoundFile:
    """A sound file, as its header describes it.

    Attributes:
      path: of the file.
      num_frames: samples per channel, at least 1.
      sample_rate: Hz.
      channels: of the file.
    """

    path: str
    num_frames: int
    sample_rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """The duration."""
        return self.num_frames / self.sample_rate


def scan(pattern: str) -> list[SoundFile]:
    """Find sound files in a folder and all below it, or by a glob, and read their headers.

    Files are chosen by suffix (`file_formats.READABLE`); hidden files are ignored. Unreadable files
    are left out, with a warning for each of the first few, then one with their number.

    Returns:
      The files in the order of their paths, which is the same on every machine.

    Raises:
      ValueError: if there is no sound file, or none can be read.
    """
    paths, unreadable = file_paths.find(pattern, file_formats.READABLE)
    for line in unreadable:
        logging.warning("%s; the folder is left out", line)
    with concurrent.futures.ThreadPoolExecutor(_OPEN_FILES) as pool:
        results = list(pool.map(_read_header, paths))
    errors = [result for result in results if isinstance(result, str)]
    for error in errors[:_WARNINGS]:
        logging.warning("%s; the file is left out", error)
    if len(errors) > _WARNINGS:
        logging.warning("%d files that cannot be read are left out", len(errors))
    sources = [result for result in results if isinstance(result, SoundFile)]
    if not sources:
        reason = f"none of {len(errors)} sound files can be read" if errors else "no sound files"
        raise ValueError(f"{file_paths.shown(pattern)}: {reason}")
    return sources


def scan_both(data: str, validation: str | None) -> tuple[list[SoundFile], list[SoundFile]]:
    """Return the files to train on and those to validate on, found as by `scan`.

    Args:
      data: of the files to train on.
      validation: of those to validate on; if None, every 20th file of `data` is held out.
    """
    sources = scan(data)
    if validation is not None:
        return sources, scan(validation)
    held_out = sources[FEWEST_TO_HOLD_OUT - 1 :: _HOLD_OUT]
    del sources[FEWEST_TO_HOLD_OUT - 1 :: _HOLD_OUT]
    return sources, held_out


def _read_header(path: str) -> SoundFile | str:
    """Read a header; return "PATH: REASON" if the file is unreadable or empty."""
    try:
        with (
            file_errors.as_value_error(path, soundfile.LibsndfileError, ValueError),
            open(path, "rb") as file,
            soundfile.SoundFile(file.fileno(), closefd=False) as sound,
        ):
            if not 0 < sound.frames < _UNKNOWN:
                raise ValueError("the file holds no samples")
            return SoundFile(path, sound.frames, sound.samplerate, sound.channels)
    except ValueError as error:
        return str(error)


def read_crop(
    source: SoundFile, start: int, *, sample_rate: int, channels: int, length: int
) -> np.ndarray:
    """Read and resample a part of a file: the same samples as in the whole file resampled.

    Only the part is decoded, with margins for the filter if the file has them. (Within the filter's
    reach of the start of the file, samples are the same only if `start` falls on a sample of the
    result; otherwise silence is assumed before the part.)

    Args:
      source: the file.
      start: first sample, at the file's rate.
      sample_rate: Hz, of the result.
      channels: of the result; see `resampling.mix`.
      length: samples of the result; those past the end of the file are zero.

    Returns:
      float32 [length, C].

    Raises:
      ValueError: if the file cannot be read, has fewer samples than its header says, or holds NaN
        or infinity.
    """
    rate = source.sample_rate
    needed = -(-length * rate // sample_rate)
    before, after, dropped = 0, 0, 0  # margins at the file's rate; the first at the result's
    if rate != sample_rate:
        # The first margin is a whole number of samples at both rates, so that samples coincide.
        unit = rate // math.gcd(rate, sample_rate)
        after = math.ceil(_FILTER * max(1.0, rate / sample_rate))
        before = unit * min(-(-after // unit), start // unit)
        dropped = before * sample_rate // rate
    first, last = start - before, min(start + needed + after, source.num_frames)
    with (
        file_errors.as_value_error(source.path, soundfile.LibsndfileError, ValueError),
        open(source.path, "rb") as file,
        soundfile.SoundFile(file.fileno(), closefd=False) as sound,
    ):
        lead = min(first, round(_LEAD * rate)) if sound.subtype.startswith("MPEG") else 0
        sound.seek(first - lead)
        samples = sound.read(lead + last - first, dtype="float32", always_2d=True)[lead:]
        if len(samples) != last - first:
            raise ValueError("the file ends before its header says")
        if not np.isfinite(samples).all():
            raise ValueError("samples are NaN or infinite")
    samples = resampling.mix(samples, channels)
    return resampling.resample(samples, rate, sample_rate, dropped + length)[dropped:]
