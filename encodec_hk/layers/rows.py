"""Where each row of a block starts and ends.

Shapes: B rows of a block, T time steps at a layer's own resolution.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Rows(NamedTuple):
    """The part of each row that a block holds, at one layer's resolution.

    Steps at or past `length` are padding: nothing that belongs to a row may depend on them.

    Attributes:
      length: int32 [B], time steps of the row in this block, counted from the block's start.
      first: bool [B], the block starts with the row's first step.
      last: bool [B], the row ends at `length`. Rows that do not end here fill whole hops.
    """

    length: jax.Array
    first: jax.Array
    last: jax.Array

    def downsampled(self, stride: int) -> Rows:
        """The same rows after a strided convolution: ceil(length / stride) steps."""
        return self._replace(length=-(-self.length // stride))

    def upsampled(self, stride: int) -> Rows:
        """The same rows after a transposed convolution: length * stride steps."""
        return self._replace(length=self.length * stride)

    def mask(self, size: int) -> jax.Array:
        """Bool [B, size, 1]: True where a step belongs to its row."""
        return (jnp.arange(size) < self.length[:, None])[..., None]


def time_slice(x: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """Cuts `size` steps from each row of x [B, T, C], from its own start [B] -> [B, size, C]."""
    return jax.vmap(lambda row, at: jax.lax.dynamic_slice_in_dim(row, at, size))(x, start)


def time_update(x: jax.Array, patch: jax.Array, start: jax.Array) -> jax.Array:
    """Writes patch [B, P, C] into x [B, T, C], each row at its own start [B]."""

    def update(row: jax.Array, values: jax.Array, at: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(row, values, at, axis=0)

    return jax.vmap(update)(x, patch, start)
