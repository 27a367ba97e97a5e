"""Metrics of a signal against its reference: SI-SNR, distances of spectrograms.

Every metric takes float [T, C] or [T] with full scale at 1, reference and estimate of one shape,
sample by sample aligned, and returns a float. All raise ValueError where the shapes differ, there
is no sample, or one is NaN or infinite.

Shapes: T samples, C channels, N frames of a spectrogram, W samples of a window.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from encodec_hk.evaluation import signals
from encodec_hk.sound import mel_scale

SI_SNR_LIMIT = 100.0  # dB, either way; the steps of 16 bit samples are at 98

MEL_WINDOWS = (64, 128, 256, 512, 1024, 2048)
MEL_BANDS = 64
FLOOR = 1e-5  # of magnitudes under the logarithm: about the rounding noise of 16 bit samples

_BLOCK = 2**20  # samples of frames at once: bounds the memory of long files


def si_snr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-noise ratio of the whole file, in dB; higher is better.

    With the mean of every channel taken off both, s the reference and e the estimate:
    10 log10(|a s|^2 / |e - a s|^2), a = <e, s> / |s|^2, averaged over channels (SI-SDR of arXiv
    1811.02508, and the SI-SNR of Section 4 of arXiv 2210.13438). Volume, polarity and a constant
    offset make no difference, a delay of one sample does.

    Args:
      reference: float [T, C] or [T].
      estimate: the same shape.

    Returns:
      dB from -100 to 100, where it is cut off so that means over files are finite: an equal
      estimate has 100, a silent one (or any without correlation) -100. NaN where the reference is
      silent, or constant; of several channels those that are so do not count.
    """
    reference, estimate = (_centred(samples) for samples in signals.pair(reference, estimate))
    energy = np.sum(reference**2, axis=0)
    heard = energy > 0
    if not heard.any():
        return float("nan")
    reference, estimate, energy = reference[:, heard], estimate[:, heard], energy[heard]
    target = np.sum(reference * estimate, axis=0) / energy * reference
    signal = np.sum(target**2, axis=0)
    noise = np.sum((estimate - target) ** 2, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(signal > 0, 10 * (np.log10(signal) - np.log10(noise)), -np.inf)
    return float(np.mean(np.clip(ratio, -SI_SNR_LIMIT, SI_SNR_LIMIT)))


def si_snr_windows(
    reference: np.ndarray, estimate: np.ndarray, sample_rate: int, window_seconds: float = 5.0
) -> float:
    """SI-SNR as audiocraft reports it: the mean over windows that overlap by half, in dB.

    A window starts every half window, as long as there are samples, and the last ones are filled
    up with zeros: a file of up to half a window is one window, one of up to a window two. The sign
    is that of `si_snr`, not that of audiocraft's loss.

    As in audiocraft, 1.2e-7 per sample of a window is added to all energies. So values are finite,
    a window where the estimate is silent has 0 dB, whatever the reference, and one where the
    reference alone is silent is far below 0: where files hold silence, `si_snr` says more.

    Args:
      reference: float [T, C] or [T].
      estimate: the same shape.
      sample_rate: Hz.
      window_seconds: length of a window, at least two samples.
    """
    reference, estimate = signals.pair(reference, estimate)
    signals.check_rate(sample_rate)
    if not 2 <= window_seconds * sample_rate < float("inf"):
        raise ValueError(
            f"window_seconds: got {window_seconds} at {sample_rate} Hz, must be two samples or more"
        )
    length = int(window_seconds * sample_rate)
    epsilon = np.finfo(np.float32).eps * length
    values = []
    for start in range(0, len(reference), length // 2):
        part = slice(start, start + length)
        fill = ((0, max(0, start + length - len(reference))), (0, 0))
        s, e = (_centred(np.pad(signal[part], fill)) for signal in (reference, estimate))
        target = np.sum(s * e, axis=0) / (epsilon + np.sum(s**2, axis=0)) * s
        signal = epsilon + np.sum(target**2, axis=0)
        noise = epsilon + np.sum((e - target) ** 2, axis=0)
        values.append(10 * np.log10(signal / noise))
    return float(np.mean(values))


def mel_distance(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Distance of mel spectrograms on a logarithmic scale, over six windows; lower is better.

    The mean absolute difference of log10 of 64 mel bands of the magnitudes of a normalised STFT,
    over bands, frames, channels, and windows of 2^6 to 2^11 samples: the L1 distance that codecs
    are compared by, on the spectrograms of Section 3.4 of arXiv 2210.13438. Windows are Hann, a
    quarter apart, and reach beyond both ends, where there is silence, so that every sample is in
    four. Magnitudes below 1e-5 count as 1e-5, which makes silence as good as any other signal.
    Bands too narrow to hold a bin of their window are left out.

    Args:
      reference: float [T, C] or [T].
      estimate: the same shape.
      sample_rate: Hz; the bands reach from 0 Hz to half of it, so distances at different rates are
        not comparable.

    Returns:
      0 for equal signals, or more; 1 is a factor of 10 (20 dB) in every band.
    """
    reference, estimate = signals.pair(reference, estimate)
    signals.check_rate(sample_rate)
    distances = [_mel_distance(reference, estimate, sample_rate, w) for w in MEL_WINDOWS]
    return float(np.mean(distances))


def _mel_distance(
    reference: np.ndarray, estimate: np.ndarray, sample_rate: int, window: int
) -> float:
    """The mean over bands, frames and channels, of one window."""
    filters = mel_scale.mel_filters(sample_rate, window, MEL_BANDS)
    filters = filters[:, filters.any(axis=0)]
    total, count = 0.0, 0
    for magnitudes in _spectra(reference, estimate, window):
        logs = np.log10(np.maximum(FLOOR, magnitudes @ filters))
        difference = np.abs(logs[0] - logs[1])
        total += np.sum(difference)
        count += difference.size
    return total / count


def log_spectral_distance(
    reference: np.ndarray, estimate: np.ndarray, sample_rate: int, window: int = 2048
) -> float:
    """Log-spectral distance, in dB; lower is better.

    For every frame, the root of the mean over the bins of its spectrum of (10 log10 P - 10 log10
    Q)^2, P and Q the powers of reference and estimate; then the mean over frames and channels (Gray
    and Markel, Distance Measures for Speech Processing, 1976, whose d_2 on log power spectra it is;
    with this window and hop as of bandwidth extension, which has log10 for 10 log10 often, a tenth
    of this). Frames are those of `mel_distance`: Hann windows a quarter apart, normalised, with
    silence beyond both ends. Every bin counts alike, up to half the sample rate: it tells of bands
    that a codec leaves empty more than a mel distance does.

    Args:
      reference: float [T, C] or [T]; a file shorter than a window is filled up with silence.
      estimate: the same shape.
      sample_rate: Hz; what is compared at different rates is not comparable.
      window: samples.

    Returns:
      0 for equal signals, or more. Magnitudes below 1e-5 count as 1e-5 (-100 dB): frames silent in
      both have 0, and a silent estimate stays finite.
    """
    reference, estimate = signals.pair(reference, estimate)
    signals.check_rate(sample_rate)
    total, count = 0.0, 0
    for magnitudes in _spectra(reference, estimate, window):
        levels = 20 * np.log10(np.maximum(FLOOR, magnitudes))
        distances = np.sqrt(np.mean((levels[0] - levels[1]) ** 2, axis=-1))
        total += np.sum(distances)
        count += distances.size
    return float(total / count)


def _spectra(reference: np.ndarray, estimate: np.ndarray, window: int) -> Iterator[np.ndarray]:
    """Magnitudes of the normalised STFTs of two signals [T, C], in blocks [2, N, C, W / 2 + 1].

    Frames reach beyond both ends, so that every sample is in four.
    """
    hop = window // 4
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    hann /= np.sqrt(np.sum(hann**2))
    ends = ((window - hop, window - hop + -len(reference) % hop), (0, 0))
    views = [  # [N, C, W], of samples that are held once
        np.lib.stride_tricks.sliding_window_view(np.pad(samples, ends), window, axis=0)[::hop]
        for samples in (reference, estimate)
    ]
    frames, channels, _ = views[0].shape
    step = max(1, _BLOCK // (window * channels))
    for start in range(0, frames, step):
        parts = np.stack([view[start : start + step] for view in views])
        yield np.abs(np.fft.rfft(parts * hann))


def _centred(samples: np.ndarray) -> np.ndarray:
    """Samples [T, C] less the mean of every channel; exact zeros where a channel is constant."""
    samples = samples - samples[:1]
    return samples - np.mean(samples, axis=0)
