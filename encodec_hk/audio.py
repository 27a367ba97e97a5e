"""Sound files in and out, sample rates, and channel counts.

Samples are float32 [T, C] with full scale at 1: T samples, C channels.
"""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

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


def shown(path: str | os.PathLike[str]) -> str:
    """A path for messages: bytes that are no UTF-8 become question marks."""
    return os.fsencode(path).decode("utf-8", "replace")


@contextlib.contextmanager
def _reasons(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns errors of the system and of libsndfile into a ValueError of one line."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{shown(path)}: {error.strerror or error}") from error
    except soundfile.LibsndfileError as error:
        reason = " ".join(error.error_string.split()).rstrip(".")
        raise ValueError(f"{shown(path)}: {reason}") from error


def read(path: str | os.PathLike[str]) -> Audio:
    """Reads a whole sound file of any kind that libsndfile knows, whatever its suffix.

    Raises:
      ValueError: there is no such file, it cannot be read, holds no samples, or NaN or infinity.
    """
    # libsndfile is given an open file: so any name works, and the system says why if it does not.
    with _reasons(path), open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise ValueError(f"{shown(path)}: the file is empty (0 bytes)")
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            samples = sound.read(dtype="float32", always_2d=True)
            audio = Audio(samples, sound.samplerate, sound.subtype)
    if not len(samples):
        raise ValueError(f"{shown(path)}: the file holds no samples")
    if not np.isfinite(samples).all():
        raise ValueError(f"{shown(path)}: the file holds samples that are NaN or infinite")
    return audio


def write(
    path: str | os.PathLike[str],
    samples: np.ndarray,
    sample_rate: int,
    sample_format: str = "int16",
) -> None:
    """Writes a sound file: beside the name first, then renamed, so that none is half-written.

    The suffix decides the container. Values outside [-1, 1] are clipped by the integer formats;
    see `limit`. An int16 file that was read comes out with the same samples.

    Args:
      path: a name with a suffix of `WRITABLE`; its folder must exist.
      samples: float [T, C].
      sample_rate: Hz.
      sample_format: "int16", "int24" or "float32"; ogg, opus and mp3 have none and ignore it.

    Raises:
      ValueError: the container does not take this format, rate or number of channels, or the
        system refuses.
    """
    container, subtype, bits = _target(path, sample_format)
    if container == "WAV" and samples.size * (bits or 32) // 8 > _WAV_BYTES:
        container = "RF64"
    target = pathlib.Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    settings = (sample_rate, samples.shape[1], subtype, None, container)
    try:
        with _reasons(path):
            with (
                open(part, "w+b") as file,
                soundfile.SoundFile(file.fileno(), "w", *settings, closefd=False) as sound,
            ):
                for start in range(0, len(samples), _CHUNK):
                    sound.write(_stored(samples[start : start + _CHUNK], bits))
            os.replace(part, target)
    except BaseException:  # an interruption too
        part.unlink(missing_ok=True)
        raise


def check_writable(
    path: str | os.PathLike[str], sample_rate: int, channels: int, sample_format: str = "int16"
) -> None:
    """Raises the ValueError that `write` would, of what can be known without samples."""
    container, subtype, _ = _target(path, sample_format)
    with _reasons(path):
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
            f"{shown(path)}: got suffix {suffix!r}, audio is written to {' '.join(WRITABLE)}"
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
        raise ValueError(f"{shown(path)}: {container} does not hold {sample_format} samples")
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


def resample(
    samples: np.ndarray, sample_rate: int, target_rate: int, length: int | None = None
) -> np.ndarray:
    """Resamples with soxr's HQ filter: linear phase, flat, aliases at -140 dB.

    Args:
      samples: float32 [T, C], silent before and after.
      sample_rate: Hz, of the samples.
      target_rate: Hz, of the result.
      length: samples to return; None for T * target_rate / sample_rate, rounded up.

    Returns:
      float32 [length, C].
    """
    if length is None:
        length = -(-len(samples) * target_rate // sample_rate)
    # soxr rounds lengths to the nearest, down to none: silence behind makes it give what is asked.
    needed = -(-length * sample_rate // target_rate) + 1
    if sample_rate == target_rate:
        needed = length
    if needed > len(samples):
        samples = np.pad(samples, ((0, needed - len(samples)), (0, 0)))
    if sample_rate != target_rate:
        samples = soxr.resample(samples, sample_rate, target_rate, quality="HQ")
    return samples[:length]


def mix(samples: np.ndarray, channels: int) -> np.ndarray:
    """Changes the number of channels.

    Equal numbers pass through. Otherwise every channel of the result is the mean of all channels
    given: stereo to mono, mono to each of two, six to two alike.

    Args:
      samples: float [T, C].
      channels: of the result.
    """
    if samples.shape[1] == channels:
        return samples
    return np.repeat(samples.mean(axis=1, keepdims=True, dtype=np.float32), channels, axis=1)
