"""Where the payload is in the files of other codecs: packets of Ogg, frames of MP3."""

from __future__ import annotations

import struct

_PAGE = struct.Struct("<4sBBqIIIB")  # of Ogg, RFC 3533, Section 6

# Kbps by the four bits of a frame's header, layer III: of MPEG-1, and of MPEG-2 and 2.5.
MP3_KBPS = (
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
# Hz by two bits, of the three versions by their bits.
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
MP3_SAMPLE_RATES = tuple(sorted(rate for rates in _MP3_RATES.values() for rate in rates))


def ogg_packets(data: bytes) -> list[int]:
    """Bytes of each packet of an Ogg file with one stream, its header packets among them.

    Raises:
      ValueError: it is none, or is cut off.
    """
    packets, size, at = [], 0, 0
    while at < len(data):
        if len(data) < at + _PAGE.size or data[at : at + 4] != b"OggS":
            raise ValueError(f"Ogg: no page at byte {at}")
        count = data[at + _PAGE.size - 1]
        at += _PAGE.size
        lacing = data[at : at + count]
        at += count + sum(lacing)
        if at > len(data):
            raise ValueError("Ogg: the last page is cut off")
        for segment in lacing:
            size += segment
            if segment < 255:  # else the packet goes on, on the next page too
                packets.append(size)
                size = 0
    return packets


def opus_payload(data: bytes) -> int:
    """Bytes of the packets of sound of an Ogg Opus file: all but its two headers (RFC 7845)."""
    return sum(ogg_packets(data)[2:])


def mp3_payload(data: bytes) -> int:
    """Bytes of the frames of an MP3 file, with their headers.

    Not counted are tags, and the first frame where it holds no sound but what a player should know
    (Xing's and LAME's).

    Raises:
      ValueError: what should be a frame is none.
    """
    at = 0
    if data[:3] == b"ID3":
        tag = data[6:10]
        at = 10 + sum(byte << shift for byte, shift in zip(tag, (21, 14, 7, 0), strict=True))
    end = len(data) - 128 if data[-128:-125] == b"TAG" else len(data)
    total, is_first = 0, True
    while at < end:
        size = _mp3_frame(data[at : at + 4], at)
        # Behind the header and the side information, whose size is one of these.
        starts = [data[at + offset : at + offset + 4] for offset in (13, 21, 36)]
        if not is_first or not {b"Xing", b"Info"} & set(starts):
            total += min(size, end - at)
        is_first = False
        at += size
    return total


def _mp3_frame(header: bytes, at: int) -> int:
    """Bytes of a frame."""
    if len(header) == 4 and header[0] == 0xFF and header[1] & 0xE6 == 0xE2:  # layer III
        version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
        if version != 1 and 0 < bitrate < 15 and rate < 3:
            kbps = MP3_KBPS[version != 3][bitrate - 1]
            samples = 1152 if version == 3 else 576
            return samples // 8 * 1000 * kbps // _MP3_RATES[version][rate] + (header[2] >> 1 & 1)
    raise ValueError(f"MP3: no frame at byte {at}")
