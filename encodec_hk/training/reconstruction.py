"""Reconstruction losses (Section 3.4 of arXiv 2210.13438).

Shapes: B items, T samples, C audio channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from encodec_hk.sound import spectra
from encodec_hk.training import spectrogram


def time_l1(audio: jax.Array, output: jax.Array) -> jax.Array:
    """Return the mean absolute difference of audio and output [B, T, C]."""
    chex.assert_equal_shape([audio, output])
    return jnp.mean(jnp.abs(audio - output))


def time_l2(audio: jax.Array, output: jax.Array) -> jax.Array:
    """Return the mean squared difference of audio and output [B, T, C]."""
    chex.assert_equal_shape([audio, output])
    return jnp.mean(jnp.square(audio - output))


def pre_emphasize(audio: jax.Array, coefficient: float) -> jax.Array:
    """Return x[t] - coefficient * x[t - 1] of audio x [B, T, C], with x[-1] = 0.

    Most of the energy of sound is at low frequencies. After this filter, a loss of waveforms
    follows the phase of higher frequencies too (arXiv 1911.08922, section 3).
    """
    before = jnp.pad(audio, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    return audio - coefficient * before


def multi_scale_mel(
    audio: jax.Array,
    output: jax.Array,
    *,
    sample_rate: int,
    windows: Sequence[int],
    num_mels: int | Sequence[int],
    exponent: float | None = None,
    floor: float = 1e-5,
) -> jax.Array:
    """Return the L1 and L2 distance of mel spectrograms, averaged over several windows.

    For each window: mean|S(x) - S(y)| + mean(log10(S(x) + floor) - log10(S(y) + floor))^2, where S
    is the mel spectrogram of the power of a normalised STFT. The paper does not say which of its
    two terms takes logarithms. This is audiocraft's reading, with its `alphas` off, and without
    its padding by reflection, because the ends of a crop are not ends of a sound.

    The logarithm gives the quietest bands nearly all of the gradient, the power gives it to the
    loudest. With an exponent, both terms compare (S + floor)^exponent, which lies between the two:
    for the same error in dB, a band that is 40 dB louder has 0.04 (L1) to 0.16 (L2) times the
    gradient at an exponent of 0.15, and 0.01 times with the logarithm. An exponent of 0 stands for
    the logarithm in both terms.

    Args:
      audio: [B, T, C].
      output: [B, T, C].
      sample_rate: Hz.
      windows: samples, each a multiple of 4; the hop is a quarter.
      num_mels: mel bands of every window, or of each.
      exponent: of the power, in both terms; 0 for log10 in both; None for power and logarithm, as
        above.
      floor: added to the power. Bands far below it do not count; if it is too low, inaudible noise
        makes up most of the loss.
    """
    chex.assert_equal_shape([audio, output])
    counts = [num_mels] * len(windows) if isinstance(num_mels, int) else num_mels
    total = jnp.zeros((), audio.dtype)
    for window, count in zip(windows, counts, strict=True):
        filters = spectra.mel_filters(sample_rate, window, count).astype(np.float32)
        filters = filters[:, filters.any(axis=0)]
        share = filters.shape[1] / count  # a band without a bin has no error

        mel_audio, mel_output = (
            jnp.matmul(
                spectrogram.power(signal, window), filters, precision=jax.lax.Precision.HIGHEST
            )
            for signal in (audio, output)
        )
        second = _compress(mel_audio, exponent, floor) - _compress(mel_output, exponent, floor)
        first = mel_audio - mel_output if exponent is None else second
        total += share * (jnp.mean(jnp.abs(first)) + jnp.mean(jnp.square(second)))
    return total / len(windows)


def multi_scale_stft(
    audio: jax.Array, output: jax.Array, *, windows: Sequence[int], floor: float = 1e-5
) -> jax.Array:
    """Return the mean absolute difference of log10 magnitudes, averaged over several windows.

    Every bin counts alike, so it sees what lies between the harmonics of a voice, which a mel band
    adds up (arXiv 1910.11480, second term of its loss). The magnitude is the root of power + floor.

    Args:
      audio: [B, T, C].
      output: [B, T, C].
      windows: samples, each a multiple of 4; the hop is a quarter.
      floor: added to the power of a normalised STFT.
    """
    chex.assert_equal_shape([audio, output])
    total = jnp.zeros((), audio.dtype)
    for window in windows:
        levels = [
            _compress(spectrogram.power(signal, window), 0, floor) for signal in (audio, output)
        ]
        total += jnp.mean(jnp.abs(levels[0] - levels[1])) / 2  # of power, twice that of magnitude
    return total / len(windows)


def _compress(power: jax.Array, exponent: float | None, floor: float) -> jax.Array:
    """Return log10(power + floor), or (power + floor)^exponent if the exponent is above 0."""
    logarithm = jnp.log(floor + power)
    if not exponent:
        return logarithm * np.float32(1 / np.log(10))
    return jnp.exp(exponent * logarithm)  # a power takes a CPU much longer
