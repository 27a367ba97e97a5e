"""Sound files in and out.

Samples are float32 [T, C] with full scale at 1: T samples, C channels.
"""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
from typing import Any, NamedTuple, Self

import numpy as np
import soundfile

from encodec_hk.system import file_errors
from encodec_hk.system import file_paths
from encodec_hk.system import part_file

# Suffixes that `write` takes: libsndfile's container, and the codec of the lossy ones.
WRITABLE: dict[str, tuple[str, str | None]] = {
    ".wav": ("WAV", None),
    ".flac": ("FLAC", None),
    ".ogg": ("OGG", "VORBIS"),
    ".oga": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aiff": ("AIFF", None),
    ".aif": ("AIFF", None),
    ".au": ("AU", None),
    ".caf": ("CAF", None),
    ".rf64": ("RF64", None),
    ".w64": ("W64", None),
}

# Suffixes of what libsndfile reads, for searching folders.
READABLE = frozenset(WRITABLE) | {
    ".8svx", ".aifc", ".avr", ".htk", ".iff", ".ircam", ".mp2", ".nist", ".paf",
    ".pvf", ".sds", ".sf", ".snd", ".sph", ".svx", ".voc", ".wave", ".wve",
}  # fmt: skip

# How each sample format is stored: libsndfile's name, and the bits of an integer.
SAMPLE_FORMATS: dict[str, tuple[str, int | None]] = {
    "int16": ("PCM_16", 16),
    "int24": ("PCM_24", 24),
    "float32": ("FLOAT", None),
}

# The loudest sample that fits every integer format.
FULL_SCALE = 1 - 2.0**-15

_WAV_BYTES = 2**32 - 2**16  # a WAV file counts its bytes in 32 bits
_CHUNK = 2**16  # samples per call: libsndfile's Vorbis encoder overflows the stack on long ones


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


class SoundReader:
    """A sound file of any kind that libsndfile knows, whatever its suffix, read in blocks.

    Attributes:
      sample_rate: Hz.
      channels: C.
      num_samples: as the file says.
      is_exact: whether that is certain; of an MP3 file it may be a guess.
      subtype: libsndfile's name of the sample format in the file, such as "PCM_16" or "VORBIS".
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Opens a file.

        Raises:
          ValueError: there is no such file, it cannot be read, or holds no samples.
        """
        self._path = path
        self._count = 0
        with contextlib.ExitStack() as stack:
            stack.enter_context(_as_value_error(path))
            # libsndfile is given an open file: so any name works, and the system says why not.
            file = stack.enter_context(open(path, "rb"))
            if os.fstat(file.fileno()).st_size == 0:
                raise ValueError(f"{file_paths.shown(path)}: the file is empty (0 bytes)")
            self._sound = stack.enter_context(soundfile.SoundFile(file.fileno(), closefd=False))
            self._files = stack.pop_all()
        self.sample_rate: int = self._sound.samplerate
        self.channels: int = self._sound.channels
        self.num_samples: int = self._sound.frames
        self.subtype: str = self._sound.subtype
        self.is_exact = not self.subtype.startswith("MPEG")
        if not self.num_samples:
            self.close()
            raise ValueError(f"{file_paths.shown(path)}: the file holds no samples")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._files.close()

    def read(self, size: int) -> np.ndarray:
        """The next `size` samples, float32 [T, C]; fewer at the end of the file, then none.

        Raises:
          ValueError: the file cannot be read on, ends early, or holds NaN or infinity.
        """
        with _as_value_error(self._path):
            samples = self._sound.read(size, dtype="float32", always_2d=True)
        at = self._count / self.sample_rate
        self._count += len(samples)
        if self.is_exact and len(samples) < size and self._count < self.num_samples:
            found = f"{self._count} of {self.num_samples} samples"
            raise ValueError(f"{file_paths.shown(self._path)}: damaged, ends after {found}")
        if not np.isfinite(samples).all():
            found = "holds samples that are NaN or infinite"
            raise ValueError(f"{file_paths.shown(self._path)}: the file {found}, at {at:.2f} s")
        return samples


def read(path: str | os.PathLike[str]) -> Audio:
    """Reads a whole sound file of any kind that libsndfile knows, whatever its suffix.

    Raises:
      ValueError: there is no such file, it cannot be read, holds no samples, or NaN or infinity.
    """
    with SoundReader(path) as reader:
        return Audio(reader.read(reader.num_samples), reader.sample_rate, reader.subtype)


