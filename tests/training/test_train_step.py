"""The training step: its numbers, variants of networks, and several devices."""

import functools

import chex
import jax
import numpy as np
import pytest
from absl.testing import absltest
from absl.testing import parameterized
from scipy import signal

import encodec_hk
from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk.networks import model
from encodec_hk.training import adversarial
from encodec_hk.training import reconstruction
from encodec_hk.training import train_state
from encodec_hk.training import train_step
from encodec_hk.training import training_config
from encodec_hk.training import weight_norm
from tests import compilation
from tests import random_networks
from tests import tiny_training

STEREO = {  # fields of the 48 kHz variant alone
    "channels": 2,
    "causal": False,
    "norm": "time_group_norm",
    "normalize": True,
    "segment_seconds": 0.128,
}


def configure(model_fields, training_fields):
    """Return the tiny variant with other fields; "section.field" names those of sub-sections."""
    variant = tiny_training.get_config()
    variant.model.update(model_fields)
    variant.training.update_from_flattened_dict(training_fields)
    training_config.validate(variant)
    return variant


def mesh_of(count):
    return jax.make_mesh(
        (count,),
        (train_step.AXIS,),
        axis_types=(jax.sharding.AxisType.Auto,),
        devices=jax.devices()[:count],
    )


class Trainer:
    """The compiled step of a variant, on states that are kept on the host."""

    def __init__(self, variant, num_devices=1):
        self.variant = variant
        self.step = train_step.TrainStep(variant, mesh_of(num_devices))
        params = random_networks.random_params(variant.model)
        fresh = train_state.create(variant, jax.random.key(1), params)
        self.fresh = jax.device_get(fresh)
        self.audio = tiny_training.waves(8, channels=variant.model.channels)

    @functools.cached_property
    def start(self):
        """The state with codebooks of the audio."""
        return jax.device_get(self.step.initialize(self.fresh, self.audio))

    def __call__(self, state, audio=None, *, quantized=True, judged=True):
        audio = self.audio if audio is None else audio
        learns = train_step.draw_learns(self.variant.training, int(state.step))
        return jax.device_get(
            self.step(state, audio, quantized=quantized, judged=judged, learns=learns)
        )

    def run(self, count, state=None):
        """Return the state after some steps, and the metrics of each step."""
        state, rows = state or self.start, []
        for _ in range(count):
            state, metrics = self(state)
            rows.append(metrics)
        return state, rows


@functools.cache
def trainer(name):
    variant = {
        "plain": lambda: configure({}, {}),
        "bfloat16": lambda: configure({"num_lstm_layers": 1}, {"dtype": "bfloat16"}),
        "unbalanced": lambda: configure({}, {"balancer.enabled": False}),
        "stereo": lambda: configure(
            STEREO, {"pre_emphasis": 0.7, "mel_exponent": 0.3, "mel_floor": 1e-4}
        ),
    }[name]()
    return Trainer(variant)


def reconstruct(trainer, state, num_codebooks):
    """Encode and decode the trainer's audio with the parameters of a state."""
    variant = trainer.variant
    params = train_state.export(state, variant)
    codec = encodec_hk.Codec(variant.model, params, block_seconds=0.064)
    return codec.decode(codec.encode(trainer.audio, num_codebooks=num_codebooks))


