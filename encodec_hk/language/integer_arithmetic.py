"""Integer arithmetic with one result on every device: the layers of the language model.

Products are float32 products of integers. They are exact, whatever the order of the sums, while
every partial sum stays within 2**24; `code_params.check` checks this of the weights. The rest
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
    # How many of the rising thresholds are at most that: whole octaves, then steps of the next.
    octaves = thresholds.reshape(-1, _STEPS)
    octave = jnp.sum(octaves[:-1, -1] <= squares, axis=-1, dtype=jnp.int32)
    steps = jnp.sum(octaves[octave] <= squares, axis=-1, dtype=jnp.int32)
    index = (octave * _STEPS + steps)[..., None]
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

    Each is at least 1, and they sum up to 2**16. Code v starts at v + W(v) (2**16 - V) div W(V),
    where W(v) is the sum of the weights of the codes before v.
    """
    ends = jnp.cumsum(_weights(logits), axis=-1, dtype=jnp.int32)
    below = jnp.pad(ends, [(0, 0)] * (ends.ndim - 1) + [(1, 0)])
    return jnp.diff(_starts(jnp.arange(below.shape[-1]), below, ends[..., -1:], ends.shape[-1]))


def interval(logits: jax.Array, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the start and the frequency of codes [...] with logits [..., V], int32."""
    weights = _weights(logits)
    num_codes, index = weights.shape[-1], codes[..., None]
    earlier = jnp.where(jnp.arange(num_codes) < index, weights, 0)
    # Both sums in one pass, which takes most of the time.
    total, below = jax.lax.reduce(
        (weights, earlier), (0, 0), lambda a, b: (a[0] + b[0], a[1] + b[1]), (weights.ndim - 1,)
    )
    own = jnp.take_along_axis(weights, index, axis=-1)[..., 0]
    start = _starts(codes, below, total, num_codes)
    return start, _starts(codes + 1, below + own, total, num_codes) - start


def code_at(logits: jax.Array, slots: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the codes whose intervals hold slots, with their starts and frequencies.

    The search has two levels: groups of codes, and the codes of a group.

    Args:
      logits: int32 [B, V].
      slots: int32 [B], 0 to 2**16 - 1.

    Returns:
      Codes, starts and frequencies, int32 [B].
    """
    weights, slots = _weights(logits), slots[:, None]
    rows, num_codes = weights.shape
    size = 1 << num_codes.bit_length() // 2  # codes of a group
    groups = weights.reshape(rows, num_codes // size, size)
    sums = jnp.sum(groups, axis=-1, dtype=jnp.int32)
    below = _sums_before(sums)
    total = below[:, -1:] + sums[:, -1:]
    starts = _starts(jnp.arange(sums.shape[1]) * size, below, total, num_codes)
    group, _, group_end = _interval_at(starts, slots, TOTAL)
    own = jnp.take_along_axis(groups, group[..., None], axis=1)[:, 0]
    below = jnp.take_along_axis(below, group, axis=1) + _sums_before(own)
    first = group * size
    starts = _starts(first + jnp.arange(size), below, total, num_codes)
    place, start, end = _interval_at(starts, slots, group_end)
    return (first + place)[:, 0], start[:, 0], (end - start)[:, 0]


def _weights(logits: jax.Array) -> jax.Array:
    """Return 2**(-d / 32) in 16 bits, of the distances d from the largest logit, int32 [..., V].

    It is a parabola between powers of two.
    """
    distance = jnp.minimum(jnp.max(logits, axis=-1, keepdims=True) - logits, _MAX_DISTANCE)
    rest = distance & (UNIT - 1)
    return (65536 - 1375 * rest + 11 * rest * rest) >> (distance >> _UNIT_BITS)


def _starts(codes: jax.Array, below: jax.Array, total: jax.Array, num_codes: int) -> jax.Array:
    """Return where codes start, `below` the sum of the weights before them.

    An integer division takes far longer than a float product, which is off by one at most, and its
    correction: the remainder is exact, as it is computed modulo 2**32.
    """
    factor = TOTAL - num_codes
    scale = factor / total.astype(jnp.float32)
    quotient = (below.astype(jnp.float32) * scale).astype(jnp.int32)
    rest = below * factor - quotient * total
    return codes + quotient + (rest >= total).astype(jnp.int32) - (rest < 0).astype(jnp.int32)


def _sums_before(values: jax.Array) -> jax.Array:
    """Return for each of [B, N] the sum of those before it."""
    index = jnp.arange(values.shape[1])
    is_before = index[:, None] < index
    return jnp.sum(jnp.where(is_before, values[..., None], 0), axis=1, dtype=jnp.int32)


def _interval_at(
    starts: jax.Array, slots: jax.Array, end: int | jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return place, start and end of the intervals that hold slots [B, 1], all int32 [B, 1].

    Args:
      starts: of the intervals, int32 [B, N]; they rise, and the first is at most the slot.
      slots: int32 [B, 1].
      end: of the last interval.
    """
    is_before = starts <= slots
    # In one pass, which for a single row is faster than three reductions.
    count, start, after = jax.lax.reduce(
        (
            is_before.astype(jnp.int32),
            jnp.where(is_before, starts, 0),
            jnp.where(is_before, end, starts),
        ),
        (0, 0, TOTAL),
        lambda a, b: (a[0] + b[0], jnp.maximum(a[1], b[1]), jnp.minimum(a[2], b[2])),
        (1,),
    )
    return count[:, None] - 1, start[:, None], after[:, None]
