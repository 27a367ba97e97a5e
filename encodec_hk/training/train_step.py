"""One training step, on any number of devices.

Every device holds a part of the batch and the whole state. Gradients, norms and codebook statistics
are combined over the axis AXIS, so results do not depend on the number of devices.

Shapes: B items of a device, T samples, C audio channels, F frames, D latent channels, K codebooks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from encodec_hk import config
from encodec_hk.blocks import segments
from encodec_hk.networks import model
from encodec_hk.networks import quantizer
from encodec_hk.training import adversarial
from encodec_hk.training import balancer
from encodec_hk.training import codebook_learning
from encodec_hk.training import reconstruction
from encodec_hk.training import train_state
from encodec_hk.training import weight_norm

AXIS = "data"
Arrays = dict[str, jax.Array]


class TrainStep:
    """A training step, compiled for a mesh of devices whose one axis is AXIS.

    Attributes:
      initialize: (state, audio [B, T, C]) -> state with codebooks by k-means of this batch. The
        given state is donated; do not reuse it.
      encode: (state, audio [B, T, C]) -> codes of all codebooks [B, K, F], for steps with frozen
        encoder and quantiser.
    """

    def __init__(self, variant: ml_collections.ConfigDict, mesh: jax.sharding.Mesh):
        self._model_config = variant.model
        self._training = variant.training
        self._model = model.build(variant.model, variant.training.precision)
        self._discriminator = train_state.discriminator(variant)
        self._dtype = jnp.dtype(variant.training.dtype)
        self._codebook_counts = tuple(
            config.num_codebooks_for(variant.model, bandwidth)
            for bandwidth in variant.model.bandwidths
        )
        self._mesh = mesh
        self._steps: dict[tuple[bool, ...], Any] = {}
        split = jax.sharding.PartitionSpec(AXIS)
        self.initialize = self._compile(self._initialize)
        self.encode = self._compile(self._encode, donate=False, out_specs=split)

    def __call__(
        self,
        state: train_state.TrainState,
        audio: jax.Array,
        *,
        quantized: bool,
        judged: bool,
        learns: bool = True,
        codes: jax.Array | None = None,
    ) -> tuple[train_state.TrainState, Arrays]:
        """Take a step.

        Args:
          state: donated; do not reuse it.
          audio: [B, T, C], the batch of all devices.
          quantized: whether to quantise latents; False until the codebooks are initialised.
          judged: whether to use the losses that need the discriminator.
          learns: if judged, whether to train the discriminator too; see `draw_learns`. Each value
            compiles a program of its own: as a branch of one program, the gradient of the
            discriminator was 16 times slower on a CPU.
          codes: what `encode` returned for this audio, if encoder and quantiser are frozen; then
            neither runs, and the use of the codebooks is not counted.

        Returns:
          The state and the metrics. If the metric `is_finite` is False, a loss or a parameter was
          not finite, and the state is unchanged except for its step.
        """
        kind = (quantized, judged, judged and learns)
        key = (*kind, codes is not None)
        if key not in self._steps:
            self._steps[key] = self._compile(functools.partial(self._step, *kind))
        return self._steps[key](state, (audio, codes))

    def _compile(
        self,
        function: Callable[..., Any],
        *,
        donate: bool = True,
        out_specs: jax.sharding.PartitionSpec | None = None,
    ) -> Any:
        def in_precision(state: train_state.TrainState, batch: Any) -> Any:
            with jax.default_matmul_precision(self._training.precision):  # of gradients too
                return function(state, batch)

        everywhere, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(AXIS)
        mapped = jax.shard_map(
            in_precision,
            mesh=self._mesh,
            in_specs=(everywhere, split),
            out_specs=everywhere if out_specs is None else out_specs,
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=0 if donate else ())

    def _key(self, step: jax.Array) -> jax.Array:
        """Return the random key of a step, which a resumed run draws again."""
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

    def _encode(self, state: train_state.TrainState, audio: jax.Array) -> jax.Array:
        latents, _ = self._embed(state.generator, audio)
        codes = quantizer.encode(state.codebooks.entries, latents)
        return codes.astype(np.min_scalar_type(self._model_config.codebook_size - 1))

    def _step(
        self,
        quantized: bool,
        judged: bool,
        learns: bool,
        before: train_state.TrainState,
        batch: tuple[jax.Array, jax.Array | None],
    ) -> tuple[train_state.TrainState, Arrays]:
        training = self._training
        audio, kept = batch
        count_key, restart_key = jax.random.split(self._key(before.step))
        num_codebooks = self._draw_num_codebooks(count_key, audio.shape[0])
        trained, frozen = train_state.partition(before.generator, training)
        entries = before.codebooks.entries

        def generate(trained: Any) -> tuple[tuple[jax.Array, jax.Array], Any]:
            generator = trained | frozen
            latents, codes, commitment = None, kept, jnp.zeros(())
            if codes is not None:
                scale = self._scale(audio)
                embedded = codebook_learning.decode(entries, codes, num_codebooks)
            else:
                embedded, scale = self._embed(generator, audio)
                if quantized:
                    latents = embedded
                    embedded, codes, commitment = codebook_learning.quantize(
                        entries, latents, num_codebooks
                    )
            count = num_codebooks if quantized else None
            synthesize = functools.partial(self._model.synthesize_block, num_codebooks=count)
            output = self._run(synthesize, generator, embedded)
            return (output * scale, commitment), (latents, codes)

        (output, commitment), pull, (latents, codes) = jax.vjp(generate, trained, has_aux=True)
        mean_count = jnp.mean(jnp.float32(num_codebooks))
        state, metrics = before, {"num_codebooks": mean_count, "loss/commitment": commitment}
        if learns:
            state, metrics["discriminator"] = self._train_discriminator(state, audio, output)

        weights = {
            name: training.losses[name]
            for name in train_state.BALANCED
            if training.losses[name] and (judged or name not in train_state.ADVERSARIAL)
        }
        values, gradients = self._losses(state, audio, output, weights)
        metrics |= {f"loss/{name}": value for name, value in values.items()}
        balancer_state, cotangent, shares = balancer.combine(
            state.balancer, gradients, weights, decay=training.balancer.decay, axis_name=AXIS
        )
        metrics |= {f"share/{name}": share for name, share in shares.items()}
        state = state._replace(balancer=balancer_state)
        size = audio.shape[0]
        if not training.balancer.enabled:  # from gradients of means to those of items
            cotangent = sum(weights[name] * size * gradients[name] for name in weights)

        factor = jnp.asarray(training.losses.commitment, commitment.dtype)
        (gradient,) = pull((cotangent / size, factor))
        gradient = jax.lax.pmean(gradient, AXIS)
        metrics["gradient_norm"] = optax.global_norm(gradient)
        state, trained = self._train_generator(state, trained, frozen, gradient)
        if latents is not None:
            state, usage = self._train_codebooks(state, latents, codes, restart_key)
            metrics |= usage._asdict()

        metrics = jax.lax.pmean(jax.tree.map(jnp.float32, metrics), AXIS)
        numbers = jax.tree.leaves((metrics, trained, state.codebooks, state.discriminator))
        is_finite = jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in numbers]))
        metrics["is_finite"] = is_finite
        state = jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), state, before)
        return state._replace(step=before.step + 1), metrics

    def _draw_num_codebooks(self, key: jax.Array, batch: int) -> jax.Array:
        """Return a number of codebooks for all items, or one for each of this device's, [B]."""
        counts = jnp.asarray(self._codebook_counts)
        if self._training.bandwidth_per == "batch":
            return jax.random.choice(key, counts)
        drawn = jax.random.choice(key, counts, (jax.lax.axis_size(AXIS) * batch,))
        return jax.lax.dynamic_slice_in_dim(drawn, jax.lax.axis_index(AXIS) * batch, batch)

    def _embed(self, generator: Any, audio: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return latents [B, F, D], and the scales [B, 1, 1] that the audio was divided by."""
        scale = self._scale(audio)
        latents = self._run(self._model.embed_block, generator, audio / scale)
        return latents, scale

    def _scale(self, audio: jax.Array) -> jax.Array:
        """Return what the audio of each item is divided by, [B, 1, 1]."""
        if self._model_config.normalize:
            return segments.rms_scale(audio, jnp)[:, None, None]
        return jnp.ones((audio.shape[0], 1, 1), audio.dtype)

    def _run(self, block: Callable[..., Any], generator: Any, x: jax.Array) -> jax.Array:
        """Run a block function on rows that fill the block, in `training.dtype`."""
        params = weight_norm.fold(generator)
        params, x = jax.tree.map(lambda leaf: leaf.astype(self._dtype), (params, x))
        _, y = block(params, None, x, None, None)
        return y.astype(jnp.float32)

    def _losses(
        self,
        state: train_state.TrainState,
        audio: jax.Array,
        output: jax.Array,
        weights: dict[str, Any],
    ) -> tuple[Arrays, Arrays]:
        """Return the value of every loss in `weights`, and its gradient with respect to output."""
        training = self._training

        def emphasize(x: jax.Array) -> jax.Array:
            return reconstruction.pre_emphasize(x, training.pre_emphasis)

        functions: dict[str, Callable[[jax.Array], jax.Array]] = {
            "time_l1": lambda y: reconstruction.time_l1(emphasize(audio), emphasize(y)),
            "time_l2": lambda y: reconstruction.time_l2(emphasize(audio), emphasize(y)),
            "mel": lambda y: reconstruction.multi_scale_mel(
                audio,
                y,
                sample_rate=self._model_config.sample_rate,
                windows=training.mel_windows,
                num_mels=training.num_mels,
                exponent=training.mel_exponent,
                floor=training.mel_floor,
            ),
            "stft": lambda y: reconstruction.multi_scale_stft(
                audio, y, windows=training.stft_windows, floor=training.stft_floor
            ),
        }
        values, gradients = {}, {}
        for name, function in functions.items():
            if name in weights:
                values[name], gradients[name] = jax.value_and_grad(function)(output)
        names = [name for name in train_state.ADVERSARIAL if name in weights]
        if not names:
            return values, gradients

        params = weight_norm.fold(state.discriminator)
        real = self._discriminator.apply(params, audio)

        def judge(y: jax.Array) -> Arrays:
            fake = self._discriminator.apply(params, y)
            both = {
                "adversarial": adversarial.generator_loss(fake),
                "feature": adversarial.feature_loss(fake, real, axis_name=AXIS),
            }
            return {name: both[name] for name in names}

        judged, pull = jax.vjp(judge, output)  # one forward pass for both losses
        for name in names:
            (gradients[name],) = pull({other: jnp.float32(other == name) for other in names})
        return values | judged, gradients

    def _train_generator(
        self, state: train_state.TrainState, trained: Any, frozen: Any, gradient: Any
    ) -> tuple[train_state.TrainState, Any]:
        """Return the state after a step of the generator, and the new trained parameters."""
        training = self._training
        updates, optimizer = train_state.optimizer(training).update(gradient, state.optimizer)
        trained = optax.apply_updates(trained, updates)
        average = optax.incremental_update(trained, state.average, 1 - training.average_decay)
        state = state._replace(generator=trained | frozen, average=average, optimizer=optimizer)
        return state, trained

    def _train_codebooks(
        self, state: train_state.TrainState, latents: jax.Array, codes: jax.Array, key: jax.Array
    ) -> tuple[train_state.TrainState, codebook_learning.Usage]:
        is_frozen = "quantizer" in self._training.frozen
        codebooks, usage = codebook_learning.update(
            state.codebooks,
            latents,
            codes,
            key,
            decay=self._training.codebooks.decay,
            restart_below=0.0 if is_frozen else self._training.codebooks.restart_below,
            axis_name=AXIS,
        )
        if is_frozen:  # only the statistics of use change
            codebooks = codebooks._replace(entries=state.codebooks.entries)
        return state._replace(codebooks=codebooks), usage

    def _train_discriminator(
        self, state: train_state.TrainState, audio: jax.Array, output: jax.Array
    ) -> tuple[train_state.TrainState, jax.Array]:
        """Return the state after a step of the discriminator, and its loss before the step."""
        output = jax.lax.stop_gradient(output)

        def loss(params: Any) -> jax.Array:
            params = weight_norm.fold(params)
            fake = self._discriminator.apply(params, output)
            real = self._discriminator.apply(params, audio)
            return adversarial.discriminator_loss(fake, real)

        value, gradient = jax.value_and_grad(loss)(state.discriminator)
        gradient = jax.lax.pmean(gradient, AXIS)
        updates, optimizer = train_state.discriminator_optimizer(self._training).update(
            gradient, state.discriminator_optimizer
        )
        params = optax.apply_updates(state.discriminator, updates)
        return state._replace(discriminator=params, discriminator_optimizer=optimizer), value


def draw_learns(training: ml_collections.ConfigDict, step: int) -> bool:
    """Draw whether the discriminator learns in a step: with `update_probability` (Section 3.4).

    The draw depends on the seed and the step alone, so all hosts agree, and so does a resumed run.
    """
    draw = np.random.default_rng((training.seed, step)).random()
    return bool(draw < training.discriminator.update_probability)
