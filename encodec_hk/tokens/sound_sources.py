"""The audio of an item: found, decoded, mixed and resampled, piece by piece at constant memory.

Runs in reader processes, so without JAX.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import io
import os
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import soundfile

from encodec_hk.blocks import step_queue
from encodec_hk.sound import foreign_formats
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files
from encodec_hk.system import file_errors
from encodec_hk.tokens import av_sounds
from encodec_hk.tokens import containers
from encodec_hk.tokens import item_table
from encodec_hk.tokens import open_sounds
from encodec_hk.tokens import urls

POLICIES = ("mean", "split", "first")
DECODERS = ("soundfile", "av")
RESAMPLING = "soxr HQ"

# What is wrong with a name or a file; all other errors of the system say nothing about it. File
# systems of fsspec raise these types without numbers.
_FAULTS_OF_FILES = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_NUMBERS_OF_FILES = (errno.ENAMETOOLONG, errno.ELOOP)
_SYSTEM = 2  # libsndfile's code
_SHORT = 0.01  # seconds that an excerpt may lack, for rounded durations
_MOST_AT_ONCE = 2**20  # float32 values of an excerpt that is read at once: 43 s at 24 kHz


@dataclasses.dataclass(frozen=True)
class ReadSettings:
    """How audio is read.

    Attributes:
      base: folder or URL that the paths of items are relative to.
      sample_rate: Hz, of the model.
      channels: of the model.
      policy: "mean" mixes the channels, "split" takes each on its own, "first" the first alone.
      min_seconds, max_seconds: items outside are skipped; None for any length.
      decoder: "av" reads Opus with PyAV.
    """

    base: str
    sample_rate: int
    channels: int
    policy: str = "mean"
    min_seconds: float | None = None
    max_seconds: float | None = None
    decoder: str = "soundfile"


class SystemFault(Exception):  # noqa: N818, what failed is not the program
    """The system failed, such as a disk or a network; the item is not to blame."""


class SkippedItem(Exception):  # noqa: N818, not an error
    """An item is shorter or longer than the settings allow."""


class SoundSource:
    """The audio of an item, at the model's sample rate.

    Attributes:
      source_rate, source_channels: of the source.
      width: columns of what `take` returns: the model's channels, or with "split" the source's.
    """

    def __init__(
        self,
        item: item_table.AudioItem,
        settings: ReadSettings,
        waiting: open_sounds.OpenSounds | None = None,
    ):
        """Open an item.

        Args:
          item: the item.
          settings: how to read it.
          waiting: readers of files, to take that of an excerpt from, and to put it back.

        Raises:
          ValueError: if it cannot be decoded.
          SystemFault: if the system fails.
          SkippedItem: if its length is known, and not allowed.
        """
        self._item, self._settings = item, settings
        self._waiting = None if item.duration is None else waiting
        sound = self._waiting and self._waiting.take(item.path, item.offset or 0.0)
        with _faults(item):
            self._reader = sound.reader if sound else _open(item, settings)
        self._closing = contextlib.ExitStack()
        self._closing.callback(self._reader.close)
        self.source_rate, self.source_channels = self._reader.sample_rate, self._reader.channels
        self._stated = self._reader.num_samples
        is_split = settings.policy == "split"
        self.width = self.source_channels if is_split else settings.channels
        self._resampler = resampling.Resampler(self.source_rate, settings.sample_rate, self.width)
        self._queue = step_queue.StepQueue()
        self._position = sound.position if sound else 0  # of the reader
        self._count = 0  # samples of the item, at the source's rate
        self._has_ended = False
        self._left: int | None = None
        try:
            if item.duration is not None:
                self._left = round(item.duration * self.source_rate)
                self._check_allowed(self._left)
            start = round((item.offset or 0.0) * self.source_rate)
            if start > self._position:
                with _faults(item):
                    self._reader.skip(start - self._position)
                self._position = start
            if self._is_short_excerpt():
                # The next excerpt can then go on where this one ends.
                while not self._has_ended:
                    self._advance()
            if self._reader.is_exact and item.offset is None and self._stated is not None:
                self._check_allowed(self._stated)
        except BaseException as error:
            if isinstance(error, SkippedItem):
                self._put_back()
            self.close()
            raise

    def take(self, into: np.ndarray) -> tuple[int, bool]:
        """Put the next samples into float32 [T, width].

        Returns:
          How many samples there are, fewer than T at the end, and whether the item ends there.

        Raises:
          ValueError, SystemFault, SkippedItem: as `__init__`.
        """
        while not self._has_ended and len(self._queue) <= len(into):
            self._advance()
        count = 0
        for piece in self._queue.take(len(into)):
            into[count : count + len(piece)] = piece
            count += len(piece)
        return count, self._has_ended and not len(self._queue)

    def close(self) -> None:
        """Close the source."""
        self._closing.close()

    def _advance(self) -> None:
        """Read up to a second."""
        count = self.source_rate if self._left is None else min(self._left, self.source_rate)
        with _faults(self._item):
            samples = self._reader.read(count) if count else np.zeros((0, self.source_channels))
        self._count += len(samples)
        self._position += len(samples)
        if self._left is not None:
            self._left -= len(samples)
        if len(samples):
            if self._settings.max_seconds is not None:
                self._check_not_longer(self._count)
            self._queue.put(self._resampler.push(self._mix(samples)))
            return
        self._has_ended = True
        self._put_back()
        self._check_end()
        self._queue.put(self._resampler.finish())

    def _is_short_excerpt(self) -> bool:
        seconds = self._item.duration
        if seconds is None:
            return False
        return seconds * self._settings.sample_rate * self.width <= _MOST_AT_ONCE

    def _put_back(self) -> None:
        """Let the reader wait for the next excerpt of its file."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._closing.pop_all()
            waiting.put(open_sounds.OpenSound(self._item.path, self._reader, self._position))

    def _mix(self, samples: np.ndarray) -> np.ndarray:
        settings = self._settings
        if settings.policy == "split":
            return samples
        if settings.policy == "first":
            samples = samples[:, :1]
        return resampling.mix(samples, settings.channels)

    def _check_end(self) -> None:
        name = self._item.source
        if self._left is not None and self._left > _SHORT * self.source_rate:
            found = f"{self._count / self.source_rate:.2f} of {self._item.duration:g} s"
            raise ValueError(f"{name}: the source ends after {found} of the excerpt")
        if not self._count:
            raise ValueError(f"{name}: the item holds no samples")
        self._check_allowed(self._count)

    def _check_allowed(self, count: int) -> None:
        least = self._settings.min_seconds
        if least is not None and count < least * self.source_rate:
            raise SkippedItem
        self._check_not_longer(count)

    def _check_not_longer(self, count: int) -> None:
        most = self._settings.max_seconds
        if most is not None and count > most * self.source_rate:
            raise SkippedItem


