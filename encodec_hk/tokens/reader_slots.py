"""Items that a process reads: the next samples of each into its slot, when they are asked for.

Runs in reader processes, so without JAX.
"""

from __future__ import annotations

import itertools
import time
from typing import NamedTuple

import numpy as np

from encodec_hk.tokens import item_table
from encodec_hk.tokens import open_sounds
from encodec_hk.tokens import sound_sources

_TRIES = 3  # of what the system refuses
_PAUSE = 1.0  # seconds before the second try, twice that before the third

DATA, SYSTEM, SKIPPED, DIED = "data", "system", "skipped", "died"
"""Why an item ended without all its samples."""


class Reply(NamedTuple):
    """An answer to a request.

    Attributes:
      slot: of the request.
      length: samples in the slot.
      width: columns of them.
      is_last: whether the item ends with them.
      source_rate, source_channels: of the source.
      failure: DATA, SYSTEM, SKIPPED or DIED; None if the request succeeded.
      message: what failed.
    """

    slot: int
    length: int = 0
    width: int = 1
    is_last: bool = False
    source_rate: int = 0
    source_channels: int = 0
    failure: str | None = None
    message: str = ""


class ReaderSlots:
    """The open sources of a process, each with a slot to read into."""

    def __init__(self, settings: sound_sources.ReadSettings, buffer: np.ndarray):
        """Begin; `buffer` is float32 [slots, size]."""
        self._settings = settings
        self._buffer = buffer
        self._sources: dict[int, sound_sources.SoundSource] = {}
        self._waiting = open_sounds.OpenSounds()
        self._items: dict[int, item_table.AudioItem] = {}
        self._taken: dict[int, int] = {}  # samples, to find the place again

    def fill(self, slot: int, item: item_table.AudioItem | None) -> Reply:
        """Put the next samples into a slot."""
        if item is not None:
            self.drop(slot)
            self._items[slot], self._taken[slot] = item, 0
        for attempt in itertools.count(1):
            try:
                return self._fill(slot)
            except sound_sources.SkippedItem:
                failure, message = SKIPPED, ""
            except sound_sources.SystemFault as error:
                failure, message = SYSTEM, str(error)
                if attempt < _TRIES:
                    self._close(slot)
                    time.sleep(_PAUSE * attempt)
                    continue
            except Exception as error:  # decoders raise anything; the item is named, others go on
                kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
                failure, message = DATA, kind + " ".join(str(error).split())
            self.drop(slot)
            return Reply(slot, failure=failure, message=message)
        raise AssertionError

    def drop(self, slot: int) -> None:
        """Close the source of a slot, if it is open."""
        self._close(slot)
        self._items.pop(slot, None)

    def close(self) -> None:
        """Close what is open."""
        for slot in list(self._sources):
            self.drop(slot)
        self._waiting.close()

    def _fill(self, slot: int) -> Reply:
        source = self._sources.get(slot)
        missing = 0
        if source is None:
            source = sound_sources.SoundSource(self._items[slot], self._settings, self._waiting)
            self._sources[slot] = source
            missing = self._taken[slot]
        size = self._buffer.shape[1] // source.width
        into = self._buffer[slot, : size * source.width].reshape(size, source.width)
        while missing:
            passed, is_last = source.take(into[:missing])
            missing -= passed
            if is_last and missing:
                raise ValueError(f"{self._items[slot].source}: it became shorter while it was read")
        length, is_last = source.take(into)
        self._taken[slot] += length
        reply = Reply(
            slot, length, source.width, is_last, source.source_rate, source.source_channels
        )
        if is_last:
            self.drop(slot)
        return reply

    def _close(self, slot: int) -> None:
        if source := self._sources.pop(slot, None):
            source.close()
