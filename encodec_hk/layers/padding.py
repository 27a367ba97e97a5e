"""Padding of convolutions, for blocks of rows that begin, go on or end anywhere.

What a convolution of a whole row pads (Meta's `SConv1d`, Appendix A of arXiv 2210.13438):

    left pad |           the row            | right pad + what fills the last stride
    c  b  a  | a'...                     z' |  y'  x'                      (reflection)

In blocks, the left pad of all but the first one is the end of the block before: the layer's
state. Both ends are patches of a few samples; no part of the work grows with their handling.

Shapes: B rows, T time steps of the block, C channels.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from encodec_hk.layers import rows as rows_lib

PAD_MODES = ("reflect", "constant")


def pad_block(
    x: jax.Array,
    rows: rows_lib.Rows,
    context: jax.Array | None,
    *,
    left: int,
    right: int,
    stride: int,
    mode: str,
) -> tuple[jax.Array, jax.Array]:
    """Puts a convolution's padding around a block.

    A row of whole length L is padded as `left` steps before and `right + (-L) % stride` after.
    Reflection of a row no longer than its padding reads it as if zeros followed it up to one
    step more than the padding, as both reference implementations do.

    Args:
      x: [B, T, C], steps past a row's length hold anything.
      rows: where the rows start and end. Rows that neither start nor end here have more than
        `left` steps behind them; rows that start but do not end here hold more than `left`.
      context: [B, left, C], the steps before the block; None where every row starts in it.
      left: steps of padding before a row.
      right: steps of padding after a row.
      stride: the convolution's stride.
      mode: "reflect" or "constant" (zeros).

    Returns:
      The padded block, [B, left + T + right + stride - 1, C], and the next block's context
      [B, left, C]: the `left` steps before each row's length.
    """
    chex.assert_rank(x, 3)
    batch, _, channels = x.shape
    head = (
        _head(x, rows, left) if mode == "reflect" else jnp.zeros((batch, left, channels), x.dtype)
    )
    if context is not None:
        chex.assert_shape(context, (batch, left, channels))
        head = jnp.where(rows.first[:, None, None], head, context)
    room = right + stride - 1
    parts = [head, x]
    if room:
        parts.append(jnp.zeros((batch, room, channels), x.dtype))
    padded = jnp.concatenate(parts, axis=1)
    next_context = rows_lib.time_slice(padded, rows.length, left)
    if room:
        padded = _end_rows(padded, rows, left=left, right=right, stride=stride, mode=mode)
    return padded, next_context


def _head(x: jax.Array, rows: rows_lib.Rows, left: int) -> jax.Array:
    """The reflection of each row's first steps, x[left], ..., x[1]: [B, left, C]."""
    start = x[:, 1 : left + 1]
    start = jnp.pad(start, ((0, 0), (0, left - start.shape[1]), (0, 0)))
    inside = jnp.arange(1, left + 1) < rows.length[:, None]
    return jnp.flip(jnp.where(inside[..., None], start, 0.0), axis=1)


def _end_rows(
    padded: jax.Array, rows: rows_lib.Rows, *, left: int, right: int, stride: int, mode: str
) -> jax.Array:
    """Writes the padding after the rows that end in this block; `left` steps lie before it."""
    length = rows.length[:, None]  # [B, 1]
    steps = length + jnp.arange(right + stride - 1)  # [B, P], counted from the block's start
    if mode == "reflect":
        amount = jnp.maximum(left, right + -length % stride)
        short = rows.first[:, None] & (length <= amount)
        extent = jnp.where(short, amount + 1, length)  # the row with its zeros
        source = 2 * (extent - 1) - steps
        mirrored = (steps >= extent) & (source < length)
        index = jnp.clip(left + source, 0, padded.shape[1] - 1)
        patch = jnp.take_along_axis(padded, index[..., None], axis=1)
        patch = jnp.where(mirrored[..., None], patch, 0.0)
    else:
        patch = jnp.zeros((*steps.shape, padded.shape[2]), padded.dtype)
    present = rows_lib.time_slice(padded, left + rows.length, steps.shape[1])
    patch = jnp.where(rows.last[:, None, None], patch, present)
    return rows_lib.time_update(padded, patch, left + rows.length)
