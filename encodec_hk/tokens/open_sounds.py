"""Sound files that stay open between excerpts, so that a file is decoded once for all of them.

Compressed files are decoded from their start. After an excerpt, its reader waits at its end for the
next one:

    file       |--- skip ---|== excerpt ==|--- skip ---|== excerpt ==|
    position                              ^ the reader waits here
"""

from __future__ import annotations

from typing import NamedTuple

from encodec_hk.sound import sound_files
from encodec_hk.tokens import av_sounds

Reader = sound_files.SoundReader | av_sounds.AvReader

FILES_IN_TURNS = 16
"""Files whose excerpts run in turns; see `shard_work`."""

_MOST = 2 * FILES_IN_TURNS  # readers: excerpts that overlap need two of a file


class OpenSound(NamedTuple):
    """A reader, and its position.

    Attributes:
      path: of the file.
      reader: reads on from there.
      position: samples that it has passed.
    """

    path: bytes
    reader: Reader
    position: int


class OpenSounds:
    """The readers of a process that wait for an excerpt."""

    def __init__(self) -> None:
        self._waiting: list[OpenSound] = []  # the one that came last is the last

    def take(self, path: bytes, seconds: float) -> OpenSound | None:
        """Return the reader of a file that has come the furthest, but not beyond `seconds`."""
        found = [
            sound
            for sound in self._waiting
            if sound.path == path and sound.position <= round(seconds * sound.reader.sample_rate)
        ]
        if not found:
            return None
        best = max(found, key=lambda sound: sound.position)
        self._waiting.remove(best)
        return best

    def put(self, sound: OpenSound) -> None:
        """Let a reader wait; the one that has waited longest may be closed instead."""
        self._waiting.append(sound)
        if len(self._waiting) > _MOST:
            self._waiting.pop(0).reader.close()

    def close(self) -> None:
        """Close all readers."""
        while self._waiting:
            self._waiting.pop().reader.close()
