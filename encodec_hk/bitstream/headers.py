"""What a file states about its codes, and the models of version 0."""

from __future__ import annotations

import dataclasses
import numbers
import re
from typing import Any

from encodec_hk import framing
from encodec_hk.bitstream import packing

VERSIONS = (0, 1)
MAX_SAMPLES = 2**48 - 1  # of a signal
MAX_LM_CODES = 2**26  # of a segment that a language model compresses: it is read as a whole
MAX_BLOCK_CODES = 2**21  # of a block or segment: bounds the memory of readers
MAX_CODED_FRAMES = 4096  # of a block that a language model codes: bounds the time of readers


class EcdcError(ValueError):
    """The content of a file is wrong: one line, without the name of the file."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file states about its codes.

    Attributes:
      version: 0 (Meta's) or 1.
      name: name of the variant, such as "encodec_24khz".
      sample_rate: Hz.
      channels: audio channels.
      hop_length: samples of a frame.
      num_codebooks: codes of a frame.
      bits: bits of a code.
      segment_length: samples of a segment; None if the signal is not cut into segments.
      segment_stride: samples from one segment's start to the next's; None without segments.
      normalize: whether each segment has a scale.
      num_samples: samples of the signal; None if unknown (yet).
      fingerprint: SHA-256 of the checkpoint, 64 hexadecimal digits; None if unknown.
      lm: whether Meta's language model compresses the codes; in version 0 only.
      language: SHA-256 of the language model that the codes are stored with, likewise; None if they
        are stored without. Version 1 only.
    """

    version: int
    name: str
    sample_rate: int
    channels: int
    hop_length: int
    num_codebooks: int
    bits: int
    segment_length: int | None = None
    segment_stride: int | None = None
    normalize: bool = False
    num_samples: int | None = None
    fingerprint: str | None = None
    lm: bool = False
    language: str | None = None

    @property
    def frame_rate(self) -> int:
        """Return frames per second, rounded up as in the reference."""
        return -(-self.sample_rate // self.hop_length)

    @property
    def frame_bits(self) -> int:
        """Return the bits of the codes of a frame."""
        return self.num_codebooks * self.bits

    def payload_size(self, frames: int) -> int:
        """Return the bytes of the scale and the codes of a segment or block."""
        scale = packing.SCALE.size if self.normalize else 0
        return scale + packing.num_bytes(frames * self.num_codebooks, self.bits)

    @property
    def kbps(self) -> float:
        """Return the bandwidth of the codes, without headers, as configurations count it."""
        return self.frame_bits * self.frame_rate / 1000

    @property
    def duration(self) -> float | None:
        """Return the seconds of the signal; None if unknown."""
        return None if self.num_samples is None else self.num_samples / self.sample_rate

    @property
    def end_frame(self) -> int | None:
        """Return the position after the last frame, see `Block.start_frame`; None if unknown."""
        if self.num_samples is None:
            return None
        if self.framing.has_segments:
            return self.framing.num_segments(self.num_samples) * self.framing.segment_frames
        return self.framing.num_frames(self.num_samples)

    def seconds(self, frame: int) -> float:
        """Return the time at which a frame, or with segments its segment, starts."""
        samples = frame * self.hop_length
        if self.framing.has_segments:
            samples = frame // self.framing.segment_frames * self.framing.stride
        return samples / self.sample_rate

    @property
    def framing(self) -> framing.Framing:
        """Return how a signal is divided into segments and frames."""
        if self.segment_length is None or self.segment_stride is None:
            return framing.Framing.undivided(self.hop_length)
        return framing.Framing(self.segment_length, self.segment_stride, self.hop_length)


# `encodec.EncodecModel.encodec_model_24khz` and `encodec_model_48khz`, with all codebooks.
META_MODELS = {
    "encodec_24khz": Header(0, "encodec_24khz", 24000, 1, 320, 32, 10),
    "encodec_48khz": Header(0, "encodec_48khz", 48000, 2, 320, 16, 10, 48000, 47520, True),
}


def meta_header(name: str, num_codebooks: int, num_samples: int, lm: bool = False) -> Header:
    """Return the header of a file of version 0; `lm` says whether a language model is used.

    Raises:
      ValueError: if version 0 has no such model, or the model has fewer codebooks.
    """
    model = META_MODELS.get(name)
    if model is None:
        raise ValueError(f"name: got {shown(name)}, version 0 is for {' and '.join(META_MODELS)}")
    header = dataclasses.replace(model, num_codebooks=num_codebooks, num_samples=num_samples, lm=lm)
    check(header)
    return header


def check(header: Header) -> None:
    """Check a header.

    Raises:
      ValueError: if a field is wrong; one line names it, its value and what is allowed.
    """
    if header.version not in VERSIONS:
        raise _error("version", header.version, "0 or 1")
    if header.version == 0:
        _check_meta(header)
        return
    if header.lm:
        raise _error("lm", True, "False: version 0 alone is for Meta's language model")
    for field, least, most in (
        ("sample_rate", 1, 2**31 - 1),
        ("channels", 1, 2**16 - 1),
        ("hop_length", 1, 2**31 - 1),
        ("num_codebooks", 1, 2**16 - 1),
        ("bits", 1, packing.MAX_BITS),
    ):
        check_count(field, getattr(header, field), least, most)
    if header.num_samples is not None:
        check_count("num_samples", header.num_samples, 0, MAX_SAMPLES)
    name = header.name
    if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name.encode()) <= 255:
        raise _error("name", name, "1 to 255 bytes of printable text")
    if header.segment_length is not None:
        check_count("segment_length", header.segment_length, 1, 2**31 - 1)
        check_count("segment_stride", header.segment_stride, 1, header.segment_length)
    elif header.segment_stride is not None:
        raise _error("segment_stride", header.segment_stride, "None as segment_length")
    part, frames = "frame", 1
    if header.framing.has_segments:
        part, frames = "segment", header.framing.segment_frames
    codes = header.num_codebooks * frames
    if codes > MAX_BLOCK_CODES:
        raise _error(f"codes of a {part}", codes, f"at most {MAX_BLOCK_CODES}")
    for field in ("fingerprint", "language"):
        digits = getattr(header, field)
        is_hash = isinstance(digits, str) and re.fullmatch("[0-9a-fA-F]{64}", digits)
        if digits is not None and not is_hash:
            raise _error(field, digits, "None or 64 hexadecimal digits")
    if header.language is not None and frames > MAX_CODED_FRAMES:
        raise _error("frames of a segment", frames, f"at most {MAX_CODED_FRAMES} with a language")


