"""`run.py infer` with pipes that have names: FIFOs, and the paths that a shell gives to pipes."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk import checkpoint
from encodec_hk.sound import pcm
from encodec_hk.system import interruption
from encodec_hk.transcode import stdio
from tests import infer_cases
from tests import random_networks

RATE = infer_cases.RATE


class FifosTest(infer_cases.CodesTestCase):
    """In the process."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.shared = infer_cases.meta_codec()

    def setUp(self) -> None:
        super().setUp()
        self.enter_context(mock.patch.object(interruption, "postpone"))
        self.samples_in = infer_cases.noise(RATE + 77)
        self.wav = self.write("a.wav", self.samples_in)

    def fifo(self, name: str, use: Callable[[pathlib.Path], Any]) -> str:
        """Make a FIFO, with a thread at its other end."""
        path = self.folder / name
        os.mkfifo(path)
        thread = threading.Thread(target=use, args=(path,), daemon=True)
        thread.start()
        self.addCleanup(thread.join, 60)
        return str(path)

    def source(self, data: bytes, name: str = "pipe") -> str:
        return self.fifo(name, lambda path: path.write_bytes(data))

    def target(self, name: str) -> tuple[str, list[bytes]]:
        found: list[bytes] = []
        return self.fifo(name, lambda path: found.append(path.read_bytes())), found

    def wait(self, found: list[bytes]) -> bytes:
        end = time.monotonic() + 60
        while not found and time.monotonic() < end:
            time.sleep(0.01)
        return found[0]

    @parameterized.parameters("pipe", "pipe.wav", "pipe.flac")
    def test_wav(self, name: str) -> None:
        """Known by its first bytes, whatever its name."""
        expected = self.samples(self.run_to(self.wav, "b.wav"))
        pipe = self.source(pathlib.Path(self.wav).read_bytes(), name)
        found = self.samples(self.run_to(pipe, "c.wav"))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
        self.assertIn(f"{pipe} -> ", self.stdout)

    def test_codes(self) -> None:
        codes = self.run_to(self.wav, "a.ecdc", format="v1")
        expected = self.samples(self.run_to(codes, "b.wav"))
        pipe = self.source(pathlib.Path(codes).read_bytes())
        found = self.samples(self.run_to(pipe, "c.wav"))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)

    def test_raw(self) -> None:
        pipe = self.source(pcm.encode(self.samples_in, "f32le"))
        raw = {"raw_rate": RATE, "raw_format": "f32le"}
        found = self.samples(self.run_to(pipe, "c.wav", **raw))
        expected = self.samples(self.run_to(self.wav, "b.wav"))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)

    @parameterized.parameters(
        ("out", {}), ("out", {"suffix": ".ecdc"}), ("out.wav", {}), ("out.ecdc", {})
    )
    def test_outputs(self, name: str, settings: dict[str, Any]) -> None:
        """They are those of stdout; a suffix of the FIFO counts."""
        codes = name.endswith(".ecdc") or "suffix" in settings
        expected = self.to_pipe(self.wav, suffix=".ecdc" if codes else ".wav")
        pipe, found = self.target(name)
        self.assertEqual(self.infer(self.wav, pipe, **settings), 0)
        self.assertEqual(self.wait(found), expected)
        self.assertTrue(pathlib.Path(pipe).is_fifo())
        self.assertIn("1 of 1 files", self.stdout)

    def test_both(self) -> None:
        data = pathlib.Path(self.wav).read_bytes()
        expected = self.through_pipes(data)
        pipe, found = self.target("out")
        self.assertEqual(self.infer(self.source(data), pipe), 0)
        found_samples = pcm.decode(self.wait(found)[44:], "s16le", 1)
        expected_samples = pcm.decode(expected[44:], "s16le", 1)
        np.testing.assert_allclose(found_samples, expected_samples, rtol=0, atol=1e-4)

    @parameterized.parameters(
        ("pipe", None, {}, "OUT: got none, must be named if IN is .*/pipe, such as - for stdout"),
        ("a.wav", "pipe.flac", {}, "pipe.flac: got '.flac', must be .wav or .ecdc on a pipe"),
        ("a.wav", "pipe", {"suffix": ".mp3"}, "--suffix: got '.mp3', must be .* on a pipe"),
        ("a.wav", "pipe", {"rescale": True}, "--rescale: got True, must be False on a pipe"),
        ("*.wav", "pipe", {}, "OUT: got .*/pipe, must be a folder"),
    )
    def test_refused(
        self, source: str, target: str | None, settings: dict[str, Any], message: str
    ) -> None:
        for name in ("pipe", "pipe.flac"):
            os.mkfifo(self.path(name))
        self.fails(message, self.path(source), target and self.path(target), **settings)

    def test_foreign_input(self) -> None:
        pipe = self.source(b"ID3\3" + bytes(100))
        self.fails("/pipe: got b'ID3.x03', must be a WAV or .ecdc file", pipe, self.path("b.wav"))

    def test_cut_off(self) -> None:
        data = pathlib.Path(self.wav).read_bytes()[: -2 * RATE]
        message = r"/pipe: cut off after 0\.50 s of 1\.00 s; --recover reads up to there$"
        self.fails(message, self.source(data), self.path("b.wav"))
        self.fails(message.replace("/pipe", "/c.wav"), self.cut(), self.path("b.wav"))
        os.unlink(self.path("pipe"))
        found = self.samples(self.run_to(self.source(data), "b.wav", recover=True))
        self.assertRegex(self.stderr, r"/pipe: cut off after 0\.50 s of 1\.00 s\n")
        self.assertLen(found, RATE // 2 + 77)
        self.assertEqual(
            self.samples(self.run_to(self.cut(), "d.wav", recover=True)).shape, found.shape
        )
        self.assertRegex(self.stderr, r"/c.wav: cut off after 0\.50 s of 1\.00 s\n")

    def cut(self) -> str:
        path = pathlib.Path(self.path("c.wav"))
        path.write_bytes(pathlib.Path(self.wav).read_bytes()[: -2 * RATE])
        return str(path)

    def test_cut_off_in_a_folder(self) -> None:
        for name in ("a", "b", "c"):
            self.write(f"in/{name}.wav", self.samples_in)
        (self.folder / "in" / "b.wav").write_bytes(pathlib.Path(self.cut()).read_bytes())
        self.assertEqual(self.infer(self.path("in"), self.path("out")), 1)
        self.assertRegex(self.stderr, r"^skipped 1:\n.*/in/b.wav: cut off after 0.50 s of 1.00 s; ")
        self.assertEqual(sorted(os.listdir(self.folder / "out")), ["a.wav", "c.wav"])

    def test_paths_of_stdin_and_stdout(self) -> None:
        fifo = self.fifo("pipe", lambda path: None)
        with mock.patch.object(stdio, "STDIN", (fifo,)):
            self.assertEqual(stdio.resolve(fifo), "-")
        with mock.patch.object(stdio, "STDIN", (self.wav,)):
            self.assertEqual(stdio.resolve(self.wav), self.wav)
            self.fails("OUT: got none, must be named if IN is .*a.wav", self.wav)
        for name in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
            self.assertEqual(stdio.resolve(name), "-")


class ShellTest(parameterized.TestCase):
    """With a shell and signals."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        model = random_networks.small(num_lstm_layers=0)
        params = random_networks.random_params(model)
        facts = {"source": "random", "source_sha256": "", "licence": "none"}
        path = cls.folder / "small.safetensors"
        checkpoint.save(str(path), params, model, name="small", **facts)
        data = pcm.encode(infer_cases.noise(3000), "s16le")
        (cls.folder / "a.raw").write_bytes(data)

    def command(self, *arguments: str) -> list[str]:
        program = str(infer_cases.REPOSITORY / "run.py")
        return [sys.executable, program, *arguments]

    def infer(self, *arguments: str) -> list[str]:
        return self.command("infer", *arguments, "--checkpoint=small.safetensors")

    @pytest.mark.slow
    def test_names_of_a_shell(self) -> None:
        """Each direction by another name; the files are equal."""
        infer = " ".join(self.infer("--raw_rate=1200"))
        decode = " ".join(self.infer())
        info = " ".join(self.command("info"))
        script = (
            f"set -e; {infer} <(cat a.raw) a.ecdc && cat a.raw | {infer} /dev/stdin b.ecdc\n"
            f"{decode} /dev/stdin /dev/stdout < a.ecdc > c.wav && {info} /dev/stdin < a.ecdc\n"
        )
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        a, b, c = ((self.folder / name).read_bytes() for name in ("a.ecdc", "b.ecdc", "c.wav"))
        self.assertEqual(a, b)
        self.assertLen(c, 44 + 2 * 3000)
        self.assertRegex(done.stdout, "/dev/stdin:\n(.*\n)*state        complete\n$")

    @pytest.mark.slow
    def test_interruption_while_nothing_writes(self) -> None:
        os.mkfifo(self.folder / "pipe")
        process = subprocess.Popen(
            self.infer("pipe", "never.wav"), cwd=self.folder, stderr=subprocess.PIPE, text=True
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        time.sleep(1)
        while process.poll() is None and not self.is_waiting(process.pid):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(60), 130)
        assert process.stderr is not None
        self.assertEqual(process.stderr.read(), "interrupted: 0 of 1 files written\n")
        self.assertFalse((self.folder / "never.wav").exists())

    def is_waiting(self, pid: int) -> bool:
        """Return whether a process has opened the FIFO."""
        folder = pathlib.Path(f"/proc/{pid}/fd")
        return any(os.path.realpath(path) == str(self.folder / "pipe") for path in folder.iterdir())

    @pytest.mark.slow
    def test_reader_that_closes(self) -> None:
        """No traceback, neither from a pipe that is written by name."""
        (self.folder / "long.raw").write_bytes(bytes(2 * 600_000))
        os.mkfifo(self.folder / "out")
        with open(self.folder / "long.raw", "rb") as file:
            process = subprocess.Popen(
                self.infer("-", "out", "--raw_rate=1200"),
                cwd=self.folder,
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        with open(self.folder / "out", "rb") as file:
            self.assertNotEmpty(file.read(4))
        _, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, errors), (1, b""))


if __name__ == "__main__":
    absltest.main()
