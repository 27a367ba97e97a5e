"""Files through a codec, several at a time, at constant memory.

    source -> encoder -> decoder -> target        sound to sound
    source -> encoder ------------> target        sound to codes
    source ------------> decoder -> target        codes to sound
    source -----------------------> target        codes to codes: `copy`

The files share the schedulers of the codec: as one ends, the next takes its place in the blocks.
The codes and the sound of a file do not depend on the others.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import encodec_hk
from encodec_hk.blocks import items
from encodec_hk.blocks import scheduler
from encodec_hk.system import interruption
from encodec_hk.transcode import inputs
from encodec_hk.transcode import outputs

# Seconds that every file must have left for fewer places to be worth their compilation.
_WORTH_SECONDS = 60.0


@dataclasses.dataclass
class Task:
    """A file in work.

    Attributes:
      source: what is read.
      target: what is written.
      about: anything that the caller wants to find again.
    """

    source: inputs.SoundIn | inputs.CodesIn
    target: outputs.SoundOut | outputs.CodesOut
    about: Any

    def close(self) -> None:
        """Close the source and complete the target."""
        self.source.close()
        self.target.close()

    def abort(self) -> None:
        """Close the source and remove the target."""
        self.source.close()
        self.target.abort()


Settle = Callable[[Task, ValueError | None], None]
"""Called once for every task: when it is done, or with what was wrong."""


def run(
    codec: encodec_hk.Codec,
    tasks: Iterator[Task],
    settle: Settle,
    *,
    num_codebooks: int,
    places: int,
    is_live: bool = False,
) -> None:
    """Run tasks, all from sound or all from codes, to sound, to codes, or both.

    Args:
      codec: the codec.
      tasks: opened as places become free.
      settle: see there.
      num_codebooks: K.
      places: files at a time.
      is_live: hand on what has arrived, instead of waiting for whole blocks.
    """
    coder = _Coder(codec, settle, num_codebooks, places, is_live)
    try:
        while coder.fill(tasks):
            if not is_live:  # a live source ends by itself when interrupted
                interruption.check()
            coder.advance()
    finally:
        coder.abort()


def copy(task: Task, num_codebooks: int, settle: Settle) -> None:
    """Copy the codes of the first codebooks into another file.

    Args:
      task: from codes to codes.
      num_codebooks: K.
      settle: see there.
    """
    assert isinstance(task.source, inputs.CodesIn)
    assert isinstance(task.target, outputs.CodesOut)
    try:
        is_last = False
        while not is_last:
            interruption.check()
            piece = task.source.take(num_codebooks)
            if piece.codes.codes.shape[1]:
                task.target.write([piece.codes])
            is_last = piece.is_last
        task.target.finish(piece.num_samples)
        task.close()
    except BaseException as error:
        task.abort()
        if not isinstance(error, ValueError):
            raise
        settle(task, error)
    else:
        settle(task, None)


class _Coder:
    """The schedulers, and the passages of the tasks in work."""

    def __init__(
        self,
        codec: encodec_hk.Codec,
        settle: Settle,
        num_codebooks: int,
        places: int,
        is_live: bool,
    ):
        self._codec = codec
        self._settle = settle
        self._num_codebooks = num_codebooks
        self._places = places
        self._is_live = is_live
        sizes = codec.stream_sizes() if is_live else None
        self._encoder = codec.runner(codec.encoding(num_codebooks), places, sizes)
        self._decoder = codec.runner(codec.decoding(), places, sizes)
        self._warming: threading.Thread | None = None  # of the decoder
        self._passages: list[_Passage] = []
        # What a source gives in a turn: a block.
        self._size = codec.block_frames * codec.hop_length
        if codec.framing.has_segments:
            self._size = codec.framing.stride

    def fill(self, tasks: Iterator[Task]) -> bool:
        """Begin tasks while places are free; return whether any are in work."""
        while sum(not passage.is_read for passage in self._passages) < self._places:
            task = next(tasks, None)
            if task is None:
                self._shrink()
                break
            passage = _Passage(task, self._codec, self._encoder, self._decoder, self._num_codebooks)
            self._passages.append(passage)
            if passage.encoder is not None and passage.decodes and not self._is_live:
                self._warm_up()
        return bool(self._passages)

    def advance(self) -> None:
        """Take a piece of every source and hand on what comes out."""
        self._each(lambda passage: passage.read(self._size))
        self._encoder.advance(wait=self._is_live)
        self._each(_Passage.hand_on)
        if self._warming is not None:
            self._warming.join()
        self._decoder.advance(wait=self._is_live)
        self._each(_Passage.write)

    def abort(self) -> None:
        """Abort the tasks that are not done."""
        for passage in self._passages:
            passage.task.abort()

    def _each(self, step: Callable[[_Passage], None]) -> None:
        """Do a step of every passage; settle those that are done or fail."""
        for passage in list(self._passages):
            try:
                step(passage)
            except ValueError as error:
                self._passages.remove(passage)
                passage.drop()
                passage.task.abort()
                self._settle(passage.task, error)
            else:
                if passage.is_done:
                    self._passages.remove(passage)
                    self._settle(passage.task, None)

    def _warm_up(self) -> None:
        """Begin to compile the decoder while the encoder compiles, which takes seconds too.

        Not for live streams: they have several programs, some of which they may never need.
        """
        if self._warming is None:
            like = np.zeros((self._num_codebooks, 0), np.int32)
            self._warming = threading.Thread(
                target=self._decoder.warm_up, args=(like,), daemon=True
            )
            self._warming.start()

    def _shrink(self) -> None:
        """Keep fewer places if half of them are free and every task will take long."""
        size = self._codec.places(max(len(self._passages), 1))
        left = [passage.task.source.seconds_left for passage in self._passages]
        if size < self._places and min(left, default=0) >= _WORTH_SECONDS:
            self._places = size
            for runner in (self._encoder, self._decoder):
                runner.shrink(size)


class _Passage:
    """A task on its way: the items that its source becomes.

    Attributes:
      task: the task.
      encoder: of a source of sound.
      decodes: whether the target is sound.
      is_read: whether the source has ended.
      is_done: whether the target is complete.
    """

    def __init__(
        self,
        task: Task,
        codec: encodec_hk.Codec,
        encoder: scheduler.Scheduler,
        decoder: scheduler.Scheduler,
        num_codebooks: int,
    ):
        self.task = task
        self.encoder: items.ItemEncoder | None = None
        if isinstance(task.source, inputs.SoundIn):
            self.encoder = items.ItemEncoder(encoder, codec.framing, codec.model_config.normalize)
        self.decodes = isinstance(task.target, outputs.SoundOut)
        self.is_read = self.is_done = False
        self._num_codebooks = num_codebooks
        self._channels = codec.channels
        self._begin = lambda: items.ItemDecoder(decoder, codec.framing, codec.channels)
        # Each with the samples that are lost after it; a damaged file becomes several items.
        self._decoders: collections.deque[tuple[items.ItemDecoder, int]] = collections.deque()
        self._decoder = self._begin() if self.decodes else None

    def read(self, size: int) -> None:
        """Take a piece of the source, of `size` samples or about a second of codes."""
        source = self.task.source
        if self.is_read:
            return
        if isinstance(source, inputs.SoundIn):
            assert self.encoder is not None
            samples, self.is_read = source.take(size)
            self.encoder.push(samples)
            if self.is_read:
                self.encoder.end()
            return
        piece = source.take(self._num_codebooks)
        assert self._decoder is not None
        self._decoder.push(*piece.codes)
        if piece.is_last:
            self._end_item(piece.num_samples, piece.lost)
            self.is_read = not piece.lost

    def hand_on(self) -> None:
        """Hand codes from the encoder to the decoder or to the target."""
        source, target = self.task.source, self.task.target
        if self.encoder is None or not isinstance(source, inputs.SoundIn):
            return
        parts = self.encoder.take()
        if isinstance(target, outputs.CodesOut):
            target.write(parts)
            if self.encoder.is_done:
                target.finish(source.taken)
                self._close()
        elif self._decoder is not None:
            for part in parts:
                self._decoder.push(*part)
            if self.encoder.is_done:
                self._end_item(source.taken, 0)

    def write(self) -> None:
        """Hand audio from the decoder to the target."""
        source, target = self.task.source, self.task.target
        if not isinstance(target, outputs.SoundOut):
            return
        while self._decoders:
            decoder, lost = self._decoders[0]
            self._write(decoder.take())
            if not decoder.is_done:
                return
            self._decoders.popleft()
            if lost:
                target.write(np.zeros((lost, self._channels), np.float32))
        if self._decoder is not None:
            self._write(self._decoder.take())
        elif self.is_read:
            target.finish(source.num_samples if isinstance(source, inputs.SoundIn) else None)
            self._close()

    def drop(self) -> None:
        """Stop: discard what is in the schedulers."""
        if self.encoder is not None:
            self.encoder.drop()
        for decoder, _ in self._decoders:
            decoder.drop()
        if self._decoder is not None:
            self._decoder.drop()

    def _write(self, samples: np.ndarray) -> None:
        if len(samples):
            assert isinstance(self.task.target, outputs.SoundOut)
            self.task.target.write(samples)

    def _end_item(self, num_samples: int | None, lost: int) -> None:
        """End the item in the decoder; begin another if the source goes on after lost samples."""
        assert self._decoder is not None
        self._decoder.end(self._decoder.length_of_end(num_samples, "num_samples"))
        self._decoders.append((self._decoder, lost))
        self._decoder = self._begin() if lost else None

    def _close(self) -> None:
        self.task.close()
        self.is_done = True
