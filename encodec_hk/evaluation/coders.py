"""What a codec made of a signal, whichever codec it is.

Shapes: T samples, C channels, K codebooks, F frames.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Coded:
    """A signal after a codec, and what that took.

    Attributes:
      samples: float32 [T, C], of the original's length and rate, aligned.
      payload_bytes: of what is decoded: packed codes, packets, frames.
      total_bytes: of the whole file.
      encode_seconds: from samples to codes, or to the file.
      decode_seconds: back.
      codes: int32 [K, F] of EnCodec, None of others.
      num_entries: of a codebook.
    """

    samples: np.ndarray
    payload_bytes: int
    total_bytes: int
    encode_seconds: float
    decode_seconds: float
    codes: np.ndarray | None = None
    num_entries: int = 0


class Coder(Protocol):
    """A codec that can be evaluated.

    Attributes:
      name: in rows, tables and the report.
      identity: what its results depend on, besides the file: of another one, none is valid.
      sample_rate: Hz of what it takes and gives.
      channels: C of that.
      rates: kbps to evaluate it at.
    """

    name: str
    identity: str
    sample_rate: int
    channels: int
    rates: tuple[float, ...]

    def code(self, samples: np.ndarray, kbps: float) -> Coded:
        """Codes samples [T, C] at a rate; ValueError where it cannot."""
        ...

    def facts(self) -> dict[str, object]:
        """What is known of it, for summary.json; "kind" among them."""
        ...
