"""Weight normalisation, as a reparametrisation of the parameters (arXiv 1602.07868).

In training, the weight of every convolution is w = w_g w_v / |w_v|, with a norm `w_g` and a
direction `w_v`. Networks and checkpoints have `w`: the two are folded before every call.

There is a norm for every output channel, or for every input channel of a transposed convolution:
PyTorch's `weight_norm` goes by the first axis of the weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

Params = Mapping[str, Mapping[str, jax.Array]]


def split(params: Params, *, plain: Sequence[str] = ()) -> dict[str, dict[str, jax.Array]]:
    """Replace the `w` of every convolution by `w_g` and `w_v`, but of networks named in `plain`."""
    result = {module: dict(leaves) for module, leaves in params.items()}
    for module, leaves in result.items():
        if "w" in leaves and module.split("/")[0] not in plain:
            w = leaves.pop("w")
            norm = _norm(module, w)
            # A weight of zero may have any direction; its length must not be zero.
            leaves |= {"w_g": norm, "w_v": jnp.where(norm > 0, w, 1.0)}
    return result


def fold(params: Params) -> dict[str, dict[str, jax.Array]]:
    """Replace `w_g` and `w_v` by `w`: the inverse of `split`."""
    result = {module: dict(leaves) for module, leaves in params.items()}
    for module, leaves in result.items():
        if "w_v" in leaves:
            norm, direction = leaves.pop("w_g"), leaves.pop("w_v")
            leaves["w"] = direction * (norm / _norm(module, direction))
    return result


def _norm(module: str, w: jax.Array) -> jax.Array:
    kept = 1 if module.endswith("/upsample") else w.ndim - 1
    axes = tuple(axis for axis in range(w.ndim) if axis != kept)
    return jnp.sqrt(jnp.sum(jnp.square(w), axis=axes, keepdims=True))
