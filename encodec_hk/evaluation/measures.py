"""The measures of an evaluation: what each is called, which package it needs, how it is computed.

Processes that measure import this module, so it must not import JAX.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from encodec_hk.evaluation import metrics
from encodec_hk.evaluation import perceptual


class Measure(NamedTuple):
    """A column of the results.

    Attributes:
      label: its name in the report.
      head: two lines over its column on a terminal: name, and unit or kind.
      unit: "" for none.
      is_higher_better: which way quality grows.
      digits: decimals in tables.
      function: computes it from reference, estimate and sample rate; None for what the coder
        itself reports.
      packages: modules that the function imports.
      is_of_speech: whether it applies to speech alone.
    """

    label: str
    head: tuple[str, str]
    unit: str
    is_higher_better: bool = True
    digits: int = 2
    function: Callable[[np.ndarray, np.ndarray, int], float] | None = None
    packages: tuple[str, ...] = ()
    is_of_speech: bool = False


MEASURES: dict[str, Measure] = {
    "si_snr": Measure(
        "SI-SNR, whole file",
        ("SI-SNR", "dB"),
        "dB",
        function=lambda reference, estimate, _: metrics.si_snr(reference, estimate),
    ),
    "si_snr_windows": Measure(
        "SI-SNR, mean of 5 s windows", ("5 s", "dB"), "dB", function=metrics.si_snr_windows
    ),
    "visqol": Measure(
        "ViSQOL, audio mode",
        ("ViSQOL", "audio"),
        "MOS-LQO",
        function=perceptual.visqol,
        packages=("visqol",),
    ),
    "visqol_speech": Measure(
        "ViSQOL, speech mode",
        ("ViSQOL", "speech"),
        "MOS-LQO",
        function=functools.partial(perceptual.visqol, mode="speech"),
        packages=("visqol", "ai_edge_litert"),
        is_of_speech=True,
    ),
    "pesq": Measure(
        "PESQ, wide band",
        ("PESQ", "wide"),
        "MOS-LQO",
        function=perceptual.pesq,
        packages=("pesq",),
        is_of_speech=True,
    ),
    "stoi": Measure(
        "STOI",
        ("STOI", ""),
        "",
        digits=3,
        function=perceptual.stoi,
        packages=("pystoi",),
        is_of_speech=True,
    ),
    "mel_distance": Measure(
        "Mel distance",
        ("mel", "log10"),
        "log10",
        is_higher_better=False,
        digits=3,
        function=metrics.mel_distance,
    ),
    "log_spectral_distance": Measure(
        "Log-spectral distance",
        ("LSD", "dB"),
        "dB",
        is_higher_better=False,
        function=metrics.log_spectral_distance,
    ),
    "payload_kbps": Measure(
        "Bitrate of the payload", ("payload", "kbps"), "kbps", is_higher_better=False
    ),
    "total_kbps": Measure("Bitrate with headers", ("file", "kbps"), "kbps", is_higher_better=False),
    "language_payload_kbps": Measure(
        "Bitrate of the payload, language model",
        ("payload", "lang. model"),
        "kbps",
        is_higher_better=False,
    ),
    "language_total_kbps": Measure(
        "Bitrate with headers, language model",
        ("file", "lang. model"),
        "kbps",
        is_higher_better=False,
    ),
    "encode_speed": Measure("Encoding", ("encode", "x real"), "x real time", digits=1),
    "decode_speed": Measure("Decoding", ("decode", "x real"), "x real time", digits=1),
}


class Measured(NamedTuple):
    """The measures of one pair of signals.

    Attributes:
      values: by measure, finite.
      errors: by measure, why there is no value, such as a signal that is too short.
    """

    values: dict[str, float]
    errors: dict[str, str]


def available(has_speech: bool = True) -> tuple[tuple[str, ...], list[str]]:
    """Return the measures that can be computed here, and a line on each that cannot.

    Without any file of speech, measures of speech are in neither.
    """
    found, missing = [], []
    for name, measure in MEASURES.items():
        if measure.function is None or (measure.is_of_speech and not has_speech):
            continue
        lacking = [module for module in measure.packages if not importlib.util.find_spec(module)]
        if lacking:
            command = perceptual.install_command(measure.head[0])
            missing.append(f"{measure.label}: {' and '.join(lacking)} not installed: {command}")
        else:
            found.append(name)
    return tuple(found), missing


def measure(
    reference: np.ndarray,
    estimate: np.ndarray,
    sample_rate: int,
    names: Sequence[str],
    *,
    is_speech: bool,
) -> Measured:
    """Take the measures that `available` named of an estimate and its reference, float [T, C]."""
    found = Measured({}, {})
    for name in names:
        function = MEASURES[name].function
        if function is None or (MEASURES[name].is_of_speech and not is_speech):
            continue
        try:
            value = float(function(reference, estimate, sample_rate))
        except Exception as error:  # any package's; the other measures are still of use
            found.errors[name] = " ".join(str(error).split()) or type(error).__name__
            continue
        if np.isfinite(value):
            found.values[name] = value
        else:
            found.errors[name] = "the original is silent"
    return found


def measure_files(
    reference: str, estimate: str, sample_rate: int, names: Sequence[str], is_speech: bool
) -> Measured:
    """Measure signals in .npy files, which spares long signals the pipe between processes."""
    pair = [np.load(name, mmap_mode="r") for name in (reference, estimate)]
    return measure(pair[0], pair[1], sample_rate, names, is_speech=is_speech)
