"""`run.py infer` with damaged and cut-off files, and with a full disk."""

import contextlib
import errno
import os
import pathlib
import resource
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
import soundfile
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from encodec_hk.bitstream import version1_layout
from encodec_hk.sound import sound_files
from tests import infer_cases
from tests import random_networks

RATE = infer_cases.RATE
HOP = infer_cases.HOP
BLOCK = infer_cases.BLOCK


class DamageTest(infer_cases.CodesTestCase):
    """With .ecdc files of four blocks, of which the last is short."""

    LENGTH = 3 * BLOCK + 20 * HOP - 80

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.shared = infer_cases.meta_codec()

    def setUp(self) -> None:
        super().setUp()
        self.source = self.write("a.wav", infer_cases.noise(self.LENGTH))
        self.file = self.run_to(self.source, "a.ecdc", format="v1")
        self.whole = self.samples(self.run_to(self.file, "whole.wav"))
        self.data = pathlib.Path(self.file).read_bytes()
        header = self.header(self.file)
        self.first = 9 + int.from_bytes(self.data[5:9], "big")
        self.block = version1_layout.HEAD_SIZE + header.payload_size(75)  # bytes

    def damage(self, *blocks: int) -> str:
        """Return a file with one wrong byte in the payload of each of these blocks."""
        data = bytearray(self.data)
        for index in blocks:
            data[self.first + index * self.block + version1_layout.HEAD_SIZE + 5] ^= 0xFF
        (self.folder / "bad.ecdc").write_bytes(data)
        return self.path("bad.ecdc")

    @parameterized.parameters(0, 1, 2, 3)
    def test_damaged_block(self, index: int) -> None:
        bad = self.damage(index)
        start, stop = index * BLOCK, min((index + 1) * BLOCK, self.LENGTH)
        message = f"bad.ecdc: damaged block at {index}.00 s to .*--recover replaces it by silence"
        self.fails(message, bad, self.path("b.wav"))
        found = self.samples(self.run_to(bad, "b.wav", recover=True))
        self.assertRegex(self.stderr, f"bad.ecdc: damaged block at {index}.00 s to ")
        self.assertEqual(found.shape, self.whole.shape)
        np.testing.assert_array_equal(found[start:stop], 0)
        np.testing.assert_array_equal(found[:start], self.whole[:start])
        # After the edge, as far as the network looks back.
        again = stop + 15 * HOP
        np.testing.assert_allclose(found[again:], self.whole[again:], rtol=0, atol=1e-4)
        self.assertTrue(found[stop : stop + HOP].any() or stop == self.LENGTH)

    @parameterized.parameters(([0, 1],), ([1, 3],), ([0, 2],), ([2, 3],), ([0, 1, 2, 3],))
    def test_damaged_blocks(self, blocks: list[int]) -> None:
        found = self.samples(self.run_to(self.damage(*blocks), "b.wav", recover=True))
        self.assertEqual(found.shape, self.whole.shape)
        for index in range(4):
            part = found[index * BLOCK : (index + 1) * BLOCK]
            self.assertEqual(not part.any(), index in blocks)

    def test_missing_block(self) -> None:
        start, stop = self.first + self.block, self.first + 2 * self.block
        (self.folder / "bad.ecdc").write_bytes(self.data[:start] + self.data[stop:])
        found = self.samples(self.run_to(self.path("bad.ecdc"), "b.wav", recover=True))
        self.assertEqual(found.shape, self.whole.shape)
        np.testing.assert_array_equal(found[BLOCK : 2 * BLOCK], 0)
        np.testing.assert_array_equal(found[:BLOCK], self.whole[:BLOCK])

    def test_pipes(self) -> None:
        """A pipe is decoded like a file."""
        data = pathlib.Path(self.damage(1, 3)).read_bytes()
        out = self.path("b.wav")
        self.through_pipes(data, out, recover=True, sample_format="float32")
        expected = self.samples(self.run_to(self.path("bad.ecdc"), "c.wav", recover=True))
        np.testing.assert_allclose(self.samples(out)[: self.LENGTH], expected, rtol=0, atol=1e-4)

    def test_in_a_folder(self) -> None:
        for name in "acde":
            (self.folder / "in").mkdir(exist_ok=True)
            (self.folder / "in" / f"{name}.ecdc").write_bytes(self.data)
        os.replace(self.damage(2), self.path("in/b.ecdc"))
        settings = {"sample_format": "float32"}
        self.assertEqual(self.infer(self.path("in"), self.path("out"), **settings), 1)
        self.assertRegex(self.stderr, "^skipped 1:\n.*b.ecdc: damaged block at 2.00 s")
        found = [name for name in self.tree() if name.startswith("out")]
        self.assertEqual(found, [f"out/{name}.wav" for name in "acde"])
        for name in "acde":
            samples = self.samples(self.path(f"out/{name}.wav"))
            np.testing.assert_allclose(samples, self.whole, rtol=0, atol=1e-4)

    def test_copying(self) -> None:
        """A damaged file cannot be copied: codes have no silence."""
        for settings in ({}, {"recover": True}, {"format": "v0"}):
            message = "bad.ecdc: damaged block at 1.00 s"
            self.fails(message, self.damage(1), self.path("b.ecdc"), **settings)

    @parameterized.parameters((0, 1), (0, 2), (0, 3), (1, 1), (19, 1), (20, 2), (200, 1), (-10, 2))
    def test_cut_off(self, surplus: int, blocks: int) -> None:
        """The file ends a few bytes after a complete block, or before its end."""
        whole = blocks - (surplus < 0)
        size = self.first + blocks * self.block + surplus
        (self.folder / "bad.ecdc").write_bytes(self.data[:size])
        bad = self.path("bad.ecdc")
        found = self.samples(self.run_to(bad, "b.wav"))
        self.assertRegex(self.stderr, f"bad.ecdc: cut off after {whole}.00 s of 3.26 s: the end")
        np.testing.assert_array_equal(found, self.whole[: whole * BLOCK])
        for version in ("v0", "v1"):
            copied = self.run_to(bad, "b.ecdc", format=version, force=True)
            self.assertRegex(self.stderr, f"bad.ecdc: cut off after {whole}.00 s")
            self.assertEqual(self.header(copied).num_samples, whole * BLOCK)
            np.testing.assert_array_equal(self.codes(copied), self.codes(bad))
            again = self.samples(self.run_to(copied, "c.wav", force=True))
            np.testing.assert_array_equal(again, found)

    def test_nothing_but_a_header(self) -> None:
        (self.folder / "bad.ecdc").write_bytes(self.data[: self.first])
        self.infer(self.path("bad.ecdc"), self.path("b.wav"))
        self.assertRegex(
            self.stderr, "bad.ecdc: cut off after 0.00 s of 3.26 s: the end is missing"
        )
        self.assertEqual(soundfile.info(self.path("b.wav")).frames, 0)

    def test_without_the_end(self) -> None:
        """The header stores the length too."""
        (self.folder / "bad.ecdc").write_bytes(self.data[:-20])
        found = self.samples(self.run_to(self.path("bad.ecdc"), "b.wav"))
        self.assertRegex(self.stderr, "bad.ecdc: no index: the end is missing or damaged")
        np.testing.assert_array_equal(found, self.whole)

    def test_version_0_cut_off(self) -> None:
        data = pathlib.Path(self.run_to(self.source, "0.ecdc", format="v0")).read_bytes()
        start = 9 + int.from_bytes(data[5:9], "big")
        frames = 100
        (self.folder / "bad.ecdc").write_bytes(data[: start + frames * 20 // 8 + 1])
        bad = self.path("bad.ecdc")
        message = "bad.ecdc: cut off after 1.33 s of 3.26 s; --recover decodes up to there"
        self.fails(message, bad, self.path("b.wav"))
        self.fails("bad.ecdc: cut off after 1.33 s", bad, self.path("b.ecdc"))
        found = self.samples(self.run_to(bad, "b.wav", recover=True))
        self.assertRegex(self.stderr, "bad.ecdc: cut off after 1.33 s of 3.26 s")
        self.assertLen(found, frames * HOP)
        np.testing.assert_allclose(found, self.whole[: len(found)], rtol=0, atol=1e-4)

    def test_version_0_with_more_after_the_end(self) -> None:
        data = pathlib.Path(self.run_to(self.source, "0.ecdc", format="v0")).read_bytes()
        (self.folder / "bad.ecdc").write_bytes(data + b"more")
        found = self.samples(self.run_to(self.path("bad.ecdc"), "b.wav"))
        self.assertIn("bad.ecdc: 4 bytes after the end of the codes", self.stderr)
        np.testing.assert_allclose(found, self.whole, rtol=0, atol=1e-4)


class OtherSegmentsTest(infer_cases.CodesTestCase):
    """Segments start at whole frames: no signal consists of just some of them."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        model = random_networks.small(
            ratios=(4, 3),
            num_lstm_layers=0,
            causal=False,
            norm="time_group_norm",
            normalize=True,
            segment_seconds=0.1,  # 120 samples, one every 108
            overlap=0.1,
        )
        params = random_networks.random_params(model)
        cls.shared = encodec_hk.Codec(model, params, name="small", batch_size=2)

    @pytest.mark.slow
    def test_damage_in_a_folder(self) -> None:
        for index, length in enumerate((108 * 4, 108 * 3 + 5, 1000, 700, 900)):
            self.write(f"in/{index}.wav", infer_cases.noise(length, seed=index))
        self.assertEqual(self.infer(self.path("in"), self.path("codes"), suffix=".ecdc"), 0)
        settings = {"sample_format": "float32"}
        self.assertEqual(self.infer(self.path("codes"), self.path("whole"), **settings), 0)
        for index in (0, 1, 2):
            path = pathlib.Path(self.path(f"codes/{index}.ecdc"))
            data = bytearray(path.read_bytes())
            place = 9 + int.from_bytes(data[5:9], "big")
            size = version1_layout.HEAD_SIZE + self.header(str(path)).payload_size(10)
            data[place + (index + 1) * size + version1_layout.HEAD_SIZE + 5] ^= 1
            path.write_bytes(data)
        # The next files take the places of those that fail.
        self.assertEqual(self.infer(self.path("codes"), self.path("out"), **settings), 1)
        self.assertRegex(self.stderr, "^skipped 3:\n")
        found = [name for name in self.tree() if name.startswith("out")]
        self.assertEqual(found, ["out/3.wav", "out/4.wav"])
        for index in (3, 4):
            expected = self.samples(self.path(f"whole/{index}.wav"))
            np.testing.assert_allclose(
                self.samples(self.path(f"out/{index}.wav")), expected, rtol=0, atol=1e-4
            )

    def test_sound_that_fails_in_a_folder(self) -> None:
        for index, length in enumerate((500, 3000, 700)):
            self.write(f"in/{index}.wav", infer_cases.noise(length, seed=index))
        path = pathlib.Path(self.path("in/1.wav"))
        data = bytearray(path.read_bytes())
        data[-40:-36] = b"\xff\xff\xff\xff"  # NaN
        path.write_bytes(data)
        for suffix in (".wav", ".ecdc"):
            self.assertEqual(self.infer(self.path("in"), self.path("out"), suffix=suffix), 1)
            found = [name for name in self.tree() if name.startswith("out") and suffix in name]
            self.assertEqual(found, [f"out/0{suffix}", f"out/2{suffix}"])

    @parameterized.parameters(1, 2, 3)
    def test_cut_off(self, count: int) -> None:
        codes = self.run_to(self.write("a.wav", infer_cases.noise(1000)), "a.ecdc")
        whole = self.samples(self.run_to(codes, "whole.wav"))
        data = pathlib.Path(codes).read_bytes()
        place = 9 + int.from_bytes(data[5:9], "big")
        size = version1_layout.HEAD_SIZE + self.header(codes).payload_size(10)
        (self.folder / "bad.ecdc").write_bytes(data[: place + count * size])
        found = self.samples(self.run_to(self.path("bad.ecdc"), "b.wav"))
        self.assertLen(found, count * 108)
        exact = (count - 1) * 108
        np.testing.assert_allclose(found[:exact], whole[:exact], rtol=0, atol=1e-5)

    def test_nothing_but_a_header(self) -> None:
        codes = self.run_to(self.write("a.wav", infer_cases.noise(1000)), "a.ecdc")
        data = pathlib.Path(codes).read_bytes()
        size = 9 + int.from_bytes(data[5:9], "big")
        (self.folder / "bad.ecdc").write_bytes(data[:size])
        for source in ("bad", "copy"):
            self.infer(self.path(f"{source}.ecdc"), self.path(f"{source}.wav"))
            self.assertEqual(soundfile.info(self.path(f"{source}.wav")).frames, 0)
            self.infer(self.path("bad.ecdc"), self.path("copy.ecdc"), force=True)


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class FailuresTest(infer_cases.CodesTestCase):
    """A failure is an error for a single file; among several, the file is skipped."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.shared = infer_cases.meta_codec()

    def names(self, start: str) -> list[str]:
        return [name for name in self.tree() if name.startswith(start)]

    def damaged(self, name: str, seconds: int = 8) -> str:
        """Write a FLAC file whose second half is damaged, and return its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sound_files.write(path, infer_cases.noise(seconds * RATE), RATE)
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 3000] = bytes(3000)
        path.write_bytes(data)
        with sound_files.SoundReader(path) as reader:
            self.assertLen(reader.read(seconds // 4 * RATE), seconds // 4 * RATE)
        return str(path)

    @parameterized.parameters(".wav", ".flac", ".ecdc")
    def test_damaged_sound(self, suffix: str) -> None:
        source = self.damaged("in/a.flac")
        self.fails(r"in/a\.flac: ", source, self.path(f"b{suffix}"))
        for name in "bc":
            self.write(f"in/{name}.wav", infer_cases.noise(RATE))
        self.assertEqual(self.infer(self.path("in"), self.path("out"), suffix=suffix), 1)
        self.assertRegex(self.stderr, "^skipped 1:\n.*in/a.flac: ")
        self.assertIn("2 of 3 files", self.stdout)
        self.assertEqual(self.names("out"), [f"out/b{suffix}", f"out/c{suffix}"])

    def test_damaged_sound_rescaled(self) -> None:
        self.fails("in/a.flac: ", self.damaged("in/a.flac"), self.path("b.wav"), rescale=True)

    @parameterized.parameters(".wav", ".flac", ".ogg", ".mp3", ".ecdc")
    def test_full_disk(self, suffix: str) -> None:
        samples = infer_cases.noise(20 * RATE)
        source = self.write("in/a.wav", samples)
        self.write("in/b.wav", samples[:2400])
        size = 60000 if suffix != ".ecdc" else 3000
        with full_disk(size):
            self.fails(rf"/c\{suffix}: ", source, self.path(f"c{suffix}"))
            self.assertEqual(self.infer(self.path("in"), self.path("out"), suffix=suffix), 1)
        self.assertRegex(self.stderr, rf"^skipped 1:\n.*out/a\{suffix}: ")
        self.assertEqual(self.names("out"), [f"out/b{suffix}"])

    @parameterized.parameters(0, 10, 100, 3000)
    def test_full_disk_for_codes(self, size: int) -> None:
        """From the first byte on, and for copies to another version."""
        source = self.write("a.wav", infer_cases.noise(20 * RATE))
        codes = self.run_to(source, "a.ecdc", format="v1")
        with full_disk(size):
            for settings in ({"format": "v1"}, {"format": "v0"}):
                for name in (source, codes):
                    message = r"/b\.ecdc: .*(too large|No space)"
                    self.fails(message, name, self.path("b.ecdc"), **settings)

    def test_full_disk_for_temporary_files(self) -> None:
        """The temporary file of --rescale fails."""
        source = self.write("in/a.wav", infer_cases.noise(8 * RATE))
        self.write("in/b.wav", infer_cases.noise(2400))
        with full_disk(400_000):
            self.fails("a temporary file: ", source, self.path("c.wav"), rescale=True)
            self.assertEqual(self.infer(self.path("in"), self.path("out"), rescale=True), 1)
        self.assertRegex(self.stderr, "^skipped 1:\na temporary file: ")
        self.assertEqual(self.names("out"), ["out/b.wav"])
        with mock.patch("tempfile.TemporaryFile", side_effect=OSError(errno.ENOSPC, "No space")):
            self.fails("a temporary file: No space", source, self.path("c.wav"), rescale=True)

    def test_writer_that_fails_later(self) -> None:
        """Writing fails at the last block, or when the file gets its name."""
        source = self.write("a.wav", infer_cases.noise(2 * RATE))
        codes = self.run_to(source, "a.ecdc")
        write = sound_files.SoundWriter.write
        count = 0

        def refuse(writer: sound_files.SoundWriter, samples: np.ndarray) -> None:
            nonlocal count
            count += 1
            if count == 2:
                raise ValueError(f"{writer._path}: No space left on device")
            write(writer, samples)

        for name in (source, codes):
            count = 0
            with mock.patch.object(sound_files.SoundWriter, "write", refuse):
                self.fails("b.wav: No space left on device", name, self.path("b.wav"))
        error = PermissionError(errno.EACCES, "Permission denied")
        with mock.patch.object(os, "replace", side_effect=error):
            for target in ("b.wav", "b.ecdc"):
                self.fails(f"{target}: Permission denied", source, self.path(target))
            self.fails("b.ecdc: Permission denied", codes, self.path("b.ecdc"))

    def test_interruption(self) -> None:
        for name in "abc":
            self.write(f"in/{name}.wav", infer_cases.noise(2400))
        self.run_to(self.path("in/a.wav"), "in/d.ecdc")
        replace, calls = os.replace, []

        def interrupted(*paths: Any) -> None:
            calls.append(paths)
            if len(calls) == 2:
                raise KeyboardInterrupt
            replace(*paths)

        with mock.patch.object(os, "replace", interrupted):
            settings = {"suffix": ".ecdc"}
            self.assertEqual(self.infer(self.path("in"), self.path("out"), **settings), 130)
        self.assertLen(self.names("out"), 1)
        self.assertIn("interrupted: 1 of 4 files written", self.stderr)


if __name__ == "__main__":
    absltest.main()
