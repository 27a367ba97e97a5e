"""All measures of one pair of signals: which there are, and which can be had here.

Imported by the processes that measure: so nothing here imports JAX.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from encodec_hk.evaluation import metrics
from encodec_hk.evaluation import perceptual
from encodec_hk.evaluation import results


class _Metric(NamedTuple):
    """How a measure is taken.

    Attributes:
      function: of reference, estimate and sample rate.
      packages: that have to be installed.
      name: of what these compute.
      is_of_speech: whether it is for speech alone.
    """

    function: Callable[[np.ndarray, np.ndarray, int], float]
    packages: tuple[str, ...] = ()
    name: str = ""
    is_of_speech: bool = False


def _si_snr(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    return metrics.si_snr(reference, estimate)


_METRICS: Mapping[str, _Metric] = {
    "si_snr": _Metric(_si_snr),
    "si_snr_windows": _Metric(metrics.si_snr_windows),
    "visqol": _Metric(perceptual.visqol, ("visqol",), "ViSQOL"),
    "visqol_speech": _Metric(
        functools.partial(perceptual.visqol, mode="speech"),
        ("visqol", "ai_edge_litert"),
        "ViSQOL",
        is_of_speech=True,
    ),
    "pesq": _Metric(perceptual.pesq, ("pesq",), "PESQ", is_of_speech=True),
    "stoi": _Metric(perceptual.stoi, ("pystoi",), "STOI", is_of_speech=True),
    "mel_distance": _Metric(metrics.mel_distance),
    "log_spectral_distance": _Metric(metrics.log_spectral_distance),
}


class Measured(NamedTuple):
    """What was found of a pair.

    Attributes:
      values: by measure, NaN left out.
      errors: by measure, why there is none: the signal is too short, for example.
    """

    values: dict[str, float]
    errors: dict[str, str]


def available(has_speech: bool = True) -> tuple[tuple[str, ...], list[str]]:
    """The measures whose packages are installed, and a line for each that is missing.

    Args:
      has_speech: whether there is speech; without, what is for speech alone is not missed.
    """
    found, missing = [], []
    for measure, metric in _METRICS.items():
        if metric.is_of_speech and not has_speech:
            continue
        lacking = [name for name in metric.packages if importlib.util.find_spec(name) is None]
        if lacking:
            command = perceptual.install_command(metric.name)
            label = results.MEASURES[measure].label
            missing.append(f"{label}: {' and '.join(lacking)} not installed: {command}")
        else:
            found.append(measure)
    return tuple(found), missing


def measure(
    reference: np.ndarray,
    estimate: np.ndarray,
    sample_rate: int,
    names: Sequence[str],
    *,
    is_speech: bool,
) -> Measured:
    """Takes the measures of a pair.

    Args:
      reference: float [T, C].
      estimate: the same shape.
      sample_rate: Hz.
      names: of measures, as `available` gives them.
      is_speech: whether to take those that are for speech alone.
    """
    values, errors = {}, {}
    for name in names:
        metric = _METRICS[name]
        if metric.is_of_speech and not is_speech:
            continue
        try:
            value = float(metric.function(reference, estimate, sample_rate))
        except Exception as error:  # of whatever package: the other measures are not lost
            errors[name] = " ".join(str(error).split()) or type(error).__name__
            continue
        if np.isfinite(value):
            values[name] = value
        else:
            errors[name] = "the original is silent"
    return Measured(values, errors)


def measure_files(
    reference: str, estimate: str, sample_rate: int, names: Sequence[str], is_speech: bool
) -> Measured:
    """The same of signals in .npy files: so long ones do not go through pipes."""
    pair = [np.load(name, mmap_mode="r") for name in (reference, estimate)]
    return measure(pair[0], pair[1], sample_rate, names, is_speech=is_speech)
