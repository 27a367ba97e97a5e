"""What EnCodec's codes cost, in truth: bytes of the file, and what the codes tell.

Shapes: K codebooks, F frames, N entries of a codebook.
"""

from __future__ import annotations

import base64
import io
import zlib
from typing import NamedTuple

import numpy as np

from encodec_hk import bitstream
from encodec_hk.bitstream import version1_layout


class Sizes(NamedTuple):
    """Bytes of an .ecdc file.

    Attributes:
      payload: packed codes, and the scales of segments where there are any.
      total: the whole file.
    """

    payload: int
    total: int


def ecdc_sizes(data: bytes) -> Sizes:
    """The sizes of an .ecdc file.

    What is no payload is the header, in version 1 the heads of blocks, and the end with its index.

    Raises:
      ValueError: it is none.
    """
    header = bitstream.open_reader(io.BytesIO(data)).header
    at = version1_layout.PRELUDE.size + version1_layout.PRELUDE.unpack_from(data)[2]
    if header.version == 0:
        return Sizes(len(data) - at, len(data))
    payload = 0
    while at < len(data):
        head = version1_layout.read_head(data[at : at + version1_layout.HEAD_SIZE])
        if head is None:
            raise ValueError(f"no block at byte {at}")
        payload += 0 if head.is_end else head.length
        at += version1_layout.HEAD_SIZE + head.length
    return Sizes(payload, len(data))


def kbps(num_bytes: int, seconds: float) -> float:
    """Kilobits per second of a file's bytes."""
    return 8 * num_bytes / seconds / 1000


class CodeCounts:
    """How often each entry of each codebook is used, over any number of files.

    Attributes:
      counts: int64 [K, N].
    """

    def __init__(self, num_codebooks: int, size: int):
        """Begins with nothing counted."""
        self.counts = np.zeros((num_codebooks, size), np.int64)

    def add(self, codes: np.ndarray) -> None:
        """Counts codes, integers [K, F]."""
        for counts, row in zip(self.counts, codes, strict=True):
            counts += np.bincount(row, minlength=len(counts))

    def to_text(self) -> str:
        """The counts as text, for `add_text`."""
        return base64.b64encode(zlib.compress(self.counts.astype("<u4").tobytes())).decode()

    def add_text(self, text: str) -> None:
        """Adds counts that `to_text` gave; ValueError where they are not of this shape."""
        data = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u4")
        self.counts += data.reshape(self.counts.shape)

    def statistics(self) -> list[dict[str, float | int]]:
        """Of every codebook: entropy, perplexity, and how many entries are used and dead.

        entropy is that of the distribution of its codes, in bits, from 0 to log2 N: what a code
        would cost at least if each was coded by how often it comes, on its own. It is below the
        truth where there are few frames: of F frames it is at most log2 F. perplexity is 2 to the
        entropy: as many entries, used alike, would have the same. used counts the entries that came
        at least once in the files, dead the others: of few files, those may be rare and not dead.
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
