"""What readers and writers of all versions do.

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
    """Some frames in a row: one segment of a file that is cut into segments.

    Attributes:
      codes: int32 [K, F].
      scale: of the segment; None where the file stores none, and of a damaged block.
      start_frame: place of the first frame. In a file that is cut into segments, each segment
        before counts as a whole one: the place is its number times `Header.segment_frames`.
      is_damaged: whether the codes are lost; they are zeros then.
    """

    codes: np.ndarray
    scale: float | None
    start_frame: int
    is_damaged: bool


class EcdcWriter(abc.ABC):
    """Writes codes as they come; never seeks. `finish` ends the file and leaves it open.

    Attributes:
      header: as it was written.
    """

    def __init__(self, file: BinaryIO, header: headers.Header):
        headers.check(header)
        self.header = header
        self._file = file
        self._frames = 0  # place after the last frame that was taken
        self._is_finished = False

    def write(self, codes: np.ndarray, scales: np.ndarray | None = None) -> None:
        """Takes codes.

        Args:
          codes: integers [K, F]: one whole segment, or where there are none any count of frames.
          scales: float32 [1] where the header says `normalize`, else None.

        Raises:
          ValueError: the shape, a value or the scale is not what the header says, or the file is
            finished.
        """
        if self._is_finished:
            raise ValueError("write: the file is finished")
        codes = self._checked(np.asarray(codes))
        scale = self._check_scale(scales)
        if codes.shape[1]:
            self._write(codes, scale)

    @abc.abstractmethod
    def _write(self, codes: np.ndarray, scale: float | None) -> None:
        """Takes codes that are right, int32, F >= 1."""

    @abc.abstractmethod
    def flush(self) -> None:
        """Hands all that can be read back so far to the file, and the file's buffer on."""

    def finish(self, num_samples: int | None = None) -> None:
        """Ends the file; the second time, does nothing.

        Args:
          num_samples: of the signal; None: as the header says, if it does.

        Raises:
          ValueError: the frames are not those of a signal of this length.
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
        """Ends the file."""

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
    """Reads codes block by block, forwards.

    Attributes:
      header: of the file; its `num_samples` is that of the end of the file where it has one and
        can be sought in.
    """

    def __init__(self, source: transport.ByteSource, header: headers.Header):
        self.header = header
        self._notes: list[str] = []
        self._num_kept = 0  # notes of opening the file
        self._source = source
        self._start = source.position  # of the first block
        self._has_read = False

    @property
    def warnings(self) -> list[str]:
        """What was found wrong so far and does not keep the rest from being read, a line each."""
        return list(self._notes)

    @property
    def num_samples(self) -> int | None:
        """Samples of the signal as far as the file says so; after `blocks`, with its end too.

        A file that was cut off may say more than its frames hold.
        """
        return self.header.num_samples

    def blocks(self, start_frame: int = 0, recover: bool = False) -> Iterator[Block]:
        """Reads blocks of about a second, or of a segment each.

        Args:
          start_frame: where to start, of places as `Block.start_frame` counts them; a segment
            comes whole. What is before it is passed over, where the file can seek without being
            read.
          recover: whether to go on after damage, with blocks of zeros in its place.

        Raises:
          EcdcError: damage, with its time; with `recover` a warning instead.
          ValueError: a pipe, for the second time.
        """
        headers.check_count("start_frame", start_frame, 0, headers.MAX_SAMPLES)
        if self._has_read and not self._source.is_seekable:
            raise ValueError("blocks: what cannot be sought in is read once")
        if self._has_read:
            self._source.seek(self._start)
            del self._notes[self._num_kept :]
        self._has_read, self._num_kept = True, len(self._notes)
        return self._blocks(start_frame, recover)

    @abc.abstractmethod
    def _blocks(self, start_frame: int, recover: bool) -> Iterator[Block]:
        """Reads blocks, from the first one's place on."""

    def _time(self, frame: int) -> str:
        return f"{self.header.seconds(frame):.2f} s"


def is_scale(scale: float) -> bool:
    """Whether a segment can have been divided by this."""
    return 0 < scale < float("inf")
