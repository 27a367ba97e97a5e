"""EnCodec models as coders.

Shapes: T samples, C channels, K codebooks, F frames, S segments.
"""

from __future__ import annotations

import dataclasses
import io
import pathlib
import time
from collections.abc import Sequence

import jax
import numpy as np

import encodec_hk
from encodec_hk import bitstream
from encodec_hk import config
from encodec_hk.evaluation import coders
from encodec_hk.evaluation import payloads
from encodec_hk.system import machine
from encodec_hk.transcode import ecdc


class ModelCoder:
    """An EnCodec model that codes one file at a time; see `coders.EvaluationCoder`."""

    def __init__(
        self,
        codec: encodec_hk.Codec,
        bitrates: Sequence[float],
        name: str,
        checkpoint: str,
        language: bitstream.EntropyCoder | None = None,
    ):
        """Wrap a codec, to evaluate at bitrates in kbps, each a whole number of codebooks.

        Files are measured with its language model too, if there is one for its codes.
        """
        self.codec = codec
        self.name = name
        if language is not None and language.codec != codec.codes_of.fingerprint:
            language = None
        self._language = language
        self.identity = codec.fingerprint + ("" if language is None else f" {language.fingerprint}")
        self.sample_rate, self.channels = codec.sample_rate, codec.channels
        self.bitrates = tuple(float(kbps) for kbps in bitrates)
        self._checkpoint = checkpoint
        self._compiled: set[tuple[int, int]] = set()
        self._compile_seconds = 0.0

    def facts(self) -> dict[str, object]:
        """See `coders.EvaluationCoder`."""
        return {
            "kind": "encodec",
            "checkpoint": self._checkpoint,
            "fingerprint": self.codec.fingerprint,
            "language": None if self._language is None else self._language.fingerprint,
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self.codec.params)),
            "codebook_bits": config.bits_per_codebook(self.codec.model_config),
            "device": jax.devices()[0].device_kind,
            "devices": self.codec.num_devices,
            "threads": machine.num_cores(),
            "compile_seconds": self._compile_seconds,
            "timed": "one file at a time, in memory, after compilation",
        }

    def code(self, samples: np.ndarray, kbps: float) -> coders.Coded:
        """See `coders.EvaluationCoder`."""
        num_codebooks = config.num_codebooks_for(self.codec.model_config, kbps)
        self._compile(len(samples), num_codebooks)
        started = time.perf_counter()
        encoded = self.codec.encode([samples], num_codebooks=num_codebooks)
        between = time.perf_counter()
        decoded = self.codec.decode(encoded)
        ended = time.perf_counter()
        file, other = self._file(encoded, num_codebooks), None
        if self._language is not None and num_codebooks <= self._language.max_codebooks:
            other = self._file(encoded, num_codebooks, self._language)
        return coders.Coded(
            samples=decoded[0],
            payload_bytes=payloads.ecdc_payload(file),
            total_bytes=len(file),
            encode_seconds=between - started,
            decode_seconds=ended - between,
            codes=encoded.codes[0],
            num_entries=self.codec.model_config.codebook_size,
            language_payload_bytes=None if other is None else payloads.ecdc_payload(other),
            language_total_bytes=None if other is None else len(other),
        )

    def _compile(self, length: int, num_codebooks: int) -> None:
        """Compile the programs for a signal, so that `code` does not time compilation.

        Programs take blocks, so one signal of two blocks compiles them for every length. A model
        that takes whole items has a program for each length.
        """
        codec = self.codec
        key = length if codec.takes_whole_items else 0, num_codebooks
        if key in self._compiled:
            return
        if not codec.takes_whole_items:
            length = 2 * codec.block_frames * codec.hop_length
        noise = 0.1 * np.random.default_rng(0).standard_normal((length, codec.channels))
        started = time.perf_counter()
        codec.decode(codec.encode([noise.astype(np.float32)], num_codebooks=num_codebooks))
        self._compile_seconds += time.perf_counter() - started
        self._compiled.add(key)

    def _file(
        self,
        encoded: encodec_hk.Encoded,
        num_codebooks: int,
        language: bitstream.EntropyCoder | None = None,
    ) -> bytes:
        """Return the .ecdc file of one item."""
        num_samples = int(encoded.num_samples[0])
        version = None if language is None else 1
        header = ecdc.header(self.codec, num_codebooks, num_samples, version)
        if language is not None:
            header = dataclasses.replace(header, language=language.fingerprint)
        file = io.BytesIO()
        writer = bitstream.open_writer(file, header, coder=language)
        start = 0
        for index, frames in enumerate(self.codec.framing.frames(num_samples)):
            scale = None if encoded.scales is None else encoded.scales[0, index : index + 1]
            writer.write(encoded.codes[0, :, start : start + frames], scale)
            start += frames
        writer.finish(num_samples)
        return file.getvalue()


def make_all(
    codecs: Sequence[encodec_hk.Codec],
    checkpoints: Sequence[str],
    bitrates: Sequence[float] | None,
    languages: Sequence[bitstream.EntropyCoder | None],
) -> list[ModelCoder]:
    """Return a coder for each codec, its checkpoint file and language model, if it has one.

    Each has a name of its own.

    Each codec takes those of the bitrates (kbps) that it has; None takes its bandwidths.

    Raises:
      ValueError: if no model has one of the bitrates, or a model has none of them.
    """
    for kbps in bitrates or ():
        if not any(_has(codec, kbps) for codec in codecs):
            config.num_codebooks_for(codecs[0].model_config, kbps, field="--bandwidths")
    found = []
    names = _names(codecs, checkpoints)
    for codec, name, checkpoint, language in zip(
        codecs, names, checkpoints, languages, strict=True
    ):
        own = codec.model_config.bandwidths
        chosen = [kbps for kbps in bitrates or own if _has(codec, kbps)]
        if not chosen:
            got, allowed = (", ".join(f"{k:g}" for k in each) for each in (bitrates or (), own))
            raise ValueError(f"--bandwidths: got {got}, must be among {codec.name}'s: {allowed}")
        found.append(ModelCoder(codec, chosen, name, checkpoint, language))
    return found


def _has(codec: encodec_hk.Codec, kbps: float) -> bool:
    try:
        config.num_codebooks_for(codec.model_config, kbps)
    except ValueError:
        return False
    return True


def _names(codecs: Sequence[encodec_hk.Codec], checkpoints: Sequence[str]) -> list[str]:
    """Name each codec by its variant; add the checkpoint's name, then a number, to tell apart."""
    names = [codec.name for codec in codecs]
    stems = [
        f"{name} ({pathlib.Path(path).stem})" if names.count(name) > 1 else name
        for name, path in zip(names, checkpoints, strict=True)
    ]
    return [
        f"{stem} #{stems[: index + 1].count(stem)}" if stems.count(stem) > 1 else stem
        for index, stem in enumerate(stems)
    ]
