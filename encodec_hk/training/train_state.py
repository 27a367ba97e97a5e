"""What a training run carries from step to step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from encodec_hk import config as config_lib
from encodec_hk.networks import model as model_lib
from encodec_hk.training import balancer
from encodec_hk.training import codebook_learning
from encodec_hk.training import ms_stft
from encodec_hk.training import weight_norm

BALANCED = ("time_l1", "time_l2", "mel", "adversarial", "feature")
"""The losses on the output of the generator, by their names in `config.training.losses`."""
ADVERSARIAL = ("adversarial", "feature")
FREEZABLE = ("encoder", "quantizer", "decoder")
"""What `config.training.frozen` may name."""


class TrainState(NamedTuple):
    """A pytree of arrays, equal on every device.

    Attributes:
      step: int32, steps done.
      generator: parameters of encoder and decoder, with weight norm split (`weight_norm`) in the
        networks that train; those of a frozen one are as a checkpoint has them.
      average: moving average of those that train.
      optimizer: state of the generator's optimiser.
      codebooks: state of the quantiser.
      discriminator: its parameters.
      discriminator_optimizer: state of its optimiser.
      balancer: moving averages of the losses' gradient norms.
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
    config: ml_collections.ConfigDict, key: jax.Array, params: model_lib.Params | None = None
) -> TrainState:
    """The state before the first step.

    Args:
      config: a whole config.
      key: of the random parameters.
      params: the networks to start from, as a checkpoint holds them. Without, parameters are drawn,
        and the codebooks are zeros until `step.initialize`.
    """
    model, training = config.model, config.training
    generator_key, discriminator_key = jax.random.split(key)
    is_fresh = params is None
    if params is None:
        params = jax.jit(model_lib.build(model).init)(generator_key)
    generator = {
        module: jax.tree.map(jnp.asarray, dict(leaves))
        for module, leaves in params.items()
        if module != "quantizer"
    }
    trained, kept = partition(generator, training)
    if model.norm == "weight_norm":
        trained = weight_norm.split(trained)
    entries = jnp.asarray(params["quantizer"]["codebooks"])
    if is_fresh:
        entries = jnp.zeros_like(entries)
    vectors = training.batch_size * crop_length(config) // config_lib.hop_length(model)
    critic = weight_norm.split(jax.jit(discriminator(config).init)(discriminator_key))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        generator=trained | kept,
        average=jax.tree.map(jnp.copy, trained),  # a buffer of its own, to be donated
        optimizer=optimizer(training).init(trained),
        codebooks=codebook_learning.start(entries, vectors),
        discriminator=critic,
        discriminator_optimizer=discriminator_optimizer(training).init(critic),
        balancer=balancer.init(BALANCED),
    )


def export(state: TrainState, config: ml_collections.ConfigDict) -> dict[str, dict[str, jax.Array]]:
    """The parameters of a checkpoint: the moving average, weight norm folded, and the codebooks.

    What is frozen is as it was, to the last bit.
    """
    params = state.average
    if config.model.norm == "weight_norm":
        params = weight_norm.fold(params)
    _, kept = partition(state.generator, config.training)
    return {**params, **kept, "quantizer": {"codebooks": state.codebooks.entries}}


def partition(
    generator: dict[str, Any], training: ml_collections.ConfigDict
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The modules that train, and those of frozen networks."""
    is_frozen = {module: module.split("/")[0] in training.frozen for module in generator}
    return (
        {module: leaves for module, leaves in generator.items() if not is_frozen[module]},
        {module: leaves for module, leaves in generator.items() if is_frozen[module]},
    )


def optimizer(training: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """The generator's: Adam, after clipping the gradient's norm if there is a limit."""
    adam = _adam(training, training.learning_rate)
    if training.max_gradient_norm is None:
        return adam
    return optax.chain(optax.clip_by_global_norm(training.max_gradient_norm), adam)


def discriminator_optimizer(training: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """The discriminator's: Adam, at a learning rate of its own where there is one."""
    rate = training.discriminator.learning_rate
    return _adam(training, training.learning_rate if rate is None else rate)


def _adam(training: ml_collections.ConfigDict, rate: float) -> optax.GradientTransformation:
    first, second = training.adam_betas
    return optax.adam(schedule(training, rate), b1=first, b2=second)


def schedule(training: ml_collections.ConfigDict, rate: float) -> optax.Schedule:
    """The learning rate by step, `rate` after the warm-up."""
    warmup = training.warmup_steps
    if training.schedule == "cosine":
        rest = optax.cosine_decay_schedule(rate, max(1, training.num_steps - warmup))
    else:
        rest = optax.constant_schedule(rate)
    if not warmup:
        return rest
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), rest], [warmup])


def crop_length(config: ml_collections.ConfigDict) -> int:
    """Samples of a crop: `crop_seconds`, rounded up to whole frames."""
    hop = config_lib.hop_length(config.model)
    samples = round(config.training.crop_seconds * config.model.sample_rate)
    return -(-samples // hop) * hop


def discriminator(config: ml_collections.ConfigDict) -> ms_stft.Discriminator:
    """The discriminator of the config."""
    settings = config.training.discriminator
    return ms_stft.build(
        channels=config.model.channels,
        num_filters=settings.num_filters,
        windows=settings.windows,
        init=settings.init,
    )
