"""A queue of steps of a row."""

from __future__ import annotations

import collections

import numpy as np


class StepQueue:
    """Steps that wait, added and removed in pieces of any size.

    Steps lie along one axis of every piece: 0 for audio [T, C], 1 for codes [K, F].
    """

    def __init__(self, axis: int = 0) -> None:
        self._axis = axis
        self._pieces: collections.deque[np.ndarray] = collections.deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, steps: np.ndarray) -> None:
        """Add steps; the queue keeps the array itself."""
        if size := steps.shape[self._axis]:
            self._pieces.append(steps)
            self._size += size

    def look(self, size: int) -> list[np.ndarray]:
        """Return the first `size` steps, or all if there are fewer, as consecutive pieces."""
        found, missing = [], size
        for piece in self._pieces:
            if missing <= 0:
                break
            found.append(cut(piece, self._axis, 0, missing))
            missing -= found[-1].shape[self._axis]
        return found

    def drop(self, size: int) -> None:
        """Remove the first `size` steps, or all if there are fewer."""
        size = min(size, self._size)
        self._size -= size
        while size:
            piece = self._pieces.popleft()
            own = piece.shape[self._axis]
            if own > size:
                self._pieces.appendleft(cut(piece, self._axis, size, own))
            size -= min(size, own)

    def take(self, size: int) -> list[np.ndarray]:
        """Remove and return the first `size` steps, or all, as consecutive pieces."""
        pieces = self.look(size)
        self.drop(size)
        return pieces


def cut(array: np.ndarray, axis: int, start: int, stop: int) -> np.ndarray:
    """Return a view of steps `start` to `stop` along an axis."""
    return array[(*(slice(None),) * axis, slice(start, stop))]
