"""Sample rates and channel counts.

Samples are float32 [T, C]: T samples, C channels.
"""

from __future__ import annotations

import numpy as np
import soxr


class Resampler:
    """Resamples a signal block by block with soxr's HQ filter: linear phase, aliases at -140 dB.

    The signal counts as silent before its start and after its end. Equal rates pass through.
    """

    def __init__(self, sample_rate: int, target_rate: int, channels: int):
        """Begin a signal of C channels; rates are in Hz, before and after."""
        self._rates = sample_rate, target_rate
        self._channels = channels
        self._stream = None
        if sample_rate != target_rate:
            self._stream = soxr.ResampleStream(
                sample_rate, target_rate, channels, dtype="float32", quality="HQ"
            )
        self._given = self._made = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take float32 [T, C] and return the samples that are ready, float32 [T', C]."""
        self._given += len(samples)
        return self._cut(self._resample(samples, False), None)

    def finish(self, length: int | None = None) -> np.ndarray:
        """Return the rest, so that the result has `length` samples in all.

        None stands for T * target_rate / sample_rate, rounded up. If as many samples came out
        before, none follow.
        """
        before, after = self._rates
        if length is None:
            length = -(-self._given * after // before)
        # soxr rounds lengths to the nearest, so down to 0: silence at the end makes up for it.
        needed = length if self._stream is None else -(-length * before // after) + 1
        silence = np.zeros((max(needed - self._given, 0), self._channels), np.float32)
        return self._cut(self._resample(silence, True), length)

    def _resample(self, samples: np.ndarray, is_last: bool) -> np.ndarray:
        if self._stream is None:
            return samples
        resampled = self._stream.resample_chunk(np.ascontiguousarray(samples), last=is_last)
        return resampled.reshape(-1, self._channels)

    def _cut(self, samples: np.ndarray, length: int | None) -> np.ndarray:
        if length is not None:
            samples = samples[: max(length - self._made, 0)]
        self._made += len(samples)
        return samples


def resample(
    samples: np.ndarray, sample_rate: int, target_rate: int, length: int | None = None
) -> np.ndarray:
    """Resample a whole signal, float32 [T, C] to [length, C]; see `Resampler` for the length."""
    resampler = Resampler(sample_rate, target_rate, samples.shape[1])
    resampled = np.concatenate([resampler.push(samples), resampler.finish(length)])
    return resampled[:length]


def mix(samples: np.ndarray, channels: int) -> np.ndarray:
    """Change the number of channels of samples, float [T, C].

    If the numbers differ, every channel of the result is the mean of all channels.
    """
    if samples.shape[1] == channels:
        return samples
    if samples.shape[1] == 2 and channels == 1 and samples.dtype == np.float32:
        # The bits of the mean, 10 times as fast.
        return (samples[:, :1] + samples[:, 1:]) * np.float32(0.5)
    return np.repeat(samples.mean(axis=1, keepdims=True, dtype=np.float32), channels, axis=1)
