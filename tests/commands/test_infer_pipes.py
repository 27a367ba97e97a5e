"""`run.py infer` with stdin and stdout: in the process, and with real pipes and signals."""

import fcntl
import io
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
import types
from typing import IO, Any
from unittest import mock

import numpy as np
import pytest
import soundfile
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from encodec_hk import bitstream
from encodec_hk import checkpoint
from encodec_hk.sound import pcm
from encodec_hk.system import interruption
from encodec_hk.transcode import ecdc
from encodec_hk.transcode import stdio
from tests import infer_cases
from tests import random_networks

RATE = infer_cases.RATE


class PipesTest(infer_cases.CodesTestCase):
    """Stdin and stdout in the process."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.shared = infer_cases.meta_codec()

    def wav(self, samples: np.ndarray, rate: int = RATE) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, samples, rate, "FLOAT", format="WAV")
        return file.getvalue()

    def read(self, data: bytes) -> tuple[np.ndarray, int]:
        return soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)

    @parameterized.parameters((RATE, 1, 1), (RATE, 1, 30000), (44100, 2, 50000), (8000, 3, 7001))
    def test_wav_to_wav(self, rate: int, channels: int, length: int) -> None:
        samples = infer_cases.noise(length, channels)
        expected = self.samples(self.run_to(self.write("a.wav", samples, rate), "b.wav"))
        out = self.through_pipes(self.wav(samples, rate), sample_format="float32")
        found, found_rate = self.read(out)
        self.assertEqual((found_rate, found.shape), (rate, (length, channels)))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
        self.assertEqual(self.stdout, "")
        self.assertIn("1 of 1 files", self.stderr)

    @parameterized.parameters(*pcm.RAW_FORMATS)
    def test_raw_to_raw(self, raw_format: str) -> None:
        samples = np.round(infer_cases.noise(20000, 2) * 2**15) / 2**15
        expected = self.samples(self.run_to(self.write("a.wav", samples, 16000), "b.wav"))
        raw = {"raw_rate": 16000, "raw_channels": 2, "raw_format": raw_format}
        out = self.through_pipes(pcm.encode(samples, raw_format), **raw)
        found = pcm.decode(out, raw_format, 2)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2.0**-14)

    def test_raw_to_a_file(self) -> None:
        samples = infer_cases.noise(20000)
        data = pcm.encode(samples, "f32le")
        raw = {"raw_rate": RATE, "raw_format": "f32le"}
        self.through_pipes(data, self.path("a.wav"), sample_format="float32", **raw)
        self.assertIn("1 of 1 files", self.stdout)
        expected = self.run_to(self.write("b.wav", samples), "c.wav")
        np.testing.assert_allclose(
            self.samples(self.path("a.wav")), self.samples(expected), rtol=0, atol=1e-4
        )

    def test_samples_that_look_like_codes(self) -> None:
        """Raw samples are not an .ecdc file, whatever they begin with."""
        data = b"ECDC" + bytes(2 * 20000 - 4)
        out = self.through_pipes(data, raw_rate=RATE)
        self.assertLen(out, 2 * 20000)

    @parameterized.parameters("v0", "v1")
    def test_codes(self, version: str) -> None:
        """The codes equal those of a file, although the length is unknown until the end."""
        for length in (1, 320, 2 * RATE + 77):
            samples = infer_cases.noise(length)
            path = self.run_to(self.write("a.wav", samples), "a.ecdc", format=version, force=True)
            data = self.through_pipes(self.wav(samples), suffix=".ecdc", format=version)
            if version == "v0":
                self.assertEqual(data, pathlib.Path(path).read_bytes())
            (self.folder / "b.ecdc").write_bytes(data)
            self.assertEqual(self.header(self.path("b.ecdc")).num_samples, length)
            np.testing.assert_array_equal(self.codes(self.path("b.ecdc")), self.codes(path))
            self.through_pipes(self.wav(samples), self.path("c.ecdc"), format=version, force=True)
            self.assertEqual((self.folder / "c.ecdc").read_bytes(), data)
            expected = self.samples(self.run_to(path, "a2.wav", force=True))
            found, rate = self.read(self.through_pipes(data, sample_format="float32"))
            self.assertEqual((rate, found.shape), (RATE, (length, 1)))
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
            found, _ = self.read(self.to_pipe(path, sample_format="float32"))
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)

    def test_codes_to_codes(self) -> None:
        path = self.run_to(self.write("a.wav", infer_cases.noise(RATE)), "a.ecdc", format="v1")
        data = pathlib.Path(path).read_bytes()
        low = self.run_to(path, "low.ecdc", num_codebooks=1)
        found = self.through_pipes(data, suffix=".ecdc", num_codebooks=1)
        self.assertEqual(found, pathlib.Path(low).read_bytes())
        zero = self.run_to(path, "0.ecdc", format="v0")
        found = self.through_pipes(data, suffix=".ecdc", format="v0")
        self.assertEqual(found, pathlib.Path(zero).read_bytes())
        self.assertEqual(self.to_pipe(path, suffix=".ecdc", format="v0"), found)

    def test_codes_to_raw(self) -> None:
        path = self.run_to(self.write("a.wav", infer_cases.noise(RATE)), "a.ecdc")
        expected = self.samples(self.run_to(path, "b.wav"))
        out = self.to_pipe(path, raw_rate=RATE, raw_format="s24le")
        np.testing.assert_allclose(pcm.decode(out, "s24le", 1), expected, rtol=0, atol=2e-7)

    def test_no_sound(self) -> None:
        out = self.through_pipes(self.wav(infer_cases.noise(0)))
        self.assertEqual(self.read(out)[0].shape, (0, 1))
        data = self.through_pipes(self.wav(infer_cases.noise(0)), suffix=".ecdc", format="v1")
        self.assertEqual(self.read(self.through_pipes(data))[0].shape, (0, 1))

    def stdin_fails(self, message: str, data: bytes, output: str, **settings: Any) -> None:
        before = self.tree()
        with self.assertRaisesRegex(ValueError, message) as context:
            self.through_pipes(data, output, **settings)
        self.assertNotIn("\n", str(context.exception))
        self.assertEqual(self.tree(), before)

    @parameterized.parameters(
        (b"", "stdin: ended after 0 of 12 bytes of a WAV header"),
        (b"RIFF", "stdin: ended after 4 of 12 bytes of a WAV header"),
        (b"fLaC" + bytes(100), "stdin: got b'fLaC', must be a WAV or .ecdc file, or raw"),
        (b"ECDC", "-: cut off in its header, after 4 bytes"),
        (b"ECDC" + bytes(100), "-: header of 0 bytes"),
    )
    def test_foreign_input(self, data: bytes, message: str) -> None:
        for output in ("-", self.path("a.wav"), self.path("a.ecdc")):
            self.stdin_fails(message, data, output)

    def test_damaged_codes(self) -> None:
        path = self.run_to(self.write("a.wav", infer_cases.noise(3 * RATE)), "a.ecdc", format="v1")
        data = bytearray(pathlib.Path(path).read_bytes())
        data[len(data) // 2] ^= 1
        for output in (self.path("b.wav"), self.path("b.ecdc")):
            self.stdin_fails("-: damaged block at 1.00 s", bytes(data), output)

    def test_not_a_number(self) -> None:
        samples = infer_cases.noise(3 * RATE)
        samples[2 * RATE] = np.nan
        for output in (self.path("b.wav"), self.path("b.ecdc")):
            self.stdin_fails("stdin: .*NaN", self.wav(samples), output)

    @parameterized.parameters(
        (
            "a.wav",
            "b.wav",
            {"raw_rate": 8000},
            "--raw_rate: got 8000, must be with - or another pipe",
        ),
        ("a.wav", "-", {"rescale": True}, "--rescale: got True, must be False on stdout"),
        (
            "a.wav",
            "-",
            {"suffix": ".flac"},
            "--suffix: got '.flac', must be .wav or .ecdc on stdout",
        ),
        (
            *("a.wav", "-", {"raw_rate": 8000, "raw_channels": 2}),
            "--raw_rate, --raw_channels: got 8000 and 2, the sound of .*a.wav has 24000 Hz and 1",
        ),
        ("a.wav", "-", {"raw_rate": 0}, "--raw_rate: got 0, must be"),
        ("a.wav", "-", {"raw_rate": 8000, "raw_channels": 0}, "--raw_channels: got 0, must be"),
        ("a.wav", "-", {"raw_rate": 8000, "raw_format": "u8"}, "--raw_format: got 'u8', must be"),
        ("a.wav", "b.wav", {"suffix": ".xyz"}, "--suffix: got '.xyz', must be one of .wav, .*ecdc"),
    )
    def test_wrong_settings(
        self, source: str, target: str, settings: dict[str, Any], message: str
    ) -> None:
        self.write("a.wav", infer_cases.noise(900))
        target = target if target == "-" else self.path(target)
        with mock.patch.object(stdio, "stdout", return_value=io.BytesIO()):
            self.fails(message, self.path(source), target, **settings)


class StdinTest(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.output = self.enter_context(io.FileIO(writing, "wb"))
        named = types.SimpleNamespace(fileno=lambda: reading)
        self.enter_context(mock.patch.object(sys, "stdin", named))
        self.stdin = stdio.stdin()

    def test_returns_what_has_arrived(self) -> None:
        """Reading allocates no more than what has arrived."""
        for data in (b"a", b"bcd"):
            self.output.write(data)
            self.assertEqual(self.stdin.read(2**40), data)
        self.output.write(bytes(60000))
        self.assertLen(self.stdin.read(50000), 50000)
        self.assertLen(self.stdin.read(50000), 10000)
        self.output.close()
        self.assertEqual(self.stdin.read(5), b"")

    def test_ends_on_interruption(self) -> None:
        self.output.write(bytes(5000))
        self.enter_context(mock.patch.object(interruption, "_requested", True))
        self.assertLen(self.stdin.read(3000), 3000)
        self.assertLen(self.stdin.read(3000), 2000)
        self.assertEqual(self.stdin.read(3000), b"")

    def test_ends_on_interruption_though_more_comes(self) -> None:
        self.enter_context(mock.patch.object(interruption, "_requested", True))
        found = 0
        for _ in range(1000):
            self.output.write(bytes(4000))
            data = self.stdin.read(3000)
            found += len(data)
            if not data:
                break
        self.assertBetween(found, 2**16, 2**16 + 3000)
        self.assertEqual(self.stdin.read(3000), b"")

    def test_closed(self) -> None:
        with mock.patch.object(sys, "stdin", None), self.assertRaisesRegex(ValueError, "closed"):
            stdio.stdin()
        with mock.patch.object(sys, "stdout", None), self.assertRaisesRegex(ValueError, "closed"):
            stdio.stdout()
        self.enter_context(mock.patch.object(sys, "stdout", infer_cases.Terminal()))
        with self.assertRaisesRegex(ValueError, "stdout is a terminal"):
            stdio.stdout()


class ProcessesTest(parameterized.TestCase):
    """With real pipes and signals."""

    RATE = 1200
    PIPE = 4096  # bytes

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        model = random_networks.small(num_lstm_layers=0)
        cls.path = str(cls.folder / "small.safetensors")
        params = random_networks.random_params(model)
        facts = {"source": "random", "source_sha256": "", "licence": "none"}
        checkpoint.save(cls.path, params, model, name="small", **facts)

    def start(self, *arguments: str, **settings: Any) -> subprocess.Popen[bytes]:
        """Start the command with small pipes; it is killed at the end of the test."""
        command = [sys.executable, "run.py", "infer", *arguments, f"--checkpoint={self.path}"]
        process = subprocess.Popen(
            command,
            cwd=infer_cases.REPOSITORY,
            bufsize=0,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **settings,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, self.PIPE)
        return process

    def feed(self, process: subprocess.Popen[bytes], size: int) -> None:
        """Write raw samples; afterwards all but a full pipe has been read."""
        assert process.stdin is not None
        data = pcm.encode(infer_cases.noise(size // 2), "s16le")
        for at in range(0, size, 1000):
            process.stdin.write(data[at : at + 1000])

    def test_interruption_keeps_what_has_arrived(self) -> None:
        target = self.folder / "a" / "out.ecdc"
        process = self.start("-", str(target), f"--raw_rate={self.RATE}", stdin=subprocess.PIPE)
        self.feed(process, 3 * self.PIPE)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=120), 130)
        assert process.stderr is not None
        self.assertEqual(process.stderr.read(), b"")
        self.assertEqual(os.listdir(target.parent), ["out.ecdc"])
        with open(target, "rb") as file:
            reader = bitstream.open_reader(file)
            blocks = list(reader.blocks())
            self.assertEqual(reader.warnings, [])
        self.assertEqual(reader.header.num_samples, 3 * self.PIPE // 2)
        self.assertEqual(sum(block.codes.shape[1] for block in blocks), 3 * self.PIPE // 24)

    @pytest.mark.slow
    def test_interruption_before_there_is_sound(self) -> None:
        target = self.folder / "c" / "out.wav"
        process = self.start("-", str(target), stdin=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"RIF")
        while process.poll() is None and any(self.unread(process.stdin)):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=120), 130)
        self.assertEqual(process.stderr.read(), b"interrupted: 0 of 1 files written\n")
        self.assertFalse(target.exists())

    @staticmethod
    def unread(pipe: IO[bytes]) -> bytes:
        """Return the number of unread bytes, little-endian."""
        return fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))

    @pytest.mark.slow
    def test_killed_half_way(self) -> None:
        target = self.folder / "b" / "out.ecdc"
        process = self.start("-", str(target), f"--raw_rate={self.RATE}", stdin=subprocess.PIPE)
        self.feed(process, 3 * self.PIPE)
        process.kill()
        process.wait()
        self.assertFalse(target.exists())
        self.assertRegex(" ".join(os.listdir(target.parent)), r"^\.out\.ecdc\.\d+\.part$")
        process = self.start("-", str(target), f"--raw_rate={self.RATE}", stdin=subprocess.PIPE)
        process.communicate(bytes(1000))
        self.assertEqual(os.listdir(target.parent), ["out.ecdc"])

    @pytest.mark.slow
    def test_reader_that_closes(self) -> None:
        codec = encodec_hk.load(self.path)
        header = ecdc.header(codec, 1, 60 * self.RATE, 1)
        path = self.folder / "long.ecdc"
        with open(path, "wb") as file:
            writer = bitstream.open_writer(file, header)
            writer.write(np.zeros((1, 6000), np.int32))
            writer.finish()
        process = self.start(str(path), "-")
        assert process.stdout is not None
        assert process.stderr is not None
        self.assertEqual(process.stdout.read(4), b"RIFF")
        process.stdout.close()
        self.assertEqual(process.wait(timeout=120), 1)
        self.assertEqual(process.stderr.read(), b"")
        process.stdout = None

    def test_answers_before_the_end(self) -> None:
        process = self.start("-", "-", f"--raw_rate={self.RATE}", stdin=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        data = pcm.encode(infer_cases.noise(self.RATE), "s16le")
        answer = b""
        for count in (1, 2):
            process.stdin.write(data)
            while len(answer) < (count - 0.5) * len(data):  # while stdin is open
                self.assertTrue(select.select([process.stdout], [], [], 120)[0], "no answer")
                answer += process.stdout.read(10000)
        process.stdin.close()
        process.stdin = None
        while more := process.stdout.read(10000):
            answer += more
        self.assertLen(answer, 2 * len(data))
        self.assertEqual(process.wait(timeout=120), 0)


if __name__ == "__main__":
    absltest.main()
