"""Streams: audio to codes and back, piece by piece, as it arrives.

The joined pieces of a stream are what `Codec.encode` and `Codec.decode` return for the whole
signal, however it was cut: the block computation is the same, and its state is carried from call to
call. Blocks have one of a few lengths, the shortest one frame, so no cut compiles anything new.

Latency of a causal variant: the first codes come after `reach.minimum_first_blocks` frames (7, or
93 ms, at 24 kHz), then every frame (13.3 ms) gives its codes at once. The decoder waits for as many
frames, then gives the samples of each frame at once, or one frame later (`hold_back`). Variants
that look ahead lag by `reach.lags`. Variants with segments wait for a whole segment.

Shapes: n samples, F frames, C channels, K codebooks, S segments. All numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import ml_collections
import numpy as np

from encodec_hk.blocks import checks
from encodec_hk.blocks import items
from encodec_hk.blocks import scheduler
from encodec_hk.framing import Framing


def num_streams(batch: int | None) -> int:
    """Return the number of streams of a batch, 1 for None; raise ValueError if it is not one."""
    if batch is not None and not (type(batch) is int and batch > 0):
        raise ValueError(f"batch: got {batch!r}, must be None or a whole number above 0")
    return batch or 1


class _Streams:
    """What both directions share: one stream, or a batch of streams numbered from 0."""

    def __init__(self, batch: int | None) -> None:
        self._size = num_streams(batch)
        self._is_batch = batch is not None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the streams; what was not finished is discarded."""
        self._is_closed = True

    def _each(self, given: Any, name: str) -> list[Any]:
        """Return what a call was given, as a list with an entry for each stream."""
        if self._is_closed:
            raise ValueError("the stream is closed")
        if not self._is_batch:
            return [given]
        if not isinstance(given, Sequence) or len(given) != self._size:
            raise ValueError(f"{name}: got {type(given).__name__}, must be a list of {self._size}")
        return list(given)

    def _name(self, argument: str, index: int) -> str:
        """Return the name in messages of what one stream was given."""
        return f"{argument}[{index}]" if self._is_batch else argument

    def _ending(self, streams: Sequence[int] | None) -> list[int]:
        """Return the streams that a call of `finish` ends."""
        self._each([None] * self._size, "")
        everyone = range(self._size)
        if streams is not None and not (self._is_batch and set(streams) <= set(everyone)):
            allowed = f"numbers below {self._size}" if self._is_batch else "None without a batch"
            raise ValueError(f"streams: got {streams}, must be {allowed}")
        return list(everyone if streams is None else streams)


class StreamEncoder(_Streams):
    """Audio to codes, piece by piece: see `Codec.stream_encoder`.

    Attributes:
      num_codebooks: K.
    """

    def __init__(
        self,
        runner: scheduler.Scheduler,
        framing: Framing,
        model_config: ml_collections.ConfigDict,
        *,
        num_codebooks: int,
        batch: int | None,
    ) -> None:
        super().__init__(batch)
        self.num_codebooks = num_codebooks
        self._runner = runner
        self._config = model_config
        self._begin = lambda: items.ItemEncoder(runner, framing, model_config.normalize)
        self._items = [self._begin() for _ in range(self._size)]

    def warm_up(self) -> None:
        """Compile all that later calls need, which takes seconds, before sound arrives."""
        self._runner.warm_up(np.zeros((0, self._config.channels), np.float32))

    def push(self, samples: Any) -> Any:
        """Add samples and return the codes that are ready.

        Args:
          samples: float [n, C] in [-1, 1], n >= 0; with a batch a list of them, None for nothing.

        Returns:
          Codes int32 [K, F], F >= 0, which may be 0; of a variant that normalises a named tuple
          (codes, scales float32 [S]) for the S segments that are ready. With a batch a list.

        Raises:
          ValueError: the samples are not finite floats [n, C]; nothing is taken then.
        """
        checked = [
            None
            if piece is None
            else checks.samples(piece, self._name("samples", index), self._config.channels)
            for index, piece in enumerate(self._each(samples, "samples"))
        ]
        for item, piece in zip(self._items, checked, strict=True):
            if piece is not None:
                item.push(piece)
        return self._ready()

    def finish(self, streams: Sequence[int] | None = None) -> Any:
        """End streams and return the rest of their codes; the next samples begin new signals.

        Args:
          streams: numbers of streams of a batch; None for all.

        Returns:
          Codes, as from `push`.
        """
        ending = self._ending(streams)
        for index in ending:
            self._items[index].end()
        codes = self._ready()
        for index in ending:
            self._items[index] = self._begin()
        return codes

    def _ready(self) -> Any:
        self._runner.advance(wait=True)
        found: list[Any] = []
        for item in self._items:
            parts = item.take()
            empty = np.zeros((self.num_codebooks, 0), np.int32)
            codes = np.concatenate([empty, *(part.codes for part in parts)], axis=1)
            if self._config.normalize:
                scales = [part.scales for part in parts if part.scales is not None]
                none = np.zeros(0, np.float32)
                found.append(items.Codes(codes, np.concatenate([none, *scales])))
            else:
                found.append(codes)
        return found if self._is_batch else found[0]