class SoundWriter:
    """A sound file written in blocks: beside the name first, so that none is half-written.

    The suffix decides the container. Values outside [-1, 1] are clipped by the integer formats;
    see `limit`. An int16 file that was read comes out with the same samples. Used as a context, it
    is renamed at the end, and taken away if an exception (or an interruption) leaves the context.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sample_rate: int,
        channels: int,
        sample_format: str = "int16",
        num_samples: int | None = None,
    ):
        """Begins a file.

        Args:
          path: a name with a suffix of `WRITABLE`; its folder must exist.
          sample_rate: Hz.
          channels: C.
          sample_format: "int16", "int24" or "float32"; ogg, opus and mp3 have none and ignore it.
          num_samples: how long it will be, if that is known: a WAV file beyond 4 GiB is an RF64.

        Raises:
          ValueError: the container does not take this format, rate or number of channels, or the
            system refuses.
        """
        container, subtype, self._bits = _target(path, sample_format)
        size = (num_samples or 0) * channels * (self._bits or 32) // 8
        if container == "WAV" and size > _WAV_BYTES:
            container = "RF64"
        self._path = path
        settings = (sample_rate, channels, subtype, None, container)
        with _as_value_error(path), contextlib.ExitStack() as stack:
            self._part = part_file.PartFile(path)
            stack.callback(self._part.abort)
            descriptor = self._part.file.fileno()
            self._sound = soundfile.SoundFile(descriptor, "w", *settings, closefd=False)
            stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, samples: np.ndarray) -> None:
        """Writes float [T, C]; ValueError where the system refuses."""
        with _as_value_error(self._path):
            try:
                for start in range(0, len(samples), _CHUNK):
                    self._sound.write(_stored(samples[start : start + _CHUNK], self._bits))
            except soundfile.LibsndfileError:
                # libsndfile keeps the system's reason, a full disk, to itself. Asked again:
                descriptor = self._part.file.fileno()
                os.pwrite(descriptor, bytes(_CHUNK), os.fstat(descriptor).st_size)
                raise

    def close(self) -> None:
        """Ends the file and gives it its name; ValueError where the system refuses."""
        try:
            with _as_value_error(self._path):
                self._sound.close()
                self._part.commit()
        except BaseException:  # an interruption too
            self.abort()
            raise

    def abort(self) -> None:
        """Takes away what was written."""
        with contextlib.suppress(soundfile.LibsndfileError):
            self._sound.close()
        self._part.abort()


def write(
    path: str | os.PathLike[str],
    samples: np.ndarray,
    sample_rate: int,
    sample_format: str = "int16",
) -> None:
    """Writes samples, float [T, C], into a sound file; see `Writer`.

    Raises:
      ValueError: as of `SoundWriter`.
    """
    with SoundWriter(path, sample_rate, samples.shape[1], sample_format, len(samples)) as writer:
        writer.write(samples)


def check_writable(
    path: str | os.PathLike[str], sample_rate: int, channels: int, sample_format: str = "int16"
) -> None:
    """Raises the ValueError that `write` would, of what can be known without samples."""
    container, subtype, _ = _target(path, sample_format)
    with _as_value_error(path):
        buffer: Any = io.BytesIO()
        soundfile.SoundFile(buffer, "w", sample_rate, channels, subtype, None, container).close()


def holds_any_value(path: str | os.PathLike[str], sample_format: str) -> bool:
    """True where `write` stores floats, so that values outside [-1, 1] are kept."""
    return _target(path, sample_format)[1] == "FLOAT"


def _target(
    path: str | os.PathLike[str], sample_format: str
) -> tuple[str, str, int | None]:  # container, subtype, bits of an integer
    suffix = pathlib.Path(path).suffix
    if suffix.lower() not in WRITABLE:
        raise ValueError(
            f"{file_paths.shown(path)}: got suffix {suffix!r}, audio is written to "
            + " ".join(WRITABLE)
        )
    if sample_format not in SAMPLE_FORMATS:
        raise ValueError(
            f"sample format: got {sample_format!r}, must be one of {', '.join(SAMPLE_FORMATS)}"
        )
    container, codec = WRITABLE[suffix.lower()]
    if codec is not None:
        return container, codec, None
    subtype, bits = SAMPLE_FORMATS[sample_format]
    if not soundfile.check_format(container, subtype):
        raise ValueError(
            f"{file_paths.shown(path)}: {container} does not hold {sample_format} samples"
        )
    return container, subtype, bits


def _stored(samples: np.ndarray, bits: int | None) -> np.ndarray:
    """Samples as libsndfile is to store them: int16, or the upper bits of an int32, or float32."""
    if bits is None:
        return np.asarray(samples, np.float32)
    scale = 2.0 ** (bits - 1)
    values = np.clip(np.rint(samples * scale), -scale, scale - 1)
    if bits == 16:
        return values.astype(np.int16)
    return values.astype(np.int32) << (32 - bits)


def limit(samples: np.ndarray, *, rescale: bool = False) -> tuple[np.ndarray, float]:
    """Brings samples within full scale.

    Args:
      samples: float [T, C].
      rescale: scale all of them so that the peak just fits, instead of clipping those outside.

    Returns:
      The samples, the same array where they fit as they are, and the peak that they had.

    Raises:
      ValueError: there is NaN or infinity among them.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(peak):
        raise ValueError("samples are NaN or infinite")
    if peak <= 1:
        return samples, peak
    if rescale:
        return samples * np.float32(FULL_SCALE / peak), peak
    return np.clip(samples, -1, 1), peak
