"""Metrics of a signal against its reference: SI-SNR, mel distance, ViSQOL.

Every metric takes float [T, C] or [T] with full scale at 1, reference and estimate of one shape,
sample by sample aligned, and returns a float. All raise ValueError where the shapes differ, there
is no sample, or one is NaN or infinite.

Shapes: T samples, C channels, N frames of a spectrogram, W samples of a window.
"""

from __future__ import annotations

import functools
import importlib
import threading
from typing import Any

import numpy as np

from encodec_hk import audio

SI_SNR_LIMIT = 100.0  # dB, either way; the steps of 16 bit samples are at 98

MEL_WINDOWS = (64, 128, 256, 512, 1024, 2048)
MEL_BANDS = 64
MEL_FLOOR = 1e-5  # of magnitudes under the logarithm: about the rounding noise of 16 bit samples

VISQOL_RATES = {"audio": 48000, "speech": 16000}  # Hz, by mode
VISQOL_SHORTEST = {"audio": 0.96, "speech": 0.64}  # seconds: the first patch and what precedes it
_VISQOL_PEAK = 0.99

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
    reference, estimate = (_centred(samples) for samples in _pair(reference, estimate))
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
    reference, estimate = _pair(reference, estimate)
    _check_rate(sample_rate)
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
    reference, estimate = _pair(reference, estimate)
    _check_rate(sample_rate)
    distances = [_mel_distance(reference, estimate, sample_rate, w) for w in MEL_WINDOWS]
    return float(np.mean(distances))


def _mel_distance(
    reference: np.ndarray, estimate: np.ndarray, sample_rate: int, window: int
) -> float:
    """The mean over bands, frames and channels, of one window."""
    filters = mel_filters(sample_rate, window, MEL_BANDS)
    filters = filters[:, filters.any(axis=0)]
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
    total = 0.0
    for start in range(0, frames, step):
        logs = [
            np.log10(np.maximum(MEL_FLOOR, np.abs(np.fft.rfft(part * hann)) @ filters))
            for part in (view[start : start + step] for view in views)
        ]
        total += np.sum(np.abs(logs[0] - logs[1]))
    return total / (frames * channels * filters.shape[1])


