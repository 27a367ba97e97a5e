"""A shard in work: which of its items are done, and when it has failed."""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

from encodec_hk.tokens import item_table
from encodec_hk.tokens import open_sounds
from encodec_hk.tokens import schema
from encodec_hk.tokens import shard_files


class ErrorLimit:
    """How many items of a shard may fail: a number, or a share such as "1%".

    One item may always fail, unless the limit is 0.
    """

    def __init__(self, text: str):
        """Read a limit; raises ValueError if it is neither."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text)
        if (
            match is None
            or (not match[2] and "." in match[1])
            or (match[2] and float(match[1]) > 100)
        ):
            raise ValueError(
                f"--max_errors: got {text!r}, must be a share such as 1%, or a whole number"
            )
        self._text = text
        self._number = float(match[1])
        self._is_share = bool(match[2])

    def __str__(self) -> str:
        return self._text

    def allows(self, errors: int, items: int) -> bool:
        """Return whether a shard of `items` items may have so many errors."""
        if not self._is_share:
            return errors <= self._number
        return errors <= max(self._number / 100 * items, 1 if self._number else 0)


class ShardWork:
    """The items of a shard, and what has become of them.

    Attributes:
      shard: its number.
      plan_hash: of the part of the plan.
      items: sorted by ID.
      waiting: indices of the items to run, in the order to run them in.
      failure: why the shard has failed; None if it has not.
      skipped: items outside the allowed lengths.
      errors: by index.
      rows: of each item.
      seconds: expected, of the items to run.
    """

    def __init__(
        self,
        shard: int,
        plan_hash: str,
        items: Sequence[item_table.AudioItem],
        limit: ErrorLimit,
        done: Mapping[int, Sequence[schema.TokenRow]] | None = None,
        skipped: Iterable[int] = (),
    ):
        """Begin.

        Args:
          shard: its number.
          plan_hash: of the part of the plan.
          items: of the shard.
          limit: of errors.
          done: rows of items that need not run.
          skipped: other items that need not run.
        """
        self.shard, self.plan_hash, self.items = shard, plan_hash, items
        self.failure: str | None = None
        self.errors: dict[int, str] = {}
        self.rows: list[Sequence[schema.TokenRow]] = [
            (done or {}).get(i, ()) for i in range(len(items))
        ]
        skipped = set(skipped)
        self.skipped = len(skipped)
        waiting = (i for i in range(len(items)) if i not in (done or {}) and i not in skipped)
        self.waiting = reading_order(items, waiting)
        self.seconds = sum(items[index].seconds for index in self.waiting)
        self._left = len(self.waiting)
        self._limit = limit

    @property
    def is_complete(self) -> bool:
        """Whether every item has ended."""
        return not self._left

    def put(self, index: int, rows: Sequence[schema.TokenRow]) -> None:
        """Note the rows of an item."""
        self.rows[index] = rows
        self._left -= 1

    def skip(self) -> None:
        """Note that an item is shorter or longer than allowed."""
        self.skipped += 1
        self._left -= 1

    def put_error(self, index: int, message: str) -> None:
        """Note that an item cannot be read; too many of these fail the shard."""
        self.errors[index] = message
        self._left -= 1
        if not self._limit.allows(len(self.errors), len(self.items)):
            self.failure = (
                f"{len(self.errors)} of {len(self.items)} items failed, more than --max_errors="
                f"{self._limit}; such as {message}"
            )

    def item_errors(self) -> list[shard_files.ItemError]:
        """Return the errors, in the order of the items."""
        return [
            shard_files.ItemError(self.items[index].id, self.items[index].source, message)
            for index, message in sorted(self.errors.items())
        ]


def reading_order(items: Sequence[item_table.AudioItem], indices: Iterable[int]) -> list[int]:
    """Return the order in which to read items: longest first, with two exceptions.

    Row groups of Parquet files follow each other. Excerpts come last, those of a file in its order,
    so that it is decoded once. Some files take turns, as each is read by one process:

        a@0 b@0 c@0  a@10 b@10 c@10  ...
    """
    whole: list[int] = []
    of_file: dict[bytes, list[int]] = collections.defaultdict(list)
    for index in indices:
        item = items[index]
        if item.duration is None:
            whole.append(index)
        else:
            of_file[item.path].append(index)

    def of_whole(index: int) -> tuple[bytes, int, float, int]:
        item = items[index]
        is_grouped = item.container == item_table.PARQUET
        return item.path if is_grouped else b"", item.group, -item.seconds, index

    order = sorted(whole, key=of_whole)
    files = [
        sorted(own, key=lambda index: (items[index].offset, index)) for own in of_file.values()
    ]
    for start in range(0, len(files), open_sounds.FILES_IN_TURNS):
        in_turns = files[start : start + open_sounds.FILES_IN_TURNS]
        rounds = itertools.zip_longest(*in_turns)
        order += [index for own in rounds for index in own if index is not None]
    return order