def _open(item: item_table.AudioItem, settings: ReadSettings) -> open_sounds.Reader:
    """Open an item with the decoder for it."""
    content = _content(item, settings.base)
    place = urls.join(settings.base, os.fsdecode(item.path))
    suffix = os.path.splitext(item.source)[1].lower()
    is_opus = suffix == ".opus" and settings.decoder == "av"
    start = (content or b"")[:16]  # names in Parquet files need not have a suffix
    is_foreign = foreign_formats.recognise(item.source, start) is not None
    if suffix in av_sounds.SUFFIXES or is_opus or is_foreign:
        file: BinaryIO = urls.open_file(place) if content is None else io.BytesIO(content)
        return av_sounds.AvReader(item.source, file)
    if content is None:
        return sound_files.SoundReader(place)
    return sound_files.SoundReader(item.source, content=content)


def _content(item: item_table.AudioItem, base: str) -> bytes | None:
    """Return the bytes of an item, None of a local file of its own."""
    name = os.fsdecode(item.path)
    place = urls.join(base, name)
    if item.container == item_table.FILE:
        if not urls.is_url(place):
            return None
        with urls.open_file(place) as file:
            return file.read()
    if item.container == item_table.TAR:
        with urls.open_file(place) as file:
            file.seek(item.at)
            content = file.read(item.size)
        if len(content) < item.size:
            raise ValueError(f"{item.source}: the tar ends within the file")
        return content
    found, path = _parquet(base, name).sound(item.group, item.at)
    if found is None and path:
        with urls.open_file(urls.join(urls.folder_of(place), path)) as file:
            return file.read()
    return found or b""


@functools.lru_cache(maxsize=2)
def _parquet(base: str, name: str) -> containers.ParquetSounds:
    return containers.ParquetSounds(base, name)


def _is_fault_of_file(error: OSError) -> bool:
    return isinstance(error, _FAULTS_OF_FILES) or error.errno in _NUMBERS_OF_FILES


@contextlib.contextmanager
def _faults(item: item_table.AudioItem) -> Iterator[None]:
    """Tell errors of the system from those of an item, which become ValueErrors."""
    try:
        yield
    except MemoryError as error:
        raise SystemFault(f"{item.source}: out of memory") from error
    except (OSError, ValueError, soundfile.LibsndfileError) as error:
        cause: BaseException | None = error
        while cause is not None:
            is_fault = isinstance(cause, OSError) and not _is_fault_of_file(cause)
            # libsndfile hides the system's reason.
            is_fault |= isinstance(cause, soundfile.LibsndfileError) and cause.code == _SYSTEM
            if is_fault:
                raise SystemFault(f"{item.source}: {file_errors.reason(error)}") from error
            cause = cause.__cause__
        if isinstance(error, ValueError):
            raise
        raise ValueError(f"{item.source}: {file_errors.reason(error)}") from error
