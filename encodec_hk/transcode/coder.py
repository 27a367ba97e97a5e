"""Sound and codes through the codec, several files at a time, at constant memory.

Each file has a place in a batch of streams; as one ends, the next takes its place. A file's codes
and sound do not depend on the others: see `streams`.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import encodec_hk
from encodec_hk.blocks import scheduler
from encodec_hk.blocks import streams
from encodec_hk.system import interruption
from encodec_hk.transcode import inputs
from encodec_hk.transcode import outputs

# Seconds that a file must have left for fewer places to be compiled for it.
_WORTH_SECONDS = 60.0


@dataclasses.dataclass
class Task:
    """A file in work.

    Attributes:
      source: what is read.
      target: what is written.
      about: what the caller wants to know again.
      is_dropped: the file has failed, and its place is to be freed.
    """

    source: inputs.SoundIn | inputs.CodesIn
    target: outputs.SoundOut | outputs.CodesOut
    about: Any
    is_dropped: bool = False

    def abort(self) -> None:
        """Closes the source, takes away the target."""
        self.source.close()
        self.target.abort()


Settle = Callable[[Task, ValueError | None], None]
"""Called when a task is done, or with what was wrong with it."""


def run(
    codec: encodec_hk.Codec,
    tasks: Iterator[Task],
    settle: Settle,
    *,
    num_codebooks: int,
    places: int,
    is_live: bool = False,
) -> None:
    """Runs tasks, all from sound or all from codes, to sound, to codes, or both.

    Args:
      codec: the codec.
      tasks: opened as places get free.
      settle: see there.
      num_codebooks: K.
      places: files at a time.
      is_live: react to what there is, instead of waiting for whole blocks.
    """
    coder = _Coder(codec, settle, num_codebooks, places, is_live)
    try:
        while coder.fill(tasks):
            if not is_live:  # which ends its source instead
                interruption.check()
            coder.advance()
    finally:
        coder.abort()


def copy(task: Task, num_codebooks: int, settle: Settle) -> None:
    """Copies codes into another file, those of the first codebooks.

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
        task.source.close()
        task.target.close()
    except BaseException as error:
        task.abort()
        if not isinstance(error, ValueError):
            raise
        settle(task, error)
    else:
        settle(task, None)


