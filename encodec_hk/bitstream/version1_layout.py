"""The bytes of version 1: header, blocks and end. `docs/ecdc.md` has the tables.

Numbers are big-endian. A block is a head of 20 bytes and a payload; the end of the file is a block
without frames. The head has its own checksum and the position of the block's first frame, so a
reader finds the next block after damage and knows how many frames are lost.

Shapes: K codebooks, F frames.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from encodec_hk.bitstream import headers

PRELUDE = struct.Struct("!4sBI")  # magic, version, size of the header that follows: as in version 0
MAGIC = b"ECDC"
MARKER = b"\xec\xdb"  # starts a block
MAX_POINTS = 1024  # of the index

# Coding, flags, bits, channels, codebooks, sample rate, hop, frames of a block, length and stride
# of a segment, samples, fingerprint, bytes of the name.
_HEADER = struct.Struct("!BBBHHIIIIIQ32sB")
_CRC = struct.Struct("!I")
_PLAIN = 0  # coding: a fixed number of bits per code
_LANGUAGE = 1  # coding: with the language model whose SHA-256 follows the name
_LANGUAGE_SIZE = 32  # bytes of that
LEAST_CODED = 4  # bytes of the codes of a block, with a language model
_SCALES = 1  # flag: every block has a scale
_UNKNOWN = 2**64 - 1  # number of samples
_HEAD = struct.Struct("!2sHIIII")
_END = struct.Struct("!Q")
_POINT = struct.Struct("!IQ")
_SIZE = struct.Struct("!I")

HEAD_SIZE = _HEAD.size
HEADER_SIZES = (  # after the prelude
    _HEADER.size + 1 + _CRC.size,
    _HEADER.size + 255 + _LANGUAGE_SIZE + _CRC.size,
)
MAX_END_SIZE = HEAD_SIZE + _END.size + MAX_POINTS * _POINT.size + _SIZE.size


class Point(NamedTuple):
    """An entry of the index."""

    frame: int  # position of a block's first frame
    offset: int  # bytes from the start of the file to the block


class Head(NamedTuple):
    """The head of a block."""

    first: int  # position of its first frame, see `Block.start_frame`; at the end, after the last
    frames: int  # 0 marks the end of the file
    length: int  # bytes of the payload
    crc: int  # CRC-32 of the others and the payload

    @property
    def is_end(self) -> bool:
        """Return whether this is the end of the file."""
        return self.frames == 0


class Layout(NamedTuple):
    """A header and the size of blocks, which only version 1 has."""

    header: headers.Header
    block_frames: int  # of a block, at most; with segments, of a full segment

    @property
    def block_size(self) -> int:
        """Return the bytes of a full block."""
        return HEAD_SIZE + self.header.payload_size(self.block_frames)

    def allows(self, head: Head) -> bool:
        """Return whether a block of this file can have such a head."""
        if self.header.framing.has_segments and head.first % self.block_frames:
            return False
        if head.is_end:
            points, rest = divmod(head.length - _END.size - _SIZE.size, _POINT.size)
            return rest == 0 and 0 <= points <= MAX_POINTS
        if head.frames > self.block_frames:
            return False
        plain = self.header.payload_size(head.frames)
        return head.length == plain or self._can_be_coded(head.length, plain)

    def is_coded(self, head: Head) -> bool:
        """Return whether a block is stored with the language model: then it is shorter."""
        return head.length != self.header.payload_size(head.frames)

    def most_frames(self, size: int) -> int:
        """Return the most frames that blocks of this many bytes can hold."""
        if self.header.language is None:
            return size * 8 // self.header.frame_bits
        return (size // (HEAD_SIZE + LEAST_CODED) + 1) * self.block_frames

    def _can_be_coded(self, length: int, plain: int) -> bool:
        if self.header.language is None:
            return False
        least = self.header.payload_size(0) + LEAST_CODED
        return least <= length < plain and (length - least) % 2 == 0


def layout_for(header: headers.Header) -> Layout:
    """Return the layout of a new file: blocks of a second, or of a segment."""
    if header.framing.has_segments:
        return Layout(header, header.framing.segment_frames)
    most = headers.MAX_BLOCK_CODES // header.num_codebooks
    if header.language is not None:
        most = min(most, headers.MAX_CODED_FRAMES)
    return Layout(header, min(header.frame_rate, most))


def header_bytes(layout: Layout) -> bytes:
    """Return the bytes before the first block."""
    header = layout.header
    name = header.name.encode()
    fields = _HEADER.pack(
        _PLAIN if header.language is None else _LANGUAGE,
        _SCALES if header.normalize else 0,
        header.bits,
        header.channels,
        header.num_codebooks,
        header.sample_rate,
        header.hop_length,
        layout.block_frames,
        header.segment_length or 0,
        header.segment_stride or 0,
        _UNKNOWN if header.num_samples is None else header.num_samples,
        bytes.fromhex(header.fingerprint or ""),
        len(name),
    )
    name += bytes.fromhex(header.language or "")
    size = len(fields) + len(name) + _CRC.size
    data = PRELUDE.pack(MAGIC, 1, size) + fields + name
    return data + _CRC.pack(zlib.crc32(data))


def read_header(data: bytes) -> Layout:
    """Read the bytes before the first block.

    Raises:
      EcdcError: if they are damaged, or of a file that this program does not read.
    """
    error = headers.EcdcError
    body, crc = data[: -_CRC.size], data[-_CRC.size :]
    if _CRC.pack(zlib.crc32(body)) != crc:
        raise error("damaged header: its CRC-32 differs")
    fields = _HEADER.unpack_from(body, PRELUDE.size)
    coding, flags, bits, channels, codebooks, rate, hop, block_frames, length, stride = fields[:10]
    samples, fingerprint, name_size = fields[10:]
    if coding not in (_PLAIN, _LANGUAGE):
        raise error(
            f"header: coding: got {coding}, this program reads {_PLAIN} (fixed bits per code) and "
            f"{_LANGUAGE} (language model)"
        )
    if flags & ~_SCALES:
        raise error(f"header: flags: got {flags:#x}, this program knows {_SCALES:#x} (scales)")
    name, language = body[PRELUDE.size + _HEADER.size :], b""
    if coding == _LANGUAGE:
        name, language = name[:-_LANGUAGE_SIZE], name[-_LANGUAGE_SIZE:]
        if not any(language):
            raise error("header: language: got 0, must be the fingerprint of a language model")
    if len(name) != name_size:
        raise error(f"header: name: got {len(name)} bytes, must be {name_size}")
    try:
        text = name.decode()
    except UnicodeDecodeError as problem:
        raise error(f"header: name: got {name!r}, must be UTF-8") from problem
    try:
        header = headers.Header(
            version=1,
            name=text,
            sample_rate=rate,
            channels=channels,
            hop_length=hop,
            num_codebooks=codebooks,
            bits=bits,
            segment_length=length or None,
            segment_stride=stride or None,
            normalize=bool(flags & _SCALES),
            num_samples=None if samples == _UNKNOWN else samples,
            fingerprint=fingerprint.hex() if any(fingerprint) else None,
            language=language.hex() or None,
        )
        headers.check(header)
        least, most = 1, headers.MAX_BLOCK_CODES // codebooks
        if header.framing.has_segments:
            least = most = header.framing.segment_frames
        elif header.language is not None:
            most = min(most, headers.MAX_CODED_FRAMES)
        headers.check_count("frames of a block", block_frames, least, most)
    except ValueError as problem:
        raise error(f"header: {problem}") from problem
    return Layout(header, block_frames)


def block_bytes(first: int, frames: int, payload: bytes) -> bytes:
    """Return the bytes of a block."""
    rest = struct.pack("!III", first, frames, len(payload))
    rest += _CRC.pack(zlib.crc32(payload, zlib.crc32(rest)))
    return MARKER + struct.pack("!H", _check(rest)) + rest + payload


def read_head(data: bytes) -> Head | None:
    """Read the head of a block from its 20 bytes; None if they are not a head."""
    marker, check, *rest = _HEAD.unpack(data)
    if marker != MARKER or check != _check(data[4:]):
        return None
    return Head(*rest)


def is_intact(head: Head, payload: bytes) -> bool:
    """Return whether a payload belongs to its head."""
    return head.crc == zlib.crc32(payload, zlib.crc32(struct.pack("!III", *head[:3])))


def end_bytes(end_frame: int, num_samples: int | None, points: list[Point]) -> bytes:
    """Return the end of a file; its last four bytes state its size, for readers to find it."""
    payload = _END.pack(_UNKNOWN if num_samples is None else num_samples)
    payload += b"".join(_POINT.pack(*point) for point in points)
    payload += _SIZE.pack(HEAD_SIZE + len(payload) + _SIZE.size)
    return block_bytes(end_frame, 0, payload)


def end_size(data: bytes) -> int:
    """Return the size of the end, from the last four bytes of a file."""
    return _SIZE.unpack(data[-_SIZE.size :])[0]


def read_end(payload: bytes) -> tuple[int | None, list[Point]]:
    """Return the samples of the signal, None if unknown, and the index."""
    samples = _END.unpack_from(payload)[0]
    points = [Point(*fields) for fields in _POINT.iter_unpack(payload[_END.size : -_SIZE.size])]
    return (None if samples == _UNKNOWN else samples), points


def _check(rest: bytes) -> int:
    """Return the checksum of a head: the low 16 bits of the CRC-32 of the bytes after it."""
    return zlib.crc32(rest) & 0xFFFF
