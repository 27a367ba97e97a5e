"""Adversarial losses (Section 3.4 of arXiv 2210.13438).

Everything is a mean over the items of a device, so that the mean over devices is the loss of the
whole batch. With D_k the logits of scale k of K, and D_k^l the features of layer l of L in it:

    generator        1/K  sum_k    mean(max(0, 1 - D_k(y)))
    feature          1/KL sum_k,l  mean|D_k^l(x) - D_k^l(y)| / mean|D_k^l(x)|
    discriminator    1/K  sum_k    mean(max(0, 1 - D_k(x))) + mean(max(0, 1 + D_k(y)))

audiocraft trains its generator with mean(-D_k(y)) instead (its `hinge2` is the loss above), and its
feature loss is not relative: the division by mean|D(x)| is left out. Its discriminator's loss is
the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from encodec_hk.training import ms_stft

_SMALLEST_SCALE = 1e-8  # of features: below, a relative difference says nothing


def generator_loss(fake: Sequence[ms_stft.Judgement]) -> jax.Array:
    """How far the generator is from being taken for real.

    Args:
      fake: what the discriminator says of the generator's output.

    Returns:
      A scalar; 0 where all logits are at least 1.
    """
    return _mean([_hinge(scale.logits) for scale in fake])


def feature_loss(
    fake: Sequence[ms_stft.Judgement],
    real: Sequence[ms_stft.Judgement],
    *,
    axis_name: str | None = None,
) -> jax.Array:
    """Difference of the discriminator's features of output and audio, relative to those of audio.

    Args:
      fake: what the discriminator says of the generator's output.
      real: what it says of the audio; no gradient goes there.
      axis_name: the axis of the devices, over which the scale of the features is averaged.

    Returns:
      A scalar; its mean over the devices is the loss of the whole batch.
    """
    differences = []
    for fake_scale, real_scale in zip(fake, real, strict=True):
        for output, target in zip(fake_scale.features, real_scale.features, strict=True):
            chex.assert_equal_shape([output, target])
            target = jax.lax.stop_gradient(target)
            scale = jnp.mean(jnp.abs(target))
            if axis_name is not None:
                scale = jax.lax.pmean(scale, axis_name)
            difference = jnp.mean(jnp.abs(target - output))
            differences.append(difference / jnp.maximum(scale, _SMALLEST_SCALE))
    return _mean(differences)


def discriminator_loss(
    fake: Sequence[ms_stft.Judgement], real: Sequence[ms_stft.Judgement]
) -> jax.Array:
    """How far the discriminator is from telling output and audio apart.

    Args:
      fake: what the discriminator says of the generator's output.
      real: what it says of the audio.

    Returns:
      A scalar; 0 where all logits are at least 1 for the audio and at most -1 for the output.
    """
    return _mean(
        [
            _hinge(real_scale.logits) + _hinge(-fake_scale.logits)
            for fake_scale, real_scale in zip(fake, real, strict=True)
        ]
    )


def _hinge(logits: jax.Array) -> jax.Array:
    return jnp.mean(jax.nn.relu(1 - logits))


def _mean(values: Sequence[jax.Array]) -> jax.Array:
    return jnp.mean(jnp.stack(values))
