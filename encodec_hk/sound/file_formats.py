"""Formats of sound files to write: containers by suffix, sample formats, and what a codec holds."""

from __future__ import annotations

import io
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import soundfile

from encodec_hk.system import file_errors
from encodec_hk.system import file_paths

# Suffixes to write: libsndfile's container, and the codec of lossy ones.
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

# Suffixes of files that libsndfile reads, to search folders for.
READABLE = frozenset(WRITABLE) | {
    ".8svx", ".aifc", ".avr", ".htk", ".iff", ".ircam", ".mp2", ".nist", ".paf",
    ".pvf", ".sds", ".sf", ".snd", ".sph", ".svx", ".voc", ".wave", ".wve",
}  # fmt: skip

_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# What a codec holds: its name, channels at most, and sample rates in Hz. libsndfile crashes on more
# of Vorbis, and says of others that it does not recognise the format.
_LIMITS: dict[str, tuple[str, int, Sequence[int]]] = {
    "VORBIS": ("Vorbis", 255, range(1, 200_001)),
    "OPUS": ("Opus", 255, _OPUS_RATES),
    "MPEG_LAYER_III": ("MP3", 2, _MP3_RATES),
    "FLAC": ("FLAC", 8, range(1, 655_351)),
}
_MAX_CHANNELS = 1024  # of the other containers

# Sample formats: libsndfile's name, and the bits of an integer.
SAMPLE_FORMATS: dict[str, tuple[str, int | None]] = {
    "int16": ("PCM_16", 16),
    "int24": ("PCM_24", 24),
    "float32": ("FLOAT", None),
}


def check_writable(
    path: str | os.PathLike[str], sample_rate: int, channels: int, sample_format: str = "int16"
) -> None:
    """Raise the ValueError that `sound_files.write` would raise, without writing a file."""
    container, subtype, _ = target(path, sample_format)
    check_limits(path, sample_rate, channels)
    with file_errors.as_value_error(path, soundfile.LibsndfileError):
        buffer: Any = io.BytesIO()
        soundfile.SoundFile(buffer, "w", sample_rate, channels, subtype, None, container).close()


def holds_any_value(path: str | os.PathLike[str], sample_format: str) -> bool:
    """Return whether `sound_files.write` stores floats, which keep values outside [-1, 1]."""
    return target(path, sample_format)[1] == "FLOAT"


def target(path: str | os.PathLike[str], sample_format: str) -> tuple[str, str, int | None]:
    """Return libsndfile's container and subtype, and the bits of an integer.

    Raises:
      ValueError: if the suffix is not one of `WRITABLE`, or its container does not hold the format.
    """
    name, suffix = file_paths.shown(path), pathlib.Path(path).suffix
    if suffix.lower() not in WRITABLE:
        known = " ".join(WRITABLE)
        raise ValueError(f"{name}: got suffix {suffix!r}, audio is written to {known}")
    if sample_format not in SAMPLE_FORMATS:
        raise ValueError(
            f"sample format: got {sample_format!r}, must be one of {', '.join(SAMPLE_FORMATS)}"
        )
    container, codec = WRITABLE[suffix.lower()]
    if codec is not None:
        return container, codec, None
    subtype, bits = SAMPLE_FORMATS[sample_format]
    if not soundfile.check_format(container, subtype):
        raise ValueError(f"{name}: {container} does not hold {sample_format} samples")
    return container, subtype, bits


def check_limits(path: str | os.PathLike[str], sample_rate: int, channels: int) -> None:
    """Raise ValueError if the codec of a path's suffix does not hold a rate or so many channels."""
    container, codec = WRITABLE[pathlib.Path(path).suffix.lower()]
    name, most, rates = _LIMITS.get(codec or container, (container, _MAX_CHANNELS, ()))
    if not 1 <= channels <= most:
        raise ValueError(
            f"{file_paths.shown(path)}: got {channels} channels, {name} holds at most {most}"
        )
    if rates and sample_rate not in rates:
        allowed = f"at most {rates[-1]}" if isinstance(rates, range) else ", ".join(map(str, rates))
        raise ValueError(
            f"{file_paths.shown(path)}: got {sample_rate} Hz, {name} holds {allowed} Hz"
        )
