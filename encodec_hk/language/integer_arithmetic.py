"""Integer arithmetic with one result on every device: the layers of the language model.

Products are float32 products of integers. They are exact, whatever the order of the sums, while
every partial sum stays within 2**24; `code_model.check_params` checks this of the weights. The rest
is int32 and uint32. No step uses a float exponential, root or quotient.

Shapes: leading axes ..., I inputs, O outputs, V entries of a codebook.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

EXACT = 2**24  # float32 holds all integers up to this
PEAK = 127  # of inputs of a product, and of weights
SUM_PEAK = 2047  # of the residual sum
_UNIT_BITS = 5
UNIT = 2**_UNIT_BITS  # integers of 1.0 in all activations; of one bit in the logits
FREQUENCY_BITS = 16
TOTAL = 2**FREQUENCY_BITS  # sum of the frequencies of a code
MAX_SHIFT = 24
LEAST_RMS = 2  # of a residual sum that is normalised to 1.0
_NORM_BITS = 16
_STEPS = 16  # thresholds of the norm in each octave of the sum of squares
_MAX_DISTANCE = 17 * UNIT  # from the largest logit; beyond, a weight is 0


def norm_table(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the table that files store: thresholds int32 [N] and factors int32 [N + 1].

    The factor of a sum of squares S is about 2**16 * 32 / sqrt(S / width). The values are rounded
    from float64, once, when a model is made; readers take them from the file.
    """
    least, most = width * LEAST_RMS**2, width * (SUM_PEAK + 1) ** 2
    count = int(np.ceil(np.log2(most / least) * _STEPS))
    edges = least * 2.0 ** (np.arange(count) / _STEPS)
    centres = np.concatenate([[least], edges * 2.0 ** (0.5 / _STEPS)])
    factors = 2.0**_NORM_BITS * UNIT / np.sqrt(centres / width)
    return np.rint(edges).astype(np.int32), np.rint(factors).astype(np.int32)


def norm(x: jax.Array, thresholds: jax.Array, factors: jax.Array) -> jax.Array:
    """Scale int32 [..., I] to a root mean square of about 32, within +-127."""
    squares = jnp.sum(x * x, axis=-1, keepdims=True, dtype=jnp.int32)
    index = jnp.sum(thresholds <= squares, axis=-1, keepdims=True, dtype=jnp.int32)
    scaled = (x * factors[index] + 2 ** (_NORM_BITS - 1)) >> _NORM_BITS
    return jnp.clip(scaled, -PEAK, PEAK)


def product(x: jax.Array, w: jax.Array) -> jax.Array:
    """Return x [..., I] times w [I, O] as int32; both hold integers within +-127."""
    out = jnp.matmul(
        x.astype(jnp.float32), w.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST
    )
    return out.astype(jnp.int32)


def frequencies(logits: jax.Array) -> jax.Array:
    """Map logits int32 [..., V], base 2 in 1/32 bit, to frequencies int32 [..., V].

    Each is at least 1, and they sum up to 2**16. A weight is 2**(-d / 32) in 16 bits, of the
    distance d from the largest logit: a parabola between powers of two.
    """
    found, first = _shares(logits)
    missing = TOTAL - jnp.sum(found, axis=-1, keepdims=True, dtype=jnp.int32)
    return found + jnp.where(jnp.arange(found.shape[-1]) == first, missing, 0)


def interval(logits: jax.Array, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the start and the frequency of codes [...] with logits [..., V], int32."""
    found, first = _shares(logits)
    codes = codes[..., None]
    below = jnp.where(jnp.arange(found.shape[-1]) < codes, found, 0)
    # Both sums in one pass, which takes most of the time.
    total, start = jax.lax.reduce(
        (found, below), (0, 0), lambda a, b: (a[0] + b[0], a[1] + b[1]), (found.ndim - 1,)
    )
    own = jnp.take_along_axis(found, codes, axis=-1)
    missing, codes, first = TOTAL - total, codes[..., 0], first[..., 0]
    start += jnp.where(first < codes, missing, 0)
    return start, own[..., 0] + jnp.where(first == codes, missing, 0)


def code_at(
    logits: jax.Array, slots: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the codes whose intervals hold slots, with their starts and frequencies.

    The search has two levels, of groups of 32 codes and within a group.

    Args:
      logits: int32 [B, V].
      slots: int32 [B], 0 to 2**16 - 1.

    Returns:
      Codes, starts and frequencies, int32 [B].
    """
    found = frequencies(logits)
    rows, num_codes = found.shape
    size = min(32, num_codes)
    groups = found.reshape(rows, num_codes // size, size)
    sums = jnp.sum(groups, axis=-1, dtype=jnp.int32)
    group, start = _place(sums, slots)
    inner = jnp.take_along_axis(groups, group[:, None, None], axis=1)[:, 0]
    code, within = _place(inner, slots - start)
    own = jnp.take_along_axis(inner, code[:, None], axis=1)[:, 0]
    return group * size + code, start + within, own


def _place(counts: jax.Array, slots: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return which of the intervals of lengths [B, N] holds slots [B], and where it starts."""
    ends = jnp.cumsum(counts, axis=-1, dtype=jnp.int32)
    is_before = ends <= slots[:, None]
    index = jnp.sum(is_before, axis=-1, dtype=jnp.int32)
    return index, jnp.sum(jnp.where(is_before, counts, 0), axis=-1, dtype=jnp.int32)


def _shares(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return frequencies [..., V] that sum up to too little, and the code [..., 1] for the rest."""
    num_codes = logits.shape[-1]
    top = jnp.max(logits, axis=-1, keepdims=True)
    distance = jnp.minimum(top - logits, _MAX_DISTANCE)
    rest = distance & (UNIT - 1)
    weights = (65536 - 1375 * rest + 11 * rest * rest) >> (distance >> _UNIT_BITS)
    total = jnp.sum(weights, axis=-1, keepdims=True, dtype=jnp.int32)
    # An integer division takes far longer than a float product that is off by one at most, and its
    # correction: the remainder is exact modulo 2**32.
    scale = (TOTAL - num_codes) / total.astype(jnp.float32)
    quotient = (weights.astype(jnp.float32) * scale).astype(jnp.int32)
    remainder = weights * (TOTAL - num_codes) - quotient * total
    quotient += (remainder >= total).astype(jnp.int32) - (remainder < 0).astype(jnp.int32)
    index = jnp.arange(num_codes)
    first = jnp.min(jnp.where(logits == top, index, num_codes), axis=-1, keepdims=True)
    return 1 + quotient, first
