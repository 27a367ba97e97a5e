"""The language model: frequencies of the next codes, in integers.

It is causal over frames, and within a frame each codebook sees those before it.

    x = sum of the tables of frame t-1, first codebooks (t = 0: none)     residual sum, +-2047
    layer:  y = norm(x)
            a = clip((W1 [y(t - d), y(t)] + b1) >> s1, 0, 127)            d: the layer's dilation
            x = clip(x + ((W2 a + b2) >> s2), -2047, 2047)
    y = norm(x)
    head k: c = clip(sum of the inner tables of codes i < k, -127, 127)
            z = clip((H_k y + G_k c + b) >> s, 0, 127)
            logits = (O_k z + b) >> s
            frequencies(logits)

A row of codes is one block of a file: it begins without a past.

Shapes: B rows, K codebooks in use, F frames, D width, Z width of a head, V entries of a codebook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import chex
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from encodec_hk.language import integer_arithmetic

Params = Mapping[str, Mapping[str, Any]]
Past = jax.Array | np.ndarray
"""The last inputs of all layers, int8 [B, largest dilation, layers, D], a ring by frame."""
Heads = tuple["_Product", "_Product"]
"""Of each head its hidden product and that of its logits, arrays [K, ...]."""
_CLIP = integer_arithmetic.PEAK


class Sizes(NamedTuple):
    """The fields of `config.language` that decide what a model computes, and the codebooks' size.

    Attributes:
      width: D.
      head_width: Z.
      dilations: of the layers, in frames.
      num_codebooks: K at most.
      codebook_size: V.
      context_codebooks: codebooks of earlier frames that the model sees, at most; the later ones
        tell little about the next frame, and their tables are large.
    """

    width: int
    head_width: int
    dilations: tuple[int, ...]
    num_codebooks: int
    codebook_size: int
    context_codebooks: int = 64

    @property
    def num_tables(self) -> int:
        """Codebooks of earlier frames that the model sees."""
        return min(self.num_codebooks, self.context_codebooks)


class CodeModel(NamedTuple):
    """Pure functions of a language model; params are integers, see `code_params`.

    Attributes:
      all_frequencies: (params, codes int32 [B, K, F]) -> int32 [B, K, F, V], in parallel.
      intervals: (params, codes [B, K, F]) -> start and frequency of each code, int32 [B, K, F].
      heads: (params, K) -> the parameters of the first K heads, stacked, for `next_frame`.
      next_frame: (params, heads, past, frame, codes [B, K], carry, choose) -> (past, codes [B, K],
        carry): the codes after those of frame - 1. For each codebook in turn, `choose(carry, logits
        [B, V])` returns the carry, a tree of arrays, and the codes [B]. With heads, a program loops
        over the codebooks; with None it has a copy of the loop's body for each, so it takes longer
        to compile and to load, and is faster for one row.
    """

    all_frequencies: Callable[..., jax.Array]
    intervals: Callable[..., tuple[jax.Array, jax.Array]]
    heads: Callable[..., Heads]
    next_frame: Callable[..., Any]


class _Product(NamedTuple):
    """The parameters of an integer product whose outputs have a bias and a shift each.

    Attributes:
      w: [I, O], integers within +-127.
      b: int32 [O].
      shift: int32 [O].
    """

    w: jax.Array
    b: jax.Array
    shift: jax.Array

    def __call__(self, *inputs: jax.Array) -> jax.Array:
        """Map int32 [..., I] arrays, of joined inputs, to int32 [..., O]."""
        joined = jnp.concatenate(inputs, axis=-1)
        return (integer_arithmetic.product(joined, self.w) + self.b) >> self.shift


class Shifted(hk.Module):
    """The parameters of a product in a network."""

    def __init__(self, num_inputs: int, num_outputs: int, name: str):
        super().__init__(name=name)
        self.num_inputs, self.num_outputs = num_inputs, num_outputs

    def __call__(self) -> _Product:
        """Return the parameters."""
        w = hk.get_parameter("w", (self.num_inputs, self.num_outputs), jnp.int8, jnp.zeros)
        b = hk.get_parameter("b", (self.num_outputs,), jnp.int32, jnp.zeros)
        shift = hk.get_parameter("shift", (self.num_outputs,), jnp.int32, jnp.zeros)
        return _Product(w, b, shift)


class LanguageNetwork(hk.Module):
    """The network of a language model."""

    def __init__(
        self,
        sizes: Sizes,
        layers: Sequence[tuple[Shifted, Shifted]],
        heads: Sequence[tuple[Shifted, Shifted]],
        name: str = "language",
    ):
        """Take the products: of each layer its first and second, of each head hidden and logits."""
        super().__init__(name=name)
        self._sizes, self._layers, self._heads = sizes, layers, heads
        table = integer_arithmetic.norm_table(sizes.width)
        self._thresholds, self._factors = (
            hk.get_parameter(f"norm_{key}", value.shape, jnp.int32, jnp.zeros)
            for key, value in zip(("thresholds", "factors"), table, strict=True)
        )
        self._tables = hk.get_parameter(
            "tables", (sizes.num_tables, sizes.codebook_size, sizes.width), jnp.int8, jnp.zeros
        )
        self._inner = hk.get_parameter(
            "inner_tables",
            (max(sizes.num_codebooks - 1, 1), sizes.codebook_size, sizes.head_width),
            jnp.int8,
            jnp.zeros,
        )

    def embed(self, codes: jax.Array) -> jax.Array:
        """Map codes [..., K] of a frame to the residual sum [..., D] of the next."""
        count = min(codes.shape[-1], self._sizes.num_tables)
        # XLA divides a gather from all tables at once among threads, even for one row, and a sum
        # of the rows, unlike their reduction, is computed again by each of its readers.
        tables = jnp.asarray(self._tables)
        rows = [tables.at[k, codes[..., k]].get(mode="clip") for k in range(count)]
        x = jnp.sum(jnp.stack(rows), axis=0, dtype=jnp.int32)
        return jnp.clip(x, -integer_arithmetic.SUM_PEAK, integer_arithmetic.SUM_PEAK)

    def norm(self, x: jax.Array) -> jax.Array:
        """Normalise a residual sum [..., D]."""
        return integer_arithmetic.norm(x, self._thresholds, self._factors)

    def layer(self, index: int, x: jax.Array, earlier: jax.Array, now: jax.Array) -> jax.Array:
        """Add a layer's output to the residual sum; `earlier` and `now` are its normed inputs."""
        first, second = (product() for product in self._layers[index])
        peak = integer_arithmetic.SUM_PEAK
        return jnp.clip(x + second(jnp.clip(first(earlier, now), 0, _CLIP)), -peak, peak)

    def head(self, index: int) -> tuple[_Product, _Product]:
        """Return the hidden product and that of the logits of a codebook."""
        hidden, logits = self._heads[index]
        return hidden(), logits()

    def heads(self, count: int) -> Heads:
        """See `CodeModel.heads`."""
        found = [self.head(k) for k in range(count)]
        return jax.tree.map(lambda *arrays: jnp.stack(arrays), *found)

    def inner(self, index: int | jax.Array, codes: jax.Array) -> jax.Array:
        """Return the inner table's rows [..., Z] of a codebook's codes; the last has no table."""
        rows = jnp.asarray(self._inner).at[index, codes].get(mode="clip")
        return rows.astype(jnp.int32)

    def hidden(self, codes: jax.Array) -> jax.Array:
        """Map codes [B, K, F] to the inputs of the heads, int32 [B, F, D]."""
        x = _delayed(self.embed(codes.transpose(0, 2, 1)), 1)
        for index, dilation in enumerate(self._sizes.dilations):
            y = self.norm(x)
            x = self.layer(index, x, _delayed(y, dilation), y)
        return self.norm(x)

    def each_head(self, codes: jax.Array) -> list[jax.Array]:
        """Return for each codebook in use the logits [B, F, V]."""
        chex.assert_rank(codes, 3)
        y = self.hidden(codes)
        inner = jnp.zeros((*y.shape[:2], self._sizes.head_width), jnp.int32)
        found = []
        for k in range(codes.shape[1]):
            found.append(_logits(self.head(k), y, inner))
            if k + 1 < codes.shape[1]:
                inner = inner + self.inner(k, codes[:, k])
        return found

    def next_frame(
        self,
        heads: Heads | None,
        past: Past,
        frame: jax.Array,
        codes: jax.Array,
        carry: Any,
        choose: Callable[[Any, jax.Array], tuple[Any, jax.Array]],
    ) -> tuple[Past, jax.Array, Any]:
        """See `CodeModel.next_frame`."""
        x = jnp.where(frame > 0, self.embed(codes), 0)
        dilations = np.array(self._sizes.dilations)
        length = past.shape[1]
        earlier = jnp.asarray(past)[:, (frame - dilations) % length, np.arange(len(dilations))]
        inputs = []
        for index in range(len(dilations)):
            y = self.norm(x)
            inputs.append(y)
            x = self.layer(index, x, earlier[:, index], y)
        now = jnp.stack(inputs, axis=1).astype(jnp.int8)
        past = jax.lax.dynamic_update_index_in_dim(past, now, frame % length, 1)
        y = self.norm(x)

        def codebook(state: tuple[Any, ...], own: Any) -> tuple[tuple[Any, ...], jax.Array]:
            (carry, inner), (k, head) = state, own
            carry, code = choose(carry, _logits(head, y, inner))
            return (carry, inner + self.inner(k, code)), code

        state = carry, jnp.zeros((len(y), self._sizes.head_width), jnp.int32)
        if heads is None:
            chosen = []
            for k in range(codes.shape[1]):
                state, code = codebook(state, (k, self.head(k)))
                chosen.append(code)
            return past, jnp.stack(chosen, axis=1), state[0]
        state, found = jax.lax.scan(codebook, state, (np.arange(codes.shape[1]), heads))
        return past, found.T, state[0]


