"""The loss balancer: by hand, against loops of numpy and torch, on one and on eight devices."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from absl.testing import parameterized

from encodec_hk.training import adversarial
from encodec_hk.training import balancer
from encodec_hk.training import stft_discriminator
from tests import compilation

WEIGHTS = {"time": 0.1, "mel": 1.0, "feature": 3.0}


def random_gradients(seed, scales=(1e-3, 5.0, 0.2), shape=(4, 50, 2)):
    rng = np.random.default_rng(seed)
    return {
        name: (scale * rng.lognormal() * rng.standard_normal(shape)).astype(np.float32)
        for name, scale in zip(WEIGHTS, scales, strict=True)
    }


def norms(gradient):
    """The norm of every item's gradient."""
    return np.sqrt(np.sum(np.square(gradient, dtype=np.float64), axis=(1, 2)))


class BalancerTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_by_hand(self):
        # Norms 5 and 15: an average of 10. Norms 2 and 0: an average of 1.
        gradients = {
            "a": jnp.array([[[3.0], [4.0]], [[9.0], [12.0]]]),
            "b": jnp.array([[[0.0], [2.0]], [[0.0], [0.0]]]),
        }
        combine = self.variant(
            lambda state, gradients: balancer.combine(
                state, gradients, {"a": 1.0, "b": 3.0}, total_norm=2.0
            )
        )
        state, cotangent, shares = combine(balancer.init(["a", "b"]), gradients)
        expected = 2 * (1 / 4 * gradients["a"] / 10 + 3 / 4 * gradients["b"] / 1)
        np.testing.assert_allclose(cotangent, expected, rtol=1e-6)
        self.assertAlmostEqual(float(shares["a/before"]), 10 / 11, places=6)
        self.assertAlmostEqual(float(shares["b/before"]), 1 / 11, places=6)
        self.assertAlmostEqual(float(shares["a/after"]), 1 / 4, places=6)
        self.assertAlmostEqual(float(shares["b/after"]), 3 / 4, places=6)
        self.assertEqual(float(state.totals["a"]), 2 * 10)  # of items' own losses: 2 times

    @parameterized.parameters(1, 5)
    def test_constant_gradients_have_the_shares_of_their_weights(self, steps):
        gradients = random_gradients(0)
        state = balancer.init(WEIGHTS)
        for _ in range(steps):
            state, cotangent, shares = balancer.combine(state, gradients, WEIGHTS)
        for name, weight in WEIGHTS.items():
            share = weight / sum(WEIGHTS.values())
            self.assertAlmostEqual(float(shares[f"{name}/after"]), share, delta=1e-6)
        expected = sum(
            weight / sum(WEIGHTS.values()) * gradients[name] / norms(gradients[name]).mean()
            for name, weight in WEIGHTS.items()
        )
        np.testing.assert_allclose(cotangent, expected, rtol=1e-5, atol=1e-7)

    def test_the_batch_does_not_matter(self):
        """Of a mean over twice the items, gradients are half; state and cotangents are equal."""
        half = random_gradients(0)
        whole = {name: np.concatenate([g, g]) / 2 for name, g in half.items()}
        one, few, _ = balancer.combine(balancer.init(WEIGHTS), half, WEIGHTS)
        other, many, _ = balancer.combine(balancer.init(WEIGHTS), whole, WEIGHTS)
        chex.assert_trees_all_close(one, other, rtol=1e-6)
        np.testing.assert_allclose(many, np.concatenate([few, few]), rtol=1e-5, atol=1e-7)

    @parameterized.parameters(0.5, 0.999)
    def test_moving_average_equals_numpy(self, decay):
        state = balancer.init(WEIGHTS)
        history = []
        combine = jax.jit(lambda s, g: balancer.combine(s, g, WEIGHTS, decay=decay))
        for step in range(30):
            gradients = random_gradients(step)
            history.append([norms(gradients[name]).mean() for name in WEIGHTS])
            state, _, shares = combine(state, gradients)
        past = decay ** np.arange(len(history))[::-1]
        average = past @ np.array(history) / past.sum()
        ours = [state.totals[name] / state.counts[name] for name in WEIGHTS]
        np.testing.assert_allclose(ours, 4 * average, rtol=1e-5)
        before = [shares[f"{name}/before"] for name in WEIGHTS]
        np.testing.assert_allclose(before, average / average.sum(), rtol=1e-5)

    def test_equals_audiocraft(self):
        """Its documented formula in float64, its epsilon included, over steps."""
        decay, total_norm = 0.9, 1.5
        total = dict.fromkeys(WEIGHTS, 0.0)
        count = 0.0
        state = balancer.init(WEIGHTS)
        for step in range(8):
            gradients = random_gradients(step)
            state, cotangent, shares = balancer.combine(
                state, gradients, WEIGHTS, decay=decay, total_norm=total_norm
            )
            count = count * decay + 1
            expected = torch.zeros(4, 50, 2, dtype=torch.float64)
            average = {}
            for name, weight in WEIGHTS.items():
                gradient = torch.tensor(gradients[name], dtype=torch.float64)
                norm = gradient.flatten(1).norm(dim=1).mean()
                total[name] = total[name] * decay + float(norm)
                average[name] = total[name] / count
                ratio = weight / sum(WEIGHTS.values())
                expected += ratio * total_norm / (1e-12 + average[name]) * gradient
            np.testing.assert_allclose(cotangent, expected.numpy(), rtol=1e-4, atol=1e-6)
            for name, value in average.items():
                ratio = value / sum(average.values())
                np.testing.assert_allclose(shares[f"{name}/before"], ratio, rtol=1e-5)

    def test_a_loss_of_weight_zero_is_left_out(self):
        gradients = random_gradients(0)
        some = {name: gradients[name] for name in ("time", "mel")}
        state = balancer.init(WEIGHTS)
        weights = {**WEIGHTS, "feature": 0.0}
        expected = balancer.combine(state, some, {"time": 0.1, "mel": 1.0})
        for given in (some, gradients):
            chex.assert_trees_all_equal(balancer.combine(state, given, weights), expected)
        self.assertEqual(float(expected[0].counts["feature"]), 0)
        self.assertNotIn("feature/before", expected[2])

    @chex.variants(with_jit=True, without_jit=True)
    def test_a_loss_that_is_zero_so_far_adds_nothing(self):
        gradients = random_gradients(0)
        zero = {**gradients, "mel": np.zeros_like(gradients["mel"])}
        combine = self.variant(lambda s, g: balancer.combine(s, g, WEIGHTS))
        state, cotangent, shares = combine(balancer.init(WEIGHTS), zero)
        expected = sum(
            WEIGHTS[name] / 4.1 * gradients[name] / norms(gradients[name]).mean()
            for name in ("time", "feature")
        )
        np.testing.assert_allclose(cotangent, expected, rtol=1e-5, atol=1e-7)
        self.assertEqual(float(shares["mel/after"]), 0)
        chex.assert_tree_all_finite((state, shares))
        nothing = {name: np.zeros_like(gradients[name]) for name in WEIGHTS}
        state, cotangent, shares = combine(balancer.init(WEIGHTS), nothing)
        chex.assert_trees_all_equal(cotangent, jnp.zeros_like(cotangent))
        chex.assert_tree_all_finite((state, shares))

    @parameterized.product(wrong=[np.nan, np.inf], step=[0, 2])
    def test_a_gradient_that_is_not_finite_leaves_no_trace(self, wrong, step):
        state = balancer.init(WEIGHTS)
        for seed in range(step):
            state, _, _ = balancer.combine(state, random_gradients(seed), WEIGHTS)
        gradients = random_gradients(9)
        zero = {**gradients, "mel": np.zeros_like(gradients["mel"])}
        gradients["mel"][1, 7, 0] = wrong
        after, cotangent, shares = balancer.combine(state, gradients, WEIGHTS)
        _, expected, _ = balancer.combine(state, zero, WEIGHTS)
        np.testing.assert_allclose(cotangent, expected, rtol=1e-6)
        chex.assert_tree_all_finite((after, shares))
        for parts in ("totals", "counts"):
            kept, old = getattr(after, parts), getattr(state, parts)
            self.assertEqual(float(kept["mel"]), float(old["mel"]))
            self.assertGreater(float(kept["time"]), float(old["time"]))

    @parameterized.parameters(
        ({"time": -1.0, "mel": 1.0}, "weights: got -1.0 for time"),
        ({"time": 0.0, "mel": 0.0}, "weights: all are 0"),
        ({"time": 1.0, "mel": 1.0, "feature": 1.0}, "gradients: got none for feature"),
        ({"time": 1.0}, "weights: got none for mel"),
    )
    def test_wrong_names_and_weights(self, weights, message):
        gradients = random_gradients(0)
        del gradients["feature"]
        with self.assertRaisesRegex(ValueError, message):
            balancer.combine(balancer.init(WEIGHTS), gradients, weights)

    def test_unknown_to_the_state(self):
        with self.assertRaisesRegex(ValueError, "state: got none for feature"):
            balancer.combine(balancer.init(["time", "mel"]), random_gradients(0), WEIGHTS)

    @pytest.mark.slow
    def test_eight_devices_equal_one(self):
        code = "from tests.training import test_balancer as t; t.compare_devices()"
        self.assertIn("8 devices equal one", compilation.output_on_devices(8, code))


