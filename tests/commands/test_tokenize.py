"""`run.py tokenize`: killed, run twice at once, refused; what it prints and returns."""

import contextlib
import io
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from unittest import mock

import pytest
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.commands import checkpoints
from encodec_hk.commands import tokenize
from tests import infer_cases
from tests import tokenize_cases

# A process of `run.py tokenize` with a tiny codec, which compiles in a second.
_RUN = """
import sys
from unittest import mock
from encodec_hk.commands import checkpoints, tokenize
from tests import tokenize_cases
if __name__ == "__main__":
    with mock.patch.object(checkpoints, "load_codec", lambda *_: tokenize_cases.codec()):
        sys.exit(tokenize.run(None, *sys.argv[1:3], shard_hours=float(sys.argv[3]),
            readers=int(sys.argv[4]), row_seconds=1.0))
"""


# Prints the peaks of memory, in MB.
_MEASURE = """
import resource, sys
from tests import tokenize_cases
if __name__ == "__main__":
    job = tokenize_cases.job(*sys.argv[1:3], shard_hours=0.1)
    tokenize_cases.run(job, num_readers=1)
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        print(resource.getrusage(who).ru_maxrss / 1024)
"""


class ProcessesTest(parameterized.TestCase):
    """Whole processes, killed at random moments or two at once."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.inputs, self.output = self.folder / "in", self.folder / "out"
        self.script = self.folder / "run_tokenize.py"
        self.script.write_text(_RUN)

    def start(self, output, *, readers=1, shard_hours=1 / 3600):
        environment = os.environ | {"PYTHONPATH": str(infer_cases.REPOSITORY)}
        arguments = [self.inputs, output, shard_hours, readers]
        process = subprocess.Popen(
            [sys.executable, self.script, *map(str, arguments)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        return process

    def finish(self, *processes):
        for process in processes:
            _, stderr = process.communicate()
            self.assertEqual(process.returncode, 0, stderr.decode()[-2000:])

    def kill_until_done(self, kills, generator):
        """Kill runs at random moments, mostly after they began to write."""
        num_receipts, killed = 0, 0
        while killed < kills:
            process = self.start(self.output, readers=killed % 3)
            until = time.monotonic() + generator.uniform(1.0, 20.0)
            while process.poll() is None and time.monotonic() < until:
                found = len(list(self.output.glob(".tokenize/receipts/*.json")))
                if found > num_receipts:
                    num_receipts = found
                    time.sleep(generator.uniform(0, 0.2))
                    break
                time.sleep(0.01)
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
        return killed

    def assert_same_as_without_kills(self, count, kills, seed):
        tokenize_cases.write_clips(self.inputs, count, ".wav")
        self.finish(self.start(self.folder / "expected"))
        killed = self.kill_until_done(kills, random.Random(seed))
        self.assertGreater(killed, 1)
        self.finish(self.start(self.output))
        expected = tokenize_cases.contents(self.folder / "expected")
        self.assertEqual(tokenize_cases.contents(self.output), expected)
        self.assertGreater(len(expected), 8)
        names = [path.name for path in self.output.rglob("*") if ".part" in path.name]
        self.assertEqual(names, [])
        return killed

    def test_killed_runs_end_in_the_same_bytes(self):
        self.assert_same_as_without_kills(30, 3, 0)

    @pytest.mark.slow
    def test_twenty_kills_end_in_the_same_bytes(self):
        self.assertEqual(self.assert_same_as_without_kills(150, 20, 1), 20)

    @pytest.mark.slow
    def test_two_processes_at_once_end_in_the_same_bytes(self):
        tokenize_cases.write_clips(self.inputs, 20, ".wav")
        self.finish(self.start(self.folder / "expected", readers=0))
        self.finish(self.start(self.output), self.start(self.output, readers=0))
        self.assertEqual(
            tokenize_cases.contents(self.output), tokenize_cases.contents(self.folder / "expected")
        )
        self.assertEqual((self.output / "README.md").exists(), True)


@pytest.mark.slow
class MemoryTest(parameterized.TestCase):
    """The peak memory of a run, in processes of their own."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def peak(self, name):
        """Return the peaks of the process and of its reader, in MB."""
        script = self.folder / "measure.py"
        script.write_text(_MEASURE)
        done = subprocess.run(
            [sys.executable, script, self.folder / name, self.folder / f"out_{name}"],
            env=os.environ | {"PYTHONPATH": str(infer_cases.REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
        )
        return [float(value) for value in done.stdout.split()[-2:]]

    def assert_peaks_alike(self, small, large):
        for before, after in zip(self.peak(small), self.peak(large), strict=True):
            self.assertLess(after, before + 40)

    def test_does_not_grow_with_the_number_of_items(self):
        tokenize_cases.write_clips(self.folder, 10, ".wav")
        for name, count in (("few.jsonl", 500), ("many.jsonl", 5000)):
            lines = (
                json.dumps({"path": f"{index % 10:02}.wav", "id": f"{index:05}", "duration": 1.0})
                for index in range(count)
            )
            (self.folder / name).write_text("\n".join(lines))
        self.assert_peaks_alike("few.jsonl", "many.jsonl")

    def test_does_not_grow_with_the_length_of_a_file(self):
        for name, minutes in (("short.wav", 2), ("long.wav", 40)):
            infer_cases.sound_files.write(
                self.folder / name, infer_cases.noise(minutes * 60 * 24000), 24000
            )
        self.assert_peaks_alike("short.wav", "long.wav")


class CommandTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.inputs, self.output = self.folder / "in", self.folder / "out"
        tokenize_cases.write_clips(self.inputs, 8, ".wav")
        codec = tokenize_cases.codec()
        self.enterContext(mock.patch.object(checkpoints, "load_codec", return_value=codec))

    def run_tokenize(self, status=0, **settings):
        settings = {"shard_hours": 1 / 3600, "readers": 0, **settings}
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            found = tokenize.run(None, str(self.inputs), str(self.output), **settings)
        self.assertEqual(found, status, err.getvalue())
        return out.getvalue(), err.getvalue()

    def test_lines_and_summary(self):
        out, _ = self.run_tokenize()
        count = len(tokenize_cases.files(self.output))
        self.assertIn(f"[1/{count}] train-00000.parquet: ", out)
        self.assertRegex(out, rf"{count} of {count} shards, 8 rows, 0.00 h of audio in .*real time")
        self.assertIn("8 rows", (self.output / "README.md").read_text())
        out, _ = self.run_tokenize()
        self.assertIn(f"kept {count} shards that are done already", out)

    def test_shares_make_the_whole(self):
        for share in ("2/3", "0/3"):
            self.run_tokenize(shard=share)
        self.assertFalse((self.output / "README.md").exists())
        self.run_tokenize(shard="1/3")
        self.assertTrue((self.output / "README.md").exists())
        self.assertLen(tokenize_cases.rows(self.output), 8)

    def test_status(self):
        self.run_tokenize(shard="0/4")
        out = self.status()
        self.assertRegex(out, "^[0-9]+ of [0-9]+ shards done: [0-9]+ rows, 0.00 h of audio, ")

    def status(self):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.assertEqual(tokenize.run(None, str(self.inputs), str(self.output), status=True), 0)
        return out.getvalue()

    def test_failed_items(self):
        (self.inputs / "bad.wav").write_bytes(b"x")
        _, err = self.run_tokenize(1)
        self.assertIn("1 items failed:\nbad.wav: ", err)
        self.assertIn("--retry_errors tries them again", err)
        lines = [
            json.loads(line)
            for path in (self.output / ".tokenize" / "errors").iterdir()
            for line in path.read_text().splitlines()
        ]
        self.assertEqual([line["id"] for line in lines], ["bad.wav"])

    def test_failed_shard(self):
        (self.inputs / "bad.wav").write_bytes(b"x")
        _, err = self.run_tokenize(1, max_errors="0")
        self.assertRegex(err, "shard [0-9]+ failed: 1 of [0-9]+ items failed, more than")
        out = self.status()
        self.assertRegex(out, "shard [0-9]+ failed: 1 of")
        self.assertFalse((self.output / "README.md").exists())

    def test_verify(self):
        self.run_tokenize()
        out, _ = self.run_tokenize(verify=True)
        self.assertRegex(out, "8 items of [0-9]+ shards: 0 of [0-9]+ codes differ")
        shutil.copy(self.inputs / "00.wav", self.inputs / "01.wav")
        with self.assertRaisesRegex(ValueError, "are changed"):
            self.run_tokenize(verify=True)

    @parameterized.parameters(
        ({"num_codebooks": 1}, "num_codebooks: got 1, .* was begun with 2"),
        ({"channels": "first"}, "channels: got first, "),
        ({"row_seconds": 1.0}, "row_seconds: got 1.0, .* was begun with None"),
    )
    def test_other_settings_are_refused(self, settings, message):
        self.run_tokenize()
        with self.assertRaisesRegex(ValueError, message):
            self.run_tokenize(**settings)

    @parameterized.parameters(
        ({"readers": -1}, "--readers: got -1, must be at least 0"),
        ({"shard": "x"}, "--shard: got 'x'"),
        ({"row_seconds": 0.0}, "--row_seconds: got 0, must be a number above 0"),
        ({"keep": ["codes"]}, "--keep: got 'codes', must be"),
        ({"keep": ["x", "x"]}, "--keep: got x,x, must be different names"),
        ({"max_errors": "many"}, "--max_errors: got 'many'"),
        ({"bandwidth": 1.0, "num_codebooks": 1}, "got both bandwidth"),
    )
    def test_errors_of_flags(self, settings, message):
        with self.assertRaisesRegex(ValueError, message):
            self.run_tokenize(**settings)

    def test_extend(self):
        self.run_tokenize()
        before = tokenize_cases.contents(self.output)
        tokenize_cases.write_clips(self.inputs, 11, ".wav")
        with self.assertRaisesRegex(ValueError, "3 items are not in .*--extend adds them"):
            self.run_tokenize()
        self.run_tokenize(extend=True)
        after = tokenize_cases.contents(self.output)
        self.assertEqual({name: after[name] for name in before}, before)
        self.assertLen(tokenize_cases.rows(self.output), 11)


if __name__ == "__main__":
    absltest.main()
