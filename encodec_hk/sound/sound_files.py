"""Read and write sound files.

Samples are float32 [T, C] with full scale at 1: T samples, C channels.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import BinaryIO, NamedTuple, Self, cast

import numpy as np
import soundfile

from encodec_hk.sound import file_formats
from encodec_hk.sound import foreign_formats
from encodec_hk.sound import pcm
from encodec_hk.sound import truncation
from encodec_hk.system import file_errors
from encodec_hk.system import file_paths
from encodec_hk.system import part_file

# Formats in which seeking is exact. libsndfile names the FLAC samples alike.
_SEEKABLE = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")

# The largest sample that fits every integer format.
FULL_SCALE = 1 - 2.0**-15

_WAV_BYTES = 2**32 - 2**16  # a WAV file stores its size in 32 bits
_RECOVERED = 2**12  # samples per call from files that may be damaged
_CHUNK = 2**16  # samples per call: more overflow the stack of libsndfile's Vorbis encoder


class Audio(NamedTuple):
    """A sound file.

    Attributes:
      samples: float32 [T, C], T >= 1.
      sample_rate: Hz.
      subtype: libsndfile's name of the sample format in the file, such as "PCM_16" or "VORBIS".
    """

    samples: np.ndarray
    sample_rate: int
    subtype: str


def _as_value_error(path: str | os.PathLike[str]) -> contextlib.AbstractContextManager[None]:
    return file_errors.as_value_error(path, soundfile.LibsndfileError)


class _ForwardFile(soundfile.SoundFile):
    """A file to read from start to end.

    `soundfile` seeks in a seekable file after every read, to where it is. libmpg123 then decodes
    four frames of an MP3 file again. At low bitrates sound is spread over more: it came out wrong.
    """

    def seekable(self) -> bool:
        return False


class SoundReader:
    """Reads a sound file of any format of libsndfile, whatever its suffix, block by block.

    Attributes:
      sample_rate, channels, subtype: as of `Audio`.
      num_samples: T, according to the file.
      is_exact: whether `num_samples` is certain; in an MP3 file it may be a guess.
      warnings: what is wrong with the file, one line each, as far as it has been read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        recover: bool = False,
        content: bytes | None = None,
    ):
        """Open a file.

        Args:
          path: its name.
          recover: read a file that is cut off or damaged up to there, with a warning.
          content: of the file; it is not opened then, and the path is a name for messages.

        Raises:
          CutOffError: if the end is missing.
          ValueError: if it cannot be read or holds no samples.
        """
        self._path = path
        self._recover = recover
        self._count = 0
        self.warnings: list[str] = []
        with contextlib.ExitStack() as stack:
            stack.enter_context(_as_value_error(path))
            # libsndfile gets an open file: so any name works, and OSError says what is wrong.
            opened = open(path, "rb") if content is None else _held(content)  # noqa: SIM115
            file = stack.enter_context(opened)
            if os.fstat(file.fileno()).st_size == 0:
                raise ValueError(f"{file_paths.shown(path)}: the file is empty (0 bytes)")
            if where := truncation.find(file):
                self._report(f"cut off after {where}")
            try:
                sound = _ForwardFile(file.fileno(), closefd=False)
            except soundfile.LibsndfileError as error:
                file.seek(0)
                if line := foreign_formats.recognise(path, file.read(16)):
                    raise ValueError(line) from error
                raise
            if not sound.frames and (finished := truncation.finished(file)) is not None:
                sound.close()
                sound = _ForwardFile(stack.enter_context(finished))
            self._sound = stack.enter_context(sound)
            self._files = stack.pop_all()
        self.sample_rate: int = self._sound.samplerate
        self.channels: int = self._sound.channels
        self.num_samples: int = self._sound.frames
        self.subtype: str = self._sound.subtype
        self.is_exact = not recover and not self.subtype.startswith("MPEG")
        if not self.num_samples:
            self.close()
            raise ValueError(f"{file_paths.shown(path)}: the file holds no samples")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._files.close()

    def skip(self, size: int) -> None:
        """Pass over samples, at most to the end; raises ValueError as `read`."""
        if self.is_exact and self.subtype in _SEEKABLE:
            with _as_value_error(self._path):
                self._count = self._sound.seek(min(self._count + size, self.num_samples))
            return
        while size and (passed := len(self.read(min(size, _CHUNK)))):
            size -= passed

    def read(self, size: int) -> np.ndarray:
        """Return the next `size` samples, float32 [T, C]; fewer at the end of the file, then none.

        Raises:
          CutOffError: if the end of the file is missing.
          ValueError: if the file cannot be read, or holds NaN or infinity.
        """
        if self._recover:  # of the samples of a call that fails, none are returned
            size = min(size, _RECOVERED)
        try:
            samples = self._sound.read(size, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            self._report(f"damaged or cut off after {self._place()}: {file_errors.reason(error)}")
            samples = np.zeros((0, self.channels), np.float32)
        with file_errors.as_value_error(self._path, ValueError):
            pcm.check_finite(samples, self._count, self.sample_rate)
        self._count += len(samples)
        is_whole = self._count >= self.num_samples or self.subtype.startswith("MPEG")
        if len(samples) < size and not is_whole and not self.warnings:
            self._report(f"cut off after {self._place()}")
        return samples

    def _place(self) -> truncation.Truncation:
        return truncation.Truncation(
            self._count / self.sample_rate, self.num_samples / self.sample_rate
        )

    def _report(self, problem: str) -> None:
        if not self._recover:
            raise truncation.CutOffError(f"{file_paths.shown(self._path)}: {problem}")
        self.warnings.append(problem)


def _held(content: bytes) -> BinaryIO:
    """Return an open file without a name that holds `content`, in memory where that works."""
    if hasattr(os, "memfd_create"):
        file = cast(BinaryIO, open(os.memfd_create("sound"), "w+b"))  # noqa: SIM115
    else:
        file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115
    file.write(content)
    file.seek(0)
    return file


def read(path: str | os.PathLike[str]) -> Audio:
    """Read a whole sound file; see `SoundReader` for formats and errors."""
    with SoundReader(path) as reader:
        return Audio(reader.read(reader.num_samples), reader.sample_rate, reader.subtype)


class SoundWriter(part_file.PartFile):
    """Writes a sound file block by block; its suffix decides the container.

    Integer formats clip samples to [-1, 1]; see `limit`. Samples read from an int16 file are
    written unchanged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sample_rate: int,
        channels: int,
        sample_format: str = "int16",
        num_samples: int | None = None,
    ):
        """Begin a file.

        Args:
          path: a name with a suffix of `file_formats.WRITABLE`; its folder must exist.
          sample_rate: Hz.
          channels: C.
          sample_format: a name of `file_formats.SAMPLE_FORMATS`; lossy codecs ignore it.
          num_samples: the length, if it is known: a WAV file above 4 GiB becomes RF64.

        Raises:
          ValueError: if the container does not support the format, rate or number of channels, or
            the file cannot be written.
        """
        container, subtype, self._bits = file_formats.target(path, sample_format)
        file_formats.check_limits(path, sample_rate, channels)
        size = (num_samples or 0) * channels * (self._bits or 32) // 8
        if container == "WAV" and size > _WAV_BYTES:
            container = "RF64"
        settings = (sample_rate, channels, subtype, None, container)
        with _as_value_error(path), contextlib.ExitStack() as stack:
            super().__init__(path)
            stack.callback(super().abort)
            self._sound = soundfile.SoundFile(self.file.fileno(), "w", *settings, closefd=False)
            stack.pop_all()

    def write(self, samples: np.ndarray) -> None:
        """Write float [T, C]; raises ValueError if that fails."""
        with _as_value_error(self._path):
            try:
                for start in range(0, len(samples), _CHUNK):
                    self._sound.write(_stored(samples[start : start + _CHUNK], self._bits))
            except soundfile.LibsndfileError:
                # libsndfile hides the system's reason, such as a full disk: write once more.
                descriptor = self.file.fileno()
                os.pwrite(descriptor, bytes(_CHUNK), os.fstat(descriptor).st_size)
                raise

    def close(self) -> None:
        """Complete the file and rename it; raises ValueError if that fails."""
        try:
            with _as_value_error(self._path):
                self._sound.close()
                super().close()
        except BaseException:  # an interruption too
            self.abort()
            raise

    def abort(self) -> None:
        """Delete the file."""
        with contextlib.suppress(soundfile.LibsndfileError):
            self._sound.close()
        super().abort()


def write(
    path: str | os.PathLike[str],
    samples: np.ndarray,
    sample_rate: int,
    sample_format: str = "int16",
) -> None:
    """Write samples, float [T, C], into a sound file; see `SoundWriter` for its errors."""
    with SoundWriter(path, sample_rate, samples.shape[1], sample_format, len(samples)) as writer:
        writer.write(samples)


def _stored(samples: np.ndarray, bits: int | None) -> np.ndarray:
    """Return the samples for libsndfile: the upper bits of int32, or float32."""
    if bits is None:
        return np.asarray(samples, np.float32)
    return pcm.integers(samples, bits) << (32 - bits)


def limit(samples: np.ndarray, *, rescale: bool = False) -> tuple[np.ndarray, float]:
    """Bring samples, float [T, C], within full scale: clip, or with `rescale` scale them.

    Returns:
      The samples, the same array if they fit, and their peak before.

    Raises:
      ValueError: if a sample is NaN or infinite.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(peak):
        raise ValueError("samples are NaN or infinite")
    if peak <= 1:
        return samples, peak
    if rescale:
        return samples * np.float32(FULL_SCALE / peak), peak
    return np.clip(samples, -1, 1), peak