def mel_filters(sample_rate: int, window: int, bands: int) -> np.ndarray:
    """Triangles on the HTK mel scale from 0 Hz to half the sample rate, float64 [W / 2 + 1, bands].

    Their peak is 1, whatever their width, as by default in torchaudio. A band between two bins of
    the window is all zeros.
    """
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    bins = np.linspace(0, sample_rate / 2, window // 2 + 1)[:, None]
    rise = (bins - corners[:-2]) / np.diff(corners[:-1])
    fall = (corners[2:] - bins) / np.diff(corners[1:])
    return np.maximum(0, np.minimum(rise, fall))


def visqol(
    reference: np.ndarray,
    estimate: np.ndarray,
    sample_rate: int,
    mode: str = "audio",
    pad_seconds: float = 0.0,
) -> float:
    """ViSQOL v3, a prediction of how listeners would rate the estimate; higher is better.

    MOS-LQO by the package visqol-python, which follows Google's v3.3.3 (arXiv 2004.09584), on
    signals prepared as audiocraft does: resampled to 48 kHz (mode "audio") or 16 kHz ("speech"),
    cut off at 0.99, rounded to 16 bits, channels averaged. Resampling is by soxr's HQ filter.

    Half a patch (0.3 s) at the start is not looked at. Google's guidelines ask for silence around
    (`pad_seconds` of 0.5), but it counts as perfect: it raises audio mode by up to 0.13 on clips of
    12 to 16 s, and by more on shorter ones. So none is put by default, as in Google's conformance
    cases and in audiocraft (which takes the codec's output for the reference).

    ViSQOL brings the estimate to the volume of the reference and aligns both, so that neither
    volume nor a delay makes a difference. With numba it takes about 0.1 s per second of audio, ten
    times that without; the first call ever compiles. Calls from several threads wait in turn.

    Args:
      reference: float [T, C] or [T].
      estimate: the same shape.
      sample_rate: Hz.
      mode: "audio" (music and all else; support vector regression) or "speech" (a lattice network
        on what a voice detector lets through).
      pad_seconds: silence before and after both.

    Returns:
      1 to 5. Equal signals have 4.732 in audio mode; in speech mode 4.3 to 4.6 on speech, by the
      signal. Below 2, audio mode does not order signals reliably: more noise can score higher.
      NaN where the reference is silent in 16 bits; 1, the lowest, where only the estimate is
      (ViSQOL itself divides by zero).

    Raises:
      ValueError: see the module; with silence the signals are shorter than 0.96 s (audio) or 0.64 s
        (speech); the packages of the `evaluate` extra are not installed.
    """
    pair = _pair(reference, estimate)
    _check_rate(sample_rate)
    if mode not in VISQOL_RATES:
        raise ValueError(f"mode: got {mode!r}, must be one of {', '.join(VISQOL_RATES)}")
    if not 0 <= pad_seconds < float("inf"):
        raise ValueError(f"pad_seconds: got {pad_seconds}, must be 0 or more")
    rate = VISQOL_RATES[mode]
    pad = round(pad_seconds * rate)
    signals = [np.pad(_sixteen_bits(samples, sample_rate, rate), pad) for samples in pair]
    if len(signals[0]) < round(VISQOL_SHORTEST[mode] * rate):
        raise ValueError(
            f"got {len(pair[0]) / sample_rate:g} s of audio and {pad_seconds:g} s of silence "
            f"around, ViSQOL's {mode} mode needs {VISQOL_SHORTEST[mode]} s in all"
        )
    if not signals[0].any():
        return float("nan")
    if not signals[1].any():
        return 1.0
    with _VISQOL_LOCK:
        return float(_visqol_model(mode).measure_from_arrays(*signals, rate).moslqo)


# Its filters and numba's thread pool hold state: two calls at once would abort the process.
_VISQOL_LOCK = threading.Lock()


@functools.cache
def _visqol_model(mode: str) -> Any:
    """ViSQOL with the models of one mode loaded."""
    try:
        model = importlib.import_module("visqol").VisqolApi()
        # Left to itself, speech mode without the lattice falls back to a polynomial that rates bad
        # speech up to 2 points higher.
        model.create(mode=mode, use_lattice_model=mode == "speech")
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f'ViSQOL is not installed: pip install "encodec-hk[evaluate]" ({reason})'
        ) from error
    return model


def _sixteen_bits(samples: np.ndarray, sample_rate: int, rate: int) -> np.ndarray:
    """Samples [T, C] as ViSQOL would read them from a 16 bit file at another rate, mono [T']."""
    samples = audio.resample(samples.astype(np.float32), sample_rate, rate)
    samples = np.clip(samples.astype(np.float64), -_VISQOL_PEAK, _VISQOL_PEAK)
    return np.mean(np.rint(samples * 2**15) / 2**15, axis=1)


def _centred(samples: np.ndarray) -> np.ndarray:
    """Samples [T, C] less the mean of every channel; exact zeros where a channel is constant."""
    samples = samples - samples[:1]
    return samples - np.mean(samples, axis=0)


def _pair(reference: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both signals as float64 [T, C], or the ValueError that says what is wrong with them."""
    shapes = np.shape(reference), np.shape(estimate)
    if shapes[0] != shapes[1] or len(shapes[0]) not in (1, 2) or 0 in shapes[0]:
        raise ValueError(
            f"reference and estimate: got shapes {shapes[0]} and {shapes[1]}, must be equal, [T] "
            "or [T, C], with at least one sample"
        )
    return _samples("reference", reference), _samples("estimate", estimate)


def _samples(name: str, samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples)
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"{name}: got samples of {samples.dtype}, must be of a float type")
    if not np.isfinite(samples).all():
        raise ValueError(f"{name}: got samples that are NaN or infinite, all must be finite")
    return samples.astype(np.float64).reshape(len(samples), -1)


def _check_rate(sample_rate: int) -> None:
    if sample_rate <= 0:
        raise ValueError(f"sample_rate: got {sample_rate}, must be above 0")
