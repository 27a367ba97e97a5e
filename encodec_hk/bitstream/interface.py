"""The interface of readers and writers of all versions.

Shapes: K codebooks, F frames. Codes are integers, 0 to 2**bits - 1.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from encodec_hk.bitstream import headers
from encodec_hk.bitstream import transport


class Block(NamedTuple):
    """Consecutive frames; with segments, one segment.

    Attributes:
      codes: int32 [K, F].
      scale: scale of the segment; None if the file stores none or the block is damaged.
      start_frame: position of the first frame. With segments, every segment counts as a full one:
        the position is the segment's index times `Header.segment_frames`.
      is_damaged: whether the codes are lost and replaced by zeros.
    """

    codes: np.ndarray
    scale: float | None
    start_frame: int
    is_damaged: bool


class EcdcWriter(abc.ABC):
    """Writes codes without seeking. `finish` completes the file and leaves it open.

    Attributes:
      header: the header in the file.
    """

    def __init__(self, file: BinaryIO, header: headers.Header):
        headers.check(header)
        self.header = header
        self._file = file
        self._frames = 0  # position after the last frame written
        self._is_finished = False

    def write(self, codes: np.ndarray, scales: np.ndarray | None = None) -> None:
        """Write codes.

        Args:
          codes: integers [K, F]: one segment, or without segments any number of frames.
          scales: float32 [1] if the header has `normalize`, else None.

        Raises:
          ValueError: if the codes or the scale do not fit the header, or the file is finished.
        """
        if self._is_finished:
            raise ValueError("write: the file is finished")
        codes = self._checked(np.asarray(codes))
        scale = self._check_scale(scales)
        if codes.shape[1]:
            self._write(codes, scale)

    @abc.abstractmethod
    def _write(self, codes: np.ndarray, scale: float | None) -> None:
        """Write valid codes, int32 with F >= 1."""

    @abc.abstractmethod
    def flush(self) -> None:
        """Write all frames that a reader can decode by now, and flush the file."""

    def finish(self, num_samples: int | None = None) -> None:
        """Complete the file; a second call does nothing.

        Args:
          num_samples: samples of the signal; None to take them from the header, if it has them.

        Raises:
          ValueError: if a signal of this length has another number of frames.
        """
        if self._is_finished:
            return
        if num_samples is None:
            num_samples = self.header.num_samples
        if num_samples is not None:
            headers.check_count("num_samples", num_samples, 0, headers.MAX_SAMPLES)
        self._finish(num_samples)
        self._is_finished = True

    @abc.abstractmethod
    def _finish(self, num_samples: int | None) -> None:
        """Complete the file."""

    def _put(self, data: bytes) -> None:
        transport.write(self._file, data)

    def _checked(self, codes: np.ndarray) -> np.ndarray:
        header = self.header
        is_right = codes.ndim == 2 and codes.shape[0] == header.num_codebooks
        if not is_right or not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(
                f"codes: got {codes.dtype} of shape {codes.shape}, "
                f"must be integers [{header.num_codebooks}, F]"
            )
        whole = header.segment_frames
        if whole is not None and not 1 <= codes.shape[1] <= whole:
            raise ValueError(f"codes: got {codes.shape[1]} frames, a segment has 1 to {whole}")
        if codes.size:
            low, high = codes.min(), codes.max()
            if low < 0 or high >= 2**header.bits:
                wrong = low if low < 0 else high
                raise ValueError(f"codes: got {wrong}, must be 0 to {2**header.bits - 1}")
        return codes.astype(np.int32, copy=False)

    def _check_scale(self, scales: Any) -> float | None:
        if not self.header.normalize:
            if scales is not None:
                raise ValueError("scales: got some, must be None where the header stores none")
            return None
        scales = np.asarray(scales)
        if scales.shape != (1,) or not np.issubdtype(scales.dtype, np.number):
            raise ValueError(
                f"scales: got {scales.dtype} of shape {scales.shape}, must be float [1]"
            )
        scale = float(np.float32(scales[0]))
        if not is_scale(scale):
            raise ValueError(f"scales: got {scale}, must be finite and above 0")
        return scale


class EcdcReader(abc.ABC):
    """Reads codes block by block.

    Attributes:
      header: the header of the file. If the file is seekable and complete, its `num_samples` comes
        from the end of the file.
    """

    def __init__(self, source: transport.ByteSource, header: headers.Header):
        self.header = header
        self._notes: list[str] = []
        self._num_kept = 0  # warnings from opening the file
        self._source = source
        self._start = source.position  # offset of the first block
        self._has_read = False

    @property
    def warnings(self) -> list[str]:
        """Return the problems found so far that did not stop reading, a line each."""
        return list(self._notes)

    @property
    def num_samples(self) -> int | None:
        """Return the samples of the signal; None if unknown, from a pipe perhaps until its end.

        It may be more than the frames of a file that was cut off.
        """
        return self.header.num_samples

    def blocks(self, start_frame: int = 0, recover: bool = False) -> Iterator[Block]:
        """Read blocks of about a second, or of one segment.

        Args:
          start_frame: where to start, as `Block.start_frame` counts; segments are read whole. In
            seekable files, earlier blocks are skipped without reading them.
          recover: whether to replace damaged blocks by zeros and go on.

        Raises:
          EcdcError: if a block is damaged; with `recover`, a warning instead.
          ValueError: if a pipe is read a second time.
        """
        headers.check_count("start_frame", start_frame, 0, headers.MAX_SAMPLES)
        if self._has_read and not self._source.is_seekable:
            raise ValueError("blocks: a pipe can be read only once")
        if self._has_read:
            self._source.seek(self._start)
            del self._notes[self._num_kept :]
        self._has_read, self._num_kept = True, len(self._notes)
        return self._blocks(start_frame, recover)

    @abc.abstractmethod
    def _blocks(self, start_frame: int, recover: bool) -> Iterator[Block]:
        """Read blocks, from the one that holds `start_frame` on."""

    def _time(self, frame: int) -> str:
        return f"{self.header.seconds(frame):.2f} s"


def is_scale(scale: float) -> bool:
    """Return whether a number can be the scale of a segment."""
    return 0 < scale < float("inf")
