"""The training run: how it resumes, what it writes, and what ends it."""

import csv
import functools
import pathlib
import shutil
import tempfile
from unittest import mock

import chex
import jax
import numpy as np
import pytest
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from configs import encodec_tiny
from encodec_hk import checkpoint
from encodec_hk.evaluation import metrics
from encodec_hk.networks import model
from encodec_hk.training import crops
from encodec_hk.training import loop
from encodec_hk.training import sound_index
from encodec_hk.training import train_state
from encodec_hk.training import train_step
from encodec_hk.training import validation_scores
from tests import random_networks
from tests import reference_files
from tests import references
from tests import tiny_training

STEPS = 8


@functools.cache
def compiled_step():
    """Return the step of the tiny config; all tests share it, since none changes its fields."""
    mesh = jax.make_mesh((1,), (train_step.AXIS,), axis_types=(jax.sharding.AxisType.Auto,))
    return train_step.TrainStep(tiny_training.get_config(), mesh)


class CrashError(Exception):
    """Ends a run as a power cut would, between two states."""


class RunTestCase(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.shared = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.data = str(cls.shared / "sounds")
        tiny_training.write_sounds(cls.data)
        cls.enterClassContext(
            mock.patch.object(train_step, "TrainStep", return_value=compiled_step())
        )

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.lines = []

    def open(self, name="run", *, data=None, params=None, validation=None, **changes):
        """Open a run, new or resumed; quantiser and discriminator start at steps 2 and 4."""
        config = tiny_training.get_config()
        config.training.update_from_flattened_dict(
            {"codebooks.first_step": 2, "discriminator.first_step": 4, **changes}
        )
        run = loop.TrainingRun(
            config,
            self.folder / name,
            data=data or self.data,
            validation=validation,
            params=params,
            report=self.lines.append,
        )
        self.addCleanup(run.close)
        return run

    def rows(self, name="run", table="metrics"):
        with (self.folder / name / f"{table}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [
            {key: value for key, value in row.items() if key != "audio_per_second"} for row in rows
        ]

    def states(self, name="run"):
        return sorted(int(path.name) for path in (self.folder / name / "states").iterdir())

    def until(self, run, step, crash=False):
        """Train until a step, and stop or crash there."""

        def is_stopped():
            if run.step == step and crash:
                raise CrashError
            return run.step == step

        return run.train(is_stopped=is_stopped)

    def assert_same(self, run, other):
        chex.assert_trees_all_equal(jax.device_get(run.state), jax.device_get(other.state))


class RunTest(RunTestCase):
    def test_resumed_run_equals_an_undisturbed_one(self):
        """It is stopped before and after the codebooks start, and crashes between two states."""
        whole = self.open("whole")
        self.assertTrue(whole.train())
        rows = self.rows("whole")
        self.assertEqual([row["step"] for row in rows], [str(step + 1) for step in range(STEPS)])
        self.assertEqual([bool(row["perplexity/0"]) for row in rows], [False] * 2 + [True] * 6)
        self.assertEqual([bool(row["loss/feature"]) for row in rows], [False] * 4 + [True] * 4)

        self.assertFalse(self.until(self.open(), 1))
        self.assertEqual(self.states(), [1])
        run = self.open()
        self.assertEqual(run.step, 1)
        with self.assertRaises(CrashError):
            self.until(run, 5, crash=True)
        run.close()
        self.assertLen(self.rows(), 5)
        run = self.open()
        self.assertEqual(run.step, 4)
        self.assertFalse(self.until(run, 7))
        run = self.open()
        self.assertTrue(run.train())
        self.assertEqual(self.rows(), rows)
        self.assert_same(run, whole)
        self.assertEqual(
            [line for line in self.lines if "resumed" in line][-1], "resumed after step 7"
        )

    def test_finished_run(self):
        run = self.open(num_steps=2)
        self.assertTrue(run.train())
        again = self.open(num_steps=2)
        self.assertTrue(again.train())
        self.assert_same(again, run)
        self.assertLen(self.rows(), 2)
        longer = self.open(num_steps=3)
        self.assertTrue(longer.train())
        self.assertEqual((longer.step, len(self.rows())), (3, 3))

    @pytest.mark.slow
    def test_latest_states_are_kept(self):
        self.open(num_checkpoints=2, num_steps=7).train()
        self.assertEqual(self.states(), [6, 7])

    @pytest.mark.slow
    def test_remains_of_a_killed_run(self):
        """A half-written state, and a half-deleted old one."""
        whole = self.open("whole")
        whole.train()
        self.until(self.open(), 4)
        states = self.folder / "run" / "states"
        shutil.copytree(states / "4", states / "6.orbax-checkpoint-tmp")
        (states / "6.orbax-checkpoint-tmp" / "_CHECKPOINT_METADATA").unlink()
        shutil.rmtree(states / "2" / "default")
        run = self.open()
        self.assertEqual(run.step, 4)
        self.assertTrue(run.train())
        self.assert_same(run, whole)
        self.assertContainsSubset({6, 8}, self.states())

    @pytest.mark.slow
    def test_a_step_that_is_not_finite(self):
        """The state after it is due to be saved."""
        self.check_not_finite(5, 4)

    @parameterized.parameters(
        (2, 2),  # the codebooks start
        (4, 4),  # noticed a step later
        (7, 6),  # the last step
    )
    @pytest.mark.slow
    def test_other_steps_that_are_not_finite(self, step, saved):
        self.check_not_finite(step, saved)

    def check_not_finite(self, step, saved):
        seen = []

        class Poisoned(crops.Crops):
            def __next__(self):
                batch = super().__next__()
                if self.get_state()["next_batch"] == step + 1:
                    batch[1, 2] = np.inf
                    seen.append(batch)
                return batch

        run = self.open()
        with (
            mock.patch.object(crops, "Crops", Poisoned),
            self.assertRaisesRegex(FloatingPointError, f"step {step}: .*loss/mel.*: /") as raised,
        ):
            run.train()
        run.close()
        path = self.folder / "run" / f"not_finite_step_{step}_host_0.npz"
        self.assertIn(str(path), str(raised.exception))
        with np.load(path) as values:
            np.testing.assert_array_equal(values["audio"], seen[0])
            self.assertFalse(np.isfinite(values["loss_mel"]))
        run = self.open()
        self.assertEqual(run.step, saved)
        self.assertTrue(run.train())
        whole = self.open("whole")
        whole.train()
        self.assert_same(run, whole)
        self.assertEqual(self.rows(), self.rows("whole"))

    def test_workers_that_end_with_the_run(self):
        """The signal that stops a run may end its workers while it waits for them."""
        asked = []

        class Ended(crops.Crops):
            def __next__(self):
                if self.get_state()["next_batch"] == 3:
                    asked.append("to stop")
                    raise RuntimeError("a worker has ended")
                return super().__next__()

        self.enter_context(mock.patch.object(crops, "Crops", Ended))
        self.assertFalse(self.open().train(is_stopped=lambda: bool(asked)))
        self.assertEqual(self.states(), [2, 3])
        run = self.open()
        self.assertEqual(run.step, 3)
        with self.assertRaisesRegex(RuntimeError, "a worker has ended"):
            run.train()

    @pytest.mark.slow
    def test_rows_are_means(self):
        self.open("each").train()
        self.open("mean", log_every=3).train()
        each = self.rows("each")
        for row, part in zip(self.rows("mean"), (each[:3], each[3:6], each[6:]), strict=True):
            self.assertEqual(row["step"], part[-1]["step"])
            for name in ("loss/mel", "gradient_norm", "loss/feature"):
                values = [float(other[name]) for other in part if other[name]]
                if values:
                    self.assertAlmostEqual(float(row[name]), np.mean(values), places=4)

    @pytest.mark.slow
    def test_validation(self):
        self.enter_context(mock.patch.object(validation_scores, "has_visqol", return_value=False))
        changes = {"validation_items": 2, "validation_seconds": 0.1, "validate_every": 2}
        run = self.open(validation=self.data, num_steps=3, **changes)
        run.train()
        rows = self.rows(table="validation")
        self.assertEqual([row["step"] for row in rows], ["2", "3"])
        config = tiny_training.get_config()
        items = crops.validation_excerpts(
            sound_index.scan(self.data), sample_rate=8000, channels=1, seconds=0.1, count=2
        )
        params = train_state.export(run.state, config)
        codec = encodec_hk.Codec(config.model, params)
        for bandwidth in (8, 24):
            outputs = codec.decode(codec.encode(items, bandwidth=bandwidth))
            expected = np.mean(
                [metrics.si_snr(item, out) for item, out in zip(items, outputs, strict=True)]
            )
            self.assertAlmostEqual(float(rows[-1][f"si_snr/{bandwidth}"]), expected, places=3)
        self.assertCountEqual(
            rows[0], ["step", "si_snr/8", "mel_distance/8", "si_snr/24", "mel_distance/24"]
        )
        self.assertStartsWith(self.lines[-1], "step 3: validation: si_snr/8 ")

    def test_held_out_files(self):
        data = self.folder / "many"
        tiny_training.write_sounds(data, count=45, seconds=0.1)
        self.open(data=str(data), validation_items=9)
        self.assertStartsWith(self.lines[-1], "43 files, 0.1 minutes; validation on 2 excerpts")
        self.open("other", data=str(data), validation=self.data, validation_items=9)
        self.assertStartsWith(self.lines[-1], "45 files, 0.1 minutes; validation on 3 excerpts")
        self.open("few", validation_items=9)
        self.assertEqual(
            self.lines[-1],
            "3 files, 0.1 minutes; no validation: fewer than 11 files, so none is held out; other "
            "audio can be named",
        )
        self.open("none", validation=self.data, validation_items=0)
        self.assertEndsWith(self.lines[-1], "no validation: config.training.validation_items is 0")

    @pytest.mark.slow
    def test_codebooks_of_a_short_run(self):
        """They begin within its first quarter, and a checkpoint from before says so."""
        run = self.open(num_steps=4, **{"codebooks.first_step": 200})
        self.assertEqual(
            self.lines[-1],
            "codebooks begin at step 1, a quarter of the run, instead of "
            "config.training.codebooks.first_step=200",
        )
        self.assertFalse(self.until(run, 1))
        self.assertFalse(run.has_codebooks)
        self.assertEqual(self.source(run), "a test; its codebooks are zeros")
        run = self.open(num_steps=4, **{"codebooks.first_step": 200})
        self.assertTrue(run.train())
        self.assertTrue(run.has_codebooks)
        self.assertEqual(self.source(run), "a test")
        codebooks = train_state.export(run.state, tiny_training.get_config())["quantizer"]
        self.assertTrue(np.all(np.any(codebooks["codebooks"], axis=(1, 2))))
        self.assertEqual([bool(row["perplexity/0"]) for row in self.rows()], [False] + [True] * 3)

    def source(self, run):
        path = self.folder / "exported.safetensors"
        run.export(path, source="a test", licence="")
        return checkpoint.load(path).metadata["source"]

    def test_batch_size_that_devices_do_not_divide(self):
        with mock.patch.object(jax, "device_count", return_value=3):
            message = "batch_size: got 8, must be a multiple of 3"
            with self.assertRaisesRegex(ValueError, message):
                self.open()

    def test_state_that_does_not_fit(self):
        self.until(self.open(), 1)
        with self.assertRaisesRegex(
            ValueError, "the run's state does not fit the config"
        ) as raised:
            self.open(**{"discriminator.num_filters": 3})
        self.assertLen(str(raised.exception).splitlines(), 1)

    def test_no_sounds(self):
        with self.assertRaisesRegex(ValueError, "no sound files"):
            self.open(data=str(self.folder))


class InitialTest(RunTestCase):
    """A run that starts from a checkpoint."""

    def save(self, **model):
        config = tiny_training.get_config()
        config.model.update(model)
        params = random_networks.random_params(config.model, seed=5)
        path = self.folder / "initial.safetensors"
        facts = {"source": "random", "source_sha256": "", "licence": "none"}
        checkpoint.save(path, params, config.model, name="other", **facts)
        return path, params

    def test_starts_from_its_parameters(self):
        path, params = self.save()
        fresh, run = (
            self.open(name, params=given)
            for name, given in (
                ("fresh", None),
                ("run", loop.initial_params(tiny_training.get_config(), path)),
            )
        )
        self.assertEqual(run.step, 0)
        exported = train_state.export(run.state, tiny_training.get_config())
        chex.assert_trees_all_close(exported, params, rtol=1e-5, atol=1e-7)
        chex.assert_trees_all_equal(run.state.discriminator, fresh.state.discriminator)
        self.assertFalse(np.any(fresh.state.codebooks.entries))

        # Its codebooks are in use from the first step, although codebooks.first_step is 2.
        self.until(run, 1)
        moved = run.state.codebooks.entries - params["quantizer"]["codebooks"]
        self.assertBetween(float(np.abs(moved).max()), 1e-6, 2.0)
        self.assertLess(float(np.median(np.abs(moved))), 0.02)
        self.assertTrue(self.rows()[0]["perplexity/0"])

    def test_a_decoder_that_the_checkpoint_lacks_is_drawn(self):
        path, params = self.save()
        config = tiny_training.get_config()
        config.model.decoder = "vocos"
        config.model.vocos.update(dim=4, intermediate=4, num_layers=1, n_fft=16)
        config.model.vocos.bandwidths = config.model.bandwidths
        loaded = loop.initial_params(config, path)
        state = train_state.create(config, jax.random.key(0), loaded)
        exported = train_state.export(state, config)
        checkpoint.check_params(exported, model.build(config.model).param_shapes())
        for module, leaves in exported.items():
            if module.split("/")[0] == "decoder":
                self.assertNotIn(module, loaded)
            else:
                chex.assert_trees_all_close(leaves, params[module], rtol=1e-5, atol=1e-7)
        config.training.frozen = ("decoder",)
        with self.assertRaisesRegex(
            ValueError,
            r"frozen: got \('decoder',\), must be without decoder: that of .* is another",
        ):
            loop.initial_params(config, path)

    @pytest.mark.slow
    def test_kept_codes_are_computed_once(self):
        """Also in a run that was stopped, whose steps are those of an undisturbed one."""
        params = random_networks.random_params(tiny_training.get_config().model, seed=5)
        step = compiled_step()
        with mock.patch.object(step, "encode", side_effect=step.encode) as encode:
            whole = self.open("whole", params=params, **{"data.repeated_batches": 3})
            whole.train()
            self.assertEqual(encode.call_count, 3)
            run = self.open(params=params, **{"data.repeated_batches": 3})
            self.until(run, 5)
            run.close()
            run = self.open(**{"data.repeated_batches": 3})
            run.train()
        self.assert_same(run, whole)
        self.assertEqual(self.rows(), self.rows("whole"))

    def test_resumed_run_ignores_the_checkpoint(self):
        path, params = self.save()
        run = self.open(params=loop.initial_params(tiny_training.get_config(), path))
        self.until(run, 1)
        again = self.open(params=params)
        self.assertEqual(again.step, 1)
        self.assert_same(again, run)

    def test_other_bandwidths_and_folded_norms_fit(self):
        path, params = self.save(norm="none", bandwidths=(8.0,))
        loaded = loop.initial_params(tiny_training.get_config(), path)
        chex.assert_trees_all_equal(loaded, params)

    def test_shipped_and_published_models(self):
        """What `load` takes, without conversion."""
        variant = encodec_tiny.get_config()
        own = loop.initial_params(variant, "encodec_tiny")
        chex.assert_trees_all_equal_shapes_and_dtypes(
            own, checkpoint.expected_params(variant.model)
        )
        network = references.transformers_model("encodec_tiny")
        folder = reference_files.save_transformers(network, self.folder / "published")
        chex.assert_trees_all_equal_shapes(loop.initial_params(variant, folder), own)

    @parameterized.parameters(
        ({"num_filters": 8}, r"config.model.num_filters: got 4, the checkpoint has 8$"),
        (
            {"ratios": (2, 2), "latent_dim": 5},
            r"latent_dim: got 4, the checkpoint has 5; .*ratios: got \(4,\), the .* has \(2, 2\)$",
        ),
        (
            {"causal": False, "norm": "time_group_norm"},
            "causal: .*norm: got 'weight_norm', the checkpoint has 'time_group_norm'",
        ),
    )
    def test_other_networks(self, model, message):
        path, _ = self.save(**model)
        with self.assertRaisesRegex(ValueError, f"a checkpoint of another network: .*{message}"):
            loop.initial_params(tiny_training.get_config(), path)

    def test_norm_that_is_not_in_the_checkpoint(self):
        config = tiny_training.get_config()
        config.model.update(causal=False, norm="time_group_norm")
        path, _ = self.save(causal=False)
        with self.assertRaisesRegex(
            ValueError,
            "network: config.model.norm: got 'time_group_norm', the .* has 'weight_norm'$",
        ):
            loop.initial_params(config, path)


if __name__ == "__main__":
    absltest.main()
