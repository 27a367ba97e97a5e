"""Predictions of how listeners rate a signal against its reference: ViSQOL, PESQ, STOI.

Every metric takes float [T, C] or [T] with full scale at 1, reference and estimate aligned and of
one shape, their sample rate in Hz, and returns a float. All raise ValueError if the shapes differ,
there are no samples, a sample is NaN or infinite, the signals are too short, or the package that
computes the metric is not installed; the message then names the command that installs it.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from encodec_hk.evaluation import metrics
from encodec_hk.sound import resampling
from encodec_hk.system import extras

VISQOL_RATES = {"audio": 48000, "speech": 16000}  # Hz, by mode
VISQOL_SHORTEST = {"audio": 0.96, "speech": 0.64}  # seconds: one patch and the start that it skips
_VISQOL_PEAK = 0.99
_PESQ_SHORTEST = 0.25  # seconds
_PESQ_LONGEST = 20.0  # seconds of a part
_STOI_SHORTEST = 0.4096  # seconds: 31 frames of 25.6 ms that overlap by half
_SPEECH_RATE = 16000  # Hz, for PESQ and STOI


def visqol(
    reference: np.ndarray,
    estimate: np.ndarray,
    sample_rate: int,
    mode: str = "audio",
    pad_seconds: float = 0.0,
) -> float:
    """ViSQOL v3, a prediction of how listeners would rate the estimate; higher is better.

    MOS-LQO by the package visqol-python, which follows Google's v3.3.3 (arXiv 2004.09584), on
    signals prepared as in audiocraft: resampled to 48 kHz (mode "audio") or 16 kHz ("speech") by
    soxr's HQ filter, clipped at 0.99, rounded to 16 bits, channels averaged. Mode "audio" takes any
    sound, by support vector regression; "speech" takes the parts that a voice detector keeps, by a
    lattice network.

    ViSQOL ignores half a patch (0.3 s) at the start. Google's guidelines ask for silence around the
    signal (`pad_seconds` of 0.5), but silence counts as perfect: it raises audio mode by up to 0.13
    on clips of 12 to 16 s, and by more on shorter ones. So the default is none, as in Google's
    conformance cases and in audiocraft (which takes the codec's output for the reference).

    ViSQOL matches the estimate's volume to the reference's and aligns both, so volume and delay do
    not matter. It takes about 0.1 s per second of audio with numba, ten times as long without; the
    very first call compiles. Calls from several threads wait for each other.

    Returns:
      1 to 5. Equal signals have 4.732 in audio mode and, if speech, 4.3 to 4.6 in speech mode.
      Below 2, audio mode does not order signals reliably: more noise can score higher. NaN if the
      reference is silent in 16 bits; 1, the lowest, if only the estimate is (ViSQOL itself divides
      by zero).

    Raises:
      ValueError: see the module. Silence included, signals must be at least 0.96 s (audio) or
        0.64 s (speech) long.
    """
    pair = metrics.check_pair(reference, estimate, sample_rate)
    if mode not in VISQOL_RATES:
        raise ValueError(f"mode: got {mode!r}, must be one of {', '.join(VISQOL_RATES)}")
    if not 0 <= pad_seconds < float("inf"):
        raise ValueError(f"pad_seconds: got {pad_seconds}, must be 0 or more")
    rate = VISQOL_RATES[mode]
    pad = round(pad_seconds * rate)
    padded = [np.pad(_sixteen_bits(samples, sample_rate, rate), pad) for samples in pair]
    if len(padded[0]) < round(VISQOL_SHORTEST[mode] * rate):
        raise ValueError(
            f"got {len(pair[0]) / sample_rate:g} s of audio and {pad_seconds:g} s of silence "
            f"around, ViSQOL's {mode} mode needs {VISQOL_SHORTEST[mode]} s in all"
        )
    if not padded[0].any():
        return float("nan")
    if not padded[1].any():
        return 1.0
    with _VISQOL_LOCK:
        return float(_visqol_model(mode).measure_from_arrays(*padded, rate).moslqo)


# ViSQOL's filters and numba's thread pool hold state: two calls at once abort the process.
_VISQOL_LOCK = threading.Lock()


@functools.cache
def _visqol_model(mode: str) -> Any:
    """Return ViSQOL with the model of a mode loaded."""
    with _needed("ViSQOL"):
        model = importlib.import_module("visqol").VisqolApi()
        # Without the lattice, speech mode takes a polynomial that rates bad speech up to 2 points
        # higher.
        model.create(mode=mode, use_lattice_model=mode == "speech")
    return model


def pesq(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """PESQ, wide band: a prediction of how listeners would rate speech; higher is better.

    MOS-LQO of ITU-T P.862 with the wide band extension P.862.2, by the package pesq, on signals
    resampled to 16 kHz by soxr's HQ filter, channels averaged, both divided by the larger peak. It
    compares 50 to 7000 Hz, at equal volume and aligned. It is made for speech of 8 to 12 s: longer
    signals are cut into equal parts of at most 20 s, and the mean is over the parts with speech.
    (The package has room for 50 utterances, which 20 s cannot exceed; past them it writes out of
    bounds.)

    Returns:
      1 to 4.644, which equal signals have. NaN if the reference has no utterance; 1, the lowest, if
      only the estimate is silent (the package itself fails then).

    Raises:
      ValueError: see the module. Signals must be at least 0.25 s long.
    """
    pair = _speech(reference, estimate, sample_rate, "PESQ", _PESQ_SHORTEST)
    with _needed("PESQ"):
        package = importlib.import_module("pesq")
    count = -(-len(pair[0]) // round(_PESQ_LONGEST * _SPEECH_RATE))
    values = []
    for clean, coded in zip(*(np.array_split(samples, count) for samples in pair), strict=True):
        if clean.any():
            with contextlib.suppress(package.NoUtterancesError):
                score = package.pesq(_SPEECH_RATE, clean, coded, "wb") if coded.any() else 1.0
                values.append(score)
    return float(np.mean(values)) if values else float("nan")


def stoi(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Short-time objective intelligibility: how much of speech is understood; higher is better.

    The mean correlation of the envelopes of 15 third-octave bands from 150 Hz, over windows of 384
    ms (Taal et al., IEEE TASLP 19(7), 2011), by the package pystoi, on signals resampled to 16 kHz
    by soxr's HQ filter (and by the package to 10 kHz), channels averaged. Frames more than 40 dB
    below the reference's loudest are left out. Signals must be aligned; volume does not matter.

    Returns:
      A correlation: 1 for equal signals, about 0 for unrelated ones, 0 for a silent estimate. NaN
      if all or nearly all of the reference is silent.

    Raises:
      ValueError: see the module. Signals must be at least 0.41 s long.
    """
    clean, coded = _speech(reference, estimate, sample_rate, "STOI", _STOI_SHORTEST)
    with _needed("STOI"):
        package = importlib.import_module("pystoi")
    if not clean.any():
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        value = float(package.stoi(clean, coded, _SPEECH_RATE))
    return float("nan") if value == 1e-5 else value  # the package's value for too few frames


def _speech(
    reference: np.ndarray, estimate: np.ndarray, sample_rate: int, name: str, shortest: float
) -> list[np.ndarray]:
    """Return both signals at 16 kHz, mono, float64 [T']."""
    pair = metrics.check_pair(reference, estimate, sample_rate)
    if len(pair[0]) < shortest * sample_rate:
        raise ValueError(
            f"got {len(pair[0]) / sample_rate:g} s of audio, {name} needs {shortest:g} s"
        )
    return [_resampled(samples, sample_rate, _SPEECH_RATE).mean(axis=1) for samples in pair]


def _sixteen_bits(samples: np.ndarray, sample_rate: int, rate: int) -> np.ndarray:
    """Return samples [T, C] as ViSQOL reads them from a 16 bit file at `rate`, mono [T']."""
    samples = np.clip(_resampled(samples, sample_rate, rate), -_VISQOL_PEAK, _VISQOL_PEAK)
    return np.mean(np.rint(samples * 2**15) / 2**15, axis=1)


def _resampled(samples: np.ndarray, sample_rate: int, rate: int) -> np.ndarray:
    return resampling.resample(samples.astype(np.float32), sample_rate, rate).astype(np.float64)


@contextlib.contextmanager
def _needed(name: str) -> Iterator[None]:
    """Turn a failed import within into a ValueError."""
    try:
        yield
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{name} is not installed: {install_command(name)} ({reason})") from error


def install_command(name: str) -> str:
    """Return the command that installs the packages of a metric."""
    # pesq needs a C compiler, so it is an extra of its own.
    return extras.install_command("pesq" if name == "PESQ" else "evaluate")
