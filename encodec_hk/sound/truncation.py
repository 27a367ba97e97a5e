"""Sound files that end before their headers say, as after a broken download.

libsndfile raises an error for FLAC; of WAV, AIFF, MP3 and Ogg files it reads what is there.
"""

from __future__ import annotations

import functools
import io
import itertools
import mmap
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from encodec_hk.sound import ogg_pages

Data: TypeAlias = bytes | mmap.mmap
UNKNOWN = 0xFFFFFFFF  # size in a WAV header if the length is not known
_ENDLESS = range(0x7FFFE000, 0x80000000)  # sizes that SoX and arecord write instead
_MOST = 2**60  # bytes; RF64 may state 64 ones
# MPEG audio (ISO/IEC 11172-3, 13818-3): kbps by bitrate index, for (version 1?, layer).
_KBPS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)  # of version 1; version 2 has half of it, 2.5 a quarter
_SEARCH = 1 << 16  # bytes after which no frame is looked for any more


class CutOffError(ValueError):
    """The end of a sound file is missing."""


def is_unknown(size: int) -> bool:
    """Return whether the size of a WAV file's samples stands for an unknown one."""
    return size in (0, UNKNOWN) or size in _ENDLESS or size > _MOST


class Truncation(NamedTuple):
    """Where a file is cut off, such as "1.00 s of 2.00 s".

    Attributes:
      seconds: of sound that is there.
      total: seconds according to the header; None if it does not say.
    """

    seconds: float
    total: float | None

    def __str__(self) -> str:
        if self.total is None:
            return f"{self.seconds:.2f} s"
        for digits in (2, 4, 6):
            found, total = (f"{value:.{digits}f}" for value in (self.seconds, self.total))
            if found != total:
                break
        return f"{found} s of {total} s"


def find(file: BinaryIO) -> Truncation | None:
    """Return where a WAV, RF64, AIFF, MP3 or Ogg file is cut off; None if it is not, or is another.

    A header of unknown length, as programs write into pipes, promises nothing. `file` is open.
    """
    if isinstance(file, io.BytesIO):
        return _find(file.getvalue())
    try:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # files of some file systems cannot be mapped, nor empty ones
        return None
    with data:
        return _find(data)


def _find(data: Data) -> Truncation | None:
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return _find_in_chunks(data, "<", b"fmt ", b"data")
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return _find_in_chunks(data, ">", b"COMM", b"SSND")
    if data[:4] == ogg_pages.MARK:
        return _find_in_ogg(data)
    return _find_in_mpeg(data)


class _Copy(mmap.mmap):
    """A file in memory, in which a position after the end is the end."""

    def seek(self, pos: int, whence: Any = 0) -> None:
        try:
            super().seek(pos, whence)
        except ValueError:
            super().seek(0, 2)


def finished(file: BinaryIO) -> mmap.mmap | None:
    """Return a copy of a WAV file with the size of its samples, if its header says 0.

    A recorder that was killed, or wrote into a pipe, leaves such a header. None if the file holds
    no samples, or is another.
    """
    data = _Copy(file.fileno(), 0, access=mmap.ACCESS_COPY)
    at = 12
    while data[8:12] == b"WAVE" and at + 8 < len(data):
        name, size = struct.unpack("<4sI", data[at : at + 8])
        at += 8
        if name == b"data":
            has_other_chunks = struct.unpack("<I", data[4:8])[0] == len(data) - 8
            if size or has_other_chunks or len(data) - at > UNKNOWN:
                break
            data[at - 4 : at] = struct.pack("<I", len(data) - at)
            return data
        at += size + size % 2
    data.close()
    return None


def _find_in_chunks(data: Data, order: str, head: bytes, body: bytes) -> Truncation | None:
    """Compare the size of the chunk of samples with that of the file."""
    at, per_second, long_size = 12, 0.0, 0
    while at + 8 <= len(data):
        name, size = struct.unpack(f"{order}4sI", data[at : at + 8])
        at += 8
        chunk = data[at : at + min(size, 64)]
        if name == b"ds64" and len(chunk) >= 16:
            long_size = struct.unpack("<Q", chunk[8:16])[0]
        elif name == head and len(chunk) >= (16 if order == "<" else 18):
            per_second = _bytes_per_second(chunk, order)
        elif name == body:
            promised = long_size if size == UNKNOWN and long_size else size
            header = 8 * (order == ">")  # of the chunk in AIFF
            left, promised = len(data) - at - header, promised - header
            if not per_second or is_unknown(promised) or promised <= left:
                return None
            return Truncation(max(left, 0) / per_second, promised / per_second)
        at += size + size % 2
    return None


