"""What `run.py infer` reads: sound or codes, from files or stdin.

A source gives pieces of what the codec takes, and holds no more than a few seconds.

Shapes: T samples, C channels, K codebooks, F frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from encodec_hk import bitstream
from encodec_hk.blocks import scheduler
from encodec_hk.blocks import streams
from encodec_hk.sound import pcm
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files

_SILENCE = 1e-12  # scale of a segment that is lost


class SoundIn:
    """Sound, resampled and mixed to what the codec takes.

    Attributes:
      sample_rate, channels: of the input.
      num_samples: of the input, as far as it is known before the end; at the end, for certain.
      taken: samples at the codec's rate that were given.
    """

    def __init__(
        self,
        reader: sound_files.SoundReader | pcm.PcmReader,
        sample_rate: int,
        channels: int,
        *,
        is_live: bool = False,
    ):
        """Begins to read.

        Args:
          reader: the sound, closed at the end.
          sample_rate: Hz, of the codec.
          channels: of the codec.
          is_live: give what is there, without waiting for a whole piece.
        """
        self._reader = reader
        self._channels = channels
        self._resampler = resampling.Resampler(reader.sample_rate, sample_rate, channels)
        self._queue = scheduler.Queue()
        self._nothing = np.zeros((0, channels), np.float32)
        self._is_live = is_live
        self._is_exact = reader.is_exact
        self._sample_rate = sample_rate
        self._has_ended = False
        self._count = 0
        self.sample_rate, self.channels = reader.sample_rate, reader.channels
        self.num_samples: int | None = reader.num_samples
        self.taken = 0

    def take(self, size: int) -> tuple[np.ndarray, bool]:
        """The next `size` samples, float32 [T, C], and whether they are the last; see `is_live`.

        Raises:
          ValueError: the input cannot be read on.
        """
        while not self._has_ended and len(self._queue) <= size:
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
        piece = np.concatenate([self._nothing, *self._queue.look(size)])
        self._queue.drop(size)
        self.taken += len(piece)
        return piece, self._has_ended and not len(self._queue)

    @property
    def coded_samples(self) -> int | None:
        """Samples at the codec's rate, if they are known for certain before the end."""
        if not self._is_exact or self.num_samples is None:
            return None
        return -(-self.num_samples * self._sample_rate // self.sample_rate)

    @property
    def seconds(self) -> float:
        """Seconds that were read."""
        return self._count / self.sample_rate

    @property
    def seconds_left(self) -> float:
        """Seconds that are to come, 0 where that is not known."""
        return max((self.num_samples or 0) - self._count, 0) / self.sample_rate

    def close(self) -> None:
        """Closes the input."""
        self._reader.close()


class CodesPiece(NamedTuple):
    """Some codes of a file.

    Attributes:
      codes: of the first codebooks.
      is_last: whether what is decoded as one ends with these: the file's codes, or those up to
        lost ones.
      num_samples: of what ends, as far as it is known.
      lost: samples after these that are lost.
    """

    codes: streams.Codes
    is_last: bool
    num_samples: int | None = None
    lost: int = 0


class CodesIn:
    """The codes of an .ecdc file, all or those of the first codebooks.

    Attributes:
      header: the file's.
    """

    def __init__(
        self,
        file: BinaryIO,
        reader: bitstream.EcdcReader,
        name: str,
        *,
        recover: bool,
        is_live: bool = False,
    ):
        """Begins to read.

        Args:
          file: closed at the end.
          reader: of the file.
          name: of the file, for messages.
          recover: go on after damage.
          is_live: give what is there, without looking whether more comes.
        """
        self._file = file
        self._name = name
        self._reader = reader
        self._blocks = self._named(reader.blocks(recover=recover), name)
        self._is_live = is_live
        self._next: bitstream.Block | None = None
        self._blocks_taken = 0
        self._frames = 0  # of the file, so far
        self._start = 0  # of what is decoded as one
        self.header = reader.header

    @property
    def warnings(self) -> list[str]:
        """What was found wrong so far."""
        return self._reader.warnings

    def take(self, num_codebooks: int) -> CodesPiece:
        """The next codes, about a second of them, of the first `num_codebooks` codebooks.

        Raises:
          ValueError: the file is damaged or cut off.
        """
        block = self._next or next(self._blocks, None)
        self._next = None
        nothing = streams.Codes(np.zeros((num_codebooks, 0), np.int32))
        if block is None:
            return CodesPiece(nothing, True, self._length())
        frames = block.codes.shape[1]
        self._blocks_taken += 1
        self._frames += frames
        has_segments = self.header.segment_length is not None
        # A segment waits for the next one in any case.
        if not self._is_live or has_segments:
            self._next = next(self._blocks, None)
        if block.is_damaged and not has_segments:
            self._start = self._frames
            return CodesPiece(nothing, True, lost=self._lost(frames))
        scale = None
        if self.header.normalize:
            is_lost = block.is_damaged or block.scale is None
            scale = np.float32(_SILENCE if is_lost else block.scale)
        codes = block.codes[:num_codebooks]
        if self._next is not None or (self._is_live and not has_segments):
            return CodesPiece(streams.Codes(codes, scale), False)
        if not has_segments or self._is_whole():
            return CodesPiece(streams.Codes(codes, scale), True, self._length())
        length, frames = self._cut(frames)
        return CodesPiece(streams.Codes(codes[:, :frames], scale), True, length)

    @property
    def seconds(self) -> float:
        """Seconds that were given."""
        return self._frames * self.header.hop_length / self.header.sample_rate

    @property
    def seconds_left(self) -> float:
        """Seconds that are to come, 0 where that is not known."""
        total = self._reader.num_samples or 0
        return max(total / self.header.sample_rate - self.seconds, 0)

    def _named(self, blocks: Iterator[bitstream.Block], name: str) -> Iterator[bitstream.Block]:
        """The blocks; what is wrong with them comes with the name of the file."""
        try:
            yield from blocks
        except (bitstream.EcdcError, OSError) as error:
            raise ValueError(f"{name}: {error}") from error

    def _is_whole(self) -> bool:
        """Whether all frames of the signal were given, as far as its length is known."""
        total = self._reader.num_samples
        return total is not None and self._frames_of(total) == self._frames

    def _frames_of(self, num_samples: int) -> int | None:
        """Frames of a signal, without a list of them: a header may say any length."""
        return dataclasses.replace(self.header, num_samples=num_samples).num_frames

    def _length(self) -> int | None:
        """Samples of what ends here; None where the file does not say so."""
        total = self._reader.num_samples
        if total is None:
            return None
        hop = self.header.hop_length
        if not self._is_whole():  # cut off
            total = self._frames * hop
        return max(total - self._start * hop, 0)

    def _lost(self, frames: int) -> int:
        """Samples of the last frames."""
        hop, total = self.header.hop_length, self._reader.num_samples
        lost = frames * hop
        return lost if total is None else max(min(lost, total - self._frames * hop + lost), 0)

    def _cut(self, frames: int) -> tuple[int, int]:
        """Samples of segments that were cut off, and those of the last one's frames that count.

        There would be one more segment if the last one was as long as a whole one.
        """
        stride, hop = self.header.segment_stride, self.header.hop_length
        assert stride is not None
        length = min(frames * hop, stride)
        kept = -(-length // hop)
        length += (self._blocks_taken - 1) * stride
        if self._frames_of(length) != self._frames - frames + kept:
            raise ValueError(f"{self._name}: cut off where segments overlap, cannot end there")
        return length, kept

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
