"""One step of training, on any number of devices.

Every device has a part of the batch and all of the state. What a step needs of the whole batch
(gradients, norms, codebook statistics) goes over the axis AXIS, so the number of devices does not
matter.

Shapes: B items of a device, T samples, C audio channels, F frames, D latent channels, K codebooks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from encodec_hk import config as config_lib
from encodec_hk.networks import model
from encodec_hk.training import adversarial
from encodec_hk.training import balancer
from encodec_hk.training import codebook_learning
from encodec_hk.training import reconstruction
from encodec_hk.training import train_state
from encodec_hk.training import weight_norm

AXIS = "data"
Metrics = dict[str, jax.Array]


class Step:
    """The functions of a step, compiled for a mesh of devices with the one axis AXIS.

    Attributes:
      initialize: (state, audio [B, T, C]) -> state, with codebooks by k-means of this batch.
    """

    def __init__(self, config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh):
        self._model_config = config.model
        self._training = config.training
        self._precision = config.training.precision
        self._model = model.build(config.model, self._precision)
        self._discriminator = train_state.discriminator(config)
        self._dtype = jnp.dtype(config.training.dtype)
        self._counts = tuple(
            config_lib.num_codebooks_for(config.model, bandwidth)
            for bandwidth in config.model.bandwidths
        )
        self.initialize = self._compile(self._initialize, mesh, outputs=1)
        self._mesh = mesh
        self._steps: dict[tuple[bool, bool, bool], Any] = {}

    def __call__(
        self,
        state: train_state.TrainState,
        audio: jax.Array,
        *,
        quantized: bool,
        judged: bool,
        learns: bool = True,
    ) -> tuple[train_state.TrainState, Metrics]:
        """Takes a step.

        Args:
          state: given up.
          audio: [B, T, C], the batch of all devices.
          quantized: whether latents are quantised; before codebooks are there, they are not.
          judged: whether there is a discriminator, whose losses count.
          learns: whether it takes a step of its own; see `draw_learns`. This is a program of its
            own and not a branch: as a branch its gradient was 16 times slower on a CPU.

        Returns:
          The state and the metrics, of which `is_finite` tells whether all of the step was finite.
          Where it was not, the state is as before, but for its count of steps.
        """
        kind = (quantized, judged, judged and learns)
        if kind not in self._steps:
            self._steps[kind] = self._compile(self._step(*kind), self._mesh, outputs=2)
        return self._steps[kind](state, audio)

    def _compile(self, function: Callable[..., Any], mesh: jax.sharding.Mesh, outputs: int) -> Any:
        def in_precision(state: train_state.TrainState, audio: jax.Array) -> Any:
            with jax.default_matmul_precision(self._precision):  # of gradients too
                return function(state, audio)

        everywhere, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(AXIS)
        mapped = jax.shard_map(
            in_precision,
            mesh=mesh,
            in_specs=(everywhere, split),
            out_specs=(everywhere,) * outputs if outputs > 1 else everywhere,
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=0)

    def _embed(self, generator: Any, audio: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Latents [B, F, D], and the scales [B, 1, 1] that the audio was divided by."""
        scale = jnp.ones((audio.shape[0], 1, 1), audio.dtype)
        if self._model_config.normalize:
            mono = jnp.mean(audio, axis=2, keepdims=True)
            scale = 1e-8 + jnp.sqrt(jnp.mean(jnp.square(mono), axis=1, keepdims=True))
        latents = self._run(self._model.embed_block, generator, audio / scale)
        return latents, scale

    def _run(self, block: Callable[..., Any], generator: Any, x: jax.Array) -> jax.Array:
        """Runs a block function on whole rows, in the dtype of computation."""
        params = weight_norm.fold(generator)
        params, x = jax.tree.map(lambda leaf: leaf.astype(self._dtype), (params, x))
        _, y = block(params, None, x, None, None)
        return y.astype(jnp.float32)

    def _key(self, step: jax.Array) -> jax.Array:
        """The random key of a step: a run that goes on draws what it would have drawn."""
        return jax.random.fold_in(jax.random.key(self._training.seed), step)

    def _initialize(
        self, state: train_state.TrainState, audio: jax.Array
    ) -> train_state.TrainState:
        latents, _ = self._embed(state.generator, audio)
        codebooks = codebook_learning.k_means(
            latents,
            self._key(state.step),
            num_codebooks=self._model_config.num_codebooks,
            codebook_size=self._model_config.codebook_size,
            iterations=self._training.codebooks.kmeans_iterations,
            axis_name=AXIS,
        )
        return state._replace(codebooks=codebooks)

    def _step(
        self, quantized: bool, judged: bool, learns: bool
    ) -> Callable[[train_state.TrainState, jax.Array], tuple[train_state.TrainState, Metrics]]:
        training = self._training
        is_fixed = "quantizer" in training.frozen
        weights = {
            name: training.losses[name]
            for name in train_state.BALANCED
            if training.losses[name] and (judged or name not in train_state.ADVERSARIAL)
        }

        def step(
            state: train_state.TrainState, audio: jax.Array
        ) -> tuple[train_state.TrainState, Metrics]:
            draw, restart = jax.random.split(self._key(state.step))
            count = jax.random.choice(draw, jnp.asarray(self._counts))
            metrics: Metrics = {"num_codebooks": count}
            trained, kept = train_state.partition(state.generator, training)

            def generate(trained: Any) -> tuple[tuple[jax.Array, jax.Array], Any]:
                generator = trained | kept
                latents, scale = self._embed(generator, audio)
                embedded, codes, commitment = latents, None, jnp.zeros(())
                if quantized:
                    embedded, codes, commitment = codebook_learning.quantize(
                        state.codebooks.entries, latents, count
                    )
                output = self._run(self._model.synthesize_block, generator, embedded)
                return (output * scale, commitment), (latents, codes)

            (output, commitment), pull, (latents, codes) = jax.vjp(generate, trained, has_aux=True)
            critic, critic_optimizer = state.discriminator, state.discriminator_optimizer
            if learns:
                critic, critic_optimizer, metrics["discriminator"] = self._train_discriminator(
                    critic, critic_optimizer, audio, output
                )
            values, gradients = self._losses(critic, audio, output, weights)
            metrics |= {f"loss/{name}": value for name, value in values.items()}
            metrics["loss/commitment"] = commitment

            balance, cotangent, shares = balancer.combine(
                state.balancer,
                gradients,
                weights,
                decay=training.balancer.decay,
                axis_name=AXIS,
            )
            metrics |= {f"share/{name}": share for name, share in shares.items()}
            if not training.balancer.enabled:
                size = audio.shape[0]  # of gradients of means, to gradients of each item
                cotangent = sum(weights[name] * size * gradients[name] for name in weights)
            factor = jnp.asarray(training.losses.commitment, commitment.dtype)
            (gradient,) = pull((cotangent / audio.shape[0], factor))
            gradient = jax.lax.pmean(gradient, AXIS)
            metrics["gradient_norm"] = optax.global_norm(gradient)

            optimizer = train_state.optimizer(training)
            updates, optimizer_state = optimizer.update(gradient, state.optimizer)
            trained = optax.apply_updates(trained, updates)
            codebooks = state.codebooks
            if quantized:
                codebooks, usage = codebook_learning.update(
                    codebooks,
                    latents,
                    codes,
                    restart,
                    decay=training.codebooks.decay,
                    restart_below=0.0 if is_fixed else training.codebooks.restart_below,
                    axis_name=AXIS,
                )
                if is_fixed:  # its use alone moves on
                    codebooks = codebooks._replace(entries=state.codebooks.entries)
                metrics |= {"perplexity": usage.perplexity, "dead": usage.dead}
            new = state._replace(
                generator=trained | kept,
                average=optax.incremental_update(
                    trained, state.average, 1 - training.average_decay
                ),
                optimizer=optimizer_state,
                codebooks=codebooks,
                discriminator=critic,
                discriminator_optimizer=critic_optimizer,
                balancer=balance,
            )
            metrics = jax.lax.pmean(jax.tree.map(jnp.float32, metrics), AXIS)
            numbers = (metrics, trained, codebooks, critic)
            is_finite = jnp.all(
                jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(numbers)])
            )
            new = jax.tree.map(lambda x, before: jnp.where(is_finite, x, before), new, state)
            metrics["is_finite"] = is_finite
            return new._replace(step=state.step + 1), metrics

        return step

    def _losses(
        self, critic: Any, audio: jax.Array, output: jax.Array, weights: dict[str, float]
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """The value of every loss of the output, and its gradient with respect to it."""
        training = self._training

        def emphasized(x: jax.Array) -> jax.Array:
            return reconstruction.pre_emphasize(x, training.pre_emphasis)

        functions: dict[str, Callable[[jax.Array], jax.Array]] = {
            "time_l1": lambda y: reconstruction.time_l1(emphasized(audio), emphasized(y)),
            "time_l2": lambda y: reconstruction.time_l2(emphasized(audio), emphasized(y)),
            "mel": lambda y: reconstruction.multi_scale_mel(
                audio,
                y,
                sample_rate=self._model_config.sample_rate,
                windows=training.mel_windows,
                num_mels=training.num_mels,
                exponent=training.mel_exponent,
                floor=training.mel_floor,
            ),
        }
        values, gradients = {}, {}
        for name in weights.keys() & functions.keys():
            values[name], gradients[name] = jax.value_and_grad(functions[name])(output)
        adversarial_names = [name for name in train_state.ADVERSARIAL if name in weights]
        if adversarial_names:
            params = weight_norm.fold(critic)
            real = self._discriminator.apply(params, audio)

            def judge(y: jax.Array) -> tuple[jax.Array, ...]:
                fake = self._discriminator.apply(params, y)
                both = {
                    "adversarial": adversarial.generator_loss(fake),
                    "feature": adversarial.feature_loss(fake, real, axis_name=AXIS),
                }
                return tuple(both[name] for name in adversarial_names)

            judged, pull = jax.vjp(judge, output)
            for name, value in zip(adversarial_names, judged, strict=True):
                values[name] = value
                of_one = [jnp.float32(other == name) for other in adversarial_names]
                (gradients[name],) = pull(tuple(of_one))
        return values, gradients

    def _train_discriminator(
        self, critic: Any, optimizer_state: Any, audio: jax.Array, output: jax.Array
    ) -> tuple[Any, Any, jax.Array]:
        """The discriminator after its own step, the state of its optimiser, and its loss."""
        output = jax.lax.stop_gradient(output)

        def loss(critic: Any) -> jax.Array:
            params = weight_norm.fold(critic)
            fake = self._discriminator.apply(params, output)
            real = self._discriminator.apply(params, audio)
            return adversarial.discriminator_loss(fake, real)

        value, gradient = jax.value_and_grad(loss)(critic)
        gradient = jax.lax.pmean(gradient, AXIS)
        optimizer = train_state.discriminator_optimizer(self._training)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state)
        return optax.apply_updates(critic, updates), optimizer_state, value


def draw_learns(training: ml_collections.ConfigDict, step: int) -> bool:
    """Whether the discriminator learns in this step: with `update_probability` (Section 3.4).

    It depends on the seed and the step alone, so all hosts agree, and so does a run that goes on.
    """
    draw = np.random.default_rng((training.seed, step)).random()
    return bool(draw < training.discriminator.update_probability)
