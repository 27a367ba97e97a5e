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
import functools
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

import encodec_hk
from encodec_hk import config
from encodec_hk.blocks import items
from encodec_hk.system import file_paths
from encodec_hk.system import interruption
from encodec_hk.transcode import inputs
from encodec_hk.transcode import outputs
from encodec_hk.transcode import plan

# Seconds that every file must have left for fewer places to be worth their compilation.
_WORTH_SECONDS = 60.0

Source = inputs.SoundIn | inputs.CodesIn
Target = outputs.SoundOut | outputs.CodesOut


class Result(NamedTuple):
    """The end of a job.

    Attributes:
      job: its files.
      kbps: bandwidth of the codes; None if they are copied, or the header cannot be read.
      seconds: of signal that were read.
      warnings: one line each, such as "FILE: damaged block at 1.00 s to 2.00 s".
      error: why the job failed; None if it succeeded.
    """

    job: plan.Job
    kbps: float | None = None
    seconds: float = 0.0
    warnings: Sequence[str] = ()
    error: ValueError | None = None


class FileCoder:
    """Runs jobs, all from sound or all from codes, to sound, to codes, or both."""

    def __init__(
        self,
        codec: encodec_hk.Codec,
        jobs: Sequence[plan.Job],
        open_job: Callable[[plan.Job, int], tuple[Source, Target]],
        settle: Callable[[Result], None],
        num_codebooks: int,
    ):
        """Prepare the schedulers; `run` begins the jobs.

        Args:
          codec: the codec.
          jobs: at least one; a pipe can only be alone.
          open_job: opens a job for K codebooks; called as places become free.
          settle: called with the result of each job. If it raises, the others are aborted.
          num_codebooks: K.
        """
        self._codec = codec
        self._jobs = iter(jobs)
        self._open_job = open_job
        self._settle = settle
        self._num_codebooks = num_codebooks
        self._kbps = config.bandwidth_for(codec.model_config, num_codebooks)
        self._places = codec.places(len(jobs))
        # Of a pipe, hand on what has arrived, instead of waiting for whole blocks.
        self._is_live = jobs[0].from_pipe
        sizes = codec.stream_sizes() if self._is_live else None
        self._encoder = codec.runner(codec.encoder_program(num_codebooks), self._places, sizes)
        self._decoder = codec.runner(codec.decoder_program(), self._places, sizes)
        self._warming: threading.Thread | None = None  # of the decoder
        self._passages: list[_Passage] = []

    def run(self) -> None:
        """Run the jobs to their ends."""
        try:
            while self._fill():
                if not self._is_live:  # a live source ends by itself when interrupted
                    interruption.check()
                self._each(_Passage.read)
                self._encoder.advance(wait=self._is_live)
                self._each(_Passage.hand_on)
                if self._warming is not None:
                    self._warming.join()
                self._decoder.advance(wait=self._is_live)
                self._each(_Passage.write)
        finally:
            for passage in self._passages:
                passage.abort()

    def _fill(self) -> bool:
        """Begin jobs while places are free; return whether any are in work."""
        while sum(not passage.is_read for passage in self._passages) < self._places:
            job = next(self._jobs, None)
            if job is None:
                self._shrink()
                break
            try:
                source, target = self._open_job(job, self._num_codebooks)
            except ValueError as error:
                self._settle(Result(job, self._kbps, error=error))
            else:
                self._passages.append(self._passage(job, source, target))
        return bool(self._passages)

    def _passage(self, job: plan.Job, source: Source, target: Target) -> _Passage:
        codec, encoder, decoder = self._codec, None, None
        if isinstance(source, inputs.SoundIn):
            normalize = codec.model_config.normalize
            encoder = items.ItemEncoder(self._encoder, codec.framing, normalize)
        if isinstance(target, outputs.SoundOut):
            decoder = functools.partial(
                items.ItemDecoder, self._decoder, codec.framing, codec.channels
            )
        if decoder and not self._is_live and self._warming is None:
            # Compile the decoder while the encoder or a language model compiles, which takes
            # seconds too. Not for live streams: they have several programs, some of which they may
            # never need.
            like = np.zeros((self._num_codebooks, 0), np.int32)
            self._warming = threading.Thread(
                target=self._decoder.warm_up, args=(like,), daemon=True
            )
            self._warming.start()
        return _Passage(job, source, target, self._num_codebooks, encoder, decoder)

    def _each(self, step: Callable[[_Passage], None]) -> None:
        """Do a step of every passage; settle those that are done or fail."""
        for passage in list(self._passages):
            try:
                step(passage)
                if not passage.is_done:
                    continue
                result = passage.close(self._kbps)
            except ValueError as error:
                passage.abort()
                result = Result(passage.job, self._kbps, error=error)
            self._passages.remove(passage)
            self._settle(result)

    def _shrink(self) -> None:
        """Keep fewer places if half of them are free and every job will take long."""
        size = self._codec.places(max(len(self._passages), 1))
        left = [passage.source.seconds_left for passage in self._passages]
        if size < self._places and min(left, default=0) >= _WORTH_SECONDS:
            self._places = size
            for runner in (self._encoder, self._decoder):
                runner.shrink(size)


