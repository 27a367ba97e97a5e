"""A range coder by asymmetric numeral systems: rows of codes to 16-bit words and back.

The state x is a uint32, from 65536 on. A code of frequency f and start c, of 2**16 in all:

    encode, last code first:  if x >= f * 2**16: put out x mod 2**16, x = x div 2**16
                              x = (x div f) * 2**16 + x mod f + c
    decode, first code first: s = x mod 2**16, the code is that with c <= s < c + f
                              x = f * (x div 2**16) + s - c
                              if x < 2**16: x = x * 2**16 + next word

The encoder begins with x = 65536, so a decoder ends there, with every word used; anything else is
damage. Bytes of a row: its last state in four bytes, then the words in the order of decoding, all
big-endian. That is at most 4 bytes more than the ideal length.

Shapes: B rows, N codes of a row, W words.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FIRST = 65536  # the state that encoders begin and decoders end with
STATE_BYTES = 4
_BITS = 16
_MASK = FIRST - 1


class Words(NamedTuple):
    """A decoder's place in its words: state uint32 [B], words uint32 [B, W], next int32 [B]."""

    state: jax.Array
    words: jax.Array
    next: jax.Array


def encode(
    starts: jax.Array, own: jax.Array, is_used: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Encode rows in the order of their codes.

    Args:
      starts: int32 [B, N], where the intervals of the codes start.
      own: int32 [B, N], their frequencies.
      is_used: bool [B, N], false for codes to leave out.

    Returns:
      The last state uint32 [B], a word for each code uint32 [B, N], and whether it was put out.
    """

    def step(
        state: jax.Array, code: tuple[jax.Array, ...]
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        start, frequency, is_used = code
        is_full = is_used & (state >> _BITS >= frequency)
        word = state & _MASK
        low = jnp.where(is_full, state >> _BITS, state)
        new = ((low // frequency) << _BITS) + low % frequency + start
        return jnp.where(is_used, new, state), (word, is_full)

    first = jnp.full((len(starts),), FIRST, jnp.uint32)
    inputs = (starts.T.astype(jnp.uint32), own.T.astype(jnp.uint32), is_used.T)
    state, (words, is_full) = jax.lax.scan(step, first, inputs, reverse=True)
    return state, words.T, is_full.T


def advance(words: Words, start: jax.Array, own: jax.Array, is_used: jax.Array) -> Words:
    """Leave behind the code of an interval, int32 [B]; rows that are not used stay as they are."""
    state = words.state
    slot = state & _MASK
    new = own.astype(jnp.uint32) * (state >> _BITS) + slot - start.astype(jnp.uint32)
    needs_word = is_used & (new < FIRST)
    most = words.words.shape[1] - 1
    word = jnp.take_along_axis(words.words, jnp.minimum(words.next, most)[:, None], axis=1)[:, 0]
    new = jnp.where(needs_word, (new << _BITS) | word, new)
    return Words(jnp.where(is_used, new, state), words.words, words.next + needs_word)


def slots(words: Words) -> jax.Array:
    """Return the place int32 [B], 0 to 65535, in the interval of the next code."""
    return (words.state & _MASK).astype(jnp.int32)


def to_bytes(state: np.ndarray, words: np.ndarray, is_full: np.ndarray) -> bytes:
    """Return the bytes of one row: state [], words [N], is_full [N]."""
    return int(state).to_bytes(STATE_BYTES) + words[is_full].astype(">u2").tobytes()


def from_bytes(data: bytes) -> tuple[int, np.ndarray] | None:
    """Return the state and the words of a row, uint16; None if no encoder makes such bytes."""
    if len(data) < STATE_BYTES or len(data) % 2:
        return None
    state = int.from_bytes(data[:STATE_BYTES])
    return None if state < FIRST else (state, np.frombuffer(data, ">u2", offset=STATE_BYTES))
