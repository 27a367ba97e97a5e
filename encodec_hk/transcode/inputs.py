"""The sources of a codec: sound or codes, from files or stdin.

A source returns what the codec takes in pieces, and holds no more than a few seconds.

Shapes: T samples, C channels, K codebooks, F frames.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from encodec_hk import bitstream
from encodec_hk.blocks import items
from encodec_hk.blocks import step_queue
from encodec_hk.sound import pcm
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files
from encodec_hk.sound import truncation
from encodec_hk.system import background
from encodec_hk.system import file_errors

_SILENCE = 1e-12  # scale of a lost segment
_AHEAD = 16  # blocks that a thread decodes ahead with a language model


@contextlib.contextmanager
def naming_recover() -> Iterator[None]:
    """Add the flag that helps to the error of sound that is cut off."""
    try:
        yield
    except truncation.CutOffError as error:
        raise ValueError(f"{error}; --recover reads up to there") from error


class SoundIn:
    """Sound, resampled and mixed to what the codec takes.

    Attributes:
      sample_rate, channels: of the input.
      num_samples: length of the input, exact once the end is read; before that, what the input
        says of itself, or None.
      taken: samples returned so far, at the codec's rate.
    """

    def __init__(
        self,
        reader: sound_files.SoundReader | pcm.PcmReader,
        sample_rate: int,
        channels: int,
        *,
        size: int,
        is_live: bool,
    ):
        """Begin to read.

        Args:
          reader: the sound; `close` closes it.
          sample_rate: Hz, of the codec.
          channels: C, of the codec.
          size: samples of a piece, at the codec's rate.
          is_live: return what has arrived, instead of waiting for complete pieces.
        """
        self._reader = reader
        self._channels = channels
        self._resampler = resampling.Resampler(reader.sample_rate, sample_rate, channels)
        self._queue = step_queue.StepQueue()
        self._size = size
        self._is_live = is_live
        self._sample_rate = sample_rate
        self._has_ended = False
        self._count = 0  # samples read
        self.sample_rate, self.channels = reader.sample_rate, reader.channels
        self.num_samples: int | None = reader.num_samples
        self.taken = 0

    def take(self) -> tuple[np.ndarray, bool]:
        """Return the next piece, float32 [T, C], and whether it is the last.

        The last piece may be shorter, and so may every piece of a live source.

        Raises:
          ValueError: if the input cannot be read.
        """
        size = self._size
        while not self._has_ended and len(self._queue) <= size:
            with naming_recover():
                samples = self._reader.read(self.sample_rate)
            self._count += len(samples)
            self._has_ended = not len(samples)
            if self._has_ended:
                self.num_samples = self._count
                self._queue.put(self._resampler.finish())
            else:
                self._queue.put(self._resampler.push(resampling.mix(samples, self._channels)))
            if self._is_live:
                size = len(self._queue)
                break
        empty = np.zeros((0, self._channels), np.float32)
        piece = np.concatenate([empty, *self._queue.take(size)])
        self.taken += len(piece)
        return piece, self._has_ended and not len(self._queue)

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the input, as far as it has been read."""
        return self._reader.warnings

    @property
    def coded_samples(self) -> int | None:
        """Length of the signal at the codec's rate; None if it is not certain yet."""
        if not self._reader.is_exact or self.num_samples is None:
            return None
        return -(-self.num_samples * self._sample_rate // self.sample_rate)

    @property
    def seconds(self) -> float:
        """Seconds read so far."""
        return self._count / self.sample_rate

    @property
    def seconds_left(self) -> float:
        """Seconds still to read; 0 if unknown."""
        return max((self.num_samples or 0) - self._count, 0) / self.sample_rate

    def close(self) -> None:
        """Close the reader."""
        self._reader.close()


class CodesPiece(NamedTuple):
    """A piece of the codes of a file.

    A damaged block ends a stream: the decoder starts anew with the block after it.

    Attributes:
      codes: of the first codebooks.
      is_last: whether the stream ends with these codes.
      num_samples: length of the stream that ends; None if unknown.
      lost: samples to fill with silence after the stream.
    """

    codes: items.Codes
    is_last: bool
    num_samples: int | None = None
    lost: int = 0


class CodesIn:
    """The codes of an .ecdc file.

    Attributes:
      sample_rate, channels: of the sound that the codes become.
    """

    num_samples = None  # of the sound: as many as the codes give

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        *,
        recover: bool,
        is_live: bool,
        predictor: bitstream.CodePredictor | None = None,
        coder: Callable[[bitstream.Header], bitstream.EntropyCoder] | None = None,
    ):
        """Read the header.

        Args:
          file: the file; `close` closes it.
          name: the file's name in messages.
          recover: continue after damaged blocks.
          is_live: return a block at once, instead of reading the next one to see if it is the last.
          predictor: Meta's language model, for files of version 0 that need it.
          coder: returns the coder of a header's language model, see `bitstream.open_reader`.

        Raises:
          EcdcError: if it is not an .ecdc file, or needs another language model.
        """
        self._file = file
        self._name = name
        self._reader = bitstream.open_reader(file, predictor=predictor, coder=coder)
        if self._reader.header.lm:
            bitstream.check_predictor(predictor, self._reader.header)
        self._blocks = self._read(recover)
        self._ahead: background.Ahead[bitstream.Block] | None = None
        if self.header.language is not None and not is_live:
            self._blocks = self._ahead = background.Ahead(self._blocks, _AHEAD)
        self._is_live = is_live
        self._next: bitstream.Block | None = None
        self._num_blocks = 0  # returned so far
        self._frames = 0  # returned so far
        self._start = 0  # the first frame of the current stream
        self.sample_rate, self.channels = self.header.sample_rate, self.header.channels

    @property
    def header(self) -> bitstream.Header:
        """The header; its `num_samples` may change where the end of the file states it."""
        return self._reader.header

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the file, as far as it has been read."""
        return self._reader.warnings

    def take(self, num_codebooks: int) -> CodesPiece:
        """Return the next codes, about a second of them, of the first `num_codebooks` codebooks.

        Raises:
          ValueError: if the file is damaged or cut off.
        """
        block = self._next or next(self._blocks, None)
        self._next = None
        empty = items.Codes(np.zeros((num_codebooks, 0), np.int32))
        if block is None:
            return CodesPiece(empty, True, self._stream_length())
        frames = block.codes.shape[1]
        self._num_blocks += 1
        self._frames += frames
        has_segments = self.header.framing.has_segments
        # The decoder holds a segment back until the next one anyway.
        is_live = self._is_live and not has_segments
        if not is_live:
            self._next = next(self._blocks, None)
        if block.is_damaged and not has_segments:
            self._start = self._frames
            return CodesPiece(empty, True, lost=self._lost(frames))
        scales = None
        if self.header.normalize:
            is_lost = block.is_damaged or block.scale is None
            scales = np.array([_SILENCE if is_lost else block.scale], np.float32)
        codes = block.codes[:num_codebooks]
        if is_live or self._next is not None:
            return CodesPiece(items.Codes(codes, scales), False)
        length = self._stream_length()
        if has_segments and not self._is_complete():
            length, frames = self._cut(frames)
        return CodesPiece(items.Codes(codes[:, :frames], scales), True, length)

    @property
    def seconds(self) -> float:
        """Seconds returned so far."""
        return self._frames * self.header.hop_length / self.header.sample_rate

    @property
    def seconds_left(self) -> float:
        """Seconds still to read; 0 if unknown."""
        return max((self.header.num_samples or 0) / self.sample_rate - self.seconds, 0)

    def close(self) -> None:
        """Close the file."""
        if self._ahead is not None:
            self._ahead.stop()
        self._file.close()

    def _read(self, recover: bool) -> Iterator[bitstream.Block]:
        with file_errors.as_value_error(self._name, bitstream.EcdcError):
            yield from self._reader.blocks(recover=recover)

    def _is_complete(self) -> bool:
        """Return whether all frames of the signal have been returned, if its length is known."""
        total = self.header.num_samples
        return total is not None and self.header.framing.num_frames(total) == self._frames

    def _stream_length(self) -> int | None:
        """Return the samples of the stream that ends here; None if unknown."""
        hop, total = self.header.hop_length, self.header.num_samples
        if total is None:
            return None
        if not self._is_complete():  # the file is cut off
            total = self._frames * hop
        return max(total - self._start * hop, 0)

    def _lost(self, frames: int) -> int:
        """Return the samples of the last `frames` frames."""
        hop, total = self.header.hop_length, self.header.num_samples
        lost = frames * hop
        return lost if total is None else max(min(lost, total - self._frames * hop + lost), 0)

    def _cut(self, frames: int) -> tuple[int, int]:
        """Return the samples of a file that is cut off, and how many frames of its end to keep.

        No signal ends with a full segment: the overlap would begin one more. So the last segment,
        of `frames` frames, is shortened to the stride.
        """
        framing = self.header.framing
        length = min(frames * framing.hop, framing.stride)
        kept = -(-length // framing.hop)
        length += (self._num_blocks - 1) * framing.stride
        if framing.num_frames(length) != self._frames - frames + kept:
            raise ValueError(f"{self._name}: cut off where segments overlap, cannot end there")
        return length, kept