class _Coder:
    """The streams, and the tasks in their places."""

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
        self._is_live = is_live
        self._settings: dict[str, Any] = {
            "num_codebooks": num_codebooks,
            "block_frames": None if is_live or codec.has_segments else codec.block_frames,
        }
        self._tasks: list[Task | None] = [None] * places
        self._encoder: streams.StreamEncoder | None = None
        self._decoder: streams.StreamDecoder | None = None
        self._warming: threading.Thread | None = None  # the decoder
        # What makes one block a turn.
        self._size = codec.block_frames * codec.hop_length
        if codec.has_segments:
            self._size = codec.framing.stride

    def fill(self, tasks: Iterator[Task]) -> bool:
        """Gives free places to the next tasks; whether there are any in work."""
        for place, task in enumerate(self._tasks):
            if task is None:
                self._tasks[place] = task = next(tasks, None)
                if task is None:
                    self._shrink()
                    break
                self._prepare(task)
        return any(self._tasks)

    def advance(self) -> None:
        """Takes a piece of every source, and hands on what comes out."""
        turns = [self._take(task) for task in self._tasks]
        for place, task in enumerate(self._tasks):
            # Else its stream ends below. Of some segments no signal would have as many frames.
            if task is not None and task.is_dropped and self._codec.has_segments:
                for stream in (self._encoder, self._decoder):
                    if stream is not None:
                        stream.drop(place)
        if self._encoder is not None:
            coded = self._encoder.advance(
                [turn.samples for turn in turns], [turn.is_last for turn in turns]
            )
            for turn, parts in zip(turns, coded, strict=True):
                turn.parts = parts
        sounds: list[np.ndarray | None] = [None] * len(turns)
        if self._decoder is not None:
            if self._warming is not None:
                self._warming.join()
            scales = [[c.scale for c in turn.parts if c.scale is not None] for turn in turns]
            sounds = list(
                self._decoder.advance(
                    [
                        np.concatenate([c.codes for c in turn.parts], axis=1)
                        if turn.parts
                        else None
                        for turn in turns
                    ],
                    [own or None for own in scales],
                    [turn.is_last for turn in turns],
                    [turn.num_samples for turn in turns],
                )
            )
        for place, (turn, sound) in enumerate(zip(turns, sounds, strict=True)):
            task = self._tasks[place]
            if task is None:
                continue
            if task.is_dropped:
                self._tasks[place] = None
                continue
            try:
                self._put(task, turn, sound)
            except ValueError as error:
                self._fail(task, error)
            if turn.is_end:
                self._tasks[place] = None

    def abort(self) -> None:
        """Takes away what is not done."""
        for task in self._tasks:
            if task is not None and not task.is_dropped:
                task.abort()

    def _take(self, task: Task | None) -> _Turn:
        """A piece of a task's source."""
        turn = _Turn()
        if task is None:
            return turn
        turn.is_last = turn.is_end = True
        if task.is_dropped:
            return turn
        try:
            if isinstance(task.source, inputs.SoundIn):
                turn.samples, turn.is_last = task.source.take(self._size)
                turn.num_samples = task.source.taken
                turn.is_end = turn.is_last
            else:
                piece = task.source.take(self._num_codebooks)
                turn.parts = [piece.codes]
                turn.is_last, turn.num_samples = piece.is_last, piece.num_samples
                turn.lost = piece.lost
                turn.is_end = turn.is_last and not turn.lost
        except ValueError as error:
            self._fail(task, error)
        return turn

    def _put(self, task: Task, turn: _Turn, sound: np.ndarray | None) -> None:
        """Hands a piece to a task's target; the end too."""
        target, source = task.target, task.source
        if isinstance(target, outputs.CodesOut):
            target.write(turn.parts)
        elif sound is not None:
            target.write(sound)
            if turn.lost:
                target.write(np.zeros((turn.lost, self._codec.channels), np.float32))
        if not turn.is_end:
            return
        if isinstance(target, outputs.CodesOut):
            target.finish(turn.num_samples)
        else:
            target.finish(source.num_samples if isinstance(source, inputs.SoundIn) else None)
        source.close()
        target.close()
        self._settle(task, None)

    def _fail(self, task: Task, error: ValueError) -> None:
        """Drops a task; its place is free when the stream there has ended."""
        task.is_dropped = True
        task.abort()
        self._settle(task, error)

    def _prepare(self, task: Task) -> None:
        """Makes the streams that a task needs."""
        batch = len(self._tasks)
        if self._encoder is None and isinstance(task.source, inputs.SoundIn):
            self._encoder = self._codec.stream_encoder(batch=batch, **self._settings)
        if self._decoder is None and isinstance(task.target, outputs.SoundOut):
            self._decoder = self._codec.stream_decoder(batch=batch, **self._settings)
            # The encoder has its own program to load or compile, for seconds. A live stream has
            # several, and would wait for some that it may never need.
            if self._encoder is not None and not self._is_live:
                self._warming = threading.Thread(target=self._decoder.warm_up, daemon=True)
                self._warming.start()

    def _shrink(self) -> None:
        """Fewer places, where half of them are free and all that is in work will take long."""
        left = [place for place, task in enumerate(self._tasks) if task is not None]
        sources = [task.source for task in self._tasks if task is not None]
        codec = self._codec
        size = scheduler.places(max(len(left), 1), codec.batch_size, codec.num_devices)
        is_worth_it = min((s.seconds_left for s in sources), default=0) >= _WORTH_SECONDS
        if size == len(self._tasks) or not is_worth_it:
            return
        free = [place for place, task in enumerate(self._tasks) if task is None]
        kept = (left + free)[:size]
        self._tasks = [self._tasks[place] for place in kept]
        for stream in (self._encoder, self._decoder):
            if stream is not None:
                stream.keep(kept)


@dataclasses.dataclass
class _Turn:
    """What one call of `advance` does for a place.

    Attributes:
      samples: of a source of sound.
      parts: its codes.
      is_last: whether the stream ends with them.
      num_samples: of the stream that ends, at the codec's rate.
      lost: samples to be silent after them.
      is_end: whether the task ends with them.
    """

    samples: np.ndarray | None = None
    parts: list[streams.Codes] = dataclasses.field(default_factory=list)
    is_last: bool = False
    num_samples: int | None = None
    lost: int = 0
    is_end: bool = False
