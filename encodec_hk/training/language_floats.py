"""The language model in float32, for training, and its rounding to integers.

The layers are those of `language.code_model`, with the same clips. Activations have units of 1/32.
With `is_rounded`, every value is rounded as the integers will be, and gradients pass through the
roundings; so the model learns to live with them.

Shapes: B rows, K codebooks in use, F frames, D width, Z width of a head, V entries of a codebook.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from encodec_hk.language import code_model
from encodec_hk.language import code_params
from encodec_hk.language import integer_arithmetic

_UNIT = float(integer_arithmetic.UNIT)
_PEAK = float(integer_arithmetic.PEAK)
_SUM_PEAK = float(integer_arithmetic.SUM_PEAK)


def _through(value: jax.Array, rounded: jax.Array) -> jax.Array:
    """Return `rounded` with the gradient of `value`."""
    return value + jax.lax.stop_gradient(rounded - value)


def _shifts(w: jax.Array) -> jax.Array:
    """Return the largest shifts [O] with which the weights [I, O] stay within +-127."""
    top = jnp.maximum(jnp.max(jnp.abs(w), axis=0), 2.0**-16)
    shift = jnp.floor(jnp.log2(_PEAK / top))
    return jnp.clip(shift, 0, integer_arithmetic.MAX_SHIFT - 8)


def _table(values: jax.Array, is_rounded: bool) -> jax.Array:
    """Return entries in integer units."""
    values = jnp.clip(values * _UNIT, -_PEAK, _PEAK)
    return _through(values, jnp.round(values)) if is_rounded else values


class _Linear(hk.Module):
    """A product of inputs in integer units, with outputs in integer units."""

    def __init__(self, num_outputs: int, gain: float, name: str):
        super().__init__(name=name)
        self.num_outputs = num_outputs
        self.gain = gain

    def __call__(self, is_rounded: bool, *inputs: jax.Array) -> jax.Array:
        size = sum(x.shape[-1] for x in inputs)
        init = hk.initializers.RandomNormal(self.gain * size**-0.5)
        w = hk.get_parameter("w", (size, self.num_outputs), jnp.float32, init)
        b = hk.get_parameter("b", (self.num_outputs,), jnp.float32, jnp.zeros) * _UNIT
        if is_rounded:
            scale = 2.0 ** jax.lax.stop_gradient(_shifts(w))
            w = _through(w, jnp.clip(jnp.round(w * scale), -_PEAK, _PEAK) / scale)
            b = _through(b, jnp.round(b * scale) / scale)
        first, out = 0, b
        for x in inputs:
            out = out + x @ w[first : first + x.shape[-1]]
            first += x.shape[-1]
        return _through(out, jnp.floor(out + 0.5)) if is_rounded else out


class FloatLanguage(hk.Module):
    """Logits, base 2, of every code given those before it."""

    def __init__(self, sizes: code_model.Sizes, name: str = "language"):
        super().__init__(name=name)
        self._sizes = sizes

    def __call__(self, codes: jax.Array, *, is_rounded: bool) -> list[jax.Array]:
        """Map codes int32 [B, K, F] to logits [B, F, V] in bits, one array for each codebook."""
        sizes = self._sizes
        init = hk.initializers.RandomNormal(0.5)
        shape = (sizes.num_tables, sizes.codebook_size, sizes.width)
        tables = _table(hk.get_parameter("tables", shape, init=init), is_rounded)
        shape = (max(sizes.num_codebooks - 1, 1), sizes.codebook_size, sizes.head_width)
        inner_tables = _table(hk.get_parameter("inner_tables", shape, init=init), is_rounded)
        num_used = codes.shape[1]
        x = sum(tables[k][codes[:, k]] for k in range(min(num_used, sizes.num_tables)))
        x = _delayed(jnp.clip(x, -_SUM_PEAK, _SUM_PEAK), 1)
        table = integer_arithmetic.norm_table(sizes.width)

        def norm(x: jax.Array) -> jax.Array:
            rms = jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)
            y = x * (_UNIT / jnp.maximum(rms, float(integer_arithmetic.LEAST_RMS)))
            y = jnp.clip(y, -_PEAK, _PEAK)
            if not is_rounded:
                return y
            whole = jnp.round(x).astype(jnp.int32)
            exact = integer_arithmetic.norm(whole, *map(jnp.asarray, table))
            return _through(y, exact.astype(jnp.float32))

        for index, dilation in enumerate(sizes.dilations):
            first = _Linear(sizes.width, 1.4, f"layer_{index}_first")
            second = _Linear(sizes.width, 0.7, f"layer_{index}_second")
            y = norm(x)
            a = jnp.clip(first(is_rounded, _delayed(y, dilation), y), 0, _PEAK)
            x = jnp.clip(x + second(is_rounded, a), -_SUM_PEAK, _SUM_PEAK)
        y = norm(x)
        logits = []
        inner = jnp.zeros((*y.shape[:2], sizes.head_width))
        for k in range(num_used):
            hidden = _Linear(sizes.head_width, 1.0, f"head_{k}_hidden")
            out = _Linear(sizes.codebook_size, 0.5, f"head_{k}_logits")
            z = jnp.clip(hidden(is_rounded, y, jnp.clip(inner, -_PEAK, _PEAK)), 0, _PEAK)
            logits.append(out(is_rounded, z) / _UNIT)
            if k + 1 < num_used:
                inner = inner + inner_tables[k][codes[:, k]]
        return logits


def build(sizes: code_model.Sizes) -> tuple[Callable[..., Any], Callable[..., jax.Array]]:
    """Return init (key) -> params, and bits (params, codes [B, K, F], is_rounded) -> [B, K, F].

    The bits are those that the coder takes for each code, but for fractions of a bit a block.
    """

    def bits(codes: jax.Array, is_rounded: bool) -> jax.Array:
        network = FloatLanguage(sizes)
        floor = sizes.codebook_size / integer_arithmetic.TOTAL
        costs = []
        for k, logits in enumerate(network(codes, is_rounded=is_rounded)):
            log = jax.nn.log_softmax(logits * np.log(2.0))
            own = jnp.take_along_axis(log, codes[:, k][..., None], axis=-1)[..., 0]
            share = (1 - floor) * jnp.exp(own) + 1 / integer_arithmetic.TOTAL
            costs.append(-jnp.log2(share))
        return jnp.stack(costs, axis=1)

    network = hk.without_apply_rng(hk.transform(bits))
    codes = np.zeros((1, sizes.num_codebooks, 2), np.int32)
    return lambda key: network.init(key, codes, False), network.apply


def to_integers(params: Any, sizes: code_model.Sizes) -> code_model.Params:
    """Round the parameters of a trained model to those of `code_model`.

    Raises:
      ValueError: if a product would not be exact; less training or a smaller width helps.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for module, values in params.items():
        if module == "language":
            thresholds, factors = integer_arithmetic.norm_table(sizes.width)
            found[module] = {"norm_thresholds": thresholds, "norm_factors": factors}
            for key, value in values.items():
                found[module][key] = np.asarray(_table(value, True)).astype(np.int8)
            continue
        shift = np.asarray(_shifts(values["w"])).astype(np.int32)
        scale = 2.0**shift
        w = np.clip(np.round(np.asarray(values["w"]) * scale), -_PEAK, _PEAK)
        b = np.round(np.asarray(values["b"]) * _UNIT * scale) + np.floor(scale / 2)
        found[module.rpartition("/")[2]] = {
            "w": w.astype(np.int8),
            "b": b.astype(np.int32),
            "shift": shift,
        }
    code_params.check(found, sizes)
    return found


def _delayed(x: jax.Array, frames: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (frames, 0), (0, 0)))[:, : x.shape[1]]
