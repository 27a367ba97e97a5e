"""Blocks of codes to bytes and back with a language model: what .ecdc files take for a coder.

Encoding is parallel over frames; decoding goes frame by frame, and takes the rows of a batch at
once. Bytes and codes depend on the model alone, not on the batch nor on the machine.

Shapes: B rows, K codebooks, F frames, W words.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from encodec_hk.language import code_model
from encodec_hk.language import integer_arithmetic
from encodec_hk.language import language_file
from encodec_hk.language import rans

# Frames that programs are compiled for; longer blocks double the last.
_FRAMES = (1, 8, 32, 75)


class LanguageCoder:
    """Codes blocks with a language model.

    Attributes:
      model: the language model.
      rows: blocks that are decoded at once, at most.
      max_codebooks: K at most.
      codec: fingerprint of the codec whose codes the model knows.
    """

    def __init__(self, model: language_file.LanguageModel, rows: int = 16):
        """Put the model on JAX's default device."""
        self.model = model
        self.rows = rows
        self.max_codebooks = model.sizes.num_codebooks
        self.codec = model.codec
        self._params = {
            module: {
                # Products take float32; a conversion in each step would cost more than the product.
                name: jnp.asarray(value, jnp.float32 if name == "w" else value.dtype)
                for name, value in values.items()
            }
            for module, values in model.params.items()
        }
        self._encode, self._decode = _programs(model.sizes)

    @property
    def fingerprint(self) -> str:
        """The fingerprint that .ecdc files hold of the model."""
        return self.model.fingerprint

    def encode(self, blocks: Sequence[np.ndarray]) -> list[bytes]:
        """Return the bytes of blocks, int32 [K, F] each.

        One block at a time: a block is parallel by itself, and a batch would leave the cache.
        """
        coded = []
        for block in blocks:
            count, frames = block.shape
            codes = np.zeros((1, count, _capacity(frames)), np.int32)
            codes[0, :, :frames] = block
            outputs = jax.device_get(self._encode(self._params, codes, np.array([frames])))
            coded.append(rans.to_bytes(*(each[0] for each in outputs)))
        return coded

    def decode(
        self, payloads: Sequence[bytes], frames: Sequence[int], num_codebooks: int
    ) -> list[np.ndarray | None]:
        """Return the codes of blocks, int32 [K, F] each; None for one that is damaged.

        Args:
          payloads: what `encode` returned.
          frames: F of each.
          num_codebooks: K.
        """
        found: list[np.ndarray | None] = []
        for first in range(0, len(payloads), self.rows):
            part = slice(first, first + self.rows)
            found += self._decode_part(payloads[part], frames[part], num_codebooks)
        return found

    def _decode_part(
        self, payloads: Sequence[bytes], frames: Sequence[int], num_codebooks: int
    ) -> list[np.ndarray | None]:
        rows = 1 if len(payloads) == 1 else self.rows
        capacity = _capacity(max(frames))
        states = np.full(rows, rans.FIRST, np.uint32)
        words = np.zeros((rows, capacity * num_codebooks), np.uint32)
        counts, lengths = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
        is_right = np.zeros(rows, bool)
        for row, data in enumerate(payloads):
            parts = rans.from_bytes(data)
            # A code takes one word at most.
            if parts is not None and len(parts[1]) <= frames[row] * num_codebooks:
                states[row], own = parts
                words[row, : len(own)] = own
                counts[row], lengths[row] = len(own), frames[row]
                is_right[row] = True
        if not is_right.any():
            return [None] * len(payloads)
        outputs = self._decode(
            self._params, num_codebooks, capacity, states, words, lengths, lengths.max()
        )
        codes, end, used = jax.device_get(outputs)
        is_right &= (end == rans.FIRST) & (used == counts)
        return [
            codes[row, :, : frames[row]] if is_right[row] else None for row in range(len(payloads))
        ]


@functools.lru_cache(maxsize=8)
def _programs(sizes: code_model.Sizes) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the compiled functions of models of these sizes."""
    network = code_model.build(sizes)

    def encode(params: Any, codes: jax.Array, frames: jax.Array) -> tuple[jax.Array, ...]:
        starts, own = network.intervals(params, codes)
        is_used = jnp.arange(codes.shape[2])[None, :, None] < frames[:, None, None]
        is_used = jnp.broadcast_to(is_used, (len(codes), codes.shape[2], codes.shape[1]))
        order = [each.transpose(0, 2, 1).reshape(len(codes), -1) for each in (starts, own)]
        return rans.encode(order[0], order[1], is_used.reshape(len(codes), -1))

    def decode(
        params: Any,
        num_codebooks: int,
        capacity: int,
        states: jax.Array,
        words: jax.Array,
        frames: jax.Array,
        num_steps: jax.Array,
    ) -> tuple[jax.Array, ...]:
        rows = len(states)

        def step(frame: jax.Array, carry: tuple[Any, ...]) -> tuple[Any, ...]:
            past, codes, place, found = carry
            is_used = frame < frames

            def choose(place: rans.Words, logits: jax.Array) -> tuple[rans.Words, jax.Array]:
                code, start, own = integer_arithmetic.code_at(logits, rans.slots(place))
                return rans.advance(place, start, own, is_used), code

            past, codes, place = network.next_frame(params, past, frame, codes, place, choose)
            found = jax.lax.dynamic_update_index_in_dim(found, codes, frame, 2)
            return past, codes, place, found

        first = (
            network.first_past(rows),
            jnp.zeros((rows, num_codebooks), jnp.int32),
            rans.Words(states, words, jnp.zeros(rows, jnp.int32)),
            jnp.zeros((rows, num_codebooks, capacity), jnp.int32),
        )
        _, _, place, found = jax.lax.fori_loop(0, num_steps, step, first)
        return found, place.state, place.next

    return jax.jit(encode), jax.jit(decode, static_argnums=(1, 2))


def _capacity(frames: int) -> int:
    """Return the frames of the program for a block."""
    for size in _FRAMES:
        if frames <= size:
            return size
    size = _FRAMES[-1]
    while size < frames:
        size *= 2
    return size
