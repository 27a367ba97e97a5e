"""What a training run carries from step to step, and how a variant makes it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from encodec_hk import config
from encodec_hk.networks import model
from encodec_hk.training import balancer
from encodec_hk.training import codebook_learning
from encodec_hk.training import stft_discriminator
from encodec_hk.training import weight_norm

BALANCED = ("time_l1", "time_l2", "mel", "stft", "adversarial", "feature")
"""The losses of the generator's output, as `config.training.losses` names them."""
ADVERSARIAL = ("adversarial", "feature")
"""Those of them that need the discriminator."""
FREEZABLE = ("encoder", "quantizer", "decoder")
"""The networks that `config.training.frozen` may name."""


class TrainState(NamedTuple):
    """A pytree of arrays, equal on every device.

    Attributes:
      step: int32, the number of steps done.
      generator: parameters of encoder and decoder, with weight norm split (`weight_norm`). Those of
        a frozen network are as in a checkpoint.
      average: moving average of the generator's parameters, without those of frozen networks.
      optimizer: state of the generator's optimiser.
      codebooks: state of the quantiser.
      discriminator: parameters of the discriminator, with weight norm split.
      discriminator_optimizer: state of the discriminator's optimiser.
      balancer: moving averages of the norms of the losses' gradients.
    """

    step: jax.Array
    generator: Any
    average: Any
    optimizer: Any
    codebooks: codebook_learning.Codebooks
    discriminator: Any
    discriminator_optimizer: Any
    balancer: Any


def create(
    variant: ml_collections.ConfigDict, key: jax.Array, params: model.Params | None = None
) -> TrainState:
    """Return the state before the first step.

    Args:
      variant: a whole configuration.
      key: draws the parameters.
      params: parameters to start from, as in a checkpoint; those that it lacks are drawn. If None,
        all are drawn, and codebooks are zeros until `TrainStep.initialize`.
    """
    training = variant.training
    generator_key, discriminator_key = jax.random.split(key)
    initial = jax.jit(model.build(variant.model).init)(generator_key) | (params or {})
    generator = {
        module: jax.tree.map(jnp.asarray, dict(leaves))
        for module, leaves in initial.items()
        if module != "quantizer"
    }
    trained, frozen = partition(generator, training)
    if variant.model.norm == "weight_norm":
        trained = weight_norm.split(trained, plain=config.networks_of_spectra(variant.model))
    entries = jnp.asarray(initial["quantizer"]["codebooks"])
    if params is None:
        entries = jnp.zeros_like(entries)
    num_vectors = training.batch_size * crop_length(variant) // config.hop_length(variant.model)
    judge = weight_norm.split(jax.jit(discriminator(variant).init)(discriminator_key))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        generator=trained | frozen,
        average=jax.tree.map(jnp.copy, trained),  # buffers of their own, because both are donated
        optimizer=optimizer(training).init(trained),
        codebooks=codebook_learning.start(entries, num_vectors),
        discriminator=judge,
        discriminator_optimizer=discriminator_optimizer(training).init(judge),
        balancer=balancer.init(BALANCED),
    )


def export(
    state: TrainState, variant: ml_collections.ConfigDict
) -> dict[str, dict[str, jax.Array]]:
    """Return a checkpoint's parameters: the moving average, folded, and the codebooks.

    Frozen networks are unchanged to the last bit.
    """
    params = state.average
    if variant.model.norm == "weight_norm":
        params = weight_norm.fold(params)
    _, frozen = partition(state.generator, variant.training)
    return {**params, **frozen, "quantizer": {"codebooks": state.codebooks.entries}}


def partition(
    generator: dict[str, Any], training: ml_collections.ConfigDict
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the modules into those of trained and those of frozen networks."""
    is_frozen = {module: module.split("/")[0] in training.frozen for module in generator}
    return (
        {module: leaves for module, leaves in generator.items() if not is_frozen[module]},
        {module: leaves for module, leaves in generator.items() if is_frozen[module]},
    )


def optimizer(training: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """Return the generator's optimiser: Adam, after clipping the gradient's norm if configured."""
    adam = _adam(training, training.learning_rate)
    if training.max_gradient_norm is None:
        return adam
    return optax.chain(optax.clip_by_global_norm(training.max_gradient_norm), adam)


def discriminator_optimizer(training: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """Return the discriminator's optimiser: Adam, with its own learning rate if configured."""
    rate = training.discriminator.learning_rate
    return _adam(training, training.learning_rate if rate is None else rate)


def _adam(training: ml_collections.ConfigDict, rate: float) -> optax.GradientTransformation:
    first, second = training.adam_betas
    return optax.adam(schedule(training, rate), b1=first, b2=second)


def schedule(training: ml_collections.ConfigDict, rate: float) -> optax.Schedule:
    """Return the learning rate by step; it is `rate` after the warm-up."""
    warmup = training.warmup_steps
    if training.schedule == "cosine":
        rest = optax.cosine_decay_schedule(rate, max(1, training.num_steps - warmup))
    else:
        rest = optax.constant_schedule(rate)
    if not warmup:
        return rest
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), rest], [warmup])


def first_quantized(training: ml_collections.ConfigDict) -> int:
    """Return the step that sets the codebooks: `codebooks.first_step`, at most a quarter of all.

    So a short run has codebooks, too.
    """
    return int(min(training.codebooks.first_step, training.num_steps // 4))


def crop_length(variant: ml_collections.ConfigDict) -> int:
    """Return the samples of a crop: `crop_seconds`, rounded up to whole frames."""
    hop = config.hop_length(variant.model)
    samples = round(variant.training.crop_seconds * variant.model.sample_rate)
    return -(-samples // hop) * hop


def discriminator(variant: ml_collections.ConfigDict) -> stft_discriminator.Discriminator:
    """Build the discriminator of a variant."""
    fields = variant.training.discriminator
    return stft_discriminator.build(
        channels=variant.model.channels,
        num_filters=fields.num_filters,
        windows=fields.windows,
        init=fields.init,
    )