def _check_meta(header: Header) -> None:
    if header.num_samples is None:
        raise _error("num_samples", None, "a number: version 0 stores the length at its start")
    check_count("num_samples", header.num_samples, 1, MAX_SAMPLES)
    if header.fingerprint is not None:
        raise _error("fingerprint", header.fingerprint, "None: version 0 does not store it")
    if header.language is not None:
        raise _error("language", header.language, "None: version 0 does not store it")
    model = META_MODELS.get(header.name)
    if model is None:
        raise _error("name", header.name, f"{' or '.join(META_MODELS)} in version 0")
    check_count("num_codebooks", header.num_codebooks, 1, model.num_codebooks)
    codes = header.num_codebooks * header.framing.frames_of(0, header.num_samples)
    if header.lm and codes > MAX_LM_CODES:
        raise _error("codes of a segment", codes, f"at most {MAX_LM_CODES} with a language model")
    for field, value in dataclasses.asdict(model).items():
        is_fixed = field not in ("num_codebooks", "num_samples", "lm", "language")
        if is_fixed and getattr(header, field) != value:
            raise _error(field, getattr(header, field), f"{value} of {header.name}")


def check_count(field: str, value: Any, least: int, most: int) -> None:
    """Raise ValueError unless a value is a whole number from `least` to `most`."""
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or not least <= value <= most:
        raise _error(field, value, f"a whole number, {least} to {most}")


def shown(value: Any) -> str:
    """Return a value as text for messages, of at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _error(field: str, value: Any, allowed: str) -> ValueError:
    return ValueError(f"{field}: got {shown(value)}, must be {allowed}")
