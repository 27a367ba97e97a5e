"""Write version 1 in one pass: blocks of about a second, and an index at the end.

Shapes: K codebooks, F frames.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from encodec_hk.bitstream import headers
from encodec_hk.bitstream import interface
from encodec_hk.bitstream import packing
from encodec_hk.bitstream import version1_layout

_INDEX_EVERY = 8  # blocks per point of the index, at first; doubles when the index is full


class Version1Writer(interface.EcdcWriter):
    """Writes a file of version 1: a block when it is full, or when `flush` is called."""

    def __init__(
        self,
        file: BinaryIO,
        header: headers.Header,
        coder: interface.EntropyCoder | None = None,
    ):
        super().__init__(file, header)
        self._coder = coder
        self._layout = version1_layout.layout_for(header)
        self._open = np.zeros((header.num_codebooks, 0), np.int32)  # frames of the next block
        self._scale: float | None = None  # of the next block
        self._num_frames = 0
        self._num_blocks = 0
        self._points: list[version1_layout.Point] = []
        self._every = _INDEX_EVERY
        self._put(version1_layout.header_bytes(self._layout))
        self._file.flush()

    def _write(self, codes: np.ndarray, scale: float | None) -> None:
        frames = codes.shape[1]
        size = self._layout.block_frames
        room = size if self._framing.has_segments else frames
        if self._frames + self._open.shape[1] + room >= 2**32:
            raise ValueError("codes: got more frames than the 2**32 of a file")
        self._num_frames += frames
        if self._framing.has_segments:
            self._put_blocks(codes, frames, scale)
            self._frames += size - frames
        else:
            if scale != self._scale:
                self._close()
            self._scale = scale
            codes = np.concatenate([self._open, codes], axis=1)
            full = codes.shape[1] // size * size
            self._open = codes[:, full:]
            if full:
                self._put_blocks(codes[:, :full], size, scale)
        self._file.flush()

    def _put_blocks(self, codes: np.ndarray, frames: int, scale: float | None) -> None:
        """Write codes [K, n * frames] as n blocks."""
        start = b"" if scale is None else packing.SCALE.pack(scale)
        rows = codes.T.reshape(-1, frames * len(codes))
        plain = [row.tobytes() for row in packing.pack(rows, self.header.bits)]
        for data in self._shortest(codes, frames, plain):
            if self._num_blocks % self._every == 0:
                self._points.append(version1_layout.Point(self._frames, self._offset))
            if len(self._points) > version1_layout.MAX_POINTS:
                del self._points[1::2]
                self._every *= 2
            self._num_blocks += 1
            self._put(version1_layout.block_bytes(self._frames, frames, start + data))
            self._frames += frames

    def _shortest(self, codes: np.ndarray, frames: int, plain: list[bytes]) -> list[bytes]:
        """Return the bytes of blocks: with the language model where that is shorter."""
        if self._coder is None:
            return plain
        coded = self._coder.encode(np.split(codes, len(plain), axis=1))
        return [min(pair, key=len) for pair in zip(plain, coded, strict=True)]

    def _close(self) -> None:
        if self._open.shape[1]:
            self._put_blocks(self._open, self._open.shape[1], self._scale)
            self._open = self._open[:, :0]

    def flush(self) -> None:
        """Write the open block and flush the file."""
        self._close()
        self._file.flush()

    def _finish(self, num_samples: int | None) -> None:
        if num_samples is not None:
            expected = self._framing.num_frames(num_samples)
            if expected != self._num_frames:
                raise ValueError(
                    f"finish: got {self._num_frames} frames, {num_samples} samples have {expected}"
                )
        self._close()
        self._put(version1_layout.end_bytes(self._frames, num_samples, self._points))
