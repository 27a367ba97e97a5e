"""Padding of convolutions, for blocks of rows that begin, go on or end anywhere.

A convolution pads a whole row like Meta's `SConv1d`:

    left pad |           the row            | right pad + what fills the last stride
    c  b  a  | a'...                     z' |  y'  x'                      (reflection)

The steps before a block are the end of the previous block: the layer's state. The ends of a row
are patches of a few steps wherever they lie, never a pass over the block.

Shapes: B rows, T time steps of the block, C channels.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from encodec_hk.networks import block_rows

PAD_MODES = ("reflect", "constant")


def pad_block(
    x: jax.Array,
    rows: block_rows.Rows,
    context: jax.Array | None,
    *,
    left: int,
    right: int,
    stride: int,
    mode: str,
) -> tuple[jax.Array, jax.Array, int]:
    """Put a convolution's padding around a block.

    A row of length L is padded by `left` steps before and `right + (-L) % stride` after. A row no
    longer than its padding is reflected as if zeros followed it, up to one step more than the
    padding, as in both reference implementations.

    If rows go on and the convolution looks ahead (right > 0), a block lacks the steps that its last
    windows need: then all windows begin `lag` steps earlier, in the next blocks too.

    Args:
      x: [B, T, C]; steps outside a row hold anything.
      rows: where the rows start and end. Without lag, a row that is padded by reflection, starts in
        this block and goes on must have more than `left` steps in it.
      context: the steps before the block; None if every row starts in it.
      left: steps of padding before a row.
      right: steps of padding after a row, at most left.
      stride: the convolution's stride.
      mode: "reflect" or "constant" (zeros).

    Returns:
      The padded block [B, left + T + right, C], the next block's context, and the lag.
    """
    chex.assert_rank(x, 3)
    batch, steps, channels = x.shape
    chex.assert_is_divisible(steps, stride)
    if rows.is_full:
        return _pad_full(x, left, right, mode), x[:, :0], 0
    room = right + stride - 1
    lag, before = 0, left
    if right and not rows.is_whole:
        lag = right + -(rows.lag + right) % stride
        before = max(left + lag, 2 * room + 1)  # reflection at an end reaches back so far
    if context is None:
        context = jnp.zeros((batch, before, channels), x.dtype)
    chex.assert_shape(context, (batch, before, channels))
    parts = [context, x, jnp.zeros((batch, room, channels), x.dtype)]
    padded = jnp.concatenate(parts if room else parts[:2], axis=1)
    if left:
        at = before + rows.start - left
        patch = _head(padded, rows, before, left, mode)
        padded = block_rows.time_update(padded, patch, at, (at >= 0) & (rows.start <= steps))
    if room:
        at = before + rows.end
        patch = _tail(padded, rows, before, left, right, stride, mode)
        padded = block_rows.time_update(padded, patch, at, (rows.end > -room) & (rows.end <= steps))
    context = block_rows.time_slice(padded, rows.stop, before)
    first = before - left - lag
    return padded[:, first : first + left + steps + right], context, lag


def _pad_full(x: jax.Array, left: int, right: int, mode: str) -> jax.Array:
    """Pad rows that fill their block, in few operations, so that gradients are fast."""
    widths = ((0, 0), (left, right), (0, 0))
    if mode == "constant":
        return jnp.pad(x, widths)
    steps = x.shape[1]
    zeros = max(0, max(left, right) + 1 - steps)
    padded = jnp.pad(jnp.pad(x, ((0, 0), (0, zeros), (0, 0))), widths, mode="reflect")
    return padded[:, : left + steps + right]


def _head(padded: jax.Array, rows: block_rows.Rows, before: int, left: int, mode: str) -> jax.Array:
    """Return the steps before each row's first, [B, left, C]; reflected x[left], ..., x[1]."""
    if mode == "constant":
        return jnp.zeros((padded.shape[0], left, padded.shape[2]), padded.dtype)
    source = rows.start[:, None] + jnp.arange(left, 0, -1)
    return jnp.where((source < rows.end[:, None])[..., None], _take(padded, before + source), 0.0)


def _tail(
    padded: jax.Array,
    rows: block_rows.Rows,
    before: int,
    left: int,
    right: int,
    stride: int,
    mode: str,
) -> jax.Array:
    """Return the steps after each row's last, [B, right + stride - 1, C]."""
    room = right + stride - 1
    if mode == "constant":
        return jnp.zeros((padded.shape[0], room, padded.shape[2]), padded.dtype)
    end = rows.end[:, None]
    length = end - rows.start[:, None]
    amount = jnp.maximum(
        left, right + block_rows.divide(length + (stride - 1), stride) * stride - length
    )
    extent = jnp.where(length <= amount, rows.start[:, None] + amount + 1, end)  # with its zeros
    steps = end + jnp.arange(room)
    source = 2 * (extent - 1) - steps
    mirrored = (steps >= extent) & (source < end)
    return jnp.where(mirrored[..., None], _take(padded, before + source), 0.0)


def _take(padded: jax.Array, index: jax.Array) -> jax.Array:
    """Return steps of each row by their index [B, P]; an index outside gives any step."""
    index = jnp.clip(index, 0, padded.shape[1] - 1)
    return jnp.take_along_axis(padded, index[..., None], axis=1)
