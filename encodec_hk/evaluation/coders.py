"""What an evaluation asks of a codec, and what the codec returns.

Shapes: T samples, C channels, K codebooks, F frames.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files


@dataclasses.dataclass(frozen=True)
class Coded:
    """A decoded signal and what coding it took.

    Attributes:
      samples: float32 [T, C], aligned with the input and of its length and sample rate.
      payload_bytes: what the decoder decodes: packed codes, packets or frames.
      total_bytes: the whole file.
      language_payload_bytes, language_total_bytes: the same of a file with a language model; None
        without one.
      encode_seconds: time from samples to codes, or to the file.
      decode_seconds: time back to samples.
      codes: int32 [K, F] of an EnCodec model, else None.
      num_entries: entries of a codebook.
    """

    samples: np.ndarray
    payload_bytes: int
    total_bytes: int
    encode_seconds: float
    decode_seconds: float
    codes: np.ndarray | None = None
    num_entries: int = 0
    language_payload_bytes: int | None = None
    language_total_bytes: int | None = None


class EvaluationCoder(Protocol):
    """A codec to evaluate.

    Attributes:
      name: its name in rows, tables and the report.
      identity: everything its results depend on besides the file. A new identity makes the
        journal's rows invalid.
      sample_rate: of input and output, Hz.
      channels: C of input and output.
      bitrates: kbps to evaluate it at.
    """

    name: str
    identity: str
    sample_rate: int
    channels: int
    bitrates: tuple[float, ...]

    def code(self, samples: np.ndarray, kbps: float) -> Coded:
        """Encode and decode samples, float32 [T, C]. Raises ValueError if that fails."""

    def facts(self) -> dict[str, object]:
        """Return facts for summary.json, "kind" among them."""


def prepare(sound: sound_files.Audio, sample_rate: int, channels: int) -> np.ndarray:
    """Mix and resample a file for a coder, as `run.py infer` does. Returns float32 [T, C].

    The result is also the reference that the coder's output is measured against.
    """
    mixed = resampling.mix(sound.samples, channels)
    return resampling.resample(mixed, sound.sample_rate, sample_rate)
