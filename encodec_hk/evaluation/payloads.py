"""Bytes of payload in coded files: codes of .ecdc, packets of Ogg Opus, frames of MP3."""

from __future__ import annotations

import io

from encodec_hk import bitstream
from encodec_hk.bitstream import version1_layout
from encodec_hk.sound import ogg_pages

# Kbps by the four bits of a layer III frame's header; first MPEG-1, then MPEG-2 and 2.5.
MP3_KBPS = (
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
# Hz by two bits of the header, for each version's bits.
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
MP3_SAMPLE_RATES = tuple(sorted(rate for rates in _MP3_RATES.values() for rate in rates))


def kbps(num_bytes: int, seconds: float) -> float:
    """Return the kilobits per second of some bytes."""
    return 8 * num_bytes / seconds / 1000


def ecdc_payload(data: bytes) -> int:
    """Return the bytes of packed codes and scales in an .ecdc file; raise ValueError if it is none.

    The rest is the header and, in version 1, the heads of blocks and the end with its index.
    """
    header = bitstream.open_reader(io.BytesIO(data)).header
    at = version1_layout.PRELUDE.size + version1_layout.PRELUDE.unpack_from(data)[2]
    if header.version == 0:
        return len(data) - at
    payload = 0
    while at < len(data):
        head = version1_layout.read_head(data[at : at + version1_layout.HEAD_SIZE])
        if head is None:
            raise ValueError(f"no block at byte {at}")
        payload += 0 if head.is_end else head.length
        at += version1_layout.HEAD_SIZE + head.length
    return payload


def ogg_packets(data: bytes) -> list[int]:
    """Return the bytes of each packet of an Ogg file with one stream, headers included.

    Raises ValueError if it is not an Ogg file, or is cut off.
    """
    packets, size, at = [], 0, 0
    while at < len(data):
        page = ogg_pages.read(data, at)
        if page is None:
            raise ValueError(f"Ogg: no complete page at byte {at}")
        at = page.end
        for segment in page.lacing:
            size += segment
            if segment < 255:  # else the packet continues, even on the next page
                packets.append(size)
                size = 0
    return packets


def opus_payload(data: bytes) -> int:
    """Return the bytes of an Ogg Opus file's packets without its two headers (RFC 7845)."""
    return sum(ogg_packets(data)[2:])


def mp3_payload(data: bytes) -> int:
    """Return the bytes of an MP3 file's frames, with their headers.

    Tags do not count, nor does a first frame with Xing's or LAME's information for players. Raises
    ValueError if there is no frame where one must start.
    """
    at = 0
    if data[:3] == b"ID3":
        tag = data[6:10]
        at = 10 + sum(byte << shift for byte, shift in zip(tag, (21, 14, 7, 0), strict=True))
    end = len(data) - 128 if data[-128:-125] == b"TAG" else len(data)
    total, is_first = 0, True
    while at < end:
        size = _mp3_frame(data[at : at + 4], at)
        # The offset depends on the size of the side information.
        starts = [data[at + offset : at + offset + 4] for offset in (13, 21, 36)]
        if not is_first or not {b"Xing", b"Info"} & set(starts):
            total += min(size, end - at)
        is_first = False
        at += size
    return total


def _mp3_frame(header: bytes, at: int) -> int:
    """Return the bytes of a frame with a header of 4 bytes; `at` is for the error."""
    if len(header) == 4 and header[0] == 0xFF and header[1] & 0xE6 == 0xE2:  # layer III
        version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
        if version != 1 and 0 < bitrate < 15 and rate < 3:
            kbps = MP3_KBPS[version != 3][bitrate - 1]
            samples = 1152 if version == 3 else 576
            return samples // 8 * 1000 * kbps // _MP3_RATES[version][rate] + (header[2] >> 1 & 1)
    raise ValueError(f"MP3: no frame at byte {at}")
