"""Rows of a data set from the codes of an item, cut where `row_seconds` says.

The codes are cut after the whole item was encoded, so borders change nothing:

    codes   |=====================================|
    rows    |===========|===========|=============|     whole frames, or whole segments

Shapes: K codebooks, F frames, S segments.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from encodec_hk.framing import Framing
from encodec_hk.tokens import item_table
from encodec_hk.tokens import schema


class Signal(NamedTuple):
    """The codes of one signal of an item.

    Attributes:
      codes: int [K, F].
      scales: float32 [S], or None.
      num_samples: at the model's rate.
    """

    codes: np.ndarray
    scales: np.ndarray | None
    num_samples: int


class _Part(NamedTuple):
    """A part of a signal: frames, segments and samples, each from and to."""

    frames: tuple[int, int]
    segments: tuple[int, int]
    samples: tuple[int, int]


class RowMaker:
    """Makes rows of items."""

    def __init__(self, framing: Framing, sample_rate: int, row_seconds: float, policy: str):
        """Begin.

        Args:
          framing: of the model.
          sample_rate: Hz, of the model.
          row_seconds: length of a row; 0 for whole items.
          policy: of channels, see `sound_sources.ReadSettings`.
        """
        self._framing = framing
        self._sample_rate = sample_rate
        self._row_seconds = row_seconds
        self._policy = policy

    def rows(
        self,
        item: item_table.AudioItem,
        source_rate: int,
        source_channels: int,
        signals: Sequence[Signal],
    ) -> list[schema.TokenRow]:
        """Return the rows of an item: by channel, then by time."""
        rows = []
        for index, signal in enumerate(signals):
            channel = {"split": index, "first": 0}.get(self._policy, -1)
            for part, (frames, segments, samples) in enumerate(self._parts(signal.num_samples)):
                scales = signal.scales
                rows.append(
                    schema.TokenRow(
                        id=item.id + self._suffix(channel, part),
                        source=item.source,
                        part=part,
                        channel=channel,
                        start=(item.offset or 0.0) + samples[0] / self._sample_rate,
                        duration=(samples[1] - samples[0]) / self._sample_rate,
                        num_frames=frames[1] - frames[0],
                        num_samples=samples[1] - samples[0],
                        source_rate=source_rate,
                        source_channels=source_channels,
                        codes=signal.codes[:, slice(*frames)].astype(np.int16),
                        scales=None if scales is None else scales[slice(*segments)],
                        kept=item.kept,
                    )
                )
        return rows

    def _suffix(self, channel: int, part: int) -> str:
        """Return what makes the IDs of an item's rows unique."""
        text = f"c{channel}" if self._policy == "split" else ""
        text += f"p{part}" if self._row_seconds else ""
        return f"#{text}" if text else ""

    def _parts(self, num_samples: int) -> Iterator[_Part]:
        framing = self._framing
        if not self._row_seconds:
            frames, segments = framing.num_frames(num_samples), framing.num_segments(num_samples)
            yield _Part((0, frames), (0, segments), (0, num_samples))
        elif framing.has_segments:
            count = max(1, round(self._row_seconds * self._sample_rate / framing.stride))
            ends = list(itertools.accumulate(framing.frames(num_samples), initial=0))
            for start in range(0, len(ends) - 1, count):
                stop = min(start + count, len(ends) - 1)
                last = min(stop * framing.stride, num_samples)
                yield _Part(
                    (ends[start], ends[stop]), (start, stop), (start * framing.stride, last)
                )
        else:
            count = max(1, round(self._row_seconds * self._sample_rate / framing.hop))
            total = framing.num_frames(num_samples)
            for start in range(0, total, count):
                stop = min(start + count, total)
                last = min(stop * framing.hop, num_samples)
                yield _Part((start, stop), (0, 0), (start * framing.hop, last))


def of_item(row_id: str, item_id: str) -> bool:
    """Return whether a row is one of an item, which comes before the next item's."""
    return row_id == item_id or row_id.startswith(item_id + "#")
