"""Pages of Ogg files (RFC 3533, Section 6), and what their first packets say."""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

MARK = b"OggS"
"""How a page begins."""
_HEAD = struct.Struct("<4sBBqIIIB")


class Page(NamedTuple):
    """A complete page.

    Attributes:
      position: of the sound, in samples, after the last packet that ends in it; -1 if none does.
      lacing: the bytes of each segment. Those of a packet are 255, but for its last.
      start, end: of the segments, in bytes of the file.
    """

    position: int
    lacing: bytes
    start: int
    end: int


def read(data: bytes | mmap.mmap, at: int) -> Page | None:
    """Return the page that begins at a byte; None if none does, or it is not complete."""
    head = data[at : at + _HEAD.size]
    if len(head) < _HEAD.size or not is_page(head):
        return None
    _, _, _, position, _, _, _, count = _HEAD.unpack(head)
    start = at + _HEAD.size + count
    lacing = data[at + _HEAD.size : start]
    end = start + sum(lacing)
    return None if len(lacing) < count or end > len(data) else Page(position, lacing, start, end)


def is_page(head: bytes) -> bool:
    """Return whether the first bytes of a page, as many as there are, may be some."""
    return MARK.startswith(head[:4]) and not any(head[4:5]) and all(flag < 8 for flag in head[5:6])


def sound_rate(packet: bytes) -> tuple[int, int] | None:
    """Return the unit of positions in Hz, and that of the sound's start; None if unknown.

    Args:
      packet: the first one: of Vorbis, Opus (RFC 7845) or FLAC.
    """
    if packet[:7] == b"\x01vorbis" and len(packet) >= 16:
        return int.from_bytes(packet[12:16], "little"), 0
    if packet[:8] == b"OpusHead" and len(packet) >= 12:
        return 48000, int.from_bytes(packet[10:12], "little")
    if packet[:5] == b"\x7fFLAC" and len(packet) >= 30:
        return int.from_bytes(packet[27:30], "big") >> 4, 0
    return None
