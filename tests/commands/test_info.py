"""`run.py info`: what it prints about good files and bad ones."""

import io
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

import pytest
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.commands import info
from tests import bitstream_files as files

ROOT = pathlib.Path(__file__).parents[2]


class InfoTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.path = self.folder / "sound.ecdc"

    def lines(self, data):
        self.path.write_bytes(data)
        out = io.StringIO()
        status = info.run(None, str(self.path), out)
        self.assertEqual(status, 0 if "state        complete" in out.getvalue() else 1)
        first, *lines = out.getvalue().splitlines()
        self.assertEqual(first, f"{self.path}:")
        return lines

    def test_version_1(self):
        like = files.header()
        data = files.write(like, files.random_codes(like, 750), 239_900)
        self.assertEqual(
            self.lines(data),
            [
                f"format       .ecdc version 1, {len(data):,} bytes",
                "model        encodec_24khz_small",
                f"checkpoint   {files.FINGERPRINT}",
                "signal       24000 Hz, mono, 239,900 samples (10.00 s)",
                "codes        8 codebooks of 10 bits, a frame every 320 samples",
                "content      750 frames in 10 blocks",
                f"bandwidth    6 kbps; {len(data) * 8 / 9995.833:.4g} kbps as a file",
                "state        complete",
            ],
        )

    def test_version_0(self):
        data = files.meta_file("encodec_48khz", 4, 2 * 47520)[0]
        self.assertEqual(
            self.lines(data),
            [
                f"format       .ecdc version 0, {len(data):,} bytes",
                "model        encodec_48khz",
                "checkpoint   not stored: any of that model",
                "signal       48000 Hz, stereo, 95,040 samples (1.98 s)",
                "codes        4 codebooks of 10 bits, a frame every 320 samples",
                "content      299 frames in 2 segments of 48000 samples, one every 47520, "
                "each with a scale",
                f"bandwidth    6 kbps; {len(data) * 8 / 1980:.4g} kbps as a file",
                "state        complete",
            ],
        )

    def test_cut_off(self):
        like = files.header()
        data = files.write(like, files.random_codes(like, 750))
        lines = self.lines(data[:4000])
        self.assertIn("signal       24000 Hz, mono, length unknown", lines)
        self.assertIn("content      375 frames in 5 blocks", lines)
        self.assertIn("bandwidth    6 kbps; 6.4 kbps as a file", lines)
        self.assertEqual(lines[-1], "state        cut off after 5.00 s: the end is missing")
        lines = self.lines(data[:120])
        self.assertIn("content      0 frames in 0 blocks", lines)
        self.assertIn("bandwidth    6 kbps", lines)
        lines = self.lines(files.meta_file("encodec_24khz", 8, 240_000)[0][:4000])
        self.assertEqual(lines[-1], "state        cut off after 5.24 s of 10.00 s")

    def test_damaged(self):
        like = files.header()
        data = bytearray(files.write(like, files.random_codes(like, 750)))
        for place in (1000, 4000, 4500):
            data[place] ^= 1
        self.assertEqual(
            self.lines(bytes(data))[-3:],
            [
                "state        damaged block at 1.00 s to 2.00 s",
                "             damaged block at 5.00 s to 6.00 s",
                "             150 of 750 frames are damaged",
            ],
        )

    @parameterized.parameters(
        (b"", r"the file is empty \(0 bytes\)$"),
        (b"fLaC....", "no .ecdc file: starts with b'fLaC', must be b'ECDC'$"),
        (b"ECDC\0\0\0\0\2{}", "header: missing m, al, nc, lm; must have m, al, nc, lm$"),
    )
    def test_other_files(self, data, message):
        with self.assertRaisesRegex(ValueError, f"^{self.path}: {message}"):
            self.lines(data)

    def test_no_file(self):
        with self.assertRaisesRegex(ValueError, f"^{self.path}: No such file or directory$"):
            info.run(None, str(self.path))
        with self.assertRaisesRegex(ValueError, f"^{self.folder}: Is a directory$"):
            info.run(None, str(self.folder))

    def test_pipe(self):
        like = files.header()
        data = files.write(like, files.random_codes(like, 750), 240_000)
        os.mkfifo(self.path)
        thread = threading.Thread(target=self.path.write_bytes, args=(data,))
        thread.start()
        out = io.StringIO()
        info.run(None, str(self.path), out)
        thread.join()
        self.assertIn("format       .ecdc version 1\n", out.getvalue())
        self.assertIn("signal       24000 Hz, mono, 240,000 samples (10.00 s)\n", out.getvalue())

    @pytest.mark.slow
    def test_command(self):
        self.lines(files.meta_file("encodec_24khz", 8, 1000)[0])
        (self.folder / "other").write_bytes(b"other")
        for arguments, status, message in (
            ([self.path], 0, "model        encodec_24khz"),
            (
                [self.folder / "other"],
                2,
                f"run.py: {self.folder}/other: no .ecdc file: starts with",
            ),
            ([], 2, "run.py: info: got 0 arguments, takes FILE\n"),
            ([self.path, self.path], 2, "run.py: info: got 2 arguments, takes FILE\n"),
        ):
            result = subprocess.run(
                [sys.executable, "run.py", "info", *arguments],
                cwd=ROOT,
                capture_output=True,
                text=True,
            )
            self.assertEqual(result.returncode, status, result.stderr)
            self.assertIn(message, result.stderr if status else result.stdout)
            self.assertLen(result.stderr.splitlines(), bool(status))

    @parameterized.parameters((None, 0, "complete"), (-40, 1, "cut off after .*"))
    def test_stdin(self, stop, status, state):
        """A file redirected to stdin, whole or cut off."""
        self.path.write_bytes(files.meta_file("encodec_24khz", 8, 1000)[0][:stop])
        with open(self.path, "rb") as file:
            result = subprocess.run(
                [sys.executable, "run.py", "info", "-"], cwd=ROOT, capture_output=True, stdin=file
            )
        self.assertEqual((result.returncode, result.stderr), (status, b""))
        self.assertRegex(result.stdout.decode(), f"^-:\n(.*\n)*state        {state}\n$")


if __name__ == "__main__":
    absltest.main()
