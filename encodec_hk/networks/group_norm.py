"""Normalisation over the time steps of a row.

Shapes: B rows, T time steps, C channels.
"""

from __future__ import annotations

import chex
import haiku as hk
import jax
import jax.numpy as jnp


class TimeGroupNorm(hk.Module):
    """GroupNorm with one group: mean and variance over all channels and steps of a row.

    Source: `time_group_norm` of the 48 kHz model, `torch.nn.GroupNorm(1, channels)`. Steps outside
    a row do not count, so padding changes nothing.

    Attributes:
      eps: added to the variance; 1e-5 in the released models.
    """

    def __init__(self, *, eps: float = 1e-5, name: str | None = None):
        super().__init__(name=name)
        self.eps = eps

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """Normalise x [B, T, C] over the steps where mask [B, T, 1] is True -> [B, T, C]."""
        chex.assert_rank([x, mask], 3)
        channels = x.shape[-1]
        scale = hk.get_parameter("scale", (channels,), x.dtype, jnp.ones)
        offset = hk.get_parameter("offset", (channels,), x.dtype, jnp.zeros)
        count = jnp.maximum(jnp.sum(mask, axis=(1, 2), keepdims=True), 1) * channels
        mean = _sum(jnp.where(mask, x, 0.0)) / count
        centred = jnp.where(mask, x - mean, 0.0)
        variance = _sum(jnp.square(centred)) / count
        return centred * (jax.lax.rsqrt(variance + self.eps) * scale) + offset


def _sum(x: jax.Array) -> jax.Array:
    """Sum [B, T, C] over time, then channels: two short sums round less than a long one."""
    return jnp.sum(jnp.sum(x, axis=1, keepdims=True), axis=2, keepdims=True)
