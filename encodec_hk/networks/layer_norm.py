"""Layer norms over channels, as Vocos has them."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp

_EPSILON = 1e-6


class AdaptiveNorm(hk.Module):
    """A layer norm over the channels, with a scale and an offset for each of several bandwidths.

    Attributes:
      num_norms: bandwidths.
    """

    def __init__(self, *, num_norms: int, name: str | None = None):
        super().__init__(name=name)
        self.num_norms = num_norms

    def __call__(self, x: jax.Array, norm: int | jax.Array) -> jax.Array:
        """Normalise x [B, F, C] with the parameters of one of the bandwidths."""
        shape = (self.num_norms, x.shape[-1])
        scale = hk.get_parameter("scale", shape, x.dtype, jnp.ones)
        offset = hk.get_parameter("offset", shape, x.dtype, jnp.zeros)
        # Of numpy's arrays a traced number cannot choose.
        scale, offset = jnp.asarray(scale)[norm], jnp.asarray(offset)[norm]
        if scale.ndim == 2:  # a norm for each row
            scale, offset = scale[:, None], offset[:, None]
        return normalized(x) * scale + offset


def normalized(x: jax.Array) -> jax.Array:
    """Return x [B, F, C] with mean 0 and variance 1 over its channels."""
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + _EPSILON)
