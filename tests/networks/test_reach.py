"""How far networks look, as configurations say it and as the networks themselves do."""

import functools
import importlib
import itertools

import chex
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk import config
from encodec_hk.networks import model
from encodec_hk.networks import reach


def get_config(name: str) -> ml_collections.ConfigDict:
    return importlib.import_module(f"configs.{name}").get_config()


class ReachTest(parameterized.TestCase):
    """Receptive fields and first blocks, compared with the networks themselves."""

    @parameterized.parameters(
        ("encodec_24khz", 7, 2718, 9), ("encodec_48khz", 1, 2718, 9), ("encodec_32khz", 1, 5428, 9)
    )
    def test_of_variants(self, name, first, samples, frames):
        model_config = get_config(name).model
        self.assertEqual(reach.minimum_first_blocks(model_config), (first, first))
        self.assertEqual(reach.receptive_field(model_config), (samples, frames))

    def test_padding_with_zeros_needs_no_look_ahead(self):
        model_config = get_config("encodec_24khz").model
        model_config.pad_mode = "constant"
        self.assertEqual(reach.minimum_first_blocks(model_config), (1, 1))

    @parameterized.parameters(
        (True, (2, 3), {"kernel_size": 3}),
        (True, (4,), {"num_residual_layers": 2, "dilation_base": 3}),
        (False, (3,), {"last_kernel_size": 5}),
    )
    def test_receptive_field(self, causal, ratios, fields):
        model_config = _small(causal=causal, ratios=ratios, pad_mode="constant", **fields)
        network = model.build(model_config)
        params = _params(network)
        hop = config.hop_length(model_config)
        samples, frames = reach.receptive_field(model_config)
        num_frames = 2 * max(-(-samples // hop), frames) + 1
        middle = num_frames // 2

        def latent(audio: jax.Array) -> jax.Array:
            size = jnp.full((1,), audio.shape[1])
            return network.embed_block(params, None, audio, size, size > 0)[1][0, middle].sum()

        audio = jax.random.normal(jax.random.key(1), (1, num_frames * hop, 1))
        self.assertEqual(jnp.count_nonzero(jax.jit(jax.grad(latent))(audio)), samples)

        # Row r differs from the last row in the code of frame r alone.
        codes = jnp.pad(jnp.eye(num_frames, dtype=jnp.int32), ((0, 1), (0, 0)))[:, None]
        size = jnp.full((len(codes),), num_frames)
        _, outputs = jax.jit(network.decode_block)(params, None, codes, size, size > 0)
        changed = np.asarray(outputs[:-1] != outputs[-1:])[..., 0]  # [frame, sample]
        self.assertEqual(changed.sum(axis=0)[middle * hop : (middle + 1) * hop].max(), frames)

    @parameterized.parameters(
        # The last convolution; a dilated residual layer at two steps per frame; the first one.
        ({}, 7),
        ({"num_residual_layers": 4, "dilation_base": 3}, 28),
        ({"kernel_size": 21, "last_kernel_size": 3}, 21),
    )
    @pytest.mark.few(0)
    def test_first_block_is_enough_and_no_more_than_needed(self, fields, expected):
        model_config = _small(causal=True, ratios=(2,), **fields)
        first = max(reach.minimum_first_blocks(model_config))
        self.assertEqual(first, expected)
        network = model.build(model_config)
        params = _params(network)
        hop = config.hop_length(model_config)
        frames = first + 2
        audio = jax.random.normal(jax.random.key(1), (1, frames * hop, 1))
        codes = jax.random.randint(jax.random.key(2), (1, 2, frames), 0, model_config.codebook_size)

        @functools.partial(jax.jit, static_argnames="cuts")
        def run(cuts: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
            """Return latents and audio of the blocks between the cuts."""
            encoder, decoder = network.encoder_state(1), network.decoder_state(1)
            latents, sound = [], []
            for start, end in itertools.pairwise((0, *cuts, frames)):
                last = jnp.full((1,), end == frames)
                size = jnp.full((1,), end - start)
                part = audio[:, start * hop : end * hop]
                encoder, block = network.embed_block(params, encoder, part, size * hop, last)
                latents.append(block)
                part = codes[..., start:end]
                decoder, block = network.decode_block(params, decoder, part, size, last)
                sound.append(block)
            return jnp.concatenate(latents, axis=1), jnp.concatenate(sound, axis=1)

        whole = run(cuts=())
        chex.assert_trees_all_close(run(cuts=(first,)), whole, atol=1e-5)
        with self.assertRaises(AssertionError):
            chex.assert_trees_all_close(run(cuts=(first - 1,)), whole, atol=1e-4)


def _params(network: model.Model) -> model.Params:
    """Return random parameters; compiling `init` would take much longer."""
    rng = np.random.default_rng(0)
    shapes = network.param_shapes()
    return jax.tree.map(lambda leaf: 0.3 * rng.standard_normal(leaf.shape, np.float32), shapes)


def _small(**fields: object) -> ml_collections.ConfigDict:
    model_config = get_config("encodec_tiny").model
    model_config.update({"num_filters": 4, "latent_dim": 3, "codebook_size": 4, "num_codebooks": 2})
    model_config.num_lstm_layers = 0  # the memory of an LSTM is unlimited
    model_config.update(fields)
    model_config.bandwidths = (config.bandwidth_for(model_config, 1),)
    return model_config


if __name__ == "__main__":
    absltest.main()
