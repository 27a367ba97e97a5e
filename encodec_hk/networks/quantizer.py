"""Residual vector quantisation (Section 3.2 of arXiv 2210.13438).

Shapes: B rows, F frames, K codebooks in use, N entries of a codebook, D latent channels.
"""

from __future__ import annotations

import chex
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np


def energies(codebooks: np.ndarray) -> np.ndarray:
    """Return |E|^2 of every entry of codebooks [K, N, D]: float32 [K, N]."""
    return np.sum(np.square(np.asarray(codebooks, np.float32)), axis=-1)


def encode(
    codebooks: jax.Array,
    latents: jax.Array,
    num_codebooks: int | None = None,
    energies: jax.Array | None = None,
) -> jax.Array:
    """Quantise latents: every stage takes the entry nearest to the residual of the stages before.

    Distances are |x|^2 - 2 x.E + |E|^2 in float32 with exact products, as in both reference
    implementations. Their rounding decides between entries that are nearly as close.

    Args:
      codebooks: [K or more, N, D].
      latents: [B, F, D].
      num_codebooks: K; None for all.
      energies: what `energies` returns; None to compute it here, which takes four tenths of the
        time of a single frame.

    Returns:
      Codes, int32 [B, K, F]; of equally near entries the first.
    """
    chex.assert_rank([codebooks, latents], 3)
    codebooks = jnp.asarray(codebooks)
    stages, entries, _ = codebooks.shape
    if energies is not None:
        chex.assert_shape(energies, (stages, entries))
        energies = jnp.asarray(energies)
    if num_codebooks is not None:
        stages = num_codebooks

    # By index: a scan over the first codebooks would copy them, half the time of a single frame.
    def stage(residual: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
        codebook = codebooks[index]
        product = jnp.matmul(residual, codebook.T, precision=jax.lax.Precision.HIGHEST)
        energy = jnp.sum(jnp.square(residual), axis=-1, keepdims=True)
        squares = jnp.sum(jnp.square(codebook), axis=-1) if energies is None else energies[index]
        distance = energy - 2 * product + squares
        # Two minima are eight times faster on a CPU than one argmin.
        nearest = distance == jnp.min(distance, axis=-1, keepdims=True)
        codes = jnp.min(jnp.where(nearest, jnp.arange(entries), entries - 1), axis=-1)
        return residual - codebook[codes], codes

    _, codes = jax.lax.scan(stage, latents, jnp.arange(stages))
    return jnp.moveaxis(codes, 0, 1).astype(jnp.int32)


def decode(codebooks: jax.Array, codes: jax.Array) -> jax.Array:
    """Return latents [B, F, D] of codes [B, K, F]: the sum of their entries, first codebook first.

    Args:
      codebooks: [K or more, N, D].
      codes: integers [B, K, F].
    """
    chex.assert_rank([codebooks, codes], 3)
    codebooks = jnp.asarray(codebooks)
    batch, num_codebooks, frames = codes.shape

    def stage(latents: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        index, codes = inputs
        return latents + codebooks[index, codes], None

    zeros = jnp.zeros((batch, frames, codebooks.shape[-1]), codebooks.dtype)
    latents, _ = jax.lax.scan(stage, zeros, (jnp.arange(num_codebooks), jnp.moveaxis(codes, 1, 0)))
    return latents


class ResidualVectorQuantizer(hk.Module):
    """The codebooks, and coding with the first K of them.

    Attributes:
      shape: of the parameter `codebooks`: codebooks, entries of each, channels of an entry.
    """

    def __init__(
        self, *, num_codebooks: int, codebook_size: int, latent_dim: int, name: str | None = None
    ):
        super().__init__(name=name)
        self.shape = (num_codebooks, codebook_size, latent_dim)

    def encode(
        self, latents: jax.Array, num_codebooks: int, energies: jax.Array | None
    ) -> jax.Array:
        """Map latents [B, F, D] to codes [B, K, F] of the first `num_codebooks` codebooks."""
        return encode(self._codebooks(), latents, num_codebooks, energies)

    def decode(self, codes: jax.Array) -> jax.Array:
        """Map codes [B, K, F] to latents [B, F, D]."""
        return decode(self._codebooks(), codes)

    def _codebooks(self) -> jax.Array:
        return hk.get_parameter("codebooks", self.shape, init=hk.initializers.RandomNormal())
