"""Read version 1, also after damage.

If the head of a block is damaged, the reader searches for the next valid one; the position of its
first frame tells how many frames are lost.

Shapes: K codebooks, F frames.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from encodec_hk.bitstream import headers
from encodec_hk.bitstream import interface
from encodec_hk.bitstream import packing
from encodec_hk.bitstream import version1_layout

MAX_GAP = 600  # blocks that may be missing together with their bytes
MAX_DAMAGE = 100  # damaged ranges in warnings; more are only counted

_SCAN = 512  # bytes of a read in search of a block: a live stream waits for no more


class _Found(NamedTuple):
    """The next block, or the end of the file."""

    head: version1_layout.Head | None  # None if the file ends first
    payload: bytes | None  # None if the block is damaged
    skipped: int  # bytes before the head that belong to no block


class _Piece(NamedTuple):
    """Consecutive frames, intact or lost."""

    start: int  # position of the first frame
    stop: int  # position after the last; `start` if all that follows is lost, of unknown length
    frames: int | None = None  # None if unknown: the last segments are shorter than their positions
    codes: np.ndarray | None = None  # int32 [K, F]; None if they are lost, or `coded`
    scale: float | None = None  # of the segment
    coded: bytes | None = None  # the codes, until the language model decodes them
    skipped: int = 0  # the first frames of `coded`, which are not of the piece


class Version1Reader(interface.EcdcReader):
    """Reads a file of version 1."""

    def __init__(
        self,
        source: interface.ByteSource,
        layout: version1_layout.Layout,
        coder: Callable[[headers.Header], interface.EntropyCoder] | None = None,
    ):
        super().__init__(source, layout.header)
        self._layout = layout
        self._open_coder = coder
        self._coder: interface.EntropyCoder | None = None
        self._size = layout.block_frames  # frames of a full block
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
            size = version1_layout.end_size(source.read(most))
            if version1_layout.HEAD_SIZE < size <= most:
                source.seek(file_size - size)
                found = self._next(0, self._layout.most_frames(file_size) + MAX_GAP * self._size)
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
        """Read the next block, whose first frame is `expected` if none are missing.

        `most` frames may be missing, besides those that the skipped bytes can hold.
        """
        skipped = 0
        while True:
            data = self._source.read(version1_layout.HEAD_SIZE)
            if len(data) < version1_layout.HEAD_SIZE:
                return _Found(None, None, skipped and skipped + len(data))
            head = version1_layout.read_head(data)
            reach = expected + most + (self._layout.most_frames(skipped) if skipped else 0)
            if head and self._layout.allows(head) and expected <= head.first <= reach:
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

    def _positions_in(self, size: int) -> int:
        """Return the positions of the blocks that fill these bytes."""
        blocks, rest = divmod(size, self._layout.block_size)
        frames = self._frames_in(max(0, rest - version1_layout.HEAD_SIZE))
        if frames and self._framing.has_segments:
            frames = self._size
        return blocks * self._size + frames

    def _blocks(self, start_frame: int, recover: bool, decode: bool) -> Iterator[interface.Block]:
        self._damage, self._num_more = [], 0
        self.coded_bytes = self.plain_bytes = 0
        for piece in self._decoded(self._pieces(start_frame), decode):
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
        size, start = self._size, start_frame
        if self._framing.has_segments:
            start = start // size * size
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
            expected = head.first + (size if self._framing.has_segments else head.frames)
            if expected > start:
                first = max(head.first, start)
                piece = _Piece(first, expected, head.frames)
                yield self._with_content(piece, found.payload, head, first - head.first)
        surplus = (self._source.size or 0) - self._source.position
        if surplus > 0:
            self._notes.append(f"{surplus} bytes after the end")

    def _go_to(self, start: int) -> int:
        """Move to a block at or before a frame; return the position of its first frame."""
        if not start or self._source.size is None:
            return 0
        points = []
        if self.header.language is None:
            number = start // self._size  # if all blocks are full
            offset = self._start + number * self._layout.block_size
            points = [version1_layout.Point(number * self._size, offset)]
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

    def _with_content(
        self, piece: _Piece, payload: bytes | None, head: version1_layout.Head, dropped: int
    ) -> _Piece:
        """Add the codes of a block, none if damaged, without the first ones, and its scale."""
        if payload is None:
            return piece
        scale, data = self._split(payload)
        if scale is not None and not packing.is_scale(scale):
            return piece
        self.coded_bytes += len(data)
        count = head.frames * self.header.num_codebooks
        self.plain_bytes += packing.num_bytes(count, self.header.bits)
        if self._layout.is_coded(head):
            return piece._replace(scale=scale, coded=data, skipped=dropped)
        return piece._replace(codes=self._unpack(data, head.frames)[:, dropped:], scale=scale)

    def _decoded(self, pieces: Iterator[_Piece], decode: bool) -> Iterator[_Piece]:
        """Decode pieces with the language model; of a file, several at once."""
        if self.header.language is None:
            yield from pieces
            return
        for first in pieces:
            if first.coded is None:
                yield first
                continue
            if not decode:
                zeros = np.zeros((self.header.num_codebooks, first.stop - first.start), np.int32)
                yield first._replace(codes=zeros)
                continue
            coder = self._coder = self._coder or self._coder_of()
            rows = 1 if self._source.size is None else coder.rows
            group = [first, *itertools.islice(pieces, rows - 1)]
            coded = [piece for piece in group if piece.coded is not None]
            found = iter(
                coder.decode(
                    [piece.coded or b"" for piece in coded],
                    [piece.frames or 0 for piece in coded],
                    self.header.num_codebooks,
                )
            )
            for piece in group:
                if piece.coded is not None:
                    codes = next(found)
                    codes = None if codes is None else codes[:, piece.skipped :]
                    piece = piece._replace(codes=codes, coded=None)
                yield piece

    def _coder_of(self) -> interface.EntropyCoder:
        """Return the coder of the language model.

        Raises:
          EcdcError: if there is none, or it is another.
        """
        language = self.header.language or ""
        if self._open_coder is None:
            raise headers.EcdcError(f"needs the language model {language[:16]} of the codec")
        try:
            coder = self._open_coder(self.header)
        except ValueError as error:
            raise headers.EcdcError(str(error)) from error
        if coder.fingerprint != language:
            raise headers.EcdcError(
                f"made with language model {language[:16]}, the one here is "
                f"{coder.fingerprint[:16]}"
            )
        if self.header.num_codebooks > coder.max_codebooks:
            raise headers.EcdcError(
                f"header: num_codebooks: got {self.header.num_codebooks}, its language model has "
                f"{coder.max_codebooks}"
            )
        return coder

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
        size, num_samples = self._size, self.header.num_samples
        for position in range(piece.start, piece.stop, size):
            frames = min(size, piece.stop - position)
            if self._framing.has_segments and piece.frames:
                frames = piece.frames
            elif self._framing.has_segments and num_samples is not None:
                frames = self._framing.frames_of(position // size, num_samples)
            if frames:
                zeros = np.zeros((self.header.num_codebooks, frames), np.int32)
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
