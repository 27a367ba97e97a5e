"""Streams: audio to codes and back, piece by piece, as it comes.

What a stream gives, joined, is what `Codec.encode` and `Codec.decode` give for the whole, however
it was cut: the block computation is the same, and its state is carried from call to call. Blocks
have one of a few lengths, the shortest of one frame, so that no cut compiles anything new.

Latency, of a causal variant: the first codes come with `config.minimum_first_block` frames (7, or
93 ms, at 24 kHz), then every frame (13.3 ms) gives its codes at once. The decoder waits for as many
frames; then it gives each frame's samples at once too, or one frame later (`hold_back`). Variants
that look ahead lag by `config.lags`. Variants that are cut into segments wait for a whole one.

Shapes: n samples, F frames, C channels, K codebooks, S segments. All numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import jax
import numpy as np

from encodec_hk import config
from encodec_hk.blocks import encoded
from encodec_hk.blocks import scheduler
from encodec_hk.blocks import segment_streams
from encodec_hk.blocks.segment_streams import Codes

if TYPE_CHECKING:
    import encodec_hk

__all__ = ["Codes", "StreamDecoder", "StreamEncoder"]


class _Streams:
    """What both directions share: one stream, or a batch of them that are numbered from 0."""

    _rows: Any

    def __init__(self, batch: int | None) -> None:
        if batch is not None and not (type(batch) is int and batch > 0):
            raise ValueError(f"batch: got {batch!r}, must be None or a whole number above 0")
        self._size = batch or 1
        self._is_batch = batch is not None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the use; what was not finished is dropped."""
        self._is_closed = True

    def warm_up(self) -> None:
        """Compiles all that later calls need, which takes seconds, before sound arrives."""
        self._rows.warm_up()

    def keep(self, streams: Sequence[int]) -> None:
        """Keeps these streams of the batch, numbered anew in this order, and drops the others."""
        self._rows.keep(streams)
        self._size = len(streams)

    def drop(self, index: int) -> None:
        """Drops what was given to a stream, of a variant that is cut into segments."""
        assert not isinstance(self._rows, scheduler.Stream)  # which holds a state
        self._rows.drop(index)

    def _each(self, given: Any, name: str) -> list[Any]:
        """What a call was given for each stream, None where nothing."""
        if self._is_closed:
            raise ValueError("the stream is closed")
        if not self._is_batch:
            return [given]
        if not isinstance(given, Sequence) or len(given) != self._size:
            raise ValueError(f"{name}: got {type(given).__name__}, must be a list of {self._size}")
        return list(given)

    def _ending(self, streams: Sequence[int] | None) -> list[bool]:
        """Of each stream, whether a call of `finish` is about it."""
        self._each([None] * self._size, "")
        everyone = range(self._size)
        if streams is not None and not (self._is_batch and set(streams) <= set(everyone)):
            allowed = f"numbers below {self._size}" if self._is_batch else "None without a batch"
            raise ValueError(f"streams: got {streams}, must be {allowed}")
        return [streams is None or index in streams for index in everyone]