def copy(job: plan.Job, source: Source, target: Target, num_codebooks: int) -> Result:
    """Copy the codes of the first codebooks into another file, which needs no codec.

    Raises:
      ValueError: if that fails.
    """
    passage = _Passage(job, source, target, num_codebooks)
    try:
        while not passage.is_done:
            interruption.check()
            passage.read()
        return passage.close(None)
    except BaseException:
        passage.abort()
        raise


class _Passage:
    """A job in work: its source and target, and the items that the source becomes.

    Attributes:
      is_read: whether the source has ended.
      is_done: whether the target is complete.
    """

    def __init__(
        self,
        job: plan.Job,
        source: Source,
        target: Target,
        num_codebooks: int,
        encoder: items.ItemEncoder | None = None,
        begin_decoder: Callable[[], items.ItemDecoder] | None = None,
    ):
        self.job, self.source, self.target = job, source, target
        self.is_read = self.is_done = False
        self._num_codebooks = num_codebooks
        self._encoder = encoder
        self._begin_decoder = begin_decoder
        # A damaged file becomes several items; `_lost` are the samples after each ended one.
        self._decoders = collections.deque([] if begin_decoder is None else [begin_decoder()])
        self._lost: collections.deque[int] = collections.deque()

    def read(self) -> None:
        """Take a piece of the source."""
        if self.is_read:
            return
        if isinstance(self.source, inputs.CodesIn):
            piece = self.source.take(self._num_codebooks)
            self._put([piece.codes])
            if piece.is_last:
                self._end_item(piece.num_samples, piece.lost)
                self.is_read = not piece.lost
        elif self._encoder is not None:
            samples, self.is_read = self.source.take()
            self._encoder.push(samples)
            if self.is_read:
                self._encoder.end()

    def hand_on(self) -> None:
        """Hand codes from the encoder to the decoder or to the target."""
        if self._encoder is not None and isinstance(self.source, inputs.SoundIn):
            self._put(self._encoder.take())
            if self._encoder.is_done:
                self._encoder = None
                self._end_item(self.source.taken, 0)

    def write(self) -> None:
        """Hand audio from the decoder to the target."""
        if not isinstance(self.target, outputs.SoundOut):
            return
        while self._decoders:
            decoder = self._decoders[0]
            samples = decoder.take()
            self.target.write(samples)
            if not decoder.is_done:
                return
            self._decoders.popleft()
            self.target.write(np.zeros((self._lost.popleft(), samples.shape[1]), np.float32))
        self.target.finish(self.source.num_samples)
        self.is_done = True

    def close(self, kbps: float | None) -> Result:
        """Close the source and return the result."""
        self.source.close()
        warnings = [
            f"{file_paths.shown(path)}: {warning}"
            for path, end in zip(self.job, (self.source, self.target), strict=True)
            for warning in end.warnings
        ]
        return Result(self.job, kbps, self.source.seconds, warnings)

    def abort(self) -> None:
        """Close the source, delete the target and discard what is in the schedulers."""
        self.source.close()
        self.target.abort()
        for item in (self._encoder, *self._decoders):
            if item is not None:
                item.drop()

    def _put(self, parts: list[items.Codes]) -> None:
        if isinstance(self.target, outputs.CodesOut):
            self.target.write(parts)
        else:
            for part in parts:
                self._decoders[-1].push(*part)

    def _end_item(self, num_samples: int | None, lost: int) -> None:
        """End an item of codes; begin another if the source goes on after lost samples."""
        if isinstance(self.target, outputs.CodesOut):
            self.target.finish(num_samples)
            self.is_done = True
            return
        decoder = self._decoders[-1]
        decoder.end(decoder.length_of_end(num_samples, "num_samples"))
        self._lost.append(lost)
        if lost and self._begin_decoder is not None:
            self._decoders.append(self._begin_decoder())
