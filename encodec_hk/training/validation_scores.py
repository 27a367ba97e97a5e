"""Score the model of a run on excerpts that it is not trained on."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

import ml_collections
import numpy as np

import encodec_hk
from encodec_hk.evaluation import metrics
from encodec_hk.evaluation import perceptual

NUM_SOUNDS = 2  # excerpts whose decoded audio goes into the logs


class ValidationScores(NamedTuple):
    """Means over the excerpts, and some excerpts to listen to.

    Attributes:
      values: "METRIC/KBPS" -> mean over the excerpts; with ViSQOL if it is installed.
      sounds: name -> audio [T, C], of originals and of what is decoded at every bandwidth.
    """

    values: dict[str, float]
    sounds: dict[str, np.ndarray]


def has_visqol() -> bool:
    """Return whether ViSQOL is installed."""
    return importlib.util.find_spec("visqol") is not None


def score(
    variant: ml_collections.ConfigDict, params: Any, excerpts: Sequence[np.ndarray]
) -> ValidationScores:
    """Encode and decode excerpts at every bandwidth, and compare.

    Args:
      variant: a whole configuration.
      params: of its networks, as in a checkpoint.
      excerpts: [T, C] each, at the model's rate and channels.
    """
    codec = encodec_hk.Codec(variant.model, params)
    rate = codec.sample_rate
    values: dict[str, list[float]] = {}
    sounds = {f"excerpt_{i}/original": excerpt for i, excerpt in enumerate(excerpts[:NUM_SOUNDS])}
    for bandwidth in variant.model.bandwidths:
        decoded = codec.decode(codec.encode(list(excerpts), bandwidth=bandwidth))
        for index, excerpt in enumerate(excerpts):
            output = decoded[index, : len(excerpt)]
            row = {
                "si_snr": metrics.si_snr(excerpt, output),
                "mel_distance": metrics.mel_distance(excerpt, output, rate),
            }
            if has_visqol() and len(excerpt) >= perceptual.VISQOL_SHORTEST["audio"] * rate:
                row["visqol"] = perceptual.visqol(excerpt, output, rate)
            for name, value in row.items():
                values.setdefault(f"{name}/{bandwidth:g}", []).append(value)
            if index < NUM_SOUNDS:
                sounds[f"excerpt_{index}/{bandwidth:g}_kbps"] = output
    means = {name: float(np.nanmean(row)) for name, row in values.items()}
    return ValidationScores(means, sounds)
