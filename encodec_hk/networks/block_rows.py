"""Where the rows of a block start and end.

A layer of a causal network gives its output for a step at once. A layer that looks ahead gives it
later: its output lags. So the rows lie later in the block of every layer, by the lags of the layers
before.

Shapes: B rows of a block, T time steps at a layer's own resolution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

FAR = 2**30
"""An end that is not known yet. No start is counted back further."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """The part of each row that a block holds, at one layer's resolution.

    Positions count from the block's first step. Steps outside a row are padding: nothing that
    belongs to a row may depend on them.

    Attributes:
      start: int32 [B], the row's first step; negative where it came before this block.
      end: int32 [B], one past the row's last step; at least FAR where the row goes on.
      stop: int32 [B], one past the last step in the block: the next block goes on from it.
      lag: steps by which the output lags behind the audio, 0 for whole rows and causal networks.
      is_whole: every row starts and ends in this block, so layers need not wait for more.
      is_full: every row is whole and fills the block, so layers need not look where it ends.
    """

    start: jax.Array
    end: jax.Array
    stop: jax.Array
    lag: int = 0
    is_whole: bool = False
    is_full: bool = False

    @classmethod
    def full(cls, batch: int, steps: int) -> Rows:
        """Return rows that fill a block of `steps` steps."""
        begin, end = jnp.zeros((batch,), jnp.int32), jnp.full((batch,), steps, jnp.int32)
        return cls(begin, end, end, is_whole=True, is_full=True)

    def downsampled(self, stride: int, lag: int = 0) -> Rows:
        """Return the rows after a convolution that waits for `lag` more steps.

        A row of L steps has ceil(L / stride); start + lag and stop are multiples of the stride.
        """
        if stride == 1 and not lag:
            return self
        start = divide(self.start + lag, stride)
        end = start + divide(self.end - self.start + (stride - 1), stride)
        return dataclasses.replace(
            self,
            start=start,
            end=jnp.where(self.end < FAR, end, FAR),
            stop=divide(self.stop, stride),
            lag=(self.lag + lag) // stride,
        )

    def upsampled(self, stride: int, lag: int = 0) -> Rows:
        """Return the rows after a transposed convolution that waits for `lag` outputs."""
        return dataclasses.replace(
            self,
            start=jnp.maximum(self.start, -FAR // stride) * stride + lag,
            end=jnp.where(self.end < FAR, self.end, 0) * stride
            + jnp.where(self.end < FAR, lag, FAR),
            stop=self.stop * stride,
            lag=self.lag * stride + lag,
        )

    def mask(self, size: int) -> jax.Array:
        """Return bool [B, size, 1]: whether a step is in the block and belongs to its row."""
        if self.is_full:
            return jnp.ones((self.start.shape[0], size, 1), bool)
        steps = jnp.arange(size)
        inside = (steps >= self.start[:, None]) & (steps < self.end[:, None])
        return (inside & (steps < self.stop[:, None]))[..., None]


def divide(counts: jax.Array, divisor: int) -> jax.Array:
    """Return counts [B] over a divisor, rounded towards 0.

    // rounds down, with a dozen operations that XLA repeats in most of its fusions: they were half
    of what it had to compile and to load.
    """
    return jax.lax.div(counts, jnp.asarray(divisor, counts.dtype))


def delay(
    x: jax.Array, rows: Rows, state: jax.Array | None, steps: int
) -> tuple[jax.Array, jax.Array]:
    """Delay x [B, T, C] by `steps`; the state holds the steps to come, [B, steps, C]."""
    batch, size, channels = x.shape
    if state is None:
        state = jnp.zeros((batch, steps, channels), x.dtype)
    x = jnp.concatenate([state, x], axis=1)
    return x[:, :size], time_slice(x, rows.stop, steps)


def time_slice(x: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """Cut `size` steps from each row of x [B, T, C], from its own start [B] -> [B, size, C]."""
    return jax.vmap(lambda row, at: jax.lax.dynamic_slice_in_dim(row, at, size))(x, start)


def time_update(
    x: jax.Array, patch: jax.Array, start: jax.Array, condition: jax.Array
) -> jax.Array:
    """Write patch [B, P, C] into x [B, T, C] at each row's own start [B] if condition [B]."""

    def update(row: jax.Array, values: jax.Array, at: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(row, values, at, axis=0)

    start = jnp.where(condition, start, 0)
    present = time_slice(x, start, patch.shape[1])
    patch = jnp.where(condition[:, None, None], patch, present)
    return jax.vmap(update)(x, patch, start)


def in_order(
    layers: Sequence[Any], x: jax.Array, rows: Rows, state: dict[str, Any] | None
) -> tuple[jax.Array, Rows, dict[str, Any]]:
    """Call layers (x, rows, state) one after the other, each with its own state, by its name."""
    next_state = {}
    for layer in layers:
        before = None if state is None else state[layer.name]
        x, rows, next_state[layer.name] = layer(x, rows, before)
    return x, rows, next_state
