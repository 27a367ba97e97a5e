"""Adversarial losses (Section 3.4 of arXiv 2210.13438).

Every loss is a mean over the items of a device; its mean over devices is the loss of the batch.
With D_k the logits of scale k of K, D_k^l the features of layer l of L, audio x and output y:

    generator        1/K  sum_k    mean(max(0, 1 - D_k(y)))
    feature          1/KL sum_k,l  mean|D_k^l(x) - D_k^l(y)| / mean|D_k^l(x)|
    discriminator    1/K  sum_k    mean(max(0, 1 - D_k(x))) + mean(max(0, 1 + D_k(y)))

audiocraft trains its generator with mean(-D_k(y)) (its `hinge2` is the loss above), and does not
divide its feature loss by mean|D(x)|. Its discriminator loss is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from encodec_hk.training import stft_discriminator

_SMALLEST_SCALE = 1e-8  # of features, so that silence does not divide by zero


def generator_loss(fake: Sequence[stft_discriminator.Judgement]) -> jax.Array:
    """Return the generator's loss, a scalar: 0 if all logits are at least 1.

    Args:
      fake: the judgements of the generator's output.
    """
    return _mean([_hinge(scale.logits) for scale in fake])


def feature_loss(
    fake: Sequence[stft_discriminator.Judgement],
    real: Sequence[stft_discriminator.Judgement],
    *,
    axis_name: str | None = None,
) -> jax.Array:
    """Return the distance of the features of output and audio, relative to those of the audio.

    Args:
      fake: the judgements of the generator's output.
      real: the judgements of the audio; they get no gradient.
      axis_name: the axis of the devices; the scale of the features is averaged over it.

    Returns:
      A scalar.
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
    fake: Sequence[stft_discriminator.Judgement], real: Sequence[stft_discriminator.Judgement]
) -> jax.Array:
    """Return the discriminator's loss, a scalar.

    It is 0 if all logits are at least 1 for the audio and at most -1 for the output.

    Args:
      fake: the judgements of the generator's output.
      real: the judgements of the audio.
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
