"""Sound files to train on: found by their headers, and read in parts.

Letters: T samples, C channels. Samples are float32 with full scale at 1.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math

import numpy as np
import soundfile
from absl import logging

from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files
from encodec_hk.system import file_errors
from encodec_hk.system import file_paths
from encodec_hk.system import file_search

_FILTER = 128  # samples, of the lower rate: how far soxr's HQ filter reaches, to 1e-6
_HEADERS = 16  # files opened at a time by `find`: they wait for disks
_WARNINGS = 5  # about single files, then a count
_UNKNOWN = 2**62  # libsndfile gives lengths near 2**63 to files whose end it does not find


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


def find(pattern: str) -> list[SoundFile]:
    """Finds the sound files of a folder and all below it, or of a glob (`**` for any folders).

    Files count by their suffix, `audio.READABLE`; hidden ones do not. Only headers are read. Those
    that cannot be read are left out with a warning each, a few, then their number.

    Returns:
      The files in the order of their paths, which is the same on every machine.

    Raises:
      ValueError: there is no such folder, or no file that can be read.
    """
    paths, unreadable = file_search.find(pattern, sound_files.READABLE)
    for line in unreadable:
        logging.warning("%s; the folder is left out", line)
    with concurrent.futures.ThreadPoolExecutor(_HEADERS) as pool:
        results = list(pool.map(_header, paths))
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


def _header(path: str) -> SoundFile | str:
    """The source, or in one line why there is none."""
    try:
        with open(path, "rb") as file, soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            if 0 < sound.frames < _UNKNOWN:
                return SoundFile(path, sound.frames, sound.samplerate, sound.channels)
            reason = "the file holds no samples"
    except (OSError, soundfile.LibsndfileError) as error:
        reason = file_errors.reason(error)
    return f"{file_paths.shown(path)}: {reason}"


def read_crop(
    source: SoundFile, start: int, *, sample_rate: int, channels: int, length: int
) -> np.ndarray:
    """Reads a part of a file, the same samples that resampling the whole of it would give.

    So that they are, a little more is read on both sides, where the file has it. Only that much
    of the file is decoded. (Within the filter's reach of the file's start this holds where `start`
    falls on a sample of the result; elsewhere silence comes before.)

    Args:
      source: the file.
      start: the first sample, counted at the file's own rate.
      sample_rate: Hz, of the result.
      channels: of the result; see `resampling.mix`.
      length: samples of the result; past the end of the file they are zero.

    Returns:
      float32 [length, C].

    Raises:
      OSError: the file cannot be opened.
      soundfile.LibsndfileError: it cannot be decoded.
      ValueError: it gives fewer samples than its header says, or NaN or infinity.
    """
    rate = source.sample_rate
    needed = -(-length * rate // sample_rate)
    before, after, dropped = 0, 0, 0  # margins at the file's rate; the first at the result's
    if rate != sample_rate:
        # The first margin is a whole number of samples at both rates: so the result falls on them.
        unit = rate // math.gcd(rate, sample_rate)
        after = math.ceil(_FILTER * max(1.0, rate / sample_rate))
        before = unit * min(-(-after // unit), start // unit)
        dropped = before * sample_rate // rate
    first, last = start - before, min(start + needed + after, source.num_frames)
    with (
        open(source.path, "rb") as file,
        soundfile.SoundFile(file.fileno(), closefd=False) as sound,
    ):
        sound.seek(first)
        samples = sound.read(last - first, dtype="float32", always_2d=True)
    if len(samples) != last - first:
        raise ValueError("the file ends before its header says")
    if not np.isfinite(samples).all():
        raise ValueError("samples are NaN or infinite")
    samples = resampling.mix(samples, channels)
    return resampling.resample(samples, rate, sample_rate, dropped + length)[dropped:]
