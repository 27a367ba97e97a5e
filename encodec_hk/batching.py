"""Rows of any lengths through a computation on blocks of one fixed shape.

Rows take turns in the places of a block: when one ends, the next takes its place. So neither the
memory nor the number of compiled programs grows with the rows' number or lengths.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

Step = Callable[[Any, np.ndarray, np.ndarray, np.ndarray], tuple[Any, jax.Array]]


def run(
    step: Step, state: Any, rows: Sequence[np.ndarray], *, size: int, batch: int, lag: int = 0
) -> list[np.ndarray]:
    """Runs rows through blocks, the longest first so that few places stay empty at the end.

    Args:
      step: (state, block [batch, size, ...], num_valid int32 [batch], is_last bool [batch]) ->
        (state, outputs [batch, M, ...]), where n valid steps give ceil(n * M / size) outputs.
      state: of `batch` rows that have not begun.
      rows: arrays [n, ...] of any n >= 1, equal in all else.
      size: steps of a block.
      batch: rows of a block.
      lag: outputs that come before a row's first; its last come in blocks after its end, which
        have no valid steps.

    Returns:
      The outputs of each row, numpy arrays [ceil(n * M / size), ...].
    """
    waiting = collections.deque(sorted(range(len(rows)), key=lambda index: -len(rows[index])))
    places: list[tuple[int, int] | None] = [None] * batch  # a row, and its steps before this block
    parts: list[list[np.ndarray]] = [[] for _ in rows]
    pending: collections.deque[tuple[jax.Array, list[tuple[int, int, int]]]] = collections.deque()

    def collect() -> None:
        outputs, taken = pending.popleft()
        values = np.asarray(outputs)
        for place, index, _ in taken:
            parts[index].append(values[place].copy())  # and not the whole block

    def outputs_of(row: np.ndarray, per_block: int) -> int:
        return -(-len(row) * per_block // size)

    while True:
        for place in range(batch):
            if places[place] is None and waiting:
                places[place] = (waiting.popleft(), 0)
        if not any(places):
            break
        block = np.zeros((batch, size, *rows[0].shape[1:]), rows[0].dtype)
        num_valid = np.zeros(batch, np.int32)
        is_last = np.zeros(batch, bool)
        taken = []
        for place, current in enumerate(places):
            if current is None:
                continue
            index, start = current
            chunk = rows[index][start : start + size]
            block[place, : len(chunk)] = chunk
            num_valid[place] = len(chunk)
            is_last[place] = start + size >= len(rows[index])
            taken.append((place, index, start + size))
        state, outputs = step(state, block, num_valid, is_last)
        per_block = outputs.shape[1]
        for place, index, end in taken:
            is_out = end * per_block // size >= outputs_of(rows[index], per_block) + lag
            places[place] = None if is_out else (index, end)
        pending.append((outputs, taken))
        if len(pending) > 1:  # the next block computes while this one is taken apart
            collect()
    while pending:
        collect()
    return [
        np.concatenate(part)[lag : lag + outputs_of(row, per_block)]
        for row, part in zip(rows, parts, strict=True)
    ]


def places(num_rows: int, limit: int) -> int:
    """Rows of a block for num_rows rows: the next power of two, so that few shapes are compiled."""
    return max(1, min(limit, 1 << (num_rows - 1).bit_length()))


def bucket(length: int, unit: int) -> int:
    """The least of 1, 2, 3, 4, 6, 8, 12, 16, ... units that holds `length` steps."""
    units = -(-length // unit)
    power = 1 << (units - 1).bit_length()
    return unit * (power * 3 // 4 if power >= 4 and units <= power * 3 // 4 else power)
