"""`run.py train`: processes that are killed, interrupted or joined, and their checkpoints."""

import contextlib
import csv
import functools
import io
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from unittest import mock

import numpy as np
import pytest
import safetensors.numpy
import transformers
from absl.testing import absltest
from absl.testing import parameterized

from configs import encodec_tiny
from encodec_hk import checkpoint
from encodec_hk.commands import convert
from encodec_hk.commands import infer
from encodec_hk.commands import train
from encodec_hk.sound import sound_files
from tests import random_networks
from tests import tiny_training

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 40
PATIENCE = 300  # seconds


class TrainTestCase(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.shared = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        tiny_training.write_sounds(cls.shared / "sounds")
        cls.environment = {**os.environ, "JAX_PLATFORMS": "cpu"}

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    @classmethod
    def start(cls, command, *arguments):
        """Start a command of run.py, with its stderr in its stdout."""
        return subprocess.Popen(
            [sys.executable, "run.py", command, *map(str, arguments)],
            cwd=ROOT,
            env=cls.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @classmethod
    def train(cls, workdir, *arguments):
        """Start a training run of the tiny network."""
        settings = {"num_steps": STEPS, "checkpoint_every": 4}
        return cls.start(
            "train",
            f"--config={tiny_training.PATH}",
            f"--data={cls.shared / 'sounds'}",
            f"--workdir={workdir}",
            *(f"--config.training.{name}={value}" for name, value in settings.items()),
            *arguments,
        )

    @staticmethod
    def wait(process, status=0):
        """Wait for a process to end with a status, and return its output."""
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == status, (process.returncode, output)
        return output

    def interrupt(self, process, signum, is_time, status):
        """Send a signal when it is time, and return the output."""
        end = time.monotonic() + PATIENCE
        while process.poll() is None and not is_time():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.002)
        process.send_signal(signum)
        return self.wait(process, status)

    @staticmethod
    def rows(workdir):
        """Return the rows of the metrics, without the speed."""
        path = workdir / "metrics.csv"
        if not path.exists():
            return []
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [{name: row[name] for name in row if name != "audio_per_second"} for row in rows]


@pytest.mark.slow
class ResumeTest(TrainTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.reference = cls.shared / "reference"
        cls.wait(cls.train(cls.reference))

    def assert_as_undisturbed(self, workdir):
        rows = self.rows(workdir)
        self.assertLen(rows, STEPS)
        self.assertEqual(rows, self.rows(self.reference))
        ours, expected = (
            safetensors.numpy.load_file(folder / "tiny.safetensors")
            for folder in (workdir, self.reference)
        )
        self.assertSameElements(ours, expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(ours[name], value)

    def test_killed_and_interrupted(self):
        run = self.folder / "run"

        def has_state():
            return (run / "states" / "4").exists() and len(self.rows(run)) >= 6

        self.interrupt(self.train(run), signal.SIGKILL, has_state, -signal.SIGKILL)
        self.assertFalse((run / "tiny.safetensors").exists())
        kept = len(self.rows(run))

        def goes_on():
            return len(self.rows(run)) > kept

        output = self.interrupt(self.train(run), signal.SIGINT, goes_on, 130)
        self.assertRegex(output, r"resumed after step \d*[048]\n")
        self.assertNotIn("Traceback", output)
        self.assertEndsWith(output, "interrupted; run the same command to resume\n")
        done = len(self.rows(run))
        self.assertBetween(done, kept, STEPS - 1)
        self.assertIn(str(done), os.listdir(run / "states"))
        source = checkpoint.load(run / "tiny.safetensors").metadata["source"]
        self.assertEqual(source, f"trained by run.py train, {done} steps")

        self.assertIn(f"resumed after step {done}\n", self.wait(self.train(run)))
        self.assert_as_undisturbed(run)

    def test_killed_at_many_moments(self):
        """Kill it while it starts, opens the run, compiles, trains, and writes states."""
        run = self.folder / "run"
        states = run / "states"

        def is_writing(began):
            for path in states.glob("*tmp*"):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime > began:  # not left by an earlier kill
                        return True
            return False

        moments = {
            "start": lambda began: time.time() > began + 0.5,
            "opened": lambda began: states.exists(),
            "first step": lambda began: bool(self.rows(run)),
            "first state": is_writing,
            "some state": lambda began: (states / "8").exists(),
            "next state": is_writing,
            "resumed": lambda began: time.time() > began + 5,
            "another state": is_writing,
        }
        unfinished = 0
        for name, is_time in moments.items():
            with self.subTest(name):
                began, process = time.time(), self.train(run)
                self.interrupt(
                    process, signal.SIGKILL, functools.partial(is_time, began), -signal.SIGKILL
                )
                unfinished += any(states.glob("*tmp*"))
        self.assertGreaterEqual(unfinished, 2)  # the run resumed without these states
        self.wait(self.train(run))
        self.assert_as_undisturbed(run)
        self.assertEmpty(list(states.glob("*tmp*")))

    def start_both(self, run, *arguments):
        """Start two processes of one distributed run."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        return [self.train(run, f"--distributed={address},{i},2", *arguments) for i in range(2)]

    def assert_near_undisturbed(self, run, steps):
        rows, expected = self.rows(run), self.rows(self.reference)
        self.assertLen(rows, steps)
        for row, other in zip(rows[:6], expected[:6], strict=False):
            self.assertSameElements(row, other)
            for name in other:
                if name.startswith(("loss", "num_codebooks", "perplexity")):
                    np.testing.assert_allclose(
                        float(row[name]), float(other[name]), rtol=1e-4, atol=1e-7, err_msg=name
                    )

    def test_two_processes(self):
        run = self.folder / "run"
        first, second = self.start_both(run, "--config.training.num_steps=3")
        self.assertIn("tiny.safetensors: after 3 of 3 steps", self.wait(first))
        self.assertNotIn("step", self.wait(second))  # one reports for both
        self.assert_near_undisturbed(run, 3)

    def test_two_processes_stop_together_and_resume(self):
        run = self.folder / "run"
        for index in range(2):
            before = len(self.rows(run))
            both = self.start_both(run)

            def goes_on(before=before):
                return len(self.rows(run)) > before

            self.interrupt(both[index], signal.SIGTERM, goes_on, 130)
            self.wait(both[1 - index], 130)
        done = len(self.rows(run))
        first, second = self.start_both(run)
        self.assertIn(f"resumed after step {done}\n", self.wait(first))
        self.wait(second)
        self.assert_near_undisturbed(run, STEPS)


class InitialTest(TrainTestCase):
    def save(self, config, **model):
        config.model.update(model)
        params = random_networks.random_params(config.model)
        path = self.folder / "initial.safetensors"
        facts = {"source": "random", "source_sha256": "", "licence": "none"}
        checkpoint.save(path, params, config.model, name=config.name, **facts)
        return path, params

    def assert_near(self, path, params, tolerance):
        """Assert that the parameters of a checkpoint are near these, but not the same."""
        found = checkpoint.load(path).params
        self.assertSameElements(found, params)
        for module, leaves in params.items():
            for name, value in leaves.items():
                difference = np.abs(found[module][name] - value)
                np.testing.assert_array_less(difference, tolerance, err_msg=f"{module} {name}")
        self.assertTrue(np.any(found["encoder/conv_in"]["w"] != params["encoder/conv_in"]["w"]))

    @pytest.mark.slow
    def test_from_a_checkpoint_to_all_other_commands(self):
        """Take one small step from a checkpoint; `infer` and `convert` take the result."""
        initial, params = self.save(tiny_training.get_config(), num_lstm_layers=1)
        run = self.folder / "run"
        self.wait(
            self.train(
                run,
                f"--init={initial}",
                "--licence=MIT",
                "--config.model.num_lstm_layers=1",
                "--config.training.num_steps=1",
                "--config.training.learning_rate=1e-5",
                "--config.training.codebooks.decay=0.9999",
                "--config.training.codebooks.restart_below=0",
                "--config.training.discriminator.first_step=1",
            )
        )
        trained = run / "tiny.safetensors"
        self.assert_near(trained, params, 0.05)
        metadata = checkpoint.load(trained).metadata
        self.assertEqual(
            (metadata["name"], metadata["source"], metadata["licence"]),
            ("tiny", "trained by run.py train, 1 steps", "MIT"),
        )

        sound = self.shared / "sounds" / "00.wav"
        output, folder = self.folder / "output.wav", self.folder / "transformers"
        with contextlib.redirect_stdout(io.StringIO()):
            infer.run(None, str(sound), str(output), checkpoint=str(trained))
            convert.run(None, source=str(trained), output=str(folder), to="transformers")
        self.assertEqual(
            len(sound_files.read(output).samples), len(sound_files.read(sound).samples)
        )
        network, report = transformers.EncodecModel.from_pretrained(
            folder, output_loading_info=True
        )
        self.assertEqual(network.config.sampling_rate, tiny_training.RATE)
        self.assertFalse(report["missing_keys"])
        self.assertFalse(report["unexpected_keys"])

    @pytest.mark.slow
    def test_the_shipped_model(self):
        """Take a step with its own configuration, on the clips that come with it."""
        initial = ROOT / "checkpoints" / "encodec_24khz_small.safetensors"
        arguments = [
            f"--init={initial}",
            "--data=assets/clips",
            f"--workdir={self.folder / 'run'}",
            "--config.training.num_steps=1",
            "--config.training.learning_rate=1e-6",
            "--config.training.warmup_steps=0",
            "--config.training.batch_size=2",
            "--config.training.codebooks.decay=0.9999",
            "--config.training.codebooks.restart_below=0",
            "--config.training.validation_items=0",
            "--config.training.data.num_workers=1",
        ]
        self.wait(self.start("train", *arguments))
        params = checkpoint.load(initial).params
        self.assert_near(self.folder / "run" / "encodec_24khz_small.safetensors", params, 0.05)


class BadCallsTest(TrainTestCase):
    """Errors are one line. The last test has run.py print it and exit with 2."""

    def fails(self, message, config=None, **settings):
        given = {"data": str(self.shared / "sounds"), "workdir": str(self.folder / "run")}
        # The test keeps its own handlers of signals.
        with (
            mock.patch.object(train.interruption, "postpone"),
            self.assertRaisesRegex(ValueError, message) as raised,
        ):
            train.run(config or tiny_training.get_config(), **(given | settings))
        self.assertLen(str(raised.exception).splitlines(), 1)
        return str(raised.exception)

    @parameterized.parameters("data", "workdir")
    def test_missing(self, name):
        self.fails("^train: needs --data and --workdir$", **{name: None})

    def test_no_sounds(self):
        empty = self.folder / "empty"
        empty.mkdir()
        self.fails("empty: no sound files", data=str(empty))
        self.fails("nothing: no sound files", data=str(self.folder / "nothing"))
        self.assertFalse((self.folder / "run").exists())

    @parameterized.parameters(
        ("training.batch_size", 0, r"config\.training\.batch_size: got 0, must be"),
        ("training.losses.mel", -1.0, r"config\.training\.losses\.mel: got -1\.0"),
        ("training.crop_seconds", 0.001, "config.training.crop_seconds: got 0.001, must be at le"),
        ("model.bandwidths", (7.0,), "config.model.bandwidths: got 7.0"),
        ("training.frozen", ("encoder",), r"config\.training\.frozen: got .*, must be \(\)"),
    )
    def test_config(self, field, value, message):
        config = tiny_training.get_config()
        config.update_from_flattened_dict({field: value})
        self.fails(message, config)
        self.assertFalse((self.folder / "run").exists())

    def test_folder_of_another_network(self):
        train._write_config(encodec_tiny.get_config(), self.folder)
        message = self.fails("a run of another network: ", workdir=str(self.folder))
        self.assertIn("config.model.num_filters: got 4, the run has 8", message)

    def test_folder_in_use(self):
        code = (
            "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.lockf(file, fcntl.LOCK_EX);"
            "print('locked', flush=True); sys.stdin.read()"
        )
        other = subprocess.Popen(
            [sys.executable, "-c", code, self.folder / ".lock"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with other:
            other.stdout.readline()
            self.fails("another process trains there", workdir=str(self.folder))
            self.assertFalse((self.folder / "states").exists())
            other.stdin.close()
        with train._locked(self.folder):
            pass

    def test_folder_of_something_else(self):
        (self.folder / "config.json").write_text('{"architectures": []}')
        self.fails("config.json: is not the configuration of a run", workdir=str(self.folder))

    def test_initial_checkpoint(self):
        other = str(ROOT / "checkpoints" / "encodec_tiny.safetensors")
        message = self.fails(
            "encodec_tiny.safetensors: a checkpoint of another network: ", init=other
        )
        self.assertIn("config.model.num_filters: got 4, the checkpoint has 8", message)
        self.fails("nothing", init=str(self.folder / "nothing.safetensors"))
        damaged = self.folder / "damaged.safetensors"
        shutil.copy(ROOT / "README.md", damaged)
        self.fails("damaged", init=str(damaged))

    @parameterized.parameters(
        "here", "localhost,0,2", "localhost:1,0", "localhost:1,2,2", "localhost:1,-1,2"
    )
    def test_distributed(self, value):
        self.fails("distributed: got .*, must be auto or HOST:PORT,INDEX,COUNT", distributed=value)

    @pytest.mark.slow
    def test_codebooks_that_were_not_set(self):
        """An interrupted run warns; the checkpoint is written all the same."""
        stderr = io.StringIO()
        with (
            mock.patch.object(train.interruption, "postpone"),
            mock.patch.object(train.interruption, "is_requested", return_value=True),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(stderr),
        ):
            config = tiny_training.get_config()
            config.training.codebooks.first_step = 2
            run = self.folder / "run"
            status = train.run(config, data=str(self.shared / "sounds"), workdir=str(run))
        self.assertEqual(status, 130)
        self.assertRegex(
            stderr.getvalue(),
            r"run\.py: .*tiny\.safetensors: warning: its codebooks are zeros, so every sound "
            r"decodes alike; training sets them at step 2\n$",
        )
        source = checkpoint.load(run / "tiny.safetensors").metadata["source"]
        self.assertEqual(source, "trained by run.py train, 1 steps; its codebooks are zeros")

    def test_exit_status(self):
        process = self.train(self.folder / "run", "--config.training.batch_size=0")
        output = self.wait(process, 2)
        self.assertRegex(output, r"^run.py: config\.training\.batch_size: got 0, must be .*\n$")


if __name__ == "__main__":
    absltest.main()
