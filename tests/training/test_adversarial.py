"""Adversarial losses against numbers computed by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from encodec_hk.training import adversarial
from encodec_hk.training import stft_discriminator


def judge(*scales):
    """Judgements of (logits, features) given as lists of numbers, a number an item."""
    return [
        stft_discriminator.Judgement(_rows(logits), [_rows(feature) for feature in features])
        for logits, features in scales
    ]


def _rows(numbers):
    return jnp.array(numbers, jnp.float32).reshape(len(numbers), 1, -1, 1)


# Two scales; the second has one layer less.
REAL = judge(([2.0, 0.5], ([1.0, -3.0], [2.0, 2.0])), ([-1.0, 0.0], ([4.0, 0.0],)))
FAKE = judge(([-2.0, 0.5], ([2.0, -1.0], [2.0, 5.0])), ([3.0, -0.5], ([4.0, -1.0],)))


class AdversarialTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_generator_loss(self):
        # Scale 1: (3 + 0.5) / 2; scale 2: (0 + 1.5) / 2.
        value = self.variant(adversarial.generator_loss)(FAKE)
        self.assertAlmostEqual(float(value), (1.75 + 0.75) / 2, places=6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_discriminator_loss(self):
        # Scale 1: real (0 + 0.5) / 2, fake (0 + 1.5) / 2; scale 2: real (2 + 1) / 2, fake
        # (4 + 0.5) / 2.
        value = self.variant(adversarial.discriminator_loss)(FAKE, REAL)
        self.assertAlmostEqual(float(value), (0.25 + 0.75 + 1.5 + 2.25) / 2, places=6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_feature_loss(self):
        # Means of differences over means of the real: 1.5 / 2, 1.5 / 2, 0.5 / 2.
        value = self.variant(adversarial.feature_loss)(FAKE, REAL)
        self.assertAlmostEqual(float(value), (0.75 + 0.75 + 0.25) / 3, places=6)

    def test_gradients(self):
        of_generator = jax.grad(adversarial.generator_loss)(FAKE)
        # 1 / (2 scales x 2 items), where the logit is below 1.
        np.testing.assert_allclose(of_generator[0].logits.ravel(), [-0.25, -0.25])
        np.testing.assert_allclose(of_generator[1].logits.ravel(), [0, -0.25])
        of_fake, of_real = jax.grad(adversarial.discriminator_loss, (0, 1))(FAKE, REAL)
        np.testing.assert_allclose(of_fake[0].logits.ravel(), [0, 0.25])
        np.testing.assert_allclose(of_real[0].logits.ravel(), [0, -0.25])
        of_fake, of_real = jax.grad(adversarial.feature_loss, (0, 1))(FAKE, REAL)
        # The sign of the difference / (3 layers x 2 items x mean of the real, 2).
        np.testing.assert_allclose(of_fake[0].features[0].ravel(), [1 / 12, 1 / 12], rtol=1e-6)
        chex.assert_trees_all_equal(of_real, jax.tree.map(jnp.zeros_like, of_real))

    def test_features_are_compared_relatively(self):
        louder = [jax.tree.map(lambda leaf: 1e3 * leaf, side) for side in (FAKE, REAL)]
        expected = adversarial.feature_loss(FAKE, REAL)
        np.testing.assert_allclose(adversarial.feature_loss(*louder), expected, rtol=1e-6)

    def test_silent_features_have_a_finite_gradient(self):
        silent = jax.tree.map(jnp.zeros_like, REAL)
        value, gradient = jax.value_and_grad(adversarial.feature_loss)(silent, silent)
        self.assertEqual(float(value), 0)
        chex.assert_tree_all_finite(gradient)

    @parameterized.parameters(True, False)
    def test_devices_share_the_scale_of_features(self, is_shared):
        """An item a device: the mean over devices is the loss of the batch, with a shared scale."""
        fake, real = (
            jax.tree.map(lambda leaf: leaf[:, None], side) for side in (FAKE, REAL)
        )  # [devices, 1, ...]
        values = jax.vmap(
            lambda fake, real: adversarial.feature_loss(
                fake, real, axis_name="data" if is_shared else None
            ),
            axis_name="data",
        )(fake, real)
        whole = float(adversarial.feature_loss(FAKE, REAL))
        if is_shared:
            self.assertAlmostEqual(float(jnp.mean(values)), whole, places=6)
        else:
            self.assertNotAlmostEqual(float(jnp.mean(values)), whole, places=2)

    def test_scales_and_layers_must_match(self):
        with self.assertRaises(ValueError):
            adversarial.discriminator_loss(FAKE[:1], REAL)
        with self.assertRaises(ValueError):
            adversarial.feature_loss(FAKE, [REAL[1], REAL[1]])
        with self.assertRaises(AssertionError):
            adversarial.feature_loss(FAKE, jax.tree.map(lambda leaf: leaf[:1], REAL))
