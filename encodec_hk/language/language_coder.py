"""Blocks of codes to bytes and back with a language model: what .ecdc files take for a coder.

Encoding is parallel over frames; decoding goes frame by frame, and takes the rows of a batch at
once. Bytes and codes depend on the model alone, not on the batch nor on the machine.

Shapes: B rows, K codebooks, F frames, W words.
"""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from encodec_hk.blocks import traces
from encodec_hk.language import code_model
from encodec_hk.language import integer_arithmetic
from encodec_hk.language import language_file
from encodec_hk.language import rans

# Frames that programs encode; longer blocks double the last.
_FRAMES = (8, 75, 150)
# Frames that a program decodes; longer blocks take several calls, so that no file can ask for a
# program of its own.
_STEPS = 150


class LanguageCoder:
    """Codes blocks with a language model.

    Attributes:
      model: the language model.
      rows: blocks that are decoded at once, at most.
      max_codebooks: K at most.
      codec: fingerprint of the codec whose codes the model knows.
    """

    def __init__(
        self,
        model: language_file.LanguageModel,
        rows: int = 16,
        traces_folder: str | os.PathLike[str] | None = None,
    ):
        """Put the model on JAX's default device.

        Args:
          model: the language model.
          rows: blocks that are decoded at once, at most.
          traces_folder: keep traces there, see `encodec_hk.load`.
        """
        self.model = model
        self.rows = rows
        self.max_codebooks = model.sizes.num_codebooks
        self.codec = model.codec
        # Products take float32; a conversion in each step would cost more than the product.
        self._params = jax.device_put(
            {
                module: {
                    name: np.asarray(value, np.float32 if name == "w" else value.dtype)
                    for name, value in values.items()
                }
                for module, values in model.params.items()
            }
        )
        keeps_traces = traces_folder is not None and jax.device_count() == 1
        # On the device, as the outputs of a kept program are: else the next call compiles again.
        self._device = jax.devices()[0] if keeps_traces else None
        folder = os.fspath(traces_folder) if traces_folder is not None and keeps_traces else None
        self._encode, self._decode = _programs(model.sizes, folder)

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
            lengths = np.array([frames], np.int32)
            outputs = jax.device_get(self._encode(self._params, codes, lengths))
            coded.append(rans.to_bytes(*(each[0] for each in outputs)))
        return coded

    def decode(
        self, payloads: Sequence[bytes], frames: Sequence[int], num_codebooks: int
    ) -> list[np.ndarray | None]:
        """Return the codes of blocks, int32 [K, F] each; None for one that is damaged.

        Decoding ends where no block has words left, whatever number of frames they claim.

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

    def warm_up(self, num_blocks: int, num_codebooks: int) -> None:
        """Compile the program that decodes so many blocks at once, or load it.

        Args:
          num_blocks: those of a call of `decode`; all numbers from 2 on have one program.
          num_codebooks: K.
        """
        # Any words will do.
        words = rans.FIRST.to_bytes(rans.STATE_BYTES)
        self.decode([words] * num_blocks, [1] * num_blocks, num_codebooks)

    def _decode_part(
        self, payloads: Sequence[bytes], frames: Sequence[int], num_codebooks: int
    ) -> list[np.ndarray | None]:
        rows = 1 if len(payloads) == 1 else self.rows
        states = np.full(rows, rans.FIRST, np.uint32)
        words = [np.zeros(0, np.uint16)] * rows
        lengths = np.zeros(rows, np.int32)  # frames of the blocks that are not damaged
        for row, data in enumerate(payloads):
            parts = rans.from_bytes(data)
            # A code takes one word at most.
            if parts is not None and len(parts[1]) <= frames[row] * num_codebooks:
                states[row], words[row] = parts
                lengths[row] = frames[row]
        window = np.zeros((rows, _STEPS * num_codebooks), np.uint32)
        past: Any = code_model.first_past(self.model.sizes, rows)
        last: Any = np.zeros((rows, num_codebooks), np.int32)
        past, last = jax.device_put((past, last), self._device)
        found = []
        for first in range(0, max(frames), _STEPS):
            if not (lengths > first).any():
                break
            for row, own in enumerate(words):
                own = own[: window.shape[1]]
                window[row, : len(own)] = own
            counts = np.array([len(own) for own in words], np.int32)
            past, last, codes, states, used = self._decode(
                self._params, past, last, states, window, counts, lengths, np.int32(first)
            )
            codes, states, used = jax.device_get((codes, states, used))
            found.append(codes)
            lengths = np.where(used > counts, 0, lengths)
            words = [own[count:] for own, count in zip(words, used, strict=True)]
        is_right = (lengths > 0) & (states == rans.FIRST) & [not len(own) for own in words]
        return [
            np.concatenate(found, axis=2)[row, :, : frames[row]] if is_right[row] else None
            for row in range(len(payloads))
        ]


@functools.lru_cache(maxsize=8)
def _programs(
    sizes: code_model.Sizes, traces_folder: str | None
) -> tuple[Callable[..., Any], Callable[..., Any]]:
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
        past: code_model.Past,
        last: jax.Array,
        states: jax.Array,
        words: jax.Array,
        counts: jax.Array,
        frames: jax.Array,
        first: jax.Array,
    ) -> tuple[Any, ...]:
        """Decode from frame `first` on; `last` are the codes [B, K] before it."""
        heads = network.heads(params, last.shape[1]) if len(last) > 1 else None

        def goes_on(carry: tuple[Any, ...]) -> jax.Array:
            frame, _, _, place, _ = carry
            has_words = place.next <= counts
            return (frame < first + _STEPS) & jnp.any(has_words & (frame < frames))

        def step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
            frame, past, codes, place, found = carry
            is_used = frame < frames

            def choose(place: rans.Words, logits: jax.Array) -> tuple[rans.Words, jax.Array]:
                code, start, own = integer_arithmetic.code_at(logits, rans.slots(place))
                return rans.advance(place, start, own, is_used), code

            past, codes, place = network.next_frame(
                params, heads, past, frame, codes, place, choose
            )
            found = jax.lax.dynamic_update_index_in_dim(found, codes, frame - first, 2)
            return frame + 1, past, codes, place, found

        place = rans.Words(states, words, jnp.zeros(len(states), jnp.int32))
        found = jnp.zeros((*last.shape, _STEPS), jnp.int32)
        carry = jax.lax.while_loop(goes_on, step, (first, past, last, place, found))
        _, past, last, place, found = carry
        return past, last, found, place.state, place.next

    if traces_folder is None:
        return jax.jit(encode), jax.jit(decode)
    store = traces.TraceStore(pathlib.Path(traces_folder), repr(sizes))
    return (
        jax.jit(store.program("language_encode", encode)),
        jax.jit(store.program("language_decode", decode)),
    )


def _capacity(frames: int) -> int:
    """Return the frames of the program that encodes a block."""
    for size in _FRAMES:
        if frames <= size:
            return size
    size = _FRAMES[-1]
    while size < frames:
        size *= 2
    return size