class StreamEncoder(_Streams):
    """Audio to codes, piece by piece: see `Codec.stream_encoder`.

    Attributes:
      num_codebooks: K.
      scales: float32 [S], of the segments whose codes the last call gave; with a batch a list of
        them. Empty where the variant does not normalise.
    """

    def __init__(
        self,
        codec: encodec_hk.Codec,
        *,
        num_codebooks: int,
        batch: int | None = None,
        block_frames: int | None = None,
    ) -> None:
        super().__init__(batch)
        self.num_codebooks = num_codebooks
        self._channels = codec.channels

        def step(state: Any, block: np.ndarray, *ends: np.ndarray) -> tuple[Any, np.ndarray]:
            state, codes = codec.encode_block(state, block, *ends, num_codebooks=num_codebooks)
            return state, np.asarray(codes).swapaxes(1, 2)  # no work for the device

        if codec.has_segments:
            self._rows = segment_streams.Encoder(
                step, codec.framing, self._size, codec.channels, codec.model_config.normalize
            )
        else:
            self._rows = scheduler.Stream(
                step,
                codec.model.encoder_state(self._size),
                batch=self._size,
                sizes=_sizes(codec, block_frames),
                first=config.minimum_first_block(codec.model_config),
                unit=codec.hop_length,
                gain=1,
                lag=codec.lags[0],
                like=np.zeros((0, codec.channels), np.float32),
            )
        self._joined([[]] * self._size)

    def push(self, samples: Any) -> Any:
        """Takes samples, gives the codes that are ready.

        Args:
          samples: float [n, C] in [-1, 1], n >= 0; with a batch a list of them, None for nothing.

        Returns:
          Codes int32 [K, F], F >= 0; with a batch a list of them.

        Raises:
          ValueError: they are not finite floats [n, C]; nothing is taken then.
        """
        return self._joined(self.advance(self._each(samples, "samples"), [False] * self._size))

    def finish(self, streams: Sequence[int] | None = None) -> Any:
        """Ends streams and gives the rest of their codes; what comes next begins them anew.

        Args:
          streams: which ones of a batch; None for all.

        Returns:
          As of `push`.
        """
        return self._joined(self.advance([None] * self._size, self._ending(streams)))

    def advance(self, samples: Sequence[Any], ends: Sequence[bool]) -> list[list[Codes]]:
        """`push` and `finish` in one call.

        Args:
          samples: of each stream, as of `push`.
          ends: of each stream, whether it ends with them.

        Returns:
          Of each stream its new codes, parts that follow each other; of a variant that is cut into
          segments, a part is a segment.
        """
        checked = [
            np.zeros((0, self._channels), np.float32)
            if piece is None
            else encoded.check_samples(piece, f"samples[{index}]", self._channels)
            for index, piece in enumerate(samples)
        ]
        for index, piece in enumerate(checked):
            self._rows.put(index, piece)
        return [
            [part if isinstance(part, Codes) else Codes(part.T) for part in parts]
            for parts in self._rows.advance(ends)
        ]

    def _joined(self, outputs: list[list[Codes]]) -> Any:
        """The codes of each stream's parts; keeps their scales."""
        empty = np.zeros((self.num_codebooks, 0), np.int32)
        codes = [np.concatenate([empty, *(c.codes for c in parts)], axis=1) for parts in outputs]
        scales = [
            np.array([c.scale for c in parts if c.scale is not None], np.float32)
            for parts in outputs
        ]
        self.scales = scales if self._is_batch else scales[0]
        return codes if self._is_batch else codes[0]


