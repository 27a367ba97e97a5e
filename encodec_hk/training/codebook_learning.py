"""Training of the residual vector quantiser: codebooks by moving averages (Section 3.2).

No gradient moves a codebook. Each entry is the moving average of the vectors that were nearest to
it (appendix A.1 of arXiv 1711.00937): a count and a sum.

Every codebook learns from every batch, even if the batch's bandwidth does not use it: the input of
a quantiser stage does not depend on the number of stages after it.

`axis_name` is the axis along which a batch is split over devices, None for one device. Sums go over
all devices, so any number of devices gives the same codebooks.

Shapes: B items, F frames, V = B * F vectors, K codebooks, N entries, D latent channels.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from encodec_hk.networks import quantizer

EPSILON = 1e-5  # of the smoothed counts, as in the reference implementations


class Codebooks(NamedTuple):
    """The state of training.

    Attributes:
      entries: [K, N, D], the quantiser's codebooks.
      counts: [K, N], moving average of the number of vectors of a batch nearest to each entry.
      sums: [K, N, D], moving average of the sum of those vectors.
    """

    entries: jax.Array
    counts: jax.Array
    sums: jax.Array


class Usage(NamedTuple):
    """Statistics of the use of the codebooks.

    Attributes:
      perplexity: [K], exp of the entropy of the counts; N if all entries are used equally.
      dead: [K], share of the entries that were restarted.
    """

    perplexity: jax.Array
    dead: jax.Array


def start(entries: jax.Array, num_vectors: int) -> Codebooks:
    """Return the state of codebooks [K, N, D] whose entries are used equally by V vectors."""
    chex.assert_rank(entries, 3)
    counts = jnp.full(entries.shape[:2], num_vectors / entries.shape[1], entries.dtype)
    return Codebooks(entries, counts, entries * counts[..., None])


def k_means(
    latents: jax.Array,
    key: jax.Array,
    *,
    num_codebooks: int,
    codebook_size: int,
    iterations: int,
    axis_name: str | None = None,
) -> Codebooks:
    """Return codebooks of a batch, each by k-means on the residual of the stages before it.

    Args:
      latents: [B, F, D], this device's part of the batch.
      key: draws the first means; the same on every device.
      num_codebooks: K.
      codebook_size: N. If it exceeds the number of vectors, entries repeat until restarted.
      iterations: of k-means.
      axis_name: see the top of this module.
    """
    chex.assert_rank(latents, 3)
    residual = latents.reshape(-1, latents.shape[-1])
    everywhere = _gather(residual, axis_name)

    def stage(
        carry: tuple[jax.Array, jax.Array], key: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        residual, everywhere = carry
        means = everywhere[_draw(key, codebook_size, everywhere.shape[0])]

        def iterate(_: int, means: jax.Array) -> jax.Array:
            counts, sums = _statistics(residual, _nearest(means, residual), means, axis_name)
            return jnp.where(counts[:, None] > 0, sums / jnp.maximum(counts, 1)[:, None], means)

        means = jax.lax.fori_loop(0, iterations, iterate, means)
        codes = _nearest(means, residual)
        counts, _ = _statistics(residual, codes, means, axis_name)
        carry = residual - means[codes], everywhere - means[_nearest(means, everywhere)]
        return carry, (means, counts)

    keys = jax.random.split(key, num_codebooks)
    _, (entries, counts) = jax.lax.scan(stage, (residual, everywhere), keys)
    return Codebooks(entries, counts, entries * counts[..., None])


def quantize(
    entries: jax.Array, latents: jax.Array, num_codebooks: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Quantise with the first `num_codebooks` codebooks, with a straight-through gradient.

    The commitment loss of a stage is the mean squared distance of its input from the chosen entry.
    Its gradient reaches the encoder from every stage (in Meta's `encodec` from the first only).

    Args:
      entries: [K, N, D].
      latents: [B, F, D].
      num_codebooks: int32, the number of codebooks in use, of all items or of each [B]; may be
        traced.

    Returns:
      The quantised latents [B, F, D], the codes of all stages [B, K, F], and the commitment loss
      (mean over the stages in use, then over the items).
    """
    chex.assert_rank([entries, latents], 3)
    fixed = jax.lax.stop_gradient(latents)
    codes = quantizer.encode(entries, fixed)

    def stage(
        carry: tuple[jax.Array, jax.Array], inputs: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        quantized, loss = carry
        codebook, codes, is_used = inputs
        quantized = quantized + jnp.where(is_used[:, None, None], codebook[codes], 0)
        error = jnp.mean(jnp.square(latents - quantized), axis=(1, 2))
        return (quantized, loss + is_used * error), None

    counts = jnp.broadcast_to(num_codebooks, latents.shape[:1])
    is_used = _is_used(entries, counts)
    start = jnp.zeros_like(fixed), jnp.zeros_like(fixed[:, 0, 0])
    entries = jax.lax.stop_gradient(entries)
    inputs = (entries, jnp.moveaxis(codes, 1, 0), is_used)
    (quantized, loss), _ = jax.lax.scan(stage, start, inputs)
    return latents + jax.lax.stop_gradient(quantized - latents), codes, jnp.mean(loss / counts)


def decode(entries: jax.Array, codes: jax.Array, num_codebooks: jax.Array) -> jax.Array:
    """Return the quantised latents [B, F, D] of codes [B, K, F], as `quantize` does.

    Args:
      entries: [K, N, D].
      codes: of all stages.
      num_codebooks: as in `quantize`.
    """

    def stage(quantized: jax.Array, inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        codebook, codes, is_used = inputs
        return quantized + jnp.where(is_used[:, None, None], codebook[codes], 0), None

    batch, _, frames = codes.shape
    is_used = _is_used(entries, jnp.broadcast_to(num_codebooks, (batch,)))
    start = jnp.zeros((batch, frames, entries.shape[2]), entries.dtype)
    quantized, _ = jax.lax.scan(stage, start, (entries, jnp.moveaxis(codes, 1, 0), is_used))
    return quantized


def _is_used(entries: jax.Array, num_codebooks: jax.Array) -> jax.Array:
    """Return bool [K, B]: whether an item with `num_codebooks` [B] uses a stage."""
    return jnp.arange(entries.shape[0])[:, None] < num_codebooks


def update(
    codebooks: Codebooks,
    latents: jax.Array,
    codes: jax.Array,
    key: jax.Array,
    *,
    decay: float,
    restart_below: float,
    axis_name: str | None = None,
) -> tuple[Codebooks, Usage]:
    """Move every entry towards the vectors nearest to it, and restart entries that are hardly used.

    A restarted entry becomes a vector drawn from the batch, with the count of average use. Its sum
    is reset too; otherwise the next average would undo the restart.

    Args:
      codebooks: the state before.
      latents: [B, F, D], this device's part of the batch.
      codes: [B, K, F], of the latents by `codebooks.entries`.
      key: draws the vectors; the same on every device.
      decay: of the moving averages.
      restart_below: an entry is restarted if its count is below this share of the average.
      axis_name: see the top of this module.
    """
    num_codebooks, size, channels = codebooks.entries.shape
    residual = latents.reshape(-1, channels)
    by_stage = jnp.moveaxis(codes, 1, 0).reshape(num_codebooks, -1)
    gathered = _gather(residual, axis_name), _gather(by_stage.T, axis_name).T
    average = gathered[0].shape[0] / size

    def stage(
        carry: tuple[jax.Array, jax.Array], inputs: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[Codebooks, Usage]]:
        residual, everywhere = carry
        entries, old_counts, old_sums, codes, all_codes, key = inputs
        batch_counts, batch_sums = _statistics(residual, codes, entries, axis_name)
        counts = decay * old_counts + (1 - decay) * batch_counts
        sums = decay * old_sums + (1 - decay) * batch_sums
        dead = counts < restart_below * average
        fresh = everywhere[_draw(key, size, everywhere.shape[0])]
        counts = jnp.where(dead, average, counts)
        sums = jnp.where(dead[:, None], fresh * average, sums)
        total = jnp.sum(counts)
        smoothed = (counts + EPSILON) / (total + size * EPSILON) * total
        new = Codebooks(sums / smoothed[:, None], counts, sums)
        share = counts / total
        entropy = -jnp.sum(share * jnp.log(jnp.where(share > 0, share, 1)))
        carry = residual - entries[codes], everywhere - entries[all_codes]
        return carry, (new, Usage(jnp.exp(entropy), jnp.mean(dead)))

    keys = jax.random.split(key, num_codebooks)
    inputs = (*codebooks, by_stage, gathered[1], keys)
    _, result = jax.lax.scan(stage, (residual, gathered[0]), inputs)
    return result


def _nearest(codebook: jax.Array, vectors: jax.Array) -> jax.Array:
    """Return the codes [V] of vectors [V, D] by one codebook [N, D]."""
    return quantizer.encode(codebook[None], vectors[None])[0, 0]


def _statistics(
    vectors: jax.Array, codes: jax.Array, codebook: jax.Array, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
    """Return the number [N] and sum [N, D] of the vectors [V, D] of each code, on all devices."""
    counts = jnp.zeros(codebook.shape[0], vectors.dtype).at[codes].add(1)
    sums = jnp.zeros_like(codebook).at[codes].add(vectors)
    return (counts, sums) if axis_name is None else jax.lax.psum((counts, sums), axis_name)


def _gather(vectors: jax.Array, axis_name: str | None) -> jax.Array:
    """Return the vectors of all devices, concatenated."""
    if axis_name is None:
        return vectors
    return jax.lax.all_gather(vectors, axis_name, axis=0, tiled=True)


def _draw(key: jax.Array, count: int, total: int) -> jax.Array:
    """Draw `count` indices of `total` vectors; none repeats before all are drawn."""
    order = jax.random.permutation(key, total)
    return order[jnp.arange(count) % total]
