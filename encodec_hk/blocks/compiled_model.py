"""A variant's networks with their parameters, compiled: what schedulers run.

Shapes: B rows of a block, T samples, C channels, F frames, K codebooks.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence

import jax
import ml_collections

from encodec_hk import config
from encodec_hk import framing
from encodec_hk.blocks import placement
from encodec_hk.blocks import program
from encodec_hk.blocks import scheduler
from encodec_hk.blocks import traces
from encodec_hk.networks import model
from encodec_hk.networks import quantizer


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
      takes_whole_items: whether an item must be in one block: with time_group_norm and no segments.
      encode_block, decode_block: the compiled block computation with the parameters bound; see
        `model.Model`. Devices share a number of rows that is a multiple of theirs; the first device
        takes any other.
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
        energies = quantizer.energies(params["quantizer"]["codebooks"])
        self.encode_block = devices_of_blocks.compile(
            self.model.encode_block,
            self.params,
            static_argnames=("num_codebooks",),
            energies=devices_of_blocks.replicate(energies),
        )
        self.decode_block = devices_of_blocks.compile(
            build(model_config, decode_precision).decode_block, self.params
        )
        self._first_block = config.minimum_first_block(model_config)
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
            else max(self._first_block, round(block_seconds * self.frame_rate))
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

    def encoder_program(self, num_codebooks: int) -> program.Program:
        """Return the program that encodes with so many codebooks."""
        return program.Program(
            step=functools.partial(self.encode_block, num_codebooks=num_codebooks),
            fresh_state=None if self._has_whole_rows else self.model.encoder_state,
            steps_axis=0,
            outputs_axis=1,
            unit=self.hop_length,
            gain=1,
            first=self._first_block,
            lag=0 if self._has_whole_rows else config.lags(self.model_config)[0],
        )

    def decoder_program(self) -> program.Program:
        """Return the program that decodes."""
        return program.Program(
            step=self.decode_block,
            fresh_state=None if self._has_whole_rows else self.model.decoder_state,
            steps_axis=1,
            outputs_axis=0,
            unit=1,
            gain=self.hop_length,
            first=self._first_block,
            lag=0 if self._has_whole_rows else config.lags(self.model_config)[1],
        )

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
        least = self._first_block
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