def _bytes_per_second(chunk: bytes, order: str) -> float:
    if order == "<":
        return float(struct.unpack("<I", chunk[8:12])[0])
    channels, _, bits, exponent, mantissa = struct.unpack(">hIhHQ", chunk[:18])
    rate = mantissa * 2.0 ** (exponent - 16383 - 63)  # an 80-bit float
    return rate * channels * (-(-bits // 8))


class _Frame(NamedTuple):
    """The header of an MPEG frame."""

    kind: tuple[int, ...]  # the same in all frames of a file
    size: int  # bytes
    samples: int
    rate: int  # Hz
    side: int  # bytes of side information after the header


def _frame(data: Data, at: int) -> _Frame | None:
    """Return the header of a frame; None if there is none, or of a free bitrate."""
    return _frame_of(data[at : at + 4])


@functools.lru_cache(maxsize=256)  # the frames of a file have few different headers
def _frame_of(header: bytes) -> _Frame | None:
    if len(header) < 4:
        return None
    first, second, third, fourth = header
    version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
    kbps_index, rate_index = third >> 4, third >> 2 & 3
    is_frame = first == 0xFF and second >> 5 == 7 and version != 1 and layer != 4
    if not is_frame or rate_index == 3 or kbps_index in (0, 15):
        return None
    is_version_1 = version == 3
    rate = _RATES[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    bits = 1000 * _KBPS[is_version_1, layer][kbps_index - 1]
    padding = third >> 1 & 1
    if layer == 1:
        size, samples = (12 * bits // rate + padding) * 4, 384
    else:
        samples = 576 if layer == 3 and not is_version_1 else 1152
        size = samples // 8 * bits // rate + padding
    is_mono = fourth >> 6 == 3
    side = (17 if is_mono else 32) if is_version_1 else (9 if is_mono else 17)
    return _Frame((version, layer, rate_index), size, samples, rate, side)


def _find_in_mpeg(data: Data) -> Truncation | None:
    """Follow the frames to the end of the file, and compare with what the first one says."""
    start = _end_of_tag(data)
    first = _frame(data, start)
    if first is None or _next_frame(data, start) != start:
        return None
    at: int | None = start
    count = 0
    promised = _promised(data, start, first)
    end = start  # of the last complete frame
    while at is not None:
        frame = _frame(data, at)
        if frame is None or frame.kind != first.kind:
            at = _next_frame(data, at, first)
            continue
        end = at + frame.size
        if end > len(data):
            break
        count += 1
        at = end
    is_cut = end > len(data)
    total = None
    if promised is not None:
        num_frames, size = promised
        count -= 1  # the first frame holds no sound
        # Some encoders count the first frame too.
        is_short = count < num_frames - 1 or (count < num_frames and size > len(data) - start)
        is_cut = is_short or (is_cut and count < num_frames)
        total = num_frames * first.samples / first.rate
    return Truncation(count * first.samples / first.rate, total) if is_cut else None


def _end_of_tag(data: Data) -> int:
    """Return where an ID3v2 tag at the start of a file ends."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for value in data[6:10]:
        size = size << 7 | value & 0x7F
    return 10 + size


def _next_frame(data: Data, at: int, like: _Frame | None = None) -> int | None:
    """Return where two frames of one kind follow each other; None if there are none nearby."""
    stop = min(at + _SEARCH, len(data))
    while (at := data.find(b"\xff", at, stop)) >= 0:
        frame = _frame(data, at)
        if frame is not None and (like is None or frame.kind == like.kind):
            after = _frame(data, at + frame.size)
            if after is not None and after.kind == frame.kind:
                return at
        at += 1
    return None


def _promised(data: Data, at: int, first: _Frame) -> tuple[int, int] | None:
    """Return the frames and bytes that a Xing, Info or VBRI header promises; 0 for unknown."""
    xing, vbri = at + 4 + first.side, at + 4 + 32
    if data[xing : xing + 4] in (b"Xing", b"Info") and len(data) >= xing + 16:
        flags, *values = struct.unpack(">3I", data[xing + 4 : xing + 16])
        if not flags & 1:
            return None
        return values[0], values[1] if flags & 2 else 0
    if data[vbri : vbri + 4] == b"VBRI" and len(data) >= vbri + 18:
        size, num_frames = struct.unpack(">II", data[vbri + 10 : vbri + 18])
        return num_frames, size
    return None


def _find_in_ogg(data: Data) -> Truncation | None:
    """Look whether the last page is complete. No header says how long the file is.

    Its mark as the last one says nothing, nor that its last packet is complete: some programs write
    files without the mark, and leave out the last few milliseconds.
    """
    pages = _pages_from_end(data)
    last = next(pages, None)
    if last is not None:
        rest = data[last.end : last.end + len(ogg_pages.MARK)]
        if not (rest and ogg_pages.MARK.startswith(rest)):
            return None  # the rest may be a tag
    first = ogg_pages.read(data, 0)
    known = first and ogg_pages.sound_rate(data[first.start : first.end])
    if not known or not known[0]:
        return None
    rate, start = known
    complete = (page for page in itertools.chain([last], pages) if page is not None)
    position = next((page.position for page in complete if page.position >= 0), 0)
    return Truncation(max(position - start, 0) / rate, None)


def _pages_from_end(data: Data) -> Iterator[ogg_pages.Page | None]:
    """Yield the pages of an Ogg file from the last one on; None for one that is not complete."""
    at = len(data)
    while (at := data.rfind(ogg_pages.MARK, 0, at)) >= 0:
        if ogg_pages.is_page(data[at : at + 6]):
            yield ogg_pages.read(data, at)
