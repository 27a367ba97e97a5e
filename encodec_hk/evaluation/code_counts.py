"""How often a model uses the entries of its codebooks.

Shapes: K codebooks, F frames, N entries of a codebook.
"""

from __future__ import annotations

import base64
import zlib

import numpy as np


class CodeCounts:
    """Counts of each entry of each codebook, over any number of files.

    Attributes:
      counts: int64 [K, N].
    """

    def __init__(self, num_codebooks: int, size: int):
        """Start with zero counts."""
        self.counts = np.zeros((num_codebooks, size), np.int64)

    def add(self, codes: np.ndarray) -> None:
        """Count codes, integers [K, F]."""
        for counts, row in zip(self.counts, codes, strict=True):
            counts += np.bincount(row, minlength=len(counts))

    def to_text(self) -> str:
        """Return the counts as text for `add_text`."""
        return base64.b64encode(zlib.compress(self.counts.astype("<u4").tobytes())).decode()

    def add_text(self, text: str) -> None:
        """Add counts from `to_text`; raise ValueError if their shape differs."""
        data = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u4")
        self.counts += data.reshape(self.counts.shape)

    def statistics(self) -> list[dict[str, float | int]]:
        """Return statistics of each codebook.

        entropy: of the distribution of codes, 0 to log2 N bits: the least that a code costs if each
          is coded by its frequency alone. F frames give at most log2 F, so few are too few.
        perplexity: 2 to the entropy, the number of equally used entries of the same entropy.
        used: entries that occur in the files.
        dead: the other entries. In few files, some are only rare.
        """
        found = []
        for counts in self.counts:
            shares = counts[counts > 0] / max(counts.sum(), 1)
            entropy = float(max(0.0, -np.sum(shares * np.log2(shares))))
            found.append(
                {
                    "entropy": entropy,
                    "perplexity": 2.0**entropy,
                    "used": int(np.sum(counts > 0)),
                    "dead": int(np.sum(counts == 0)),
                }
            )
        return found
