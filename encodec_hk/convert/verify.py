"""Compares a PyTorch network with ours on a signal.

Shapes: T samples, C channels, K codebooks, F frames, S segments.
"""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import encodec_hk
from encodec_hk.convert import transformers_network
from encodec_hk.system import extras

if TYPE_CHECKING:
    import transformers


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Agreement of our network and a PyTorch network.

    Attributes:
      equal: share of equal codes of each codebook [K], 0 to 1.
      frames: number of frames compared.
      difference: largest difference of a sample between the audio that both decode from the PyTorch
        network's codes; full scale is 1.
      peak: largest sample of that audio.
    """

    equal: np.ndarray
    frames: int
    difference: float
    peak: float

    @property
    def passed(self) -> bool:
        """Whether the two differ only by rounding.

        A near-tie decided the other way changes all later codes of its frame, so only the first
        codebook is tested.
        """
        return bool(self.equal[0] >= 0.99 and self.difference <= 1e-3 * max(1.0, self.peak))

    def report(self) -> list[str]:
        """Return lines to print."""
        return [
            *(f"codebook {k:2d}: {share:8.3%} equal" for k, share in enumerate(self.equal)),
            f"codes:       {self.equal.mean():8.3%} equal, of {self.frames} frames",
            f"audio:       {self.difference:.2e} largest difference (peak {self.peak:.2f})",
        ]


def compare(
    codec: encodec_hk.Codec, network: transformers.EncodecModel, audio: np.ndarray | None = None
) -> Comparison:
    """Encode audio [T, C] with both at all codebooks, then decode PyTorch's codes with both.

    Without audio, use the test signal. The network's highest bandwidth must use all codebooks.
    """
    torch = extras.require("torch")
    if audio is None:
        audio = signal(codec.sample_rate, codec.channels)
    with torch.inference_mode():
        encoded: Any = network.encode(
            torch.from_numpy(audio.T[None]), bandwidth=network.config.target_bandwidths[-1]
        )
        decoded: Any = network.decode(
            encoded.audio_codes,
            encoded.audio_scales,
            last_frame_pad_length=encoded.last_frame_pad_length,
        )
    segments = encoded.audio_codes[:, 0].numpy()  # [S, K, F], the last segment padded
    joined = np.concatenate(list(segments), axis=1)
    codes = joined[None, :, : joined.shape[1] - encoded.last_frame_pad_length]
    scales = None
    if codec.model_config.normalize:
        scales = np.array([[float(scale) for scale in encoded.audio_scales]], np.float32)
    theirs = decoded.audio_values[0, :, : len(audio)].numpy().T
    ours = codec.decode(codec.encoded(codes, num_samples=[len(audio)], scales=scales))[0]
    own_codes = codec.encode(audio[None], num_codebooks=codec.num_codebooks).codes
    return Comparison(
        equal=np.mean(own_codes[0] == codes[0], axis=1),
        frames=codes.shape[2],
        difference=float(np.abs(ours - theirs).max()),
        peak=float(np.abs(theirs).max()),
    )


def exported(codec: encodec_hk.Codec) -> transformers.EncodecModel:
    """Return the network that transformers loads from the exported folder of a codec.

    Raises:
      ValueError: if torch or transformers is not installed, or transformers has no such network.
    """
    with tempfile.TemporaryDirectory(prefix="encodec_hk-") as name:
        params = jax.tree.map(np.array, codec.params)  # copies: torch wants writable arrays
        transformers_network.write_folder(pathlib.Path(name), params, codec.model_config)
        return transformers_network.load_folder(pathlib.Path(name))


def signal(sample_rate: int, channels: int) -> np.ndarray:
    """Return the test signal, float32 [T, C]: gliding harmonics with noise.

    It is the same at every call, and its length is not a multiple of a hop.
    """
    time = np.arange(int(2.1 * sample_rate) + 137) / sample_rate
    noise = np.random.default_rng(0).standard_normal((channels, len(time)))
    audio = np.zeros((len(time), channels), np.float32)
    for channel in range(channels):
        pitch = 110 * (1 + channel / 8) * (1 + 0.3 * np.sin(2 * np.pi * 0.9 * time))
        phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
        tones = sum(np.sin(n * phase) / n for n in range(1, 25))
        loudness = 0.55 + 0.45 * np.sin(2 * np.pi * (3.1 + channel) * time)
        audio[:, channel] = loudness * (0.15 * tones + 0.02 * noise[channel])
    return audio
