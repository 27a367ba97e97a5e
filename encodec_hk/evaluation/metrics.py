"""Metrics of a signal against its reference: SI-SNR and distances of spectrograms.

Every metric takes float [T, C] or [T] with full scale at 1, reference and estimate aligned and of
one shape, their sample rate in Hz, and returns a float. All raise ValueError if the shapes differ,
there are no samples, or a sample is NaN or infinite.

Shapes: T samples, C channels, N frames of a spectrogram, W samples of a window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from encodec_hk.sound import spectra

SI_SNR_LIMIT = 100.0  # dB, either way; rounding to 16 bits gives 98

MEL_WINDOWS = (64, 128, 256, 512, 1024, 2048)
MEL_BANDS = 64
FLOOR = 1e-5  # least magnitude under a logarithm: about the rounding noise of 16 bits

_BLOCK = 2**20  # samples of the frames transformed at once: bounds the memory


def si_snr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-noise ratio of the whole file, in dB; higher is better.

    For zero-mean reference s and estimate e of a channel: 10 log10(|a s|^2 / |e - a s|^2), a =
    <e, s> / |s|^2; averaged over channels (SI-SDR of arXiv 1811.02508, SI-SNR of Section 4 of arXiv
    2210.13438). Volume, polarity and a constant offset do not matter; a delay of one sample does.

    Returns:
      dB, clipped to -100 to 100 so that means over files are finite: an equal estimate has 100, a
      silent or uncorrelated one -100. Channels with a silent or constant reference do not count;
      NaN if all are.
    """
    reference, estimate = (_centred(samples) for samples in check_pair(reference, estimate))
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

    A window starts every half window within the signal; the last ones are padded with zeros. So up
    to half a window of signal is one window, up to a whole one two. The sign is that of `si_snr`,
    not of audiocraft's loss.

    As in audiocraft, all energies of a window get 1.2e-7 per sample added. So values are finite, a
    window with a silent estimate has 0 dB, and one where only the reference is silent is far below
    0. `si_snr` tells more about files with silence.
    """
    reference, estimate = check_pair(reference, estimate, sample_rate)
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

    The mean absolute difference of log10 of 64 mel bands of a normalised STFT's magnitudes, over
    bands, frames, channels, and windows of 2^6 to 2^11 samples: the L1 distance codecs are compared
    by, on the spectrograms of Section 3.4 of arXiv 2210.13438. Hann windows start every quarter
    window and extend into silence beyond both ends, so that four cover each sample. Magnitudes
    below 1e-5 count as 1e-5, so silence is a signal like any other. Bands too narrow to contain a
    bin are left out. The bands reach up to half the sample rate, so distances at different rates
    are not comparable.

    Returns:
      0 or more; 0 for equal signals, 1 for a factor of 10 (20 dB) in every band.
    """
    pair = check_pair(reference, estimate, sample_rate)
    distances = []
    for window in MEL_WINDOWS:
        filters = spectra.mel_filters(sample_rate, window, MEL_BANDS)
        filters = filters[:, filters.any(axis=0)]
        bands = (magnitudes @ filters for magnitudes in _spectra(*pair, window))
        logs = (np.log10(np.maximum(FLOOR, block)) for block in bands)
        distances.append(_mean(np.abs(one - other) for one, other in logs))
    return float(np.mean(distances))


def log_spectral_distance(
    reference: np.ndarray, estimate: np.ndarray, sample_rate: int, window: int = 2048
) -> float:
    """Log-spectral distance, in dB; lower is better.

    The root mean square over the bins of a frame of 10 log10 P - 10 log10 Q, P and Q the powers of
    reference and estimate; averaged over frames and channels. This is d_2 of Gray and Markel,
    Distance Measures for Speech Processing, 1976. Work on bandwidth extension uses this window and
    hop, but often log10 in place of 10 log10: a tenth of this. Frames are those of `mel_distance`.
    All bins up to half the sample rate count alike, so bands that a codec leaves empty weigh more
    than in a mel distance. Distances at different rates are not comparable.

    Returns:
      0 or more; 0 for equal signals. Magnitudes below 1e-5 count as 1e-5 (-100 dB), so frames
      silent in both have 0, and a silent estimate has a finite distance.
    """
    pair = check_pair(reference, estimate, sample_rate)
    levels = (20 * np.log10(np.maximum(FLOOR, block)) for block in _spectra(*pair, window))
    return _mean(np.sqrt(np.mean((one - other) ** 2, axis=-1)) for one, other in levels)


def _spectra(reference: np.ndarray, estimate: np.ndarray, window: int) -> Iterator[np.ndarray]:
    """Yield normalised STFT magnitudes of two signals [T, C], in blocks [2, N, C, W / 2 + 1].

    Frames extend beyond both ends, so that four cover each sample.
    """
    hop = window // 4
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    hann /= np.sqrt(np.sum(hann**2))
    ends = ((window - hop, window - hop + -len(reference) % hop), (0, 0))
    views = [  # [N, C, W], without copies
        np.lib.stride_tricks.sliding_window_view(np.pad(samples, ends), window, axis=0)[::hop]
        for samples in (reference, estimate)
    ]
    frames, channels, _ = views[0].shape
    step = max(1, _BLOCK // (window * channels))
    for start in range(0, frames, step):
        parts = np.stack([view[start : start + step] for view in views])
        yield np.abs(np.fft.rfft(parts * hann))


def _mean(blocks: Iterable[np.ndarray]) -> float:
    """Return the mean over all elements of blocks."""
    total, count = np.sum([(np.sum(block), block.size) for block in blocks], axis=0)
    return float(total / count)


def _centred(samples: np.ndarray) -> np.ndarray:
    """Subtract each channel's mean from samples [T, C]; a constant channel becomes exact zeros."""
    samples = samples - samples[:1]
    return samples - np.mean(samples, axis=0)


def check_pair(
    reference: np.ndarray, estimate: np.ndarray, sample_rate: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return both signals as float64 [T, C]; raise ValueError if a metric cannot take them."""
    shapes = np.shape(reference), np.shape(estimate)
    if shapes[0] != shapes[1] or len(shapes[0]) not in (1, 2) or 0 in shapes[0]:
        raise ValueError(
            f"reference and estimate: got shapes {shapes[0]} and {shapes[1]}, must be equal, [T] "
            "or [T, C], with at least one sample"
        )
    if sample_rate <= 0:
        raise ValueError(f"sample_rate: got {sample_rate}, must be above 0")
    return _check_samples("reference", reference), _check_samples("estimate", estimate)


def _check_samples(name: str, samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples)
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"{name}: got samples of {samples.dtype}, must be of a float type")
    if not np.isfinite(samples).all():
        raise ValueError(f"{name}: got samples that are NaN or infinite, all must be finite")
    return samples.astype(np.float64).reshape(len(samples), -1)
