"""How good the model of a run is, on excerpts that it is not trained on."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

import ml_collections
import numpy as np

import encodec_hk
from encodec_hk.evaluation import metrics
from encodec_hk.evaluation import perceptual

NUM_SOUNDS = 2  # excerpts whose renditions go into the logs


def has_visqol() -> bool:
    """Whether ViSQOL is installed."""
    return importlib.util.find_spec("visqol") is not None


class Result(NamedTuple):
    """Means over the excerpts, and some of them to listen to.

    Attributes:
      values: of every metric at every bandwidth, "metric/kbps"; ViSQOL where it is installed.
      sounds: audio [T, C] by name: the original and every bandwidth's rendition.
    """

    values: dict[str, float]
    sounds: dict[str, np.ndarray]


def validate(config: ml_collections.ConfigDict, params: Any, items: Sequence[np.ndarray]) -> Result:
    """Codes excerpts at every bandwidth, and compares.

    Args:
      config: a whole config.
      params: of its networks, as a checkpoint holds them.
      items: excerpts [T, C] at the model's rate and channels.
    """
    codec = encodec_hk.Codec(config.model, params)
    rate = codec.sample_rate
    values: dict[str, list[float]] = {}
    sounds = {f"excerpt_{index}/original": item for index, item in enumerate(items[:NUM_SOUNDS])}
    for bandwidth in config.model.bandwidths:
        encoded = codec.encode(list(items), bandwidth=bandwidth)
        decoded = codec.decode(encoded)
        for index, item in enumerate(items):
            output = decoded[index, : len(item)]
            row = {
                "si_snr": metrics.si_snr(item, output),
                "mel_distance": metrics.mel_distance(item, output, rate),
            }
            if has_visqol() and len(item) >= perceptual.VISQOL_SHORTEST["audio"] * rate:
                row["visqol"] = perceptual.visqol(item, output, rate)
            for name, value in row.items():
                values.setdefault(f"{name}/{bandwidth:g}", []).append(value)
            if index < NUM_SOUNDS:
                sounds[f"excerpt_{index}/{bandwidth:g}_kbps"] = output
    return Result({name: float(np.nanmean(v)) for name, v in values.items()}, sounds)
