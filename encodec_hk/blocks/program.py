"""One direction of a codec, as the scheduler runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Step = Callable[[Any, np.ndarray, np.ndarray, np.ndarray], tuple[Any, jax.Array | np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Program:
    """One direction of a codec: rows of steps in, rows of outputs out, block by block.

    Encoding reads audio [T, C], a step a sample, and gives codes [K, F], an output a frame.
    Decoding reads codes and gives audio.

    Attributes:
      step: (state, block, num_valid int32 [B], is_last bool [B]) -> (state, outputs). A block is B
        rows, [B, T, C] or [B, K, F]; num_valid counts the steps that belong to each, is_last says
        that the row ends with them.
      fresh_state: (B) -> the state of B rows that have not begun; None if every row must be whole
        in one block.
      steps_axis: the axis of steps in a row.
      outputs_axis: the axis of outputs in a row.
      unit: steps of a unit. A row that goes on is run in whole units.
      gain: outputs of a unit.
      first: units that the first block of a row needs if the row goes on.
      lag: outputs before a row's first. The row's last outputs come in blocks after its end, which
        have no valid steps.
    """

    step: Step
    fresh_state: Callable[[int], Any] | None
    steps_axis: int
    outputs_axis: int
    unit: int
    gain: int
    first: int = 1
    lag: int = 0

    def num_outputs(self, steps: int) -> int:
        """Return the outputs of a row of `steps` steps."""
        return -(-steps // self.unit) * self.gain

    def empty_block(self, batch: int, units: int, like: np.ndarray) -> np.ndarray:
        """Return zeros for a block of `units` units, whose rows are like a piece of a row."""
        shape = list(like.shape)
        shape[self.steps_axis] = units * self.unit
        return np.zeros((batch, *shape), like.dtype)
