"""How often a model uses the entries of its codebooks.

Counts are int64 [K, N]; those of several files add up.

Shapes: K codebooks, F frames, N entries of a codebook.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np


def count(codes: np.ndarray, num_entries: int) -> np.ndarray:
    """Return the counts of codes, integers [K, F]."""
    return np.stack([np.bincount(row, minlength=num_entries) for row in codes])


def to_json(counts: np.ndarray) -> list[Any]:
    """Return counts as a shape and text."""
    text = base64.b64encode(zlib.compress(counts.astype("<u4").tobytes())).decode()
    return [list(counts.shape), text]


def from_json(value: list[Any]) -> np.ndarray:
    """Return the counts that `to_json` took."""
    shape, text = value
    data = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u4")
    return data.reshape(shape).astype(np.int64)


def statistics(counts: np.ndarray) -> list[dict[str, float | int]]:
    """Return statistics of each codebook.

    entropy: of the distribution of codes, 0 to log2 N bits: the least that a code costs if each is
      coded by its frequency alone. F frames give at most log2 F, so few are too few.
    perplexity: 2 to the entropy, the number of equally used entries of the same entropy.
    used: entries that occur in the files.
    dead: the other entries. In few files, some are only rare.
    """
    found = []
    for row in counts:
        shares = row[row > 0] / max(row.sum(), 1)
        entropy = float(max(0.0, -np.sum(shares * np.log2(shares))))
        used = int(np.count_nonzero(row))
        found.append(
            {
                "entropy": entropy,
                "perplexity": 2.0**entropy,
                "used": used,
                "dead": len(row) - used,
            }
        )
    return found