class StreamDecoder(_Streams):
    """Codes to audio, piece by piece: see `Codec.stream_decoder`.

    Attributes:
      num_codebooks: K.
    """

    def __init__(
        self,
        codec: encodec_hk.Codec,
        *,
        num_codebooks: int,
        batch: int | None = None,
        hold_back: bool = True,
        block_frames: int | None = None,
    ) -> None:
        super().__init__(batch)
        self.num_codebooks = num_codebooks
        self._config = codec.model_config
        self._framing = codec.framing
        # What comes after a segment's overlap belongs to the signal in any case.
        self._kept = codec.hop_length - 1 if hold_back and not codec.has_segments else 0
        self._nothing = np.zeros((0, codec.channels), np.float32)
        self._places = [_Place(self._nothing) for _ in range(self._size)]

        def step(state: Any, block: np.ndarray, *ends: np.ndarray) -> tuple[Any, jax.Array]:
            return codec.decode_block(state, block.swapaxes(1, 2), *ends)

        like = np.zeros((0, num_codebooks), np.int32)
        if codec.has_segments:
            self._rows = segment_streams.Decoder(step, codec.framing, self._size, like)
        else:
            self._rows = scheduler.Stream(
                step,
                codec.model.decoder_state(self._size),
                batch=self._size,
                sizes=_sizes(codec, block_frames),
                first=config.minimum_first_block(codec.model_config),
                unit=1,
                gain=codec.hop_length,
                lag=codec.lags[1],
                like=like,
            )

    def push(self, codes: Any, scales: Any = None) -> Any:
        """Takes codes, gives the samples that are ready.

        Args:
          codes: integers [K, F], F >= 0; with a batch a list of them, None for nothing.
          scales: of a variant that normalises, [S] of the segments that follow those whose scales
            are there already, such as `StreamEncoder.scales`; with a batch a list of them. A
            segment that comes without one has the scale 1.

        Returns:
          Samples float32 [n, C], n >= 0; with a batch a list of them.

        Raises:
          ValueError: codes or scales that cannot be; nothing is taken then.
        """
        none = [None] * self._size
        given = none if scales is None else self._each(scales, "scales")
        return self._given_back(
            self.advance(self._each(codes, "codes"), given, [False] * self._size, none)
        )

    def finish(self, num_samples: Any = None, streams: Sequence[int] | None = None) -> Any:
        """Ends streams and gives the rest of their samples; what comes next begins them anew.

        Args:
          num_samples: of the whole stream; with a batch a list of them. None: as many as its
            frames hold.
          streams: which ones of a batch; None for all.

        Returns:
          As of `push`.

        Raises:
          ValueError: so many samples have another number of frames, or more came out already
            (see `hold_back`); nothing ends then.
        """
        none = [None] * self._size
        counts = none if num_samples is None else self._each(num_samples, "num_samples")
        return self._given_back(self.advance(none, none, self._ending(streams), counts))

    def advance(
        self,
        codes: Sequence[Any],
        scales: Sequence[Any],
        ends: Sequence[bool],
        num_samples: Sequence[int | None],
    ) -> list[np.ndarray]:
        """`push` and `finish` in one call; everything is of each stream."""
        checked = []
        for index, own in enumerate(scales):
            given = np.zeros((self.num_codebooks, 0), np.int32)
            if codes[index] is not None:
                given = encoded.check_stream_codes(
                    codes[index], f"codes[{index}]", self.num_codebooks, self._config
                )
            own = encoded.check_stream_scales(own, f"scales[{index}]", self._config)
            total = None
            if ends[index]:
                total = self._length(index, given.shape[1], num_samples[index])
            checked.append((given, own, total))
        for index, (given, own, _) in enumerate(checked):
            self._places[index].frames += given.shape[1]
            self._rows.put(index, given.T)
            if isinstance(self._rows, segment_streams.Decoder):
                self._rows.put_scales(index, own)
        lengths = [total for _, _, total in checked]
        if isinstance(self._rows, segment_streams.Decoder):
            outputs = self._rows.advance(lengths)
        else:
            outputs = self._rows.advance(ends)
        return [
            place.cut(parts, self._kept, length)
            for place, parts, length in zip(self._places, outputs, lengths, strict=True)
        ]

    def keep(self, streams: Sequence[int]) -> None:
        """As of `StreamEncoder`."""
        super().keep(streams)
        self._places = [self._places[index] for index in streams]

    def drop(self, index: int) -> None:
        """As of `StreamEncoder`."""
        super().drop(index)
        self._places[index] = _Place(self._nothing)

    def _length(self, index: int, new_frames: int, num_samples: int | None) -> int:
        """Samples of a stream that ends."""
        place = self._places[index]
        frames = place.frames + new_frames
        if num_samples is None:
            num_samples = self._framing.longest(frames)
        own = sum(self._framing.frames(num_samples))
        if own != frames:
            raise ValueError(
                f"num_samples[{index}]: got {num_samples}, which have {own} frames, not {frames}"
            )
        if num_samples < place.made:
            raise ValueError(
                f"num_samples[{index}]: got {num_samples}, but {place.made} came out already; a "
                "stream with hold_back=True can end so"
            )
        return num_samples

    def _given_back(self, outputs: list[np.ndarray]) -> Any:
        return outputs if self._is_batch else outputs[0]


class _Place:
    """What a decoder knows of one stream, and the samples that it keeps to itself.

    Attributes:
      frames: that were pushed.
      made: samples that were given.
    """

    def __init__(self, nothing: np.ndarray) -> None:
        self.frames = self.made = 0
        self._held = self._nothing = nothing

    def cut(self, parts: list[np.ndarray], kept: int, length: int | None) -> np.ndarray:
        """Of what is held and new parts all but `kept` samples; all up to the length at the end."""
        samples = np.concatenate([self._held, *parts])
        if length is None:
            ready = max(len(samples) - kept, 0)
            self._held = samples[ready:]
            self.made += ready
            return samples[:ready]
        samples = samples[: length - self.made]
        self.frames = self.made = 0
        self._held = self._nothing
        return samples


def _sizes(codec: encodec_hk.Codec, block_frames: int | None) -> tuple[int, ...]:
    """Lengths of blocks in frames: a frame, what a stream begins with, and about a second."""
    if block_frames is not None:
        return (block_frames,)
    first = max(config.minimum_first_block(codec.model_config), 8)
    return tuple(sorted({1, first, max(first, codec.block_frames)}))
