"""run.py as a process: errors are one line on stderr and an exit status."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from absl.testing import parameterized

ROOT = pathlib.Path(__file__).parents[2]
TINY = "--config=configs/encodec_tiny.py"
CLIPS = "assets/clips"


def run(*arguments, **settings):
    return subprocess.run(
        [sys.executable, "run.py", *arguments], cwd=ROOT, capture_output=True, text=True, **settings
    )


class RunTest(parameterized.TestCase):
    @parameterized.parameters(
        (
            ["infr", "a.wav"],
            "command: got 'infr', must be one of infer, info, tokenize, detokenize, ",
        ),
        (["infr", "a.wav"], "; nearest are infer, info"),
        (["describe", "x"], "got 1 arguments, takes none"),
        (["infer", "a", "b", "c"], "takes IN [OUT] (a pattern in quotes)"),
        (["infer", CLIPS, "--verify"], "--verify is a flag of another command"),
        (["describe", "--nothing"], "Unknown command line flag 'nothing'"),
        (["describe", "--config=nothing.py"], "No such file or directory: 'nothing.py'"),
        (["describe", "--config=README.md"], "--config: SyntaxError"),
        (["describe", "--config.model.nothing=1"], "config.model has no field nothing, has band"),
        (
            ["describe", "--config.model.num_filters=x"],
            "num_filters: got 'x', must be a whole number",
        ),
        (["describe", "--config.model.ratios=(0,2)"], "config.model.ratios: got (0, 2), must be"),
        (["infer", "nothing.wav"], "nothing.wav: no such file or folder"),
        (
            ["infer", CLIPS, f"{TINY},{TINY}"],
            "No such file or directory: 'configs/encodec_tiny.py,",
        ),
        (
            ["evaluate", f"{TINY},none.py"],
            "No such file or directory: 'configs/encodec_tiny.py,",
        ),
        (["evaluate", "x"], "got 1 arguments, takes none"),
        (["convert"], "convert: needs --source and --output"),
        (["export"], "export: needs --format and --output"),
        (["export", "--format=v1"], "export: --format: got 'v1', must be one of onnx, "),
    )
    def test_bad_calls(self, arguments, message):
        result = run(*arguments)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertStartsWith(result.stderr, "run.py: ")
        self.assertIn(message, result.stderr)
        self.assertLen(result.stderr.splitlines(), 1)

    def test_config_as_a_word_of_its_own(self):
        result = run("describe", "--config", "configs/encodec_tiny.py", "--config.model.compress=4")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("conv_0         [24000, 2]", result.stdout)

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run(
                [sys.executable, "run.py", "describe", TINY],
                cwd=ROOT,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
            )
        self.assertEqual(result.returncode, 2)
        self.assertIn("No space left on device", result.stderr)
        self.assertNotIn("Traceback", result.stderr)

    @parameterized.parameters(
        (f"describe {TINY} | true", ""),
        (f"describe {TINY} | head -1", "encodec_tiny: 24000 Hz, mono, causal\n"),
        ("--help | true", ""),
        (f"describe {TINY} >&-", ""),
        ("--help >&-", ""),
        ("describe x 2>&-", ""),
        ("describe x 2>&1 | true", ""),
        ("--help <&- >&- 2>&-", ""),
    )
    @pytest.mark.few(0, 3, 5, 7)
    def test_output_that_nobody_reads(self, command, output):
        result = subprocess.run(
            f"{sys.executable} run.py {command}",
            shell=True,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        self.assertEqual((result.stdout, result.stderr), (output, ""))

    @pytest.mark.slow
    def test_nothing_is_printed_into_files_if_stdout_is_closed(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "codes.ecdc")
            arguments = f"infer {CLIPS}/speech_numbers.flac {path} {TINY}"
            command = f"{sys.executable} run.py {arguments} <&- >&- 2>&-"
            self.assertEqual(subprocess.run(command, shell=True, cwd=ROOT).returncode, 0)
            self.assertNotIn(b"files", path.read_bytes())
            self.assertEqual(run("info", str(path)).returncode, 0)

    @parameterized.parameters("cuda", "nonsense")
    def test_platform_that_jax_does_not_find(self, name):
        # On a machine with CUDA, JAX finds no device that is hidden.
        environment = {**os.environ, "JAX_PLATFORMS": name, "CUDA_VISIBLE_DEVICES": ""}
        result = run("describe", TINY, env=environment)
        self.assertEqual(result.returncode, 2, result.stderr)
        *_, line = result.stderr.splitlines()
        self.assertStartsWith(line, f"run.py: JAX_PLATFORMS: got '{name}', must name platforms ")
        self.assertNotIn("Traceback", result.stderr)

    @pytest.mark.slow
    def test_from_another_folder(self):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, str(ROOT / "run.py"), "describe", TINY]
            result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            self.assertEqual(result.returncode, 0, result.stderr)
            command[1:2] = ["-m", "encodec_hk"]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            module = subprocess.run(
                [*command, "x"], cwd=folder, env=environment, capture_output=True, text=True
            )
        self.assertStartsWith(result.stdout, "encodec_tiny: ")
        self.assertEqual(module.stderr, "encodec-hk: describe: got 1 arguments, takes none\n")

    @parameterized.parameters((signal.SIGINT, 2.0), (signal.SIGTERM, 6.0))
    @pytest.mark.few(0)
    def test_interrupted(self, signum, seconds):
        """An interruption ends the process with status 130, and no file is half-written."""
        with tempfile.TemporaryDirectory() as folder:
            process = subprocess.Popen(
                [sys.executable, "run.py", "infer", CLIPS, folder, TINY],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            time.sleep(seconds)
            process.send_signal(signum)
            _, errors = process.communicate(timeout=60)
            names = os.listdir(folder)
        if process.returncode != 0:  # it may have finished before
            self.assertEqual(process.returncode, 130, errors)
            self.assertIn("interrupted", errors)
        self.assertEqual([name for name in names if not name.endswith(".wav")], [])
