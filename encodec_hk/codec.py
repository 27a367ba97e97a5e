"""The codec as its users hold it: audio to codes and back.

Shapes: B items, T samples, C channels, F frames, K codebooks, S segments.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk.blocks import batches
from encodec_hk.blocks import checks
from encodec_hk.blocks import compiled_model
from encodec_hk.blocks import items
from encodec_hk.blocks import streams
from encodec_hk.networks import model
from encodec_hk.pretrained import locations

DEFAULT_BANDWIDTH = 6.0  # kbps, if a variant has it

Encoded = batches.Encoded


class Codec(compiled_model.CompiledModel):
    """One variant with its parameters, and its compiled block computation.

    An item's codes and audio do not depend on what else is in the batch, nor on the lengths of the
    others: all items run through blocks of a fixed shape (`blocks.scheduler`). A program is
    compiled for every number of places in a block (1, 2, 4, ... up to batch_size, by the number of
    items) and every number of codebooks, but never for a length. Exception: models with
    time_group_norm and no segments. There an item is one block, its length rounded up to 1, 2, 3,
    4, 6, 8, 12, ... times block_seconds.

    Several devices share every block of several items, and those of one item with segments: each
    has as many places (so a block has 1, 2, 4, ... up to batch_size times the number of devices),
    all parameters, and the state of its own rows. The codes are those of one device.

    Attributes: those of `CompiledModel`, and
      name: the variant's name.
      source: where the parameters come from, as the checkpoint says.
      bandwidth: kbps that `encode` uses by default.
      codes_of: the model whose codes the codec makes and decodes: itself, or the one that a decoder
        was made for. It is what .ecdc files name.
    """

    def __init__(
        self,
        model_config: ml_collections.ConfigDict,
        params: model.Params,
        *,
        name: str = "",
        source: str = "",
        codes_of: checkpoint.CodesOf | None = None,
        bandwidth: float | None = None,
        batch_size: int = 8,
        block_seconds: float = 1.0,
        decode_precision: str = "float32",
        devices: Sequence[jax.Device] | None = None,
        traces_folder: str | os.PathLike[str] | None = None,
    ):
        """Check the parameters against the config.

        Args:
          model_config: a model config, as in `config.model` of `configs/`.
          params: Haiku parameters of that config.
          name: the variant's name.
          source: where the parameters come from.
          codes_of: the model whose codes the codec decodes, if it is another.
          bandwidth: default kbps; None for 6 kbps if the variant has it, else its highest.
          batch_size: places of a block on one device, at most.
          block_seconds: length of a block. Variants with segments take a segment for a block.
          decode_precision: of the decoder's products, see `model.build`; encoding is float32.
          devices: to compute on, of this process and of one platform; None for all that JAX has by
            default, or for the one that `jax.default_device` names.
          traces_folder: where to keep what tracing gives, so that the next process starts sooner;
            see `blocks.traces`. None keeps nothing. Gradients do not go through kept traces.

        Raises:
          ValueError: a value of the config, a parameter's shape or a device is wrong.
        """
        config.validate_model(model_config)
        shapes = compiled_model.builder(traces_folder)(model_config).param_shapes()
        checkpoint.check_params(params, shapes, model_config)
        if bandwidth is None:
            offered = model_config.bandwidths
            bandwidth = DEFAULT_BANDWIDTH if DEFAULT_BANDWIDTH in offered else max(offered)
        config.num_codebooks_for(model_config, bandwidth)
        self.name = name
        self.source = source
        self.bandwidth = float(bandwidth)
        inference: dict[str, Any] = {
            "batch_size": batch_size,
            "block_seconds": block_seconds,
            "decode_precision": decode_precision,
        }
        config.validate_inference({"bandwidth": self.bandwidth, **inference}, "Codec")
        inference["traces_folder"] = traces_folder
        super().__init__(model_config, params, devices=devices, **inference)
        self._codes_of = codes_of
        facts = {"name": name, "source": source, "codes_of": codes_of, "bandwidth": self.bandwidth}
        self._settings = {**facts, **inference}

    def __repr__(self) -> str:
        kinds = {1: "mono", 2: "stereo"}
        count = sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))
        device = jax.tree.leaves(self.params)[0].devices().pop().platform
        return (
            f"<Codec {self.name or 'unnamed'}: {self.sample_rate} Hz "
            f"{kinds.get(self.channels, f'{self.channels} channels')}, {self.num_codebooks} "
            f"codebooks, {count / 1e6:.1f} M parameters, on {self.num_devices} {device}"
            f"{'' if self.has_encoder else ', decodes only'}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled functions do not pickle: another process makes them anew, on its own devices.
        params = jax.tree.map(np.asarray, self.params)
        return _unpickled, (config.to_json(self.model_config), params, self._settings)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the model's config and parameters, in hexadecimal digits.

        Equal wherever the codec gives equal codes and sound, whatever file it was read from.
        """
        return checkpoint.fingerprint(self.model_config, self.params)

    @property
    def codes_of(self) -> checkpoint.CodesOf:
        """The model whose codes the codec makes and decodes."""
        if self._codes_of is not None:
            return self._codes_of
        own = self._own_codes if config.has_vocos(self.model_config) else self.fingerprint
        return checkpoint.CodesOf(self.name, self.source, own)

    @functools.cached_property
    def _own_codes(self) -> str | None:
        return checkpoint.codes_fingerprint(self.model_config, self.params)

    def encode(
        self,
        audio: np.ndarray | jax.Array | Sequence[np.ndarray | jax.Array],
        bandwidth: float | None = None,
        num_codebooks: int | None = None,
    ) -> Encoded:
        """Encode audio.

        Args:
          audio: float [B, T, C] in [-1, 1] at the codec's sample rate, or a list of [T, C] of any
            lengths from 1 sample on.
          bandwidth: kbps, any whole number of codebooks; None for the codec's default.
          num_codebooks: the same as a number of codebooks, from 1 to all.

        Raises:
          ValueError: the audio is empty, not float, not finite or has another number of channels;
            or both or impossible rates were asked for; or the codec decodes only.
        """
        self.check_encoder()
        count = self.count_codebooks(bandwidth, num_codebooks)
        signals = checks.audio(audio, self.channels)
        frames = [self.framing.num_frames(len(signal)) for signal in signals]
        runners = self.runners(self.encoder_program(count), frames)
        normalize = self.model_config.normalize
        encoders = [items.ItemEncoder(runner, self.framing, normalize) for runner in runners]
        for index in _longest_first(frames):
            encoders[index].push(signals[index])
            encoders[index].end()
        for runner in dict.fromkeys(runners):
            runner.advance(wait=True)
        parts = [encoder.take() for encoder in encoders]
        codes = [np.concatenate([part.codes for part in own], axis=1) for own in parts]
        scales = None
        if normalize:
            scales = batches.stack([np.concatenate([part.scales for part in own]) for own in parts])
        return Encoded(
            codes=batches.stack(codes, axis=1),
            num_frames=np.array(frames, np.int32),
            num_samples=np.array([len(signal) for signal in signals], np.int32),
            scales=scales,
        )

    def decode(self, encoded: Encoded) -> np.ndarray:
        """Decode codes to float32 [B, T, C], T the longest item's, zeros past an item's own end.

        Args:
          encoded: what `encode` or `encoded` returned.

        Raises:
          ValueError: codes outside the codebooks, too many codebooks, or counts that do not fit.
        """
        given = batches.unwrap(encoded, self.model_config, self.framing)
        frames = [codes.shape[1] for codes, _ in given]
        runners = self.runners(self.decoder_program(), frames)
        decoders = [items.ItemDecoder(runner, self.framing, self.channels) for runner in runners]
        for index in _longest_first(frames):
            decoders[index].push(*given[index])
            decoders[index].end(int(encoded.num_samples[index]))
        for runner in dict.fromkeys(runners):
            runner.advance(wait=True)
        return batches.stack([decoder.take() for decoder in decoders])

    def encoded(
        self,
        codes: np.ndarray | jax.Array,
        *,
        num_frames: Sequence[int] | None = None,
        num_samples: Sequence[int] | None = None,
        scales: np.ndarray | None = None,
    ) -> Encoded:
        """Wrap bare codes, such as a language model's, for `decode`.

        Args:
          codes: integers [B, K, F].
          num_frames: frames of each item; None for F.
          num_samples: samples of each item; None for as many as the frames hold.
          scales: [B, S] of a variant that normalises; None for ones.

        Raises:
          ValueError: the codes are not integers [B, K, F] of the variant, or the counts do not fit.
        """
        return batches.wrap(
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
        """Begin to encode audio that arrives piece by piece.

            with codec.stream_encoder(bandwidth=6.0) as encoder:
                codes = [encoder.push(samples) for samples in pieces] + [encoder.finish()]

        Args:
          bandwidth: kbps, as in `encode`.
          num_codebooks: the same as a number of codebooks.
          batch: number of independent streams to encode together, each of which can be finished and
            begun anew on its own; None for one, without lists. Devices share a multiple of their
            number evenly; the first device takes any other.
          block_frames: frames of a block. None takes blocks of 1 frame, of 8 and of about a second,
            as the pushed samples ask for. A single length compiles less, for work that can wait.

        Raises:
          ValueError: an argument is wrong, the variant takes whole items only, or the codec decodes
            only.
        """
        self.check_encoder()
        count = self.count_codebooks(bandwidth, num_codebooks)
        places, sizes = streams.num_streams(batch), self.stream_sizes(block_frames)
        runner = self.runner(self.encoder_program(count), places, sizes)
        return streams.StreamEncoder(
            runner, self.framing, self.model_config, num_codebooks=count, batch=batch
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
        """Begin to decode codes that arrive piece by piece.

            with codec.stream_decoder() as decoder:
                audio = [decoder.push(codes) for codes in pieces] + [decoder.finish(num_samples)]

        Args:
          bandwidth: kbps of the codes. With neither this nor num_codebooks, the first codes that
            are pushed decide.
          num_codebooks: the same as a number of codebooks.
          batch: as in `stream_encoder`.
          hold_back: keep the last hop - 1 samples until more codes come or `finish` says that they
            belong to the signal. False returns them at once, a frame earlier, for playing; then a
            stream can end at whole frames only.
          block_frames: as in `stream_encoder`.

        Raises:
          ValueError: as in `stream_encoder`.
        """
        count = None
        if bandwidth is not None or num_codebooks is not None:
            count = self.count_codebooks(bandwidth, num_codebooks)
        places, sizes = streams.num_streams(batch), self.stream_sizes(block_frames)
        runner = self.runner(self.decoder_program(), places, sizes)
        return streams.StreamDecoder(
            runner,
            self.framing,
            self.model_config,
            num_codebooks=count,
            batch=batch,
            hold_back=hold_back,
        )

    def count_codebooks(self, bandwidth: float | None, num_codebooks: int | None) -> int:
        """Return the codebooks of a bandwidth in kbps or of a number, the default's for neither.

        Raises:
          ValueError: both were given, or the variant does not have so many.
        """
        if num_codebooks is None:
            bandwidth = self.bandwidth if bandwidth is None else bandwidth
            return config.num_codebooks_for(self.model_config, bandwidth)
        if bandwidth is not None:
            raise ValueError(
                f"got both bandwidth={bandwidth} and num_codebooks={num_codebooks}, give one"
            )
        config.bandwidth_for(self.model_config, num_codebooks)  # checks it
        return int(num_codebooks)


def _unpickled(config_json: str, params: model.Params, settings: dict[str, Any]) -> Codec:
    return Codec(config.from_json(config_json), params, **settings)


def _longest_first(frames: Sequence[int]) -> list[int]:
    """Return the order that leaves few places empty at the end."""
    return sorted(range(len(frames)), key=lambda index: -frames[index])


def load(
    path: str | os.PathLike[str],
    variant: ml_collections.ConfigDict | None = None,
    *,
    traces_folder: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Codec:
    """Load a checkpoint. PyTorch is not imported.

    Args:
      path: one of
        - a .safetensors file of this project, made by `run.py convert` or by training;
        - a transformers folder, or a .safetensors file with the `config.json` of one beside it;
        - a name on the Hugging Face hub, such as facebook/encodec_24khz (needs huggingface_hub);
        - the name of a shipped model, such as encodec_24khz_small.
        A path that exists goes before a name.
      variant: a whole configuration; its model must be the checkpoint's, and its `inference` gives
        the settings. None for the defaults of `Codec`.
      traces_folder: as in `Codec`.
      **settings: keyword arguments of `Codec`: bandwidth, batch_size, block_seconds,
        decode_precision, devices.

    Raises:
      ValueError: nothing has this name, or the file is damaged, of another network or model, or
        needs PyTorch to be read; then the message says how to convert it.
    """
    loaded = locations.load(path, build=compiled_model.builder(traces_folder))
    model_config, name = loaded.config, loaded.name
    if variant is not None:
        is_foreign = not loaded.is_own  # its weight norm is folded
        if found := config.differences(variant.model, model_config, folded=is_foreign):
            lines = "; ".join(difference.line("the checkpoint") for difference in found)
            raise ValueError(f"{path}: holds another model; {lines}")
        if is_foreign:
            model_config, name = variant.model, variant.name
        settings = {**variant.inference.to_dict(), **settings}
    return Codec(
        model_config,
        loaded.params,
        traces_folder=traces_folder,
        **{"name": name, "source": loaded.source, "codes_of": loaded.codes_of, **settings},
    )
