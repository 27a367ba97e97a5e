"""A variant's networks with their parameters, compiled: what schedulers run.

Shapes: B rows of a block, T samples, C channels, F frames, K codebooks.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from encodec_hk import config
from encodec_hk import framing
from encodec_hk.blocks import block_checks
from encodec_hk.blocks import placement
from encodec_hk.blocks import program
from encodec_hk.blocks import scheduler
from encodec_hk.blocks import traces
from encodec_hk.networks import model
from encodec_hk.networks import quantizer
from encodec_hk.networks import reach


class CompiledModel:
    """The block computation of one variant, its parameters bound, on some devices.

    Attributes:
      model_config: the networks' config (`config.model`).
      params: the parameters.
      model: the pure functions that `model.build` makes of the config.
      framing: how an item is divided into segments and frames.
      batch_size: places of a block on one device, at most.
      num_devices: devices that share blocks.
      block_frames: frames of a block, at most.
      has_encoder: whether the parameters have an encoder; else the model decodes only.
      takes_whole_items: whether an item must be in one block: with time_group_norm and no segments.
      encode_rows, decode_rows: the compiled block computation with the parameters bound, which
        programs run; `encode_block` and `decode_block` check their arguments first.
    """

    def __init__(
        self,
        model_config: ml_collections.ConfigDict,
        params: model.Params,
        *,
        batch_size: int,
        block_seconds: float,
        decode_precision: str,
        devices: Sequence[jax.Device] | None,
        traces_folder: str | os.PathLike[str] | None,
    ):
        """Compile; the arguments are those of `Codec`, checked but for the devices."""
        # A copy: later changes of the caller's config change nothing here.
        self.model_config = model_config = config.from_json(config.to_json(model_config))
        build = builder(traces_folder)
        self.model = build(model_config)
        devices_of_blocks = placement.Placement(devices)
        self.num_devices = len(devices_of_blocks.devices)
        self.params = devices_of_blocks.replicate(params)
        self.has_encoder = model.has_encoder(params)
        energies = quantizer.energies(params["quantizer"]["codebooks"])
        self.encode_rows = devices_of_blocks.compile(
            self.model.encode_block,
            self.params,
            static_argnames=("num_codebooks",),
            energies=devices_of_blocks.replicate(energies),
        )
        self.decode_rows = devices_of_blocks.compile(
            build(model_config, decode_precision).decode_block, self.params
        )
        # With several devices, `traces` keeps nothing.
        self._keeps_traces = traces_folder is not None and jax.device_count() == 1
        firsts = reach.minimum_first_blocks(model_config)
        self._first_block, self._first_of_codes = firsts
        self._norms: tuple[int, ...] = ()
        if config.has_vocos(model_config):
            self._norms = config.vocos_norms(model_config)
        self._warned: set[int] = set()  # numbers of codebooks
        self.framing = framing.Framing.undivided(self.hop_length)
        length, stride = config.segment_length(model_config), config.segment_stride(model_config)
        if length is not None and stride is not None:
            self.framing = framing.Framing(length, stride, self.hop_length)
        self.takes_whole_items = model_config.norm == "time_group_norm" and length is None
        self._has_whole_rows = self.takes_whole_items or self.framing.has_segments
        self.batch_size = batch_size
        self.block_frames = (
            self.framing.segment_frames
            if self.framing.has_segments
            else max(*firsts, round(block_seconds * self.frame_rate))
        )

    @property
    def sample_rate(self) -> int:
        """Samples of audio per second (Hz)."""
        return self.model_config.sample_rate

    @property
    def channels(self) -> int:
        """Channels of audio."""
        return self.model_config.channels

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return config.hop_length(self.model_config)

    @property
    def frame_rate(self) -> int:
        """Frames per second (Hz), rounded up if the hop does not divide the sample rate."""
        return config.frame_rate(self.model_config)

    @property
    def num_codebooks(self) -> int:
        """Codebooks of the variant, the most that codes can have."""
        return self.model_config.num_codebooks

    def encode_block(
        self, state: Any, audio: Any, num_valid: Any, is_last: Any, *, num_codebooks: int
    ) -> tuple[model.State, jax.Array]:
        """Encode a block of audio, compiled; see `model.Model`.

        Devices share a number of rows that is a multiple of theirs; the first takes any other.

        Args:
          state: from `model.encoder_state(B)` or the block before; None for rows that are whole in
            this block.
          audio: float [B, T, C] in [-1, 1], T a multiple of the hop.
          num_valid: samples of each row, integers [B]: whole frames of a row that goes on, and at
            least `reach.minimum_first_blocks` frames in its first block. None, with is_last and
            state None too, if rows fill the block.
          is_last: whether each row ends with them, bool [B].
          num_codebooks: K, from 1 to all.

        Returns:
          The state, and codes int32 [B, K, F].

        Raises:
          ValueError: an argument is wrong. The values of JAX's arrays are not looked at, so that a
            loop over blocks need not wait for them; those of numpy arrays are.
        """
        self.check_encoder()
        config.bandwidth_for(self.model_config, num_codebooks)  # checks it
        audio = block_checks.audio(audio, self.model_config)
        ends = block_checks.rows(
            state,
            num_valid,
            is_last,
            batch=audio.shape[0],
            size=audio.shape[1],
            fresh=self.model.encoder_state(1),
            unit=self.hop_length,
            first=self._first_block,
        )
        return self.encode_rows(self._put(state), audio, *ends, num_codebooks=int(num_codebooks))

    def decode_block(
        self, state: Any, codes: Any, num_valid: Any, is_last: Any
    ) -> tuple[model.State, jax.Array]:
        """Decode a block of codes, compiled, as `encode_block` encodes.

        Args:
          state: from `model.decoder_state(B)` or the block before, or None.
          codes: integers [B, K, F]. Beyond the codebooks, those of JAX's arrays are undefined.
          num_valid: frames of each row, integers [B], or None.
          is_last: whether each row ends with them, bool [B], or None.

        Returns:
          The state, and audio float32 [B, T, C], T = F * hop.

        Raises:
          ValueError: as of `encode_block`.
        """
        codes = block_checks.codes(codes, self.model_config)
        ends = block_checks.rows(
            state,
            num_valid,
            is_last,
            batch=codes.shape[0],
            size=codes.shape[2],
            fresh=self.model.decoder_state(1),
            unit=1,
            first=self._first_of_codes,
        )
        return self._decode(self._put(state), codes, *ends)

    def encoder_program(self, num_codebooks: int) -> program.Program:
        """Return the program that encodes with so many codebooks, if the model has an encoder."""
        return program.Program(
            step=functools.partial(self.encode_rows, num_codebooks=num_codebooks),
            fresh_state=self._fresh_state(self.model.encoder_state),
            steps_axis=0,
            outputs_axis=1,
            unit=self.hop_length,
            gain=1,
            first=self._first_block,
            lag=0 if self._has_whole_rows else reach.lags(self.model_config)[0],
        )

    def decoder_program(self) -> program.Program:
        """Return the program that decodes."""
        return program.Program(
            step=self._decode if self._norms else self.decode_rows,
            fresh_state=self._fresh_state(self.model.decoder_state),
            steps_axis=1,
            outputs_axis=0,
            unit=1,
            gain=self.hop_length,
            first=self._first_of_codes,
            lag=0 if self._has_whole_rows else reach.lags(self.model_config)[1],
        )

    def check_encoder(self) -> None:
        """Raise ValueError if the model has no encoder."""
        if not self.has_encoder:
            raise ValueError(
                "this checkpoint decodes only: it has no encoder; `convert --join=CHECKPOINT` adds "
                "that of the EnCodec model whose codes it decodes"
            )

    def _decode(self, state: Any, codes: Any, num_valid: Any, is_last: Any) -> Any:
        """Run `decode_rows`; say once if there are no norms for so many codebooks."""
        if self._norms and (count := codes.shape[1]) not in self._warned:
            self._warned.add(count)
            kbps = config.bandwidth_for(self.model_config, count)
            nearest = self.model_config.vocos.bandwidths[self._norms[count - 1]]
            if config.num_codebooks_for(self.model_config, nearest) != count:
                text = f"the decoder has no norms for {kbps:g} kbps, it takes those for {nearest:g}"
                warnings.warn(text, stacklevel=2)
        return self.decode_rows(state, codes, num_valid, is_last)

    def _fresh_state(
        self, begin: Callable[[int], model.State]
    ) -> Callable[[int], model.State] | None:
        return None if self._has_whole_rows else lambda batch: self._put(begin(batch))

    def _put(self, state: model.State) -> model.State:
        """Return a state where the program takes it."""
        if not self._keeps_traces or state is None or not isinstance(state["start"], np.ndarray):
            return state
        # On the device, as the outputs of a kept program are: else the second block compiles again.
        return jax.device_put(state, jax.devices()[0])

    def places(self, num_items: int) -> int:
        """Return the places of a block for so many items, which run together or take turns."""
        return scheduler.places_for(num_items, self.batch_size, self.num_devices)

    def runner(
        self, direction: program.Program, places: int, sizes: Sequence[int] | None = None
    ) -> scheduler.Scheduler:
        """Return a scheduler of `encoder_program` or `decoder_program`.

        Args:
          direction: the program.
          places: rows of a block.
          sizes: frames of a block, in rising order; None for `block_frames`.
        """
        return scheduler.Scheduler(direction, places=places, sizes=sizes or (self.block_frames,))

    def stream_sizes(self, block_frames: int | None = None) -> tuple[int, ...]:
        """Return the frames of a stream's blocks: one, what it begins with, and about a second.

        Args:
          block_frames: to have blocks of one length alone.

        Raises:
          ValueError: the variant takes whole items only, or cannot begin with so few frames.
        """
        if self.takes_whole_items:
            raise ValueError(
                "streams: a model with time_group_norm and no segments takes whole items only"
            )
        least = max(self._first_block, self._first_of_codes)
        if block_frames is not None and not (type(block_frames) is int and block_frames >= least):
            raise ValueError(
                f"block_frames: got {block_frames!r}, must be None or at least {least}"
            )
        if self.framing.has_segments:
            return (self.block_frames,)
        if block_frames is not None:
            return (block_frames,)
        first = max(least, 8)
        return tuple(sorted({1, first, max(first, self.block_frames)}))

    def runners(
        self, direction: program.Program, frames: Sequence[int]
    ) -> list[scheduler.Scheduler]:
        """Return the scheduler of every item of a batch, of so many frames: one for all items.

        An item that must be in one block has a scheduler of its own.
        """
        if self.takes_whole_items:
            sizes = [scheduler.bucket(count, self.block_frames) for count in frames]
            return [self.runner(direction, 1, (size,)) for size in sizes]
        # Places follow the items, not their segments: so no length asks for another shape. The
        # segments of one item do not wait for each other, so all devices have work.
        count = max(len(frames), self.num_devices if self.framing.has_segments else 1)
        return [self.runner(direction, self.places(count))] * len(frames)


def builder(traces_folder: str | os.PathLike[str] | None) -> Callable[..., model.Model]:
    """Return `model.build`, or what keeps its traces in a folder."""
    return model.build if traces_folder is None else traces.builder(traces_folder)