class StepTest(parameterized.TestCase):
    def test_losses_fall(self):
        train = trainer("plain")
        _, rows = train.run(60)
        chex.assert_tree_all_finite(rows)
        self.assertTrue(all(row["is_finite"] for row in rows))
        for name in ("loss/mel", "loss/feature"):
            first, last = (np.mean([row[name] for row in some]) for some in (rows[:6], rows[-6:]))
            self.assertLess(last, 0.8 * first, name)

    @parameterized.parameters("plain", "stereo")
    @pytest.mark.few(0)
    def test_output_is_that_of_the_codec(self, name):
        """Training has the padding, segments, normalisation and quantiser of the codec."""
        train = trainer(name)
        _, metrics = train(train.start, judged=name == "plain")  # as other tests, to compile once
        output = reconstruct(train, train.start, int(metrics["num_codebooks"]))
        chex.assert_equal_shape([output, train.audio])
        mel = reconstruction.multi_scale_mel(
            train.audio,
            output,
            sample_rate=tiny_training.RATE,
            windows=train.variant.training.mel_windows,
            num_mels=train.variant.training.num_mels,
            exponent=train.variant.training.mel_exponent,
            floor=train.variant.training.mel_floor,
        )
        taps = [1, -train.variant.training.pre_emphasis]
        difference = signal.lfilter(taps, [1], output - train.audio, axis=1)
        np.testing.assert_allclose(metrics["loss/time_l1"], np.abs(difference).mean(), rtol=1e-4)
        np.testing.assert_allclose(metrics["loss/mel"], mel, rtol=1e-4)

    @pytest.mark.slow
    def test_a_step_that_is_not_finite_changes_nothing(self):
        train = trainer("plain")
        before, _ = train.run(2)
        poisoned = train.audio.copy()
        poisoned[5, 100] = np.nan
        after, metrics = train(before, poisoned)
        self.assertFalse(metrics["is_finite"])
        self.assertEqual(after.step, before.step + 1)
        chex.assert_trees_all_equal(after._replace(step=before.step), before)
        _, metrics = train(after)
        self.assertTrue(metrics["is_finite"])

    def test_everything_learns(self):
        """Steps change every array of the state, and the average by its decay."""
        train = trainer("plain")
        before, _ = train.run(6)  # in some the discriminator learns
        unchanged = [
            jax.tree_util.keystr(path)
            for (path, old), new in zip(
                jax.tree_util.tree_leaves_with_path(train.start),
                jax.tree.leaves(before),
                strict=True,
            )
            if np.array_equal(old, new)
        ]
        # Losses without a weight in the balancer; and the last biases of the discriminator, which
        # audio and output pull to opposite sides within the hinge.
        allowed = ("['time_l2']", "['stft']", "['stft_64/conv_4']['b']", "['stft_64/conv_5']['b']")
        self.assertEqual([path for path in unchanged if not path.endswith(allowed)], [])

        after, _ = train(before)
        decay = train.variant.training.average_decay
        expected = jax.tree.map(
            lambda old, new: decay * old + (1 - decay) * new, before.average, after.generator
        )
        chex.assert_trees_all_close(after.average, expected, rtol=1e-5, atol=1e-7)

    def test_bandwidths_are_drawn(self):
        """Each step draws one of the list, and the same one when repeated."""
        _, rows = trainer("plain").run(16)
        counts = [int(row["num_codebooks"]) for row in rows]
        self.assertEqual(set(counts), {1, 3})  # codebooks of 8 and of 24 kbps
        self.assertBetween(counts.count(1), 3, 13)
        _, again = trainer("plain").run(16)
        self.assertEqual([int(row["num_codebooks"]) for row in again], counts)

    def test_discriminator_is_trained_first_and_with_its_probability(self):
        train = trainer("plain")
        state, trained = train.start, 0
        network = train_state.discriminator(train.variant)
        for step in range(20):
            before = state
            state, metrics = train(state)
            if "discriminator" not in metrics:
                chex.assert_trees_all_equal(state.discriminator, before.discriminator)
                chex.assert_trees_all_equal(
                    state.discriminator_optimizer, before.discriminator_optimizer
                )
                continue
            trained += 1
            for name, layer in state.discriminator.items():
                self.assertTrue(np.any(layer["w_v"] != before.discriminator[name]["w_v"]), name)
            if step == 0:  # later, the average differs from the parameters
                output = reconstruct(train, before, int(metrics["num_codebooks"]))
                new, old = (
                    network.apply(weight_norm.fold(params), output)
                    for params in (state.discriminator, before.discriminator)
                )
                real = network.apply(weight_norm.fold(before.discriminator), train.audio)
                loss = adversarial.discriminator_loss(old, real)
                np.testing.assert_allclose(metrics["discriminator"], loss, rtol=1e-5)
                loss, stale = map(adversarial.generator_loss, (new, old))
                np.testing.assert_allclose(metrics["loss/adversarial"], loss, rtol=1e-6)
                self.assertNotAlmostEqual(float(loss), float(stale), places=5)
        self.assertBetween(trained, 9, 18)  # of 20 with probability 2/3

    @parameterized.parameters((None, 1e-2), (3e-3, 3e-3))
    def test_learning_rate_of_the_discriminator(self, given, expected):
        training = configure(
            {}, {"learning_rate": 1e-2, "discriminator.learning_rate": given}
        ).training
        for optimizer, rate in (
            (train_state.optimizer(training), 1e-2),
            (train_state.discriminator_optimizer(training), expected),
        ):
            update, _ = optimizer.update(np.ones(3), optimizer.init(np.zeros(3)))
            np.testing.assert_allclose(update, -rate, rtol=1e-5)

    @pytest.mark.slow
    def test_first_steps_without_quantiser_and_discriminator(self):
        train = trainer("plain")
        variant, fresh = train.variant, train.fresh
        after, metrics = train(fresh, quantized=False, judged=False)
        chex.assert_trees_all_equal(after.codebooks, fresh.codebooks)
        chex.assert_trees_all_equal(after.discriminator, fresh.discriminator)
        self.assertContainsSubset({"loss/mel", "loss/time_l1"}, metrics)
        self.assertNoCommonElements(
            metrics, {"perplexity", "discriminator", "loss/adversarial", "loss/feature"}
        )
        self.assertEqual(metrics["loss/commitment"], 0)

        networks = model.build(variant.model)
        params = train_state.export(fresh, variant)
        count = np.full(8, tiny_training.CROP)
        _, latents = networks.embed_block(params, None, train.audio, count, count > 0)
        frames = count // config.hop_length(variant.model)
        _, output = networks.synthesize_block(params, None, latents, frames, frames > 0)
        difference = np.abs(output - train.audio).mean()
        np.testing.assert_allclose(metrics["loss/time_l1"], difference, rtol=1e-5)

    def test_codebooks_of_a_batch(self):
        train = trainer("plain")
        self.assertFalse(
            np.array_equal(train.start.codebooks.entries, train.fresh.codebooks.entries)
        )
        chex.assert_trees_all_equal(train.start.generator, train.fresh.generator)
        frames = train.audio.shape[0] * tiny_training.CROP // 4
        np.testing.assert_array_equal(train.start.codebooks.counts.sum(axis=1), 3 * [frames])

    def test_frozen_encoder_and_quantizer_stay(self):
        self.check_frozen("encoder", "quantizer")

    @pytest.mark.slow
    def test_a_frozen_decoder_stays(self):
        self.check_frozen("decoder")

    def check_frozen(self, *frozen):
        """Frozen networks stay the same to the last bit in a checkpoint; the others learn."""
        train = Trainer(configure({}, {"frozen": frozen}))
        state = train.fresh
        for _ in range(3):
            state, metrics = train(state, judged=False)
        self.assertTrue(metrics["is_finite"])
        self.assertTrue(np.all(metrics["perplexity"] < 16))  # use is still counted
        before = random_networks.random_params(train.variant.model)
        after = train_state.export(state, train.variant)
        self.assertSameElements(after, before)
        for module, leaves in before.items():
            for name, leaf in leaves.items():
                stays = np.array_equal(leaf, after[module][name])
                self.assertEqual(stays, module.split("/")[0] in frozen, f"{module} {name}")

    @pytest.mark.slow
    def test_without_the_balancer(self):
        train = trainer("unbalanced")
        state, rows = train.start, []
        for _ in range(20):
            state, metrics = train(state, judged=False)
            rows.append(metrics)
        chex.assert_tree_all_finite(rows)
        self.assertLess(rows[-1]["loss/mel"], 0.95 * rows[0]["loss/mel"])

    @pytest.mark.slow
    def test_bfloat16(self):
        train = trainer("bfloat16")
        state, metrics = train(train.start, judged=False)
        for leaf in jax.tree.leaves(state):
            self.assertIn(leaf.dtype, (np.float32, np.int32))
        output = reconstruct(train, train.start, int(metrics["num_codebooks"]))
        error = float(metrics["loss/time_l1"] / np.abs(output - train.audio).mean()) - 1
        self.assertBetween(abs(error), 1e-6, 0.02)  # not equal, but near

    def test_scale_of_normalised_audio(self):
        """Latents do not depend on the scale, and the output has it."""
        train = trainer("stereo")
        _, one = train(train.start, judged=False)
        _, two = train(train.start, 2 * train.audio, judged=False)
        np.testing.assert_allclose(two["loss/commitment"], one["loss/commitment"], rtol=1e-4)
        np.testing.assert_allclose(two["perplexity"], one["perplexity"], rtol=1e-4)
        np.testing.assert_allclose(two["loss/time_l1"], 2 * one["loss/time_l1"], rtol=1e-4)
        self.assertGreater(one["loss/commitment"], 1e-4)

    @parameterized.parameters("plain", "stereo")
    @pytest.mark.few(0)
    def test_export(self, name):
        """A checkpoint has the networks' own parameters, with weight norm folded."""
        train = trainer(name)
        state, _ = train(train.start, judged=name == "plain")
        params = train_state.export(state, train.variant)
        checkpoint.check_params(params, model.build(train.variant.model).param_shapes())
        np.testing.assert_array_equal(params["quantizer"]["codebooks"], state.codebooks.entries)
        leaves = state.average["encoder/conv_in"]
        w = leaves.get("w")
        if name == "plain":
            norm = np.sqrt(np.square(leaves["w_v"]).sum(axis=(0, 1), keepdims=True))
            w = leaves["w_g"] * leaves["w_v"] / norm
        np.testing.assert_allclose(params["encoder/conv_in"]["w"], w, rtol=1e-5)

    @pytest.mark.slow
    def test_eight_devices_equal_one(self):
        code = "from tests.training import test_train_step as t; t.compare_devices()"
        self.assertIn("8 devices equal one", compilation.output_on_devices(8, code))


def compare_devices():
    """Compare the codebooks of a batch and three steps on 1 and on all devices."""
    count = len(jax.devices())
    variant = configure({}, {"learning_rate": 3e-4, "balancer.decay": 0.9})
    results = []
    for num_devices in (1, count):
        train = Trainer(variant, num_devices)
        results.append((train.start, *train.run(3)))
    chex.assert_trees_all_close(*results, rtol=1e-4, atol=1e-5)
    (start, state, rows), _ = results
    assert not np.allclose(start.codebooks.entries, state.codebooks.entries, atol=1e-3)
    assert any("discriminator" in row for row in rows)
    print(f"{count} devices equal one")


if __name__ == "__main__":
    absltest.main()
