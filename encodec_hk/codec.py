"""The codec as its users hold it: audio to codes and back.

Glossary of shapes: B items, T samples, C channels, F frames, K codebooks, S segments.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk.blocks import encoded as encoded_lib
from encodec_hk.blocks import placement as placement_lib
from encodec_hk.blocks import scheduler
from encodec_hk.blocks import segments
from encodec_hk.blocks import streams
from encodec_hk.networks import model
from encodec_hk.networks import quantizer

DEFAULT_BANDWIDTH = 6.0  # kbps, where a variant has it

Encoded = encoded_lib.Encoded


class Codec:
    """One variant with its parameters, and its compiled block computation.

    An item's codes and audio do not depend on what else is in the batch, nor on the lengths of the
    others: all go through blocks of a fixed shape (`batching.run`). A program is compiled for every
    number of places in a block (1, 2, 4, ... up to batch_size, by the number of items) and every
    number of codebooks, and for no other length. The exception are networks normalised over time
    that are not cut into segments: there an item is one block, whose length is rounded up to 1, 2,
    3, 4, 6, 8, 12, ... times block_seconds.

    Several devices share every block of several items, and that of one item cut into segments: each
    has as many places (so a block has 1, 2, 4, ... up to batch_size times as many as devices), all
    parameters, and the state of its own rows. The codes are those of one device.

    Attributes:
      model_config: the networks' config (`config.model`).
      params: the parameters.
      model: the pure functions that `model.build` made of the config.
      name: the variant's name.
      source: where the parameters come from, as a checkpoint says it.
      bandwidth: kbps that `encode` uses where none is asked for.
      framing: how an item is cut into segments, where `has_segments` says that it is.
      batch_size: places of a block on one device, at most.
      num_devices: devices that share blocks.
      block_frames: frames of a block, at most.
      lags: frames by which a stream's codes lag, and samples by which its audio does.
      encode_block, decode_block: the compiled block computation, the parameters bound; see
        `model.Model`. For streams, and for whatever else keeps its own state. The devices share
        rows that are a multiple of their number, the first takes others.
    """

    def __init__(
        self,
        model_config: ml_collections.ConfigDict,
        params: model.Params,
        *,
        name: str = "",
        source: str = "",
        bandwidth: float | None = None,
        batch_size: int = 8,
        block_seconds: float = 1.0,
        decode_precision: str = "float32",
        devices: Sequence[jax.Device] | None = None,
    ):
        """Checks the parameters against the config.

        Args:
          model_config: a model config, as in `config.model` of `configs/`.
          params: Haiku parameters of that config.
          name: the variant's name.
          source: where the parameters come from.
          bandwidth: default kbps; None takes 6 kbps where the variant has it, else its highest.
          batch_size: places of a block on one device, at most.
          block_seconds: length of a block, where the variant is not cut into segments: those are
            blocks as they are.
          decode_precision: of the decoder's products, see `model.build`; encoding is float32.
          devices: to compute on, of this process and of one platform; None for all that JAX has by
            default, or for the one that `jax.default_device` names.

        Raises:
          ValueError: a value of the config, a parameter's shape or a device is wrong.
        """
        config.validate_model(model_config)
        # A copy, so that the codec stays what it is whatever becomes of the config.
        model_config = config.from_json(config.to_json(model_config))
        self.model_config = model_config
        self.model = model.build(model_config)
        self.name = name
        self.source = source
        checkpoint.check_params(params, self.model.param_shapes())
        placement = placement_lib.Placement(devices)
        self.num_devices = len(placement.devices)
        self.params = placement.replicate(params)
        if bandwidth is None:
            offered = model_config.bandwidths
            bandwidth = DEFAULT_BANDWIDTH if DEFAULT_BANDWIDTH in offered else max(offered)
        config.num_codebooks_for(model_config, bandwidth)
        self.bandwidth = float(bandwidth)
        settings = {
            "batch_size": batch_size,
            "block_seconds": block_seconds,
            "decode_precision": decode_precision,
        }
        config.validate_inference({"bandwidth": self.bandwidth, **settings}, "Codec")
        self.encode_block = placement.compile(
            self.model.encode_block,
            self.params,
            static_argnames=("num_codebooks",),
            energies=placement.replicate(quantizer.energies(params["quantizer"]["codebooks"])),
        )
        decoding = model.build(model_config, decode_precision)
        self.decode_block = placement.compile(decoding.decode_block, self.params)

        length = config.segment_length(model_config)
        stride = config.segment_stride(model_config)
        self.framing = segments.Framing(
            length or sys.maxsize, stride or sys.maxsize, self.hop_length
        )
        self.has_segments = length is not None
        self.lags = (0, 0) if length else config.lags(model_config)
        self.batch_size = batch_size
        self.block_frames = max(
            config.minimum_first_block(model_config),
            -(-length // self.hop_length) if length else round(block_seconds * self.frame_rate),
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
        """Frames per second (Hz), rounded up where the hop does not divide the sample rate."""
        return config.frame_rate(self.model_config)

    @property
    def num_codebooks(self) -> int:
        """Codebooks of the variant, the most that codes can have."""
        return self.model_config.num_codebooks

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the model's config and parameters, in hexadecimal digits.

        Equal wherever the codec gives equal codes, whatever file it was read from.
        """
        return checkpoint.fingerprint(self.model_config, self.params)

    def encode(
        self,
        audio: np.ndarray | jax.Array | Sequence[np.ndarray | jax.Array],
        bandwidth: float | None = None,
        num_codebooks: int | None = None,
    ) -> Encoded:
        """Codes of audio.

        Args:
          audio: float [B, T, C] in [-1, 1] at the codec's sample rate, or a list of [T, C] of any
            lengths from 1 sample on.
          bandwidth: kbps, any whole number of codebooks; None for the codec's default.
          num_codebooks: the same as a number of codebooks, from 1 to all.

        Raises:
          ValueError: the audio is empty, not float, not finite or has another number of channels;
            or both or impossible rates were asked for.
        """
        count = self._count(bandwidth, num_codebooks)
        items = encoded_lib.check_audio(audio, self.channels)
        pieces = [self.framing.cut(item) for item in items]
        scales = None
        if self.model_config.normalize:
            normalized = [[segments.normalize(piece) for piece in item] for item in pieces]
            pieces = [[piece for piece, _ in item] for item in normalized]
            scales = encoded_lib.stack([np.array([s for _, s in item]) for item in normalized])

        def step(state: Any, block: np.ndarray, *ends: np.ndarray) -> tuple[Any, jax.Array]:
            state, codes = self.encode_block(state, block, *ends, num_codebooks=count)
            return state, jnp.swapaxes(codes, 1, 2)

        start, lag = self.model.encoder_state, self.lags[0]
        outputs = self._run(step, start, pieces, self.hop_length, lag)
        joined = [np.concatenate(parts) for parts in outputs]
        return Encoded(
            codes=np.ascontiguousarray(encoded_lib.stack(joined).swapaxes(1, 2)),
            num_frames=np.array([len(item) for item in joined], np.int32),
            num_samples=np.array([len(item) for item in items], np.int32),
            scales=scales,
        )

    def decode(self, encoded: Encoded) -> np.ndarray:
        """Audio of codes: float32 [B, T, C], T the longest item's, zeros past an item's own end.

        Args:
          encoded: what `encode` or `encoded` gave.

        Raises:
          ValueError: codes outside the codebooks, too many codebooks, or counts that do not fit.
        """
        items, frames, scales = encoded_lib.check_encoded(encoded, self.model_config, self.framing)
        pieces = [
            np.split(item, np.cumsum(counts)[:-1])
            for item, counts in zip(items, frames, strict=True)
        ]

        def step(state: Any, block: np.ndarray, *ends: np.ndarray) -> tuple[Any, jax.Array]:
            return self.decode_block(state, block.swapaxes(1, 2), *ends)

        outputs = self._run(step, self.model.decoder_state, pieces, 1, self.lags[1])
        audio = []
        for index, parts in enumerate(outputs):
            if scales is not None:
                parts = [part * scale for part, scale in zip(parts, scales[index], strict=False)]
            joined = parts[0]
            if len(parts) > 1:
                joined = segments.overlap_add(parts, self.framing.stride)
            audio.append(joined[: int(encoded.num_samples[index])])
        return encoded_lib.stack(audio)

    def encoded(
        self,
        codes: np.ndarray | jax.Array,
        *,
        num_frames: Sequence[int] | None = None,
        num_samples: Sequence[int] | None = None,
        scales: np.ndarray | None = None,
    ) -> Encoded:
        """Wraps bare codes, such as a language model's, for `decode`.

        Args:
          codes: integers [B, K, F].
          num_frames: frames of each item; None for F.
          num_samples: samples of each item; None for as many as the frames hold.
          scales: [B, S] of a variant that normalises; None for ones.

        Raises:
          ValueError: the codes are not integers [B, K, F] of the variant, or the counts do not fit.
        """
        return encoded_lib.wrap(
            codes,
            self.model_config,
            self.framing,
            num_frames=num_frames,
            num_samples=num_samples,
            scales=scales,
        )

    def stream_encoder(
        self,
        bandwidth: float | None = None,
        num_codebooks: int | None = None,
        *,
        batch: int | None = None,
        block_frames: int | None = None,
    ) -> streams.StreamEncoder:
        """Begins to encode audio that comes piece by piece.

            with codec.stream_encoder(bandwidth=6.0) as encoder:
                codes = [encoder.push(samples) for samples in pieces] + [encoder.finish()]

        Args:
          bandwidth: kbps, as of `encode`.
          num_codebooks: the same as a number of codebooks.
          batch: how many independent streams to encode together, each of which can be finished and
            begun anew on its own; None for one, without lists. Devices share a multiple of their
            number evenly, the first takes others.
          block_frames: frames of a block; None takes blocks of 1 frame, of 8 and of about a second
            as what was pushed asks for. For work that does not wait, one length is less to compile.

        Raises:
          ValueError: an argument is wrong, or the variant takes whole items alone.
        """
        self._check_stream(block_frames)
        return streams.StreamEncoder(
            self,
            num_codebooks=self._count(bandwidth, num_codebooks),
            batch=batch,
            block_frames=block_frames,
        )

    def stream_decoder(
        self,
        bandwidth: float | None = None,
        num_codebooks: int | None = None,
        *,
        batch: int | None = None,
        hold_back: bool = True,
        block_frames: int | None = None,
    ) -> streams.StreamDecoder:
        """Begins to decode codes that come piece by piece.

            with codec.stream_decoder(bandwidth=6.0) as decoder:
                audio = [decoder.push(codes) for codes in pieces] + [decoder.finish(num_samples)]

        Args:
          bandwidth: kbps of the codes.
          num_codebooks: the same as a number of codebooks.
          batch: as of `stream_encoder`.
          hold_back: whether to keep the last hop - 1 samples until more codes come or `finish`
            says that they belong to the signal. False gives them at once, a frame earlier, for
            playing; a stream can end at whole frames alone then.
          block_frames: as of `stream_encoder`.

        Raises:
          ValueError: as of `stream_encoder`.
        """
        self._check_stream(block_frames)
        return streams.StreamDecoder(
            self,
            num_codebooks=self._count(bandwidth, num_codebooks),
            batch=batch,
            hold_back=hold_back,
            block_frames=block_frames,
        )

    def _check_stream(self, block_frames: int | None) -> None:
        """Whether there can be a stream of such blocks."""
        if not self.has_segments and self.model.encoder_state(1) is None:
            raise ValueError(
                "streams: a model with time_group_norm and no segments takes whole items alone"
            )
        least = config.minimum_first_block(self.model_config)
        if block_frames is not None and not (type(block_frames) is int and block_frames >= least):
            raise ValueError(
                f"block_frames: got {block_frames!r}, must be None or at least {least}"
            )

    def _run(
        self,
        step: scheduler.Step,
        start: Callable[[int], model.State],
        items: Sequence[Sequence[np.ndarray]],
        hop: int,
        lag: int,
    ) -> list[list[np.ndarray]]:
        """Runs the segments of items, of `hop` steps a frame, through blocks; their outputs."""
        rows = [row for item in items for row in item]
        size = self.block_frames * hop
        # By the items and not by the segments: so other lengths ask for no other shape. One item's
        # segments do not wait for each other, so that all devices have something to do.
        count = max(len(items), self.num_devices) if self.has_segments else len(items)
        batch = scheduler.places(count, self.batch_size, self.num_devices)
        if self.has_segments:
            outputs = scheduler.run(step, None, rows, size=size, batch=batch)
        elif (state := start(batch)) is not None:
            outputs = scheduler.run(step, state, rows, size=size, batch=batch, lag=lag)
        else:
            sizes = [scheduler.bucket(len(row), size) for row in rows]
            outputs = [
                scheduler.run(step, None, [row], size=own, batch=1)[0]
                for row, own in zip(rows, sizes, strict=True)
            ]
        each = iter(outputs)
        return [[next(each) for _ in item] for item in items]

    def _count(self, bandwidth: float | None, num_codebooks: int | None) -> int:
        """The codebooks that `encode` was asked for."""
        if num_codebooks is None:
            bandwidth = self.bandwidth if bandwidth is None else bandwidth
            return config.num_codebooks_for(self.model_config, bandwidth)
        if bandwidth is not None:
            raise ValueError(
                f"got both bandwidth={bandwidth} and num_codebooks={num_codebooks}, give one"
            )
        config.bandwidth_for(self.model_config, num_codebooks)  # checks it
        return int(num_codebooks)


def load(path: str | os.PathLike[str], **settings: Any) -> Codec:
    """Loads a checkpoint made by `run.py convert` or by training.

    Args:
      path: a .safetensors file of this project.
      **settings: keyword arguments of `Codec`: bandwidth, batch_size, block_seconds,
        decode_precision, devices.

    Raises:
      ValueError: the file is missing, damaged or not of this format.
    """
    loaded = checkpoint.load(path)
    return Codec(
        loaded.config, loaded.params, **{"name": loaded.name, "source": loaded.source, **settings}
    )
