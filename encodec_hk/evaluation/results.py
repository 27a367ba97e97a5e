"""What an evaluation finds: rows of measures, a summary of them, and renditions to listen to.

A row is one file in one codec at one rate. Its measures stand under the names of MEASURES; one that
does not apply (PESQ of music) or could not be taken is missing from the row, or NaN.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np


class Measure(NamedTuple):
    """What one column of the table means.

    Attributes:
      label: for people.
      unit: "" where it has none.
      is_higher_better: None where neither is.
      digits: after the point, in tables.
    """

    label: str
    unit: str
    is_higher_better: bool | None
    digits: int


MEASURES: dict[str, Measure] = {
    "si_snr": Measure("SI-SNR, whole file", "dB", True, 2),
    "si_snr_windows": Measure("SI-SNR, mean of 5 s windows", "dB", True, 2),
    "visqol": Measure("ViSQOL, audio mode", "MOS-LQO", True, 2),
    "visqol_speech": Measure("ViSQOL, speech mode", "MOS-LQO", True, 2),
    "pesq": Measure("PESQ, wide band", "MOS-LQO", True, 2),
    "stoi": Measure("STOI", "", True, 3),
    "mel_distance": Measure("Mel distance", "log10", False, 3),
    "log_spectral_distance": Measure("Log-spectral distance", "dB", False, 2),
    "payload_kbps": Measure("Rate of the payload", "kbps", False, 2),
    "total_kbps": Measure("Rate with headers", "kbps", False, 2),
    "encode_speed": Measure("Encoding", "x real time", True, 1),
    "decode_speed": Measure("Decoding", "x real time", True, 1),
}

Row = dict[str, Any]
"""file, group, codec (strings), is_speech (bool), kbps and seconds (float), then measures."""

Summary = dict[str, Any]
"""What summary.json holds:

  means      {group: {codec: {kbps: {measure: {mean, low, high, count}}}}}; the group "all" has all
             files; kbps as text ("1.5"); low and high are the ends of a 95 % interval by bootstrap
  codecs     {codec: {"kind": "encodec" | "opus" | "mp3", ...}}, what is known of each
  codebooks  {codec: {kbps: [{entropy, perplexity, used, dead}, ...]}}, of EnCodec models
  missing    [line, ...], measures and codecs that could not be had, with the command that helps
  failed     {file: reason}
  parity     {codec: {...}}, of --compare; empty without it
"""


@dataclasses.dataclass(frozen=True)
class Rendition:
    """A file after a codec.

    Attributes:
      codec: its name, as in rows.
      kbps: the rate asked for, as in rows.
      samples: float32 [T, C], of the original's length and rate.
    """

    codec: str
    kbps: float
    samples: np.ndarray


@dataclasses.dataclass(frozen=True)
class Item:
    """A file to listen to, with its renditions.

    Attributes:
      file: its name, as in rows.
      group: as in rows.
      sample_rate: Hz.
      original: float32 [T, C].
      renditions: in the order of the table.
    """

    file: str
    group: str
    sample_rate: int
    original: np.ndarray
    renditions: tuple[Rendition, ...]
