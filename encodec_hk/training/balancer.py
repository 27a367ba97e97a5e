"""The loss balancer (Section 3.4 of arXiv 2210.13438).

The weight of a loss is its share of the gradient of the output, whatever the scale of the loss.
With g_i the gradient of loss i with respect to the output, and w_i its weight:

    cotangent = sum_i  total_norm * w_i / sum_j w_j * g_i / average of |g_i|

The average of |g_i| is over the items of all devices, and a moving average over the steps with its
bias towards the start corrected, as in audiocraft.

The cotangent of an item has a norm of about total_norm, however many items there are. Pulled back,
it gives gradients of the parameters summed over the items of a device. For the sum over the whole
batch take the psum over devices; for the mean over items divide the cotangent by B and take the
pmean. (audiocraft sums over a device's items and averages over devices.) A loss outside the
balancer, such as the commitment loss, has to be scaled to match.

Shapes: B items of a device, T samples, C audio channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

_SMALLEST_NORM = 1e-12  # a smaller gradient counts as zero


class BalancerState(NamedTuple):
    """Moving averages of the norms of gradients, by loss; an average is total / count.

    The norm is that of the gradient of an item's own loss, which is B times that of the mean over B
    items. So the state does not depend on the number of items or devices.

    Attributes:
      totals: float32 scalars, decaying sums of norms.
      counts: float32 scalars, equally decaying sums of ones.
    """

    totals: dict[str, jax.Array]
    counts: dict[str, jax.Array]


def init(names: Iterable[str]) -> BalancerState:
    """Return the state before the first step."""
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
    """Combine the gradients of several losses with respect to the output.

    A loss adds nothing while its gradients are zero. If the norm of its gradient is not finite on
    any device, it changes neither the cotangent nor the averages in this step.

    Args:
      state: the averages of the steps before.
      gradients: [B, T, C] for every loss with a weight above 0: of the mean over these B items.
      weights: at least 0, one of them above 0. Losses with a weight of 0 are ignored.
      decay: of the moving average, per step.
      total_norm: the sum of the balanced norms of an item.
      axis_name: the axis of the devices; norms are averaged over it.

    Returns:
      The state after this step; the cotangent [B, T, C] to pull back through the generator; and
      shares: "NAME/before" is a loss's share of the sum of the averaged norms (audiocraft's ratio),
      "NAME/after" its share of the sum of this step's norms after balancing.

    Raises:
      ValueError: if names do not match or weights are not allowed.
    """
    names = _weighted(state, gradients, weights)
    total_weight = sum(weights[name] for name in names)
    totals, counts = dict(state.totals), dict(state.counts)
    cotangent = jnp.zeros_like(gradients[names[0]])
    before, after = {}, {}
    for name in names:
        gradient = gradients[name].shape[0] * gradients[name]  # of the item's own loss
        chex.assert_equal_shape([gradient, cotangent])
        norm = _mean_norm(gradient, axis_name)
        is_finite = jnp.isfinite(norm)
        norm = jnp.where(is_finite, norm, 0.0)
        totals[name] = jnp.where(is_finite, decay * totals[name] + norm, totals[name])
        counts[name] = jnp.where(is_finite, decay * counts[name] + 1, counts[name])
        # A count is at least 1, or 0 before the first finite norm.
        average = totals[name] / jnp.maximum(counts[name], 1.0)
        is_used = is_finite & (average > _SMALLEST_NORM)
        share = total_norm * weights[name] / total_weight
        factor = jnp.where(is_used, share / jnp.maximum(average, _SMALLEST_NORM), 0.0)
        cotangent += factor * jnp.where(is_finite, gradient, 0.0)
        before[name], after[name] = average, factor * norm
    shares = {f"{name}/before": share for name, share in _shares(before).items()}
    shares |= {f"{name}/after": share for name, share in _shares(after).items()}
    return BalancerState(totals, counts), cotangent, shares


def _weighted(
    state: BalancerState, gradients: Mapping[str, jax.Array], weights: Mapping[str, float]
) -> list[str]:
    """Return the names of the losses with a weight above 0, after checking all names."""
    for name, weight in weights.items():
        if weight < 0:
            raise ValueError(f"weights: got {weight} for {name}, must be at least 0")
    names = [name for name, weight in weights.items() if weight]
    if not names:
        raise ValueError("weights: all are 0, one must be above 0")
    for what, given in {"gradients": gradients, "state": state.totals}.items():
        missing = [name for name in names if name not in given]
        if missing:
            raise ValueError(f"{what}: got none for {', '.join(missing)}")
    unknown = [name for name in gradients if name not in weights]
    if unknown:
        raise ValueError(f"weights: got none for {', '.join(unknown)}")
    return names


def _mean_norm(gradient: jax.Array, axis_name: str | None) -> jax.Array:
    """Return the norm of an item's gradient, averaged over the items of all devices."""
    norm = jnp.mean(jnp.sqrt(jnp.sum(jnp.square(gradient), axis=(1, 2))))
    return norm if axis_name is None else jax.lax.pmean(norm, axis_name)


def _shares(parts: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Divide by the sum; return zeros if it is zero."""
    total = jnp.sum(jnp.stack(list(parts.values())))
    return {
        name: jnp.where(total > 0, part / jnp.where(total > 0, total, 1.0), 0.0)
        for name, part in parts.items()
    }