def build(sizes: Sizes) -> CodeModel:
    """Return the functions of a language model of these sizes."""
    width, head_width = sizes.width, sizes.head_width

    def forward(apply: Callable[[LanguageNetwork], Any]) -> Any:
        layers = [
            (
                Shifted(2 * width, width, f"layer_{index}_first"),
                Shifted(width, width, f"layer_{index}_second"),
            )
            for index in range(len(sizes.dilations))
        ]
        heads = [
            (
                Shifted(width + head_width, head_width, f"head_{index}_hidden"),
                Shifted(head_width, sizes.codebook_size, f"head_{index}_logits"),
            )
            for index in range(sizes.num_codebooks)
        ]
        return apply(LanguageNetwork(sizes, layers, heads))

    def transform(method: Callable[..., Any]) -> hk.Transformed:
        return hk.without_apply_rng(
            hk.transform(lambda *args: forward(lambda network: method(network, *args)))
        )

    every = transform(_all_frequencies)
    intervals = transform(_intervals)
    heads = transform(LanguageNetwork.heads)
    step = transform(LanguageNetwork.next_frame)
    return CodeModel(every.apply, intervals.apply, heads.apply, step.apply)


def first_past(sizes: Sizes, rows: int) -> Past:
    """Return the past of rows that have not begun."""
    dilations = sizes.dilations
    return np.zeros((rows, max(dilations), len(dilations), sizes.width), np.int8)


def _all_frequencies(network: LanguageNetwork, codes: jax.Array) -> jax.Array:
    found = map(integer_arithmetic.frequencies, network.each_head(codes))
    return jnp.stack(list(found), axis=1)


def _intervals(network: LanguageNetwork, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    pairs = [
        integer_arithmetic.interval(logits, codes[:, k])
        for k, logits in enumerate(network.each_head(codes))
    ]
    starts, own = zip(*pairs, strict=True)
    return jnp.stack(starts, axis=1), jnp.stack(own, axis=1)


def _logits(head: tuple[_Product, _Product], y: jax.Array, inner: jax.Array) -> jax.Array:
    """Return the logits [..., V] of a head; `inner` is the sum of inner tables."""
    hidden, logits = head
    return logits(jnp.clip(hidden(y, jnp.clip(inner, -_CLIP, _CLIP)), 0, _CLIP))


def _delayed(x: jax.Array, frames: int) -> jax.Array:
    """Delay [B, F, D] by frames; zeros come first."""
    return jnp.pad(x, ((0, 0), (frames, 0), (0, 0)))[:, : x.shape[1]]
