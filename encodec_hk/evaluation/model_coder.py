"""A model of ours as a codec that is evaluated.

Shapes: T samples, C channels, K codebooks, F frames, S segments.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

import encodec_hk
from encodec_hk import bitstream
from encodec_hk import config
from encodec_hk.evaluation import code_rates
from encodec_hk.evaluation import coders
from encodec_hk.system import machine

MakeHeader = Callable[[int, int], bitstream.Header]
"""The header of a file, of a number of codebooks and of samples."""


class ModelCoder:
    """A codec of ours on one file at a time; see `coded.Coder`.

    Attributes:
      codec: what codes.
    """

    def __init__(
        self,
        codec: encodec_hk.Codec,
        rates: Sequence[float],
        make_header: MakeHeader,
        *,
        name: str = "",
        checkpoint: str = "",
    ):
        """Takes a codec.

        Args:
          codec: what codes.
          rates: kbps to evaluate it at, each a whole number of codebooks.
          make_header: of its .ecdc files.
          name: instead of the codec's.
          checkpoint: the file it is from, for the summary.
        """
        self.codec = codec
        self.name = name or codec.name
        self.identity = codec.fingerprint
        self.sample_rate, self.channels = codec.sample_rate, codec.channels
        self.rates = tuple(float(rate) for rate in rates)
        self._make_header = make_header
        self._checkpoint = checkpoint
        self._warm: set[tuple[int, int]] = set()
        self._compile_seconds = 0.0

    def facts(self) -> dict[str, object]:
        """See `coded.Coder`."""
        return {
            "kind": "encodec",
            "checkpoint": self._checkpoint,
            "fingerprint": self.identity,
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self.codec.params)),
            "codebook_bits": config.bits_per_codebook(self.codec.model_config),
            "device": jax.devices()[0].device_kind,
            "devices": self.codec.num_devices,
            "threads": machine.num_cores(),
            "compile_seconds": self._compile_seconds,
            "timed": "one file alone, samples in memory to codes in memory and back, compiled",
        }

    def code(self, samples: np.ndarray, kbps: float) -> coders.Coded:
        """See `coded.Coder`."""
        count = config.num_codebooks_for(self.codec.model_config, kbps)
        self._warm_up(len(samples), count)
        started = time.perf_counter()
        encoded = self.codec.encode([samples], num_codebooks=count)
        between = time.perf_counter()
        decoded = self.codec.decode(encoded)
        ended = time.perf_counter()
        sizes = code_rates.ecdc_sizes(self._file(encoded, count))
        return coders.Coded(
            samples=decoded[0],
            payload_bytes=sizes.payload,
            total_bytes=sizes.total,
            encode_seconds=between - started,
            decode_seconds=ended - between,
            codes=encoded.codes[0],
            num_entries=self.codec.model_config.codebook_size,
        )

    def _warm_up(self, length: int, count: int) -> None:
        """Compiles what a signal needs, before it is timed.

        Programs are of blocks, whatever the length. Only a network that takes whole items has one
        for every length.
        """
        codec = self.codec
        is_whole = not codec.has_segments and codec.model.encoder_state(1) is None
        key = length if is_whole else 0, count
        if key in self._warm:
            return
        length = length if is_whole else 2 * codec.block_frames * codec.hop_length
        noise = 0.1 * np.random.default_rng(0).standard_normal((length, codec.channels))
        started = time.perf_counter()
        codec.decode(codec.encode([noise.astype(np.float32)], num_codebooks=count))
        self._compile_seconds += time.perf_counter() - started
        self._warm.add(key)

    def _file(self, encoded: encodec_hk.Encoded, count: int) -> bytes:
        """The .ecdc file of one item."""
        num_samples = int(encoded.num_samples[0])
        file = io.BytesIO()
        writer = bitstream.open_writer(file, self._make_header(count, num_samples))
        start = 0
        for index, frames in enumerate(self.codec.framing.frames(num_samples)):
            scale = None if encoded.scales is None else encoded.scales[0, index : index + 1]
            writer.write(encoded.codes[0, :, start : start + frames], scale)
            start += frames
        writer.finish(num_samples)
        return file.getvalue()