class StreamDecoder(_Streams):
    """Codes to audio, piece by piece: see `Codec.stream_decoder`.

    Attributes:
      num_codebooks: K; None until the first codes are pushed, if it was not given.
    """

    def __init__(
        self,
        runner: scheduler.Scheduler,
        framing: Framing,
        model_config: ml_collections.ConfigDict,
        *,
        num_codebooks: int | None,
        batch: int | None,
        hold_back: bool,
    ) -> None:
        super().__init__(batch)
        self.num_codebooks = num_codebooks
        self._runner = runner
        self._config = model_config
        self._begin = lambda: items.ItemDecoder(
            runner, framing, model_config.channels, hold_back=hold_back
        )
        self._items = [self._begin() for _ in range(self._size)]

    def warm_up(self) -> None:
        """Compile all that later calls need, which takes seconds, before codes arrive.

        Raises:
          ValueError: the number of codebooks is not known yet.
        """
        if self.num_codebooks is None:
            raise ValueError("warm_up: stream_decoder got neither bandwidth nor num_codebooks")
        self._runner.warm_up(np.zeros((self.num_codebooks, 0), np.int32))

    def push(self, codes: Any, scales: Any = None) -> Any:
        """Add codes and return the samples that are ready.

        Args:
          codes: what `StreamEncoder.push` returned, or integers [K, F], F >= 0; with a batch a list
            of them, None for nothing.
          scales: of a variant that normalises, [S] of the next segments without one; with a batch a
            list of them. None if they come with the codes. A segment that is decoded before its
            scale was given has the scale 1.

        Returns:
          Samples float32 [n, C], n >= 0; with a batch a list of them.

        Raises:
          ValueError: the codes or scales are not such; nothing is taken then.
        """
        given = self._each(codes, "codes")
        own_scales = [None] * self._size if scales is None else self._each(scales, "scales")
        count, checked = self.num_codebooks, []
        for index, (piece, own) in enumerate(zip(given, own_scales, strict=True)):
            if isinstance(piece, items.Codes):
                own = piece.scales if own is None else own
                piece = piece.codes
            if piece is None:
                piece = np.zeros((count or 1, 0), np.int32)
            else:
                piece = checks.stream_codes(piece, self._name("codes", index), count, self._config)
                count = len(piece)
            checked.append(
                (piece, checks.stream_scales(own, self._name("scales", index), self._config))
            )
        self.num_codebooks = count
        for item, (piece, own) in zip(self._items, checked, strict=True):
            item.push(piece, own)
        return self._ready()

    def finish(self, num_samples: Any = None, streams: Sequence[int] | None = None) -> Any:
        """End streams and return the rest of their samples; the next codes begin new signals.

        Args:
          num_samples: of the whole signal; with a batch a list of them. None: as many as its frames
            hold.
          streams: numbers of streams of a batch; None for all.

        Returns:
          Samples, as from `push`.

        Raises:
          ValueError: so many samples have another number of frames, or more were returned already
            (see `hold_back`); nothing ends then.
        """
        ending = self._ending(streams)
        none = [None] * self._size
        counts = none if num_samples is None else self._each(num_samples, "num_samples")
        lengths = [
            self._items[index].length_of_end(counts[index], self._name("num_samples", index))
            for index in ending
        ]
        for index, length in zip(ending, lengths, strict=True):
            self._items[index].end(length)
        samples = self._ready()
        for index in ending:
            self._items[index] = self._begin()
        return samples

    def _ready(self) -> Any:
        self._runner.advance(wait=True)
        samples = [item.take() for item in self._items]
        return samples if self._is_batch else samples[0]
