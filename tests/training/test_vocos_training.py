"""Training steps of a model with a Vocos decoder."""

import chex
import jax
import numpy as np
import pytest
from absl.testing import absltest

import encodec_hk
from encodec_hk import config
from encodec_hk.networks import model
from encodec_hk.training import codebook_learning
from encodec_hk.training import train_state
from tests import random_networks
from tests.training import test_train_step

VOCOS = {"dim": 8, "intermediate": 12, "num_layers": 1, "n_fft": 16}


class VocosTrainingTest(absltest.TestCase):
    def test_a_decoder_learns_for_frozen_codes(self):
        variant = test_train_step.configure(
            {"decoder": "vocos", "vocos": VOCOS | {"bandwidths": (8.0, 24.0)}},
            {"frozen": ("encoder", "quantizer")},
        )
        train = test_train_step.Trainer(variant)
        weights = train.fresh.generator["decoder/head/linear"]
        self.assertSameElements(weights, ["w", "b"])  # Vocos has no weight norm
        state, metrics = train(train.fresh, judged=False)
        self.assertTrue(metrics["is_finite"])
        norm = config.vocos_norms(variant.model)[int(metrics["num_codebooks"]) - 1]
        before = random_networks.random_params(variant.model)
        after = train_state.export(state, variant)
        for module, leaves in before.items():
            for name, leaf in leaves.items():
                changed = np.abs(leaf - after[module][name]) > 5e-7  # more than rounding
                if not module.startswith("decoder"):
                    self.assertFalse(changed.any(), f"{module} {name}")
                elif module.endswith("/norm"):  # of the bandwidth of this step alone
                    self.assertTrue(changed[norm].any(), f"{module} {name}")
                    self.assertFalse(changed[1 - norm].any(), f"{module} {name}")
                else:
                    self.assertTrue(changed.any(), f"{module} {name}")
        codecs = [
            encodec_hk.Codec(variant.model, jax.tree.map(np.asarray, params))
            for params in (before, after)
        ]
        self.assertEqual(codecs[0].codes_of, codecs[1].codes_of)
        self.assertNotEqual(codecs[0].fingerprint, codecs[1].fingerprint)

    def test_networks_of_spectra_learn_together(self):
        vocos = {"bandwidths": (8.0, 24.0), "head": "complex", "causal": True}
        variant = test_train_step.configure(
            {"encoder": "fourier", "fourier": VOCOS, "decoder": "vocos", "vocos": VOCOS | vocos},
            {"bandwidth_per": "crop"},
        )
        train = test_train_step.Trainer(variant)
        names = {name for leaves in train.fresh.generator.values() for name in leaves}
        self.assertNoCommonElements(names, ["w_g", "w_v"])  # neither has weight norm
        state, metrics = train(train.fresh, judged=False)
        self.assertTrue(metrics["is_finite"])
        before = random_networks.random_params(variant.model)
        for module, leaves in train_state.export(state, variant).items():
            for name, leaf in leaves.items():
                changed = np.abs(leaf - before[module][name]).max()
                self.assertGreater(changed, 5e-7, f"{module} {name}")

    @pytest.mark.slow
    def test_kept_codes_give_the_step_of_a_frozen_encoder(self):
        variant = test_train_step.configure(
            {"decoder": "vocos", "vocos": VOCOS | {"bandwidths": (8.0, 24.0)}},
            {
                "frozen": ("encoder", "quantizer"),
                "bandwidth_per": "crop",
                "data.repeated_batches": 2,
            },
        )
        train = test_train_step.Trainer(variant)
        codes = train.step.encode(train.fresh, train.audio)
        codec = encodec_hk.Codec(variant.model, random_networks.random_params(variant.model))
        expected = codec.encode(train.audio, bandwidth=24)
        np.testing.assert_array_equal(codes, expected.codes)
        plain, metrics = train(train.fresh, judged=False)
        kept, metrics_of_kept = jax.device_get(
            train.step(train.fresh, train.audio, quantized=True, judged=False, codes=codes)
        )
        for name in ("loss/mel", "loss/time_l1", "gradient_norm", "num_codebooks"):
            np.testing.assert_allclose(metrics_of_kept[name], metrics[name], rtol=1e-4)
        chex.assert_trees_all_close(kept.optimizer, plain.optimizer, rtol=1e-3, atol=1e-6)
        self.assertNotIn("perplexity", metrics_of_kept)

    @pytest.mark.slow
    def test_a_bandwidth_for_each_crop(self):
        """A row is decoded as a batch of its bandwidth alone, and the loss is the mean of rows."""
        variant = test_train_step.configure(
            {"decoder": "vocos", "vocos": VOCOS | {"bandwidths": (8.0, 24.0)}},
            {"bandwidth_per": "crop", "losses.stft": 1.0, "stft_windows": (64,)},
        )
        train = test_train_step.Trainer(variant)
        state, metrics = train(train.fresh, judged=False)
        self.assertGreater(metrics["loss/stft"], 0)
        self.assertGreater(metrics["share/stft/after"], 0)
        mean = float(metrics["num_codebooks"])  # of 1 and 3
        self.assertTrue(1 < mean < 3, mean)
        norms = np.abs(
            state.generator["decoder/embed/norm"]["scale"]
            - train.fresh.generator["decoder/embed/norm"]["scale"]
        )
        self.assertTrue((norms.max(axis=1) > 1e-6).all())  # both bandwidths learn in one step

        networks = model.build(variant.model)
        params = train_state.export(train.fresh, variant)
        _, latents = networks.embed_block(params, None, train.audio, None, None)
        entries = train.fresh.codebooks.entries
        counts = np.array([1, 3, 3, 1, 1, 3, 1, 3], np.int32)
        embedded, codes, commitment = codebook_learning.quantize(entries, latents, counts)
        _, output = networks.synthesize_block(
            params, None, embedded, None, None, num_codebooks=counts
        )
        errors = []
        for row, count in enumerate(counts):
            alone = codebook_learning.quantize(entries, latents[row : row + 1], int(count))
            np.testing.assert_allclose(embedded[row], alone[0][0], rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(codes[row], alone[1][0])
            errors.append(alone[2])
            _, expected = networks.synthesize_block(
                params, None, alone[0], None, None, num_codebooks=int(count)
            )
            np.testing.assert_allclose(output[row], expected[0], rtol=1e-4, atol=1e-5)
        self.assertAlmostEqual(float(commitment), float(np.mean(errors)), places=5)


if __name__ == "__main__":
    absltest.main()
