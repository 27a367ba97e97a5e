"""Weight normalisation, as a reparametrisation of the parameters.

Training holds the direction `w_v` and the norm `w_g` of every convolution's weight
(arXiv 1602.07868), w = w_g w_v / |w_v|. The networks never see them: they are folded into `w`
before every call, and before a checkpoint is written.

The norm is taken for every output channel; for a transposed convolution for every input channel,
because PyTorch's `weight_norm` goes by the first axis of the weight.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

Params = Mapping[str, Mapping[str, jax.Array]]


def split(params: Params) -> dict[str, dict[str, jax.Array]]:
    """Replaces every convolution's `w` by `w_g` and `w_v`, which give the same weight."""
    return {
        module: _split(module, leaves) if "w" in leaves else dict(leaves)
        for module, leaves in params.items()
    }


def fold(params: Params) -> dict[str, dict[str, jax.Array]]:
    """The inverse of `split`: parameters as the networks take them."""
    return {
        module: _fold(module, leaves) if "w_v" in leaves else dict(leaves)
        for module, leaves in params.items()
    }


def _split(module: str, leaves: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    rest = {name: value for name, value in leaves.items() if name != "w"}
    norm = _norm(module, leaves["w"])
    # Any direction will do where a weight is zero, but none divides by zero.
    return {**rest, "w_g": norm, "w_v": jnp.where(norm > 0, leaves["w"], 1.0)}


def _fold(module: str, leaves: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    rest = {name: value for name, value in leaves.items() if name not in ("w_g", "w_v")}
    direction = leaves["w_v"]
    return {**rest, "w": direction * (leaves["w_g"] / _norm(module, direction))}


def _norm(module: str, w: jax.Array) -> jax.Array:
    kept = 1 if module.endswith("/upsample") else w.ndim - 1
    axes = tuple(axis for axis in range(w.ndim) if axis != kept)
    return jnp.sqrt(jnp.sum(jnp.square(w), axis=axes, keepdims=True))
