"""Sample rates and channel counts.

Samples are float32 [T, C]: T samples, C channels.
"""

from __future__ import annotations

import numpy as np
import soxr


class Resampler:
    """Resamples blocks with soxr's HQ filter: linear phase, flat, aliases at -140 dB.

    The signal is taken as silent before and after. Equal rates pass through.
    """

    def __init__(self, sample_rate: int, target_rate: int, channels: int):
        """Begins a signal: rates in Hz before and after, channels C."""
        self._rates = sample_rate, target_rate
        self._channels = channels
        self._stream = None
        if sample_rate != target_rate:
            self._stream = soxr.ResampleStream(
                sample_rate, target_rate, channels, dtype="float32", quality="HQ"
            )
        self._given = self._made = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Takes float32 [T, C], gives what is ready, float32 [T', C]; it lags behind."""
        self._given += len(samples)
        return self._cut(self._resample(samples, False), None)

    def finish(self, length: int | None = None) -> np.ndarray:
        """The rest, so that the whole has `length` samples; None: T * after / before, rounded up.

        A length that is less than what came out already adds nothing.
        """
        before, after = self._rates
        if length is None:
            length = -(-self._given * after // before)
        # soxr rounds lengths to the nearest, down to none: silence behind makes it give enough.
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
    """Resamples a whole signal; see `Resampler`.

    Args:
      samples: float32 [T, C], silent before and after.
      sample_rate: Hz, of the samples.
      target_rate: Hz, of the result.
      length: samples to return; None for T * target_rate / sample_rate, rounded up.

    Returns:
      float32 [length, C].
    """
    resampler = Resampler(sample_rate, target_rate, samples.shape[1])
    resampled = np.concatenate([resampler.push(samples), resampler.finish(length)])
    return resampled[:length]


def mix(samples: np.ndarray, channels: int) -> np.ndarray:
    """Changes the number of channels.

    Equal numbers pass through. Otherwise every channel of the result is the mean of all channels
    given: stereo to mono, mono to each of two, six to two alike.

    Args:
      samples: float [T, C].
      channels: of the result.
    """
    if samples.shape[1] == channels:
        return samples
    return np.repeat(samples.mean(axis=1, keepdims=True, dtype=np.float32), channels, axis=1)
