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
UNIT = 32  # integers of 1.0 in all activations; of one bit in the logits
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
    num_codes = logits.shape[-1]
    top = jnp.max(logits, axis=-1, keepdims=True)
    distance = jnp.minimum(top - logits, _MAX_DISTANCE)
    rest = distance & (UNIT - 1)
    weights = ((65536 - 1375 * rest + 11 * rest * rest) >> (distance // UNIT)).astype(jnp.uint32)
    total = jnp.sum(weights, axis=-1, keepdims=True, dtype=jnp.uint32)
    found = 1 + (weights * jnp.uint32(TOTAL - num_codes) // total).astype(jnp.int32)
    missing = TOTAL - jnp.sum(found, axis=-1, keepdims=True, dtype=jnp.int32)
    is_top = jnp.arange(num_codes) == jnp.argmax(logits, axis=-1, keepdims=True)
    return found + jnp.where(is_top, missing, 0)


def start_of(found: jax.Array, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the start and the frequency of codes [...] among frequencies [..., V], int32."""
    index = jnp.arange(found.shape[-1])
    codes = codes[..., None]
    start = jnp.sum(jnp.where(index < codes, found, 0), axis=-1, dtype=jnp.int32)
    own = jnp.sum(jnp.where(index == codes, found, 0), axis=-1, dtype=jnp.int32)
    return start, own


def code_at(found: jax.Array, slots: jax.Array) -> jax.Array:
    """Return the code int32 [B] whose interval among frequencies [B, V] holds slots [B].

    The search has two levels, of groups of 32 codes and within a group.
    """
    rows, num_codes = found.shape
    size = min(32, num_codes)
    groups = found.reshape(rows, num_codes // size, size)
    sums = jnp.sum(groups, axis=-1, dtype=jnp.int32)
    ends = jnp.cumsum(sums, axis=-1, dtype=jnp.int32)
    group = jnp.sum(ends <= slots[:, None], axis=-1, dtype=jnp.int32)
    start = jnp.sum(jnp.where(jnp.arange(ends.shape[1]) < group[:, None], sums, 0), axis=-1)
    inner = jnp.take_along_axis(groups, group[:, None, None], axis=1)[:, 0]
    ends = start[:, None] + jnp.cumsum(inner, axis=-1, dtype=jnp.int32)
    return group * size + jnp.sum(ends <= slots[:, None], axis=-1, dtype=jnp.int32)