def compare_devices():
    """Three steps of a small generator against a discriminator; run where there are 8 devices."""
    count = len(jax.devices())
    one, every = train(1), train(count)
    for values, others in zip(one, every, strict=True):
        chex.assert_trees_all_close(values, others, rtol=1e-4, atol=1e-6)
    chex.assert_tree_all_finite(one)
    print(f"{count} devices equal one")


def train(num_devices):
    """Gradients, states, shares and losses of three steps on so many devices."""
    mesh = jax.make_mesh(
        (num_devices,),
        ("data",),
        axis_types=(jax.sharding.AxisType.Auto,),
        devices=jax.devices()[:num_devices],
    )
    network = stft_discriminator.build(num_filters=2, windows=(32,))
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    critic = jax.tree.map(lambda leaf: rng.uniform(-0.3, 0.3, leaf.shape), shapes)
    critic = jax.tree.map(jnp.float32, critic)

    def step(state, taps, audio):
        def generate(taps):
            return sum(tap * jnp.roll(audio, i, axis=1) for i, tap in enumerate(taps))

        output, pull = jax.vjp(generate, taps)
        real = network.apply(critic, audio)
        losses = {
            "time": lambda y: jnp.mean(jnp.abs(y - audio)),
            "adversarial": lambda y: adversarial.generator_loss(network.apply(critic, y)),
            "feature": lambda y: adversarial.feature_loss(
                network.apply(critic, y), real, axis_name="data"
            ),
        }
        values, gradients = {}, {}
        for name, loss in losses.items():
            values[name], gradients[name] = jax.value_and_grad(loss)(output)
        weights = {"time": 0.1, "adversarial": 3.0, "feature": 3.0}
        state, cotangent, shares = balancer.combine(state, gradients, weights, axis_name="data")
        (gradient,) = pull(cotangent)
        gradient = jax.lax.psum(gradient, "data")
        values = jax.lax.pmean(values, "data")
        return state, taps - 0.01 * gradient, (values, shares, gradient)

    everywhere, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("data")
    step = jax.jit(
        jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(everywhere, everywhere, split),
            out_specs=everywhere,
            check_vma=False,
        )
    )
    state = balancer.init(["time", "adversarial", "feature"])
    taps = jnp.array([0.7, -0.2, 0.1])
    results = []
    for _ in range(3):
        loudness = rng.lognormal(size=(8, 1, 1))
        audio = (loudness * rng.standard_normal((8, 200, 1))).astype(np.float32)
        state, taps, metrics = step(state, taps, audio)
        results.append(jax.tree.map(np.asarray, (state, taps, metrics)))
    return results
