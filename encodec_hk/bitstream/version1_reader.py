"""Read version 1, also after damage.

If the head of a block is damaged, the reader searches for the next valid one; the position of its
first frame tells how many frames are lost.

Shapes: K codebooks, F frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from encodec_hk.bitstream import headers
from encodec_hk.bitstream import interface
from encodec_hk.bitstream import packing
from encodec_hk.bitstream import transport
from encodec_hk.bitstream import version1_layout

MAX_GAP = 600  # blocks that may be missing together with their bytes
MAX_DAMAGE = 100  # damaged ranges in warnings; more are only counted

_SCAN = 512  # bytes of a read in search of a block: a live stream waits for no more


class _Found(NamedTuple):
    """The result of a search for the next block.

    Attributes:
      head: the head of the block; None if the file ends first.
      payload: the payload of the block; None if it is damaged.
      skipped: bytes before the head that belong to no block.
    """

    head: version1_layout.Head | None
    payload: bytes | None
    skipped: int


class _Piece(NamedTuple):
    """Consecutive frames, intact or lost.

    Attributes:
      start: position of the first frame.
      stop: position after the last frame; `start` if all that follows is lost, of unknown length.
      frames: number of frames; None if unknown: the last segments may have fewer frames than
        positions.
      codes: int32 [K, F]; None if they are lost.
      scale: scale of the segment.
    """

    start: int
    stop: int
    frames: int | None = None
    codes: np.ndarray | None = None
    scale: float | None = None


class Version1Reader(interface.EcdcReader):
    """Reads a file of version 1."""

    def __init__(self, source: transport.ByteSource, layout: version1_layout.Layout):
        super().__init__(source, layout.header)
        self._layout = layout
        self._size = layout.block_frames
        self._points: list[version1_layout.Point] = []
        self._damage: list[_Piece] = []
        self._num_more = 0
        if source.size is not None:
            self._find_end(source.size)

    @property
    def warnings(self) -> list[str]:
        """Return the problems found so far, damage first."""
        damage = [self._described(piece) for piece in self._damage]
        more = [f"{self._num_more} more damaged blocks"] if self._num_more else []
        return damage + more + super().warnings

    def _find_end(self, file_size: int) -> None:
        """Read the end of the file, if it is complete."""
        source = self._source
        most = min(version1_layout.MAX_END_SIZE, file_size - self._start)
        if most > version1_layout.HEAD_SIZE:
            source.seek(file_size - most)
            data = source.read(most)
            size = version1_layout.end_size(data)
            if version1_layout.HEAD_SIZE < size <= len(data):
                source.seek(file_size - size)
                found = self._next(0, self._frames_in(file_size) + MAX_GAP * self._size)
                if found.head is not None and found.head.is_end and not found.skipped:
                    self._take_end(found)
        source.seek(self._start)

    def _take_end(self, found: _Found) -> bool:
        """Adopt the length and the index in the end of the file; return whether they are valid."""
        if found.payload is None or found.head is None:
            return False
        num_samples, points = version1_layout.read_end(found.payload)
        if num_samples is not None:
            header = dataclasses.replace(self.header, num_samples=num_samples)
            if num_samples > headers.MAX_SAMPLES or header.end_frame != found.head.first:
                return False
            self.header = header
        self._points = points
        return True

    def _next(self, expected: int, most: int) -> _Found:
        """Read the next block.

        Args:
          expected: position of its first frame, if no frames are missing.
          most: frames that may be missing, besides those that the skipped bytes can hold.
        """
        skipped = 0
        while True:
            data = self._source.read(version1_layout.HEAD_SIZE)
            if len(data) < version1_layout.HEAD_SIZE:
                return _Found(None, None, skipped and skipped + len(data))
            head = version1_layout.read_head(data)
            most_now = most + self._frames_in(skipped)
            if head is not None and self._is_next(head, expected, most_now):
                payload = self._source.read(head.length)
                if len(payload) < head.length:
                    return _Found(None, None, skipped)
                is_intact = version1_layout.is_intact(head, payload)
                return _Found(head, payload if is_intact else None, skipped)
            data += self._source.read(_SCAN)
            at = data.find(version1_layout.MARKER, 1)
            if at < 0:
                at = len(data) - data.endswith(version1_layout.MARKER[:1])
            self._source.unread(data[at:])
            skipped += at

    def _is_next(self, head: version1_layout.Head, expected: int, most: int) -> bool:
        return self._layout.allows(head) and 0 <= head.first - expected <= most

    def _frames_in(self, size: int) -> int:
        return size * 8 // (self.header.num_codebooks * self.header.bits)

    def _positions_in(self, size: int) -> int:
        """Return the positions of the blocks that fill these bytes."""
        whole = self._size
        blocks, rest = divmod(size, version1_layout.HEAD_SIZE + self._layout.payload_size(whole))
        frames = self._frames_in(max(0, rest - version1_layout.HEAD_SIZE))
        if self.header.segment_frames is not None:
            frames = whole if frames else 0
        return blocks * whole + frames

    def _blocks(self, start_frame: int, recover: bool) -> Iterator[interface.Block]:
        self._damage, self._num_more = [], 0
        for piece in self._pieces(start_frame):
            if piece.codes is not None:
                yield interface.Block(piece.codes, piece.scale, piece.start, False)
            elif not recover:
                remedy = "replaces it by silence" if piece.stop > piece.start else "stops there"
                raise headers.EcdcError(f"{self._described(piece)}; --recover {remedy}")
            else:
                self._note_damage(piece)
                yield from self._silence(piece)

    def _pieces(self, start_frame: int) -> Iterator[_Piece]:
        """Return the intact and the lost frames from a frame on, in order and without gaps."""
        size = self._size
        has_segments = self.header.segment_frames is not None
        start = start_frame // size * size if has_segments else start_frame
        expected = self._go_to(start)
        while True:
            found = self._next(expected, MAX_GAP * size)
            head = found.head
            if head is None:
                yield from self._cut(expected, start, found.skipped)
                return
            if head.is_end and not self._take_end(found):
                self._notes.append("no index: the end is damaged")
            if head.first > max(expected, start):
                yield _Piece(max(expected, start), head.first)
            if head.is_end:
                break
            expected = head.first + (size if has_segments else head.frames)
            if expected > start:
                piece = _Piece(head.first, expected, head.frames)
                if found.payload is not None:
                    piece = self._unpack(piece, head.frames, found.payload)
                if head.first < start:
                    codes = None if piece.codes is None else piece.codes[:, start - head.first :]
                    piece = piece._replace(start=start, codes=codes)
                yield piece
        if self._source.size is not None and self._source.position < self._source.size:
            surplus = self._source.size - self._source.position
            self._notes.append(f"{surplus} bytes after the end")

    def _go_to(self, start: int) -> int:
        """Move to a block at or before a frame; return the position of its first frame."""
        if not start or self._source.size is None:
            return 0
        size = self._size
        number = start // size  # if all blocks are full
        full = version1_layout.HEAD_SIZE + self._layout.payload_size(size)
        points = [version1_layout.Point(number * size, self._start + number * full)]
        points += [point for point in reversed(self._points) if point.frame <= start][:1]
        for point in points:
            if self._start <= point.offset <= self._source.size - version1_layout.HEAD_SIZE:
                self._source.seek(point.offset)
                head = version1_layout.read_head(self._source.read(version1_layout.HEAD_SIZE))
                if head is not None and self._layout.allows(head) and head.first == point.frame:
                    self._source.seek(point.offset)
                    return point.frame
        self._source.seek(self._start)
        return 0

    def _unpack(self, piece: _Piece, frames: int, payload: bytes) -> _Piece:
        header, scale = self.header, None
        if header.normalize:
            scale = version1_layout.SCALE.unpack_from(payload)[0]
            if not interface.is_scale(scale):
                return piece
            payload = payload[version1_layout.SCALE.size :]
        codes = packing.unpack(payload, header.bits, frames * header.num_codebooks)
        codes = np.ascontiguousarray(codes.reshape(frames, -1).T)
        return piece._replace(codes=codes, scale=scale)

    def _cut(self, position: int, start: int, skipped: int) -> Iterator[_Piece]:
        """Describe the rest of a file without an end, after its last intact block."""
        total = self.header.end_frame
        stop = position
        if skipped and total is not None:
            stop = max(position, min(total, position + self._positions_in(skipped)))
        if stop > max(position, start):
            yield _Piece(max(position, start), stop)
        elif skipped and stop == position != total:
            yield _Piece(position, position)
        if stop == total:
            self._notes.append("no index: the end is missing or damaged")
        elif not skipped or total is not None:
            length = "" if total is None else f" of {self.header.duration:.2f} s"
            self._notes.append(f"cut off after {self._time(stop)}{length}: the end is missing")

    def _silence(self, piece: _Piece) -> Iterator[interface.Block]:
        header, size = self.header, self._size
        for position in range(piece.start, piece.stop, size):
            frames = min(size, piece.stop - position)
            if header.segment_frames is not None:
                frames = piece.frames or header.frames_of(position // size)
            if frames:
                zeros = np.zeros((header.num_codebooks, frames), np.int32)
                yield interface.Block(zeros, None, position, True)

    def _described(self, piece: _Piece) -> str:
        if piece.start == piece.stop:
            return f"damaged from {self._time(piece.start)} to the end of the file"
        blocks = "blocks" if piece.stop - piece.start > self._size else "block"
        return f"damaged {blocks} at {self._time(piece.start)} to {self._time(piece.stop)}"

    def _note_damage(self, piece: _Piece) -> None:
        """Note damage; merge it with the previous one if they are adjacent."""
        last = self._damage[-1] if self._damage else None
        if last is not None and last.stop == piece.start < piece.stop and not self._num_more:
            self._damage[-1] = last._replace(stop=piece.stop)
        elif len(self._damage) < MAX_DAMAGE:
            self._damage.append(piece)
        else:
            self._num_more += 1
