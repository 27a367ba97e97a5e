"""What a file states about its codes, and the models of version 0.

Shapes: K codebooks, F frames.
"""

from __future__ import annotations

import dataclasses
import numbers
import string
from typing import Any, NamedTuple

from encodec_hk.bitstream import packing

VERSIONS = (0, 1)
MAX_SAMPLES = 2**48 - 1  # of a signal
MAX_BLOCK_CODES = 2**21  # of a block or segment: bounds the memory of readers


class EcdcError(ValueError):
    """The content of a file is wrong: one line, without the name of the file."""


class MetaModel(NamedTuple):
    """A model that version 0 identifies by name.

    Attributes: see `Header`; `num_codebooks` is the maximum.
    """

    sample_rate: int
    channels: int
    hop_length: int
    num_codebooks: int
    bits: int
    segment_length: int | None
    segment_stride: int | None
    normalize: bool


# `encodec.EncodecModel.encodec_model_24khz` and `encodec_model_48khz`.
META_MODELS = {
    "encodec_24khz": MetaModel(24000, 1, 320, 32, 10, None, None, False),
    "encodec_48khz": MetaModel(48000, 2, 320, 16, 10, 48000, 47520, True),
}


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
    """

    version: int
    name: str
    sample_rate: int
    channels: int
    hop_length: int
    num_codebooks: int
    bits: int
    segment_length: int | None
    segment_stride: int | None
    normalize: bool
    num_samples: int | None
    fingerprint: str | None

    @property
    def frame_rate(self) -> int:
        """Return frames per second, rounded up as in the reference."""
        return -(-self.sample_rate // self.hop_length)

    @property
    def kbps(self) -> float:
        """Return the bandwidth of the codes, without headers, as configurations count it."""
        return self.num_codebooks * self.bits * self.frame_rate / 1000

    @property
    def duration(self) -> float | None:
        """Return the seconds of the signal; None if unknown."""
        return None if self.num_samples is None else self.num_samples / self.sample_rate

    @property
    def segment_frames(self) -> int | None:
        """Return the frames of a full segment; None without segments."""
        return None if self.segment_length is None else -(-self.segment_length // self.hop_length)

    @property
    def num_segments(self) -> int | None:
        """Return the segments of the signal; None without segments or if its length is unknown."""
        if self.num_samples is None or self.segment_stride is None:
            return None
        return -(-self.num_samples // self.segment_stride)

    @property
    def whole_segments(self) -> int:
        """Return the number of full segments; only the last ones may be shorter."""
        length, stride = self._length_and_stride()
        assert self.num_samples is not None
        return max(0, (self.num_samples - length) // stride + 1)

    @property
    def num_frames(self) -> int | None:
        """Return the frames of the signal; None if its length is unknown."""
        if self.num_segments is None or self.segment_frames is None:
            return self.end_frame
        whole = self.whole_segments
        short = sum(self.frames_of(index) for index in range(whole, self.num_segments))
        return whole * self.segment_frames + short

    def frames_of(self, segment: int) -> int:
        """Return the frames of a segment; of a full one if the signal's length is unknown."""
        length, stride = self._length_and_stride()
        if self.num_samples is not None:
            length = min(length, self.num_samples - segment * stride)
        return max(0, -(-length // self.hop_length))

    def _length_and_stride(self) -> tuple[int, int]:
        assert self.segment_length is not None
        assert self.segment_stride is not None
        return self.segment_length, self.segment_stride

    @property
    def end_frame(self) -> int | None:
        """Return the position after the last frame, see `Block.start_frame`; None if unknown."""
        if self.num_samples is None:
            return None
        if self.segment_frames is None:
            return -(-self.num_samples // self.hop_length)
        return (self.num_segments or 0) * self.segment_frames

    def seconds(self, frame: int) -> float:
        """Return the time at which a frame, or with segments its segment, starts."""
        if self.segment_frames is None or self.segment_stride is None:
            return frame * self.hop_length / self.sample_rate
        return frame // self.segment_frames * self.segment_stride / self.sample_rate


def meta_header(name: str, num_codebooks: int, num_samples: int) -> Header:
    """Return the header of a file of version 0.

    Raises:
      ValueError: if version 0 has no such model, or the model has fewer codebooks.
    """
    if name not in META_MODELS:
        raise ValueError(f"name: got {shown(name)}, version 0 is for {' and '.join(META_MODELS)}")
    model = META_MODELS[name]
    fields = model._asdict() | {"num_codebooks": num_codebooks}
    header = Header(version=0, name=name, num_samples=num_samples, fingerprint=None, **fields)
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
    codes = header.num_codebooks * (header.segment_frames or 1)
    if codes > MAX_BLOCK_CODES:
        part = "frame" if header.segment_length is None else "segment"
        raise _error(f"codes of a {part}", codes, f"at most {MAX_BLOCK_CODES}")
    fingerprint = header.fingerprint
    if fingerprint is not None and (
        not isinstance(fingerprint, str)
        or len(fingerprint) != 64
        or not set(fingerprint) <= set(string.hexdigits)
    ):
        raise _error("fingerprint", fingerprint, "None or 64 hexadecimal digits")


def _check_meta(header: Header) -> None:
    if header.num_samples is None:
        raise _error("num_samples", None, "a number: version 0 stores the length at its start")
    check_count("num_samples", header.num_samples, 1, MAX_SAMPLES)
    if header.fingerprint is not None:
        raise _error("fingerprint", header.fingerprint, "None: version 0 does not store it")
    model = META_MODELS.get(header.name)
    if model is None:
        raise _error("name", header.name, f"{' or '.join(META_MODELS)} in version 0")
    check_count("num_codebooks", header.num_codebooks, 1, model.num_codebooks)
    for field, value in model._asdict().items():
        if field != "num_codebooks" and getattr(header, field) != value:
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
