"""The loss balancer (Section 3.4 of arXiv 2210.13438).

The weight of a loss is the share it has in the gradient of the output, whatever its own scale. With
g_i the gradient of loss i with respect to the output, and w_i its weight:

    cotangent = sum_i  total_norm * w_i / sum_j w_j * g_i / average of |g_i|

The norm is taken of every item and averaged over the items of all devices, then over the steps: a
moving average, free of the bias of its start. This is what audiocraft does.

About the batch: an item's cotangent has a norm of about total_norm, however many items there are.
The gradient of parameters is its sum over items, so a device with a part of the batch holds its
part of the sum: take the psum over devices and it is that of one device with the whole batch. (Or
divide the cotangent by the items of a device and take the pmean: the mean over items.) audiocraft
takes the sum over a device's items and the mean over devices. A loss on the side, as that of
commitment, has to be scaled to match.

Shapes: B items of a device, T samples, C audio channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

_SMALLEST_NORM = 1e-12  # below, a gradient is taken for zero


class BalancerState(NamedTuple):
    """Moving averages of the gradients' norms, by loss; a norm's average is total / count.

    A norm is that of B times an item's gradient of a mean over B items: of the item's own loss.
    So a state does not depend on how many items or devices there are.

    Attributes:
      totals: float32 scalars, sums of norms that decay from step to step.
      counts: float32 scalars, sums of ones that decay likewise.
    """

    totals: dict[str, jax.Array]
    counts: dict[str, jax.Array]


def init(names: Iterable[str]) -> BalancerState:
    """The state before the first step, for the losses of these names."""
    names = tuple(names)
    return BalancerState(
        totals={name: jnp.zeros((), jnp.float32) for name in names},
        counts={name: jnp.zeros((), jnp.float32) for name in names},
    )


def combine(
    state: BalancerState,
    gradients: Mapping[str, jax.Array],
    weights: Mapping[str, float],
    *,
    decay: float = 0.999,
    total_norm: float = 1.0,
    axis_name: str | None = None,
) -> tuple[BalancerState, jax.Array, dict[str, jax.Array]]:
    """Combines the gradients of several losses with respect to the output.

    A loss whose gradient is zero so far adds nothing. One whose gradient's norm is not finite, on
    any device, adds nothing to this step nor to the averages.

    Args:
      state: the averages of the steps before.
      gradients: [B, T, C] for every loss of a weight above 0, of its mean over these B items.
      weights: at least 0, and one of them above. Losses of weight 0 are left out.
      decay: of the moving average, for a step.
      total_norm: what the norms of an item's gradients sum to.
      axis_name: the axis of the devices, over which norms are averaged.

    Returns:
      The state after this step; the cotangent [B, T, C] to pull back through the generator; and
      for every loss, "NAME/before", its share in the sum of the averaged norms (audiocraft's
      ratio), and "NAME/after", its share in the sum of this step's norms after balancing.

    Raises:
      ValueError: the names do not match, or weights are wrong.
    """
    names = _losses(state, gradients, weights)
    total_weight = sum(weights[name] for name in names)
    totals, counts = dict(state.totals), dict(state.counts)
    cotangent = jnp.zeros_like(gradients[names[0]])
    before, after = {}, {}
    for name in names:
        gradient = gradients[name].shape[0] * gradients[name]  # of each item's own loss
        chex.assert_equal_shape([gradient, cotangent])
        norm = _mean_norm(gradient, axis_name)
        is_finite = jnp.isfinite(norm)
        norm = jnp.where(is_finite, norm, 0.0)
        totals[name] = jnp.where(is_finite, decay * totals[name] + norm, totals[name])
        counts[name] = jnp.where(is_finite, decay * counts[name] + 1, counts[name])
        # A count is at least 1, or nothing was counted.
        average = totals[name] / jnp.maximum(counts[name], 1.0)
        is_used = is_finite & (average > _SMALLEST_NORM)
        share = total_norm * weights[name] / total_weight
        factor = jnp.where(is_used, share / jnp.maximum(average, _SMALLEST_NORM), 0.0)
        cotangent += factor * jnp.where(is_finite, gradient, 0.0)
        before[name], after[name] = average, factor * norm
    shares = {f"{name}/before": share for name, share in _shares(before).items()}
    shares |= {f"{name}/after": share for name, share in _shares(after).items()}
    return BalancerState(totals, counts), cotangent, shares


def _losses(
    state: BalancerState, gradients: Mapping[str, jax.Array], weights: Mapping[str, float]
) -> list[str]:
    """The names of the losses of a weight above 0."""
    for name, weight in weights.items():
        if weight < 0:
            raise ValueError(f"weights: got {weight} for {name}, must be at least 0")
    names = [name for name, weight in weights.items() if weight]
    if not names:
        raise ValueError("weights: all are 0, at least one must be above")
    for what, given in {"gradients": gradients, "state": state.totals}.items():
        missing = [name for name in names if name not in given]
        if missing:
            raise ValueError(f"{what}: got none for {', '.join(missing)}")
    unknown = [name for name in gradients if name not in weights]
    if unknown:
        raise ValueError(f"weights: got none for {', '.join(unknown)}")
    return names


def _mean_norm(gradient: jax.Array, axis_name: str | None) -> jax.Array:
    """The norm of an item's gradient, averaged over the items of all devices."""
    norm = jnp.mean(jnp.sqrt(jnp.sum(jnp.square(gradient), axis=(1, 2))))
    return norm if axis_name is None else jax.lax.pmean(norm, axis_name)


def _shares(parts: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Parts of their sum; zeros where it is zero."""
    total = jnp.sum(jnp.stack(list(parts.values())))
    return {
        name: jnp.where(total > 0, part / jnp.where(total > 0, total, 1.0), 0.0)
        for name, part in parts.items()
    }
