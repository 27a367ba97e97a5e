"""What the readers and writers of all versions have in common.

Shapes: K codebooks, F frames. Codes are integers, 0 to 2**bits - 1.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from encodec_hk.bitstream import headers
from encodec_hk.bitstream import packing

_CHUNK = 2**16  # bytes of a read: bounds the memory, whatever length a file claims


class Block(NamedTuple):
    """Consecutive frames; with segments, one segment.

    Attributes:
      codes: int32 [K, F].
      scale: scale of the segment; None if the file stores none or the block is damaged.
      start_frame: position of the first frame. With segments, every segment counts as a full one:
        the position is the segment's index times `Framing.segment_frames`.
      is_damaged: whether the codes are lost and replaced by zeros.
    """

    codes: np.ndarray
    scale: float | None
    start_frame: int
    is_damaged: bool


class EntropyCoder(Protocol):
    """Codes the blocks of a file with a language model; the same bytes on every machine.

    Attributes:
      rows: blocks that are decoded at once, at most.
      max_codebooks: K at most.
      codec: fingerprint of the codec whose codes the model knows.
    """

    rows: int
    max_codebooks: int
    codec: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the language model, 64 hexadecimal digits."""

    def encode(self, blocks: Sequence[np.ndarray]) -> list[bytes]:
        """Return the bytes of blocks, int32 [K, F] each."""

    def decode(
        self, payloads: Sequence[bytes], frames: Sequence[int], num_codebooks: int
    ) -> list[np.ndarray | None]:
        """Return the codes of blocks, int32 [K, F]; None for one that is damaged."""

    def warm_up(self, num_blocks: int, num_codebooks: int) -> None:
        """Prepare for decoding so many blocks at once, so that no later call need do it."""


class EcdcWriter(abc.ABC):
    """Writes codes without seeking. `finish` completes the file and leaves it open.

    Attributes:
      header: the header in the file.
    """

    def __init__(self, file: BinaryIO, header: headers.Header):
        """Begin a file; the header is valid."""
        self.header = header
        self._framing = header.framing
        self._file = file
        self._offset = 0  # bytes written
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
        codes = self._check_codes(np.asarray(codes))
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

        `num_samples` is the length of the signal; None to take it from the header, if it has one.

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
        self._file.flush()
        self._is_finished = True

    @abc.abstractmethod
    def _finish(self, num_samples: int | None) -> None:
        """Write what completes the file."""

    def _put(self, data: bytes) -> None:
        """Write all bytes; an unbuffered file may take them in several calls."""
        rest = memoryview(data)
        while rest:
            taken = self._file.write(rest)
            if taken is None:
                raise BlockingIOError("the output is non-blocking and takes no bytes now")
            rest = rest[taken:]
        self._offset += len(data)

    def _check_codes(self, codes: np.ndarray) -> np.ndarray:
        header = self.header
        is_right = codes.ndim == 2 and codes.shape[0] == header.num_codebooks
        if not is_right or not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(
                f"codes: got {codes.dtype} of shape {codes.shape}, "
                f"must be integers [{header.num_codebooks}, F]"
            )
        whole = self._framing.segment_frames
        if self._framing.has_segments and not 1 <= codes.shape[1] <= whole:
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
        if not packing.is_scale(scale):
            raise ValueError(f"scales: got {scale}, must be finite and above 0")
        return scale


class ByteSource:
    """Reads a file or a pipe, from its current position on.

    Attributes:
      size: bytes from there to the end of the file; None for a pipe, which cannot seek.
      position: bytes from there to the next byte to read.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._back = b""
        self._start = 0
        self.size: int | None = None
        self.position = 0
        if file.seekable():
            self._start = file.tell()
            self.size = file.seek(0, 2) - self._start
            file.seek(self._start)

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, fewer only at the end of the file."""
        chunks = [self._back[:count]]
        self._back = self._back[count:]
        missing = count - len(chunks[0])
        # A pipe may return fewer bytes than asked for.
        while missing and (chunk := self._file.read(min(missing, _CHUNK))):
            chunks.append(chunk)
            missing -= len(chunk)
        self.position += count - missing
        return b"".join(chunks)

    def unread(self, data: bytes) -> None:
        """Put bytes back, to be read again."""
        self._back = data + self._back
        self.position -= len(data)

    def seek(self, position: int) -> None:
        """Move to a position; in a pipe only forward, and to its end at most."""
        if self.size is not None:
            self._back = b""
            self._file.seek(self._start + position)
            self.position = position
        while self.position < position and self.read(min(position - self.position, _CHUNK)):
            pass


class EcdcReader(abc.ABC):
    """Reads codes block by block.

    Attributes:
      header: the header of the file. Its `num_samples` comes from the end of the file where that
        states it: in a pipe once it is read. It may be more than a file that was cut off holds.
      coded_bytes: of the codes read so far, in a file of version 1.
      plain_bytes: of the same codes without a language model.
    """

    def __init__(self, source: ByteSource, header: headers.Header):
        self.header = header
        self.coded_bytes = self.plain_bytes = 0
        self._framing = header.framing
        self._notes: list[str] = []
        self._num_kept = 0  # warnings from opening the file
        self._source = source
        self._start = source.position  # offset of the first block
        self._has_read = False

    @property
    def warnings(self) -> list[str]:
        """Return the problems found so far that did not stop reading, a line each."""
        return list(self._notes)

    def blocks(
        self, start_frame: int = 0, recover: bool = False, decode: bool = True
    ) -> Iterator[Block]:
        """Read blocks of about a second, or of one segment.

        Args:
          start_frame: where to start, as `Block.start_frame` counts; segments are read whole. In
            seekable files, earlier blocks are skipped without reading them.
          recover: whether to replace damaged blocks by zeros and go on.
          decode: False returns zeros for codes that need a language model, without it; in version 0
            nothing, since only the model finds where a segment ends.

        Raises:
          EcdcError: if a block is damaged; with `recover`, a warning instead.
          ValueError: if a pipe is read a second time.
        """
        headers.check_count("start_frame", start_frame, 0, headers.MAX_SAMPLES)
        if self._has_read:
            if self._source.size is None:
                raise ValueError("blocks: a pipe can be read only once")
            self._source.seek(self._start)
            del self._notes[self._num_kept :]
        self._has_read, self._num_kept = True, len(self._notes)
        return self._blocks(start_frame, recover, decode)

    @abc.abstractmethod
    def _blocks(self, start_frame: int, recover: bool, decode: bool) -> Iterator[Block]:
        """Read blocks, from the one that holds `start_frame` on."""

    def _split(self, payload: bytes) -> tuple[float | None, bytes]:
        """Return the scale of a segment, None if it is absent, and the bytes of the codes."""
        size = packing.SCALE.size if self.header.normalize else 0
        scale = packing.SCALE.unpack_from(payload)[0] if 0 < size <= len(payload) else None
        return scale, payload[size:]

    def _unpack(self, data: bytes, frames: int) -> np.ndarray:
        """Return the codes of the first frames in `data`, int32 [K, F]."""
        codes = packing.unpack(data, self.header.bits, frames * self.header.num_codebooks)
        return np.ascontiguousarray(codes.reshape(frames, -1).T)

    def _frames_in(self, size: int) -> int:
        """Return the number of whole frames in `size` bytes of codes."""
        return size * 8 // self.header.frame_bits

    def _time(self, frame: int) -> str:
        return f"{self.header.seconds(frame):.2f} s"
