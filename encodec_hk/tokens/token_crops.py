"""Crops of one length out of the rows of a data set of codes, in random order.

Crop i is a function of the data set, the seed and i alone: so training resumes exactly, and the
number of worker processes changes nothing.

    row groups            0 1 2 3 4 5 6 7
    their order           5 0 7 2 | 6 1 3 4       drawn for each epoch; windows of 4
    crops of a window     in an order drawn over all rows of its groups

A window is read while its crops are taken, so no row group is read twice in an epoch.

Shapes: K codebooks, F frames.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from encodec_hk.system import recent_values
from encodec_hk.system import rules

if TYPE_CHECKING:
    from encodec_hk.tokens import token_rows

_ENDLESS = 2**62  # crops: more than any run takes


class _Window(NamedTuple):
    """The crops of a window, in their order: rows, and the numbers of the crops in their rows."""

    rows: np.ndarray
    numbers: np.ndarray


class TokenCrops:
    """A data source of crops; see `TokenRows`.

    A row of n frames gives n // F crops an epoch. The row is divided into as many equal parts, and
    each crop begins at a place drawn in its part. A crop is a dictionary:

        codes        int32 [K, F]
        num_frames   int32, frames before padding: F, but for rows that are shorter
        row          int64, of the data set
        start_frame  int32, in the row

    Attributes:
      rows: the data set.
      epoch_length: crops of an epoch.
      num_left_out: rows that are shorter than a crop and left out.
    """

    def __init__(
        self,
        rows: token_rows.TokenRows,
        num_frames: int,
        *,
        seed: int = 0,
        epochs: int | None = None,
        shuffle: bool = True,
        pad: int | None = None,
        window: int = 8,
    ):
        """Count the crops.

        Args:
          rows: the data set.
          num_frames: F.
          seed: of everything that is drawn; at least 0.
          epochs: how often to go through the data set; None for no end.
          shuffle: False takes the crops in the order of the rows, side by side from their starts.
          pad: the token after rows that are shorter than F; None leaves these rows out.
          window: row groups whose crops are mixed; at most half of what `rows` keeps in memory.

        Raises:
          ValueError: if an argument is not allowed, or no row is long enough.
        """
        most = rows.cached_groups // 2
        for name, value, fits, allowed in (
            ("num_frames", num_frames, num_frames >= 1, "at least 1"),
            ("seed", seed, seed >= 0, "at least 0"),
            ("epochs", epochs, epochs is None or epochs >= 1, "None or at least 1"),
            ("pad", pad, pad is None or -(2**31) <= pad < 2**31, "None or a value of int32"),
            ("window", window, 1 <= window <= most, f"1 to {most}, half of cached_groups"),
        ):
            if not fits:
                raise rules.error(name, value, allowed)
        self.rows = rows
        self._num_frames = num_frames
        self._seed = seed
        self._epochs = epochs
        self._shuffle = shuffle
        self._pad = pad
        self._window = window
        self._counts = rows.num_frames // num_frames  # crops of each row
        self.num_left_out = 0
        if pad is None:
            self.num_left_out = int(np.sum(self._counts == 0))
        else:
            self._counts = np.maximum(self._counts, 1)
        ends = np.concatenate([[0], np.cumsum(self._counts, dtype=np.int64)])
        self._counts_of_groups = np.diff(ends[rows.group_starts])
        self.epoch_length = int(ends[-1])
        if not self.epoch_length:
            longest = int(rows.num_frames.max(initial=0))
            raise rules.error("num_frames", num_frames, f"at most {longest}, the longest row")
        self._start_caches()

    def __len__(self) -> int:
        if self._epochs is None:
            return min(_ENDLESS, sys.maxsize)
        return self._epochs * self.epoch_length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"crop: got {index}, must be 0 to {len(self) - 1}")
        epoch, at = divmod(int(index), self.epoch_length)
        order, ends = self._orders.get(epoch, lambda: self._order(epoch))
        number = int(np.searchsorted(ends, at, side="right")) - 1
        window = self._windows.get((epoch, number), lambda: self._draw(epoch, number, order))
        place = at - int(ends[number])
        row, crop = int(window.rows[place]), int(window.numbers[place])
        start = self._start(epoch, row, crop)
        codes = self.rows.codes(row, start, start + self._num_frames)
        valid = codes.shape[1]
        if valid < self._num_frames:
            missing = ((0, 0), (0, self._num_frames - valid))
            codes = np.pad(codes, missing, constant_values=self._pad or 0)
        return {
            "codes": codes,
            "num_frames": np.int32(valid),
            "row": np.int64(row),
            "start_frame": np.int32(start),
        }

    def __repr__(self) -> str:
        return (
            f"<TokenCrops: {self.epoch_length:,} of {self._num_frames} frames an epoch, seed "
            f"{self._seed}, of {self.rows}>"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_orders": None, "_windows": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_caches()

    def _start_caches(self) -> None:
        self._orders: recent_values.RecentValues[tuple[np.ndarray, np.ndarray]] = (
            recent_values.RecentValues(2)
        )
        self._windows: recent_values.RecentValues[_Window] = recent_values.RecentValues(4)

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the row groups in the order of an epoch, and the first crop of every window."""
        count = len(self._counts_of_groups)
        order = np.arange(count)
        if self._shuffle:
            order = np.random.default_rng((self._seed, epoch, 1)).permutation(count)
        firsts = np.arange(0, count, self._window)
        sizes = np.add.reduceat(self._counts_of_groups[order], firsts)
        return order, np.concatenate([[0], np.cumsum(sizes)])

    def _draw(self, epoch: int, number: int, order: np.ndarray) -> _Window:
        """Return the crops of a window in their order."""
        starts = self.rows.group_starts
        groups = order[number * self._window : (number + 1) * self._window]
        rows = np.concatenate([np.arange(starts[own], starts[own + 1]) for own in groups])
        counts = self._counts[rows]
        firsts = np.cumsum(counts) - counts
        of_crops = np.repeat(rows, counts)
        numbers = np.arange(len(of_crops)) - np.repeat(firsts, counts)
        if not self._shuffle:
            return _Window(of_crops, numbers)
        rng = np.random.default_rng((self._seed, epoch, 2, number))
        chosen = rng.permutation(len(of_crops))
        return _Window(of_crops[chosen], numbers[chosen])

    def _start(self, epoch: int, row: int, crop: int) -> int:
        """Return the first frame of a crop."""
        if not self._shuffle:
            return crop * self._num_frames
        places = max(int(self.rows.num_frames[row]) - self._num_frames, 0) + 1
        count = int(self._counts[row])
        low, high = crop * places // count, (crop + 1) * places // count
        if high <= low + 1:
            return low
        return int(np.random.default_rng((self._seed, epoch, 3, row, crop)).integers(low, high))
