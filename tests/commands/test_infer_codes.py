"""`run.py infer` with .ecdc files: contents, versions, bandwidths, checkpoints."""

import io
import json
import os
import pathlib
from typing import Any
from unittest import mock

import numpy as np
import soundfile
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk import bitstream
from encodec_hk.bitstream import version1_layout
from encodec_hk.commands import checkpoints
from encodec_hk.commands import infer
from encodec_hk.sound import pcm
from encodec_hk.sound import sound_files
from tests import infer_cases

RATE = infer_cases.RATE
HOP = infer_cases.HOP


class CausalTest(infer_cases.CodesTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.shared = infer_cases.meta_codec()
        cls.trained = infer_cases.like(cls.shared, source="trained by run.py train")

    @parameterized.parameters("v0", "v1")
    def test_through_codes(self, version: str) -> None:
        for length in (1, 320, 2 * RATE + 77):
            source = self.write("a.wav", infer_cases.noise(length))
            expected = self.samples(self.run_to(source, "b.wav", force=True))
            codes = self.run_to(source, "a.ecdc", format=version, force=True)
            found = self.samples(self.run_to(codes, "c.wav", force=True))
            self.assertEqual(found.shape, (length, 1))
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
            self.assertEqual(self.header(codes).num_samples, length)

    def test_codes_are_those_of_the_codec(self) -> None:
        source = self.write("a.wav", infer_cases.noise(RATE))
        codes = self.codes(self.run_to(source, "a.ecdc"))
        np.testing.assert_array_equal(
            codes, self.codec.encode(infer_cases.noise(RATE)[None]).codes[0]
        )

    def test_sound_of_codes_is_as_the_codec_gives_it(self) -> None:
        source = self.write("a.wav", infer_cases.noise(2 * 44100, 2), 44100)
        codes = self.run_to(source, "a.ecdc")
        self.assertEqual(self.header(codes).num_samples, 2 * RATE)
        found = sound_files.read(self.run_to(codes, "b.wav"))
        self.assertEqual((found.sample_rate, found.samples.shape), (RATE, (2 * RATE, 1)))

    def test_folders(self) -> None:
        """Every file decodes as it does alone, whatever the numbers of codebooks."""
        for index, length in enumerate((50000, 1, 24000, 7000)):
            self.write(f"in/b/{index}.wav", infer_cases.noise(length, seed=index))
        folder = self.path("in")
        self.assertEqual(self.infer(folder, self.path("codes"), suffix=".ecdc"), 0)
        self.run_to(self.path("in/b/2.wav"), "codes/low.ecdc", num_codebooks=1, format="v1")
        names = ["b/0", "b/1", "b/2", "b/3", "low"]
        found = [name for name in self.tree() if name.startswith("codes")]
        self.assertEqual(found, [f"codes/{name}.ecdc" for name in names])
        self.assertEqual(self.header(self.path("codes/low.ecdc")).num_codebooks, 1)
        settings = {"sample_format": "float32"}
        self.assertEqual(self.infer(self.path("codes"), self.path("out"), **settings), 0)
        self.assertIn("5 of 5 files", self.stdout)
        self.assertIn("0.75, 1.5 kbps", self.stdout.replace("1.5, 0.75", "0.75, 1.5"))
        for name in names:
            alone = self.run_to(self.path(f"codes/{name}.ecdc"), "alone.wav", force=True)
            together = self.samples(self.path(f"out/{name}.wav"))
            np.testing.assert_allclose(together, self.samples(alone), rtol=0, atol=1e-4)
        for index, length in enumerate((50000, 1, 24000, 7000)):
            self.assertLen(self.samples(self.path(f"out/b/{index}.wav")), length)

    def test_sound_and_codes_in_one_folder(self) -> None:
        source = self.write("in/a.wav", infer_cases.noise(9000))
        self.run_to(source, "in/b.ecdc")
        self.assertEqual(self.infer(self.path("in"), self.path("out")), 0)
        self.assertEqual(self.infer(self.path("in"), self.path("codes"), suffix=".ecdc"), 0)
        found = [name for name in self.tree() if not name.startswith("in")]
        self.assertEqual(found, ["codes/a.ecdc", "codes/b.ecdc", "out/a.wav", "out/b.wav"])
        one, two = (self.samples(self.path(f"out/{name}.wav")) for name in "ab")
        np.testing.assert_allclose(one, two, rtol=0, atol=2.0**-14)
        one, two = (pathlib.Path(self.path(f"codes/{name}.ecdc")).read_bytes() for name in "ab")
        self.assertEqual(one, two)

    def test_names_without_out(self) -> None:
        self.run_to(self.write("a.wav", infer_cases.noise(900)), "in/a.ecdc")
        source = self.path("in/a.ecdc")
        self.infer(source)
        self.infer(source, bandwidth=0.75, suffix=".ecdc")
        self.infer(source, num_codebooks=1, suffix=".ecdc")
        self.infer(source, format="v1", suffix=".flac")
        expected = ["a", "a_0.75kbps", "a_1codebooks"]
        expected = [f"in/{name}.ecdc" for name in expected]
        expected += ["in/a_decoded.flac", "in/a_decoded.wav"]
        self.assertEqual(self.tree(), ["a.wav", *expected])
        self.infer(self.path("in/*.ecdc"))
        self.assertContainsSubset(["in/a_1codebooks_decoded.wav"], self.tree())
        os.mkdir(self.path("codes"))
        os.replace(source, self.path("codes/a.ecdc"))
        self.infer(self.path("codes"))
        self.infer(self.path("codes"), suffix=".ecdc", num_codebooks=1)
        self.assertContainsSubset(["codes_1codebooks/a.ecdc", "codes_decoded/a.wav"], self.tree())

    def test_copy_without_out(self) -> None:
        source = self.run_to(self.write("a.wav", infer_cases.noise(900)), "a.ecdc")
        self.infer(source, suffix=".ecdc")
        self.assertEqual(self.tree(), ["a.ecdc", "a.wav", "a_copy.ecdc"])
        self.assertEqual(
            (self.folder / "a_copy.ecdc").read_bytes(), (self.folder / "a.ecdc").read_bytes()
        )

    @parameterized.product(
        version=("v0", "v1"), settings=({"bandwidth": 0.75}, {"num_codebooks": 1})
    )
    def test_lower_bandwidth(self, version: str, settings: dict[str, Any]) -> None:
        """The first codebooks equal those of encoding at the lower bandwidth."""
        source = self.write("a.wav", infer_cases.noise(2 * RATE + 5))
        full = self.run_to(source, "a.ecdc", num_codebooks=2, format=version)
        low = self.run_to(source, "low.ecdc", num_codebooks=1, format=version)
        cut = self.run_to(full, "cut.ecdc", **settings)
        self.assertEqual(pathlib.Path(cut).read_bytes(), pathlib.Path(low).read_bytes())
        expected = self.samples(self.run_to(low, "low.wav"))
        found = self.samples(self.run_to(full, "cut.wav", **settings))
        np.testing.assert_array_equal(found, expected)

    @parameterized.parameters(
        ({"bandwidth": 3.0}, "got 3 kbps, the file has 2 codebooks of 0.75 kbps"),
        ({"bandwidth": 1.0}, "got 1 kbps, the file has 2 codebooks of 0.75 kbps"),
        ({"bandwidth": 0.0}, "got 0 kbps, the file has 2 codebooks of 0.75 kbps"),
        ({"num_codebooks": 3}, "got 3 codebooks, the file has 2 codebooks of"),
        ({"num_codebooks": 0}, "got 0 codebooks, the file has 2 codebooks of"),
        ({"num_codebooks": -1}, "got -1 codebooks, the file has 2 codebooks of"),
    )
    def test_more_than_the_file_has(self, settings: dict[str, Any], message: str) -> None:
        codes = self.run_to(self.write("in/a.wav", infer_cases.noise(9000)), "in/a.ecdc")
        for target in ("b.wav", "b.ecdc"):
            self.fails(rf"in/a\.ecdc: {message}", codes, self.path(target), **settings)
        os.remove(self.path("in/a.wav"))
        self.assertEqual(self.infer(self.path("in"), self.path("out"), **settings), 1)
        self.assertRegex(self.stderr, f"^skipped 1:\n.*a.ecdc: {message}")

    def test_copying_needs_no_codec(self) -> None:
        codes = self.run_to(self.write("a.wav", infer_cases.noise(9000)), "a.ecdc")
        with mock.patch.object(checkpoints, "load_codec", side_effect=AssertionError):
            copied = infer.run(None, codes, self.path("b.ecdc"), num_codebooks=1)
        self.assertEqual(copied, 0)
        np.testing.assert_array_equal(self.codes(self.path("b.ecdc")), self.codes(codes)[:1])

    def test_versions(self) -> None:
        """The default is version 0 for Meta's models and version 1 for others."""
        source = self.write("a.wav", infer_cases.noise(900))
        other = infer_cases.like(self.shared, name="another")
        for codec, settings, version in (
            (self.shared, {}, 0),
            (self.shared, {"format": "v1"}, 1),
            (self.trained, {}, 1),
            (self.trained, {"format": "v0"}, 0),
            (other, {}, 1),
        ):
            self.codec = codec
            header = self.header(self.run_to(source, "a.ecdc", force=True, **settings))
            self.assertEqual(header.version, version)
            self.assertEqual(header.name, codec.name)
            self.assertEqual(header.fingerprint, codec.fingerprint if version else None)
        self.codec = other
        message = "--format=v0: supports Meta's models only; got another, must be encodec_24khz or"
        self.fails(message, source, self.path("b.ecdc"), format="v0")

    def test_version_0_needs_the_geometry_of_its_model(self) -> None:
        self.codec = infer_cases.make_codec("encodec_24khz", codebook_size=512)
        source = self.write("a.wav", infer_cases.noise(900))
        message = "got encodec_24khz with bits 9, Meta's has 10"
        message = f"--format=v0: supports Meta's models only; {message}"
        self.fails(message, source, self.path("b.ecdc"), format="v0")

    def test_from_version_to_version(self) -> None:
        source = self.write("a.wav", infer_cases.noise(RATE + 5))
        one = self.run_to(source, "1.ecdc", format="v1")
        zero = self.run_to(one, "0.ecdc", format="v0")
        expected = self.run_to(source, "b.ecdc", format="v0")
        self.assertEqual(pathlib.Path(zero).read_bytes(), pathlib.Path(expected).read_bytes())
        message = "0.ecdc: --format=v1: version 0 does not say which checkpoint"
        self.fails(message, zero, self.path("c.ecdc"), format="v1")
        self.codec = infer_cases.like(self.shared, name="another")
        other = self.run_to(source, "another.ecdc")
        message = "name: got 'another', must be encodec_24khz or encodec_48khz in version 0"
        self.fails(message, other, self.path("c.ecdc"), format="v0")

    def test_another_checkpoint(self) -> None:
        codes = self.run_to(
            self.write("in/a.wav", infer_cases.noise(900)), "in/a.ecdc", format="v1"
        )
        own = self.codec.fingerprint[:16]
        other = "f" * 16
        for name in ("encodec_24khz", "better"):
            self.codec = infer_cases.like(self.shared, name=name, fingerprint=other * 4)
            message = (
                rf"in/a\.ecdc: made with encodec_24khz \(fingerprint {own}\), the checkpoint here "
                rf"is {name} \({other}\); --checkpoint=FILE names another"
            )
            self.fails(message, codes, self.path("b.wav"))
            self.assertEqual(self.infer(self.path("in"), self.path("out")), 1)
            self.assertRegex(self.stderr, f"skipped 1:\n.*{message}\n$")
            self.assertIn("out/a.wav", self.tree())
        self.run_to(codes, "copy.ecdc")  # a copy is not decoded

    def test_another_model_of_version_0(self) -> None:
        self.write("a.wav", infer_cases.noise(900))
        codes = self.run_to(self.path("a.wav"), "a.ecdc")
        self.codec = infer_cases.like(self.shared, name="encodec_24khz_small")
        message = (
            "a.ecdc: made with encodec_24khz, the checkpoint here is encodec_24khz_small; "
            "--checkpoint=FILE names another"
        )
        self.fails(message, codes, self.path("b.wav"))
        header = bitstream.meta_header("encodec_48khz", 2, 100)
        with open(self.path("b.ecdc"), "wb") as file:
            writer = bitstream.open_writer(file, header)
            writer.write(np.zeros((2, 1), np.int32), np.ones(1))
            writer.finish()
        self.codec = self.shared
        message = "b.ecdc: made with encodec_48khz, the checkpoint here is encodec_24khz;"
        self.fails(message, self.path("b.ecdc"), self.path("b.wav"))

    def test_more_codebooks_than_the_codec_has(self) -> None:
        header = bitstream.meta_header("encodec_24khz", 4, 100)
        with open(self.path("a.ecdc"), "wb") as file:
            writer = bitstream.open_writer(file, header)
            writer.write(np.zeros((4, 1), np.int32))
            writer.finish()
        self.fails("a.ecdc: num_codebooks: got 4", self.path("a.ecdc"), self.path("b.wav"))

    @parameterized.parameters(
        (b"", r"the file is empty \(0 bytes\)"),
        (b"RIFF" + bytes(100), "no .ecdc file: starts with b'RIFF', must be b'ECDC'"),
        (b"ECDC", "cut off in its header, after 4 bytes"),
        (b"ECDC\7" + bytes(100), "version 7, this program reads 0 and 1"),
        (b"ECDC\0\xff\xff\xff\xff" + bytes(100), "header of 4294967295 bytes, must be"),
    )
    def test_foreign_files(self, data: bytes, message: str) -> None:
        self.write("in/a.wav", infer_cases.noise(900))
        (self.folder / "in" / "b.ecdc").write_bytes(data)
        for target in ("c.wav", "c.ecdc"):
            self.fails(f"b.ecdc: {message}", self.path("in/b.ecdc"), self.path(target))
        self.assertEqual(self.infer(self.path("in"), self.path("out")), 1)
        self.assertRegex(self.stderr, f"skipped 1:\n.*b.ecdc: {message}")
        self.assertEqual([n for n in self.tree() if "out" in n], ["out/a.wav"])

    @parameterized.parameters(False, True)
    def test_rescale(self, is_codes: bool) -> None:
        """The whole output is scaled, including the quiet start."""

        def louder(*block: Any) -> tuple[Any, Any]:
            state, sound = self.shared.decode_rows(*block)
            return state, 3 * sound

        self.codec = infer_cases.like(self.shared, decode_rows=louder)
        samples = infer_cases.noise(3 * RATE)
        samples[: 2 * RATE] *= 0.1
        source = self.write("a.wav", samples)
        expected = self.samples(self.run_to(source, "b.wav"))
        peak = np.abs(expected).max()
        self.assertGreater(peak, 1)
        self.assertEqual(self.stderr, "")
        if is_codes:
            source = self.run_to(source, "a.ecdc")
        for sample_format in ("int16", "float32"):
            settings = {"sample_format": sample_format, "rescale": True, "force": True}
            scaled = self.run_to(source, "c.wav", **settings)
            self.assertRegex(self.stderr, rf"c\.wav: peak {peak:.3f} of full scale, scaled to fit")
            found = self.samples(scaled)
            self.assertLess(np.abs(found).max(), 1)
            whole, _ = sound_files.limit(expected, rescale=True)
            np.testing.assert_allclose(found, whole, rtol=0, atol=2.0**-15)
        clipped = self.samples(self.run_to(source, "d.wav", sample_format="int16"))
        np.testing.assert_allclose(clipped, np.clip(expected, -1, 1), rtol=0, atol=2.0**-15)


class SegmentsTest(infer_cases.CodesTestCase):
    """With the geometry of Meta's 48 kHz model."""

    LENGTH = 3 * 47520 + 20000
    STRIDE, OVERLAP = 47520, 480

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.shared = infer_cases.make_codec("encodec_48khz", batch_size=1, **infer_cases.SEGMENTS)

    def make_file(self, version: str = "v1") -> tuple[str, np.ndarray]:
        """Return a file of four segments and its sound."""
        source = self.write("a.wav", infer_cases.noise(self.LENGTH, 2))
        codes = self.run_to(source, "a.ecdc", format=version)
        return codes, self.samples(self.run_to(codes, "whole.wav"))

    @parameterized.parameters("v0", "v1")
    def test_through_codes(self, version: str) -> None:
        for length in (1, 47681, 48000, 2 * 48000 + 77):
            source = self.write("a.wav", infer_cases.noise(length, 2))
            expected = self.samples(self.run_to(source, "b.wav", force=True))
            codes = self.run_to(source, "a.ecdc", format=version, force=True)
            found = self.samples(self.run_to(codes, "c.wav", force=True))
            self.assertEqual(found.shape, (length, 2))
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
            header = self.header(codes)
            self.assertEqual((header.version, header.num_samples), (int(version[1:]), length))

    def test_versions_and_bandwidths(self) -> None:
        source = self.write("a.wav", infer_cases.noise(50000, 2))
        files = {}
        for version in ("v0", "v1"):
            full = self.run_to(source, f"{version}.ecdc", format=version)
            low = self.run_to(source, f"{version}low.ecdc", format=version, bandwidth=1.5)
            cut = self.run_to(full, f"{version}cut.ecdc", bandwidth=1.5)
            self.assertEqual(pathlib.Path(cut).read_bytes(), pathlib.Path(low).read_bytes())
            files[version] = full
        copied = self.run_to(files["v1"], "copy.ecdc", format="v0")
        self.assertEqual(pathlib.Path(copied).read_bytes(), pathlib.Path(files["v0"]).read_bytes())
        self.assertEqual(self.header(self.run_to(source, "default.ecdc")).version, 0)

    @parameterized.parameters(0, 1, 2, 3)
    def test_damaged_segment(self, index: int) -> None:
        codes, whole = self.make_file()
        data = bytearray(pathlib.Path(codes).read_bytes())
        place = 9 + int.from_bytes(data[5:9], "big")
        full = self.header(codes).payload_size(150)
        data[
            place + index * (version1_layout.HEAD_SIZE + full) + version1_layout.HEAD_SIZE + 9
        ] ^= 1
        (self.folder / "bad.ecdc").write_bytes(data)
        bad = self.path("bad.ecdc")
        self.fails("bad.ecdc: damaged block at", bad, self.path("b.wav"))
        found = self.samples(self.run_to(bad, "b.wav", recover=True))
        self.assertEqual(found.shape, whole.shape)
        start, stop = index * self.STRIDE, (index + 1) * self.STRIDE
        np.testing.assert_array_equal(found[:start], whole[:start])
        # The neighbouring segments fade out and in.
        silent = found[start + (self.OVERLAP if index else 0) : stop]
        np.testing.assert_allclose(silent, 0, rtol=0, atol=1e-10)
        behind = stop + self.OVERLAP
        np.testing.assert_allclose(found[behind:], whole[behind:], rtol=0, atol=1e-5)

    @parameterized.product(count=(1, 2, 3), is_piped=(False, True))
    def test_cut_off(self, count: int, is_piped: bool) -> None:
        """A signal cannot end with a full segment, so a cut-off one ends a little earlier."""
        codes, whole = self.make_file()
        data = pathlib.Path(codes).read_bytes()
        place = 9 + int.from_bytes(data[5:9], "big")
        full = self.header(codes).payload_size(150)
        data = data[: place + count * (version1_layout.HEAD_SIZE + full) + 33]
        bad, target = self.path("bad.ecdc"), self.path("b.wav")
        if is_piped:
            self.through_pipes(data, target, sample_format="float32")
            name = "-"
        else:
            (self.folder / "bad.ecdc").write_bytes(data)
            self.run_to(bad, "b.wav")
            name = "bad.ecdc"
        self.assertRegex(self.stderr, f"{name}: cut off after {0.99 * count:.2f} s of 3.39 s")
        found = self.samples(target)
        self.assertLen(found, count * self.STRIDE)
        exact = (count - 1) * self.STRIDE
        np.testing.assert_allclose(found[:exact], whole[:exact], rtol=0, atol=1e-5)
        # The last segment lacks its last frame, so its statistics differ.
        almost = count * self.STRIDE - 5 * HOP
        np.testing.assert_allclose(found[:almost], whole[:almost], rtol=0, atol=0.01)
        if not is_piped:
            copied = self.run_to(bad, "c.ecdc")
            self.assertEqual(self.header(copied).num_samples, count * self.STRIDE)
            again = self.samples(self.run_to(copied, "c.wav"))
            np.testing.assert_allclose(again, found, rtol=0, atol=1e-5)

    def test_version_0_cut_off(self) -> None:
        codes, whole = self.make_file("v0")
        data = pathlib.Path(codes).read_bytes()
        place = 9 + int.from_bytes(data[5:9], "big")
        (self.folder / "bad.ecdc").write_bytes(data[: place + 2 * (4 + 375) + 4 + 40 * 5 // 2 + 1])
        bad = self.path("bad.ecdc")
        self.fails("bad.ecdc: cut off after 2.25 s of 3.39 s", bad, self.path("b.wav"))
        found = self.samples(self.run_to(bad, "b.wav", recover=True))
        self.assertRegex(self.stderr, "bad.ecdc: cut off after 2.25 s of 3.39 s")
        self.assertLen(found, 2 * self.STRIDE + 40 * HOP)
        exact = 2 * self.STRIDE
        np.testing.assert_allclose(found[:exact], whole[:exact], rtol=0, atol=1e-5)

    def test_impossible_length(self) -> None:
        """The length in a header costs no memory."""
        codes, _ = self.make_file("v0")
        data = pathlib.Path(codes).read_bytes()
        size = int.from_bytes(data[5:9], "big")
        fields = json.loads(data[9 : 9 + size]) | {"al": 10**14}
        text = json.dumps(fields).encode()
        long = data[:5] + len(text).to_bytes(4, "big") + text + data[9 + size :]
        (self.folder / "bad.ecdc").write_bytes(long)
        bad = self.path("bad.ecdc")
        self.fails("bad.ecdc: cut off after 3.39 s of 2083333333.33 s", bad, self.path("b.wav"))
        found = self.samples(self.run_to(bad, "b.wav", recover=True))
        self.assertLen(found, 3 * self.STRIDE + 63 * HOP)  # 20000 samples have 63 frames

    def test_pipes(self) -> None:
        samples = infer_cases.noise(self.LENGTH, 2)
        expected = self.samples(self.run_to(self.write("a.wav", samples), "b.wav"))
        raw = {"raw_rate": 48000, "raw_channels": 2, "raw_format": "f32le"}
        out = self.through_pipes(pcm.encode(samples, "f32le"), **raw)
        np.testing.assert_allclose(pcm.decode(out, "f32le", 2), expected, rtol=0, atol=1e-4)
        codes = self.through_pipes(pcm.encode(samples, "f32le"), suffix=".ecdc", format="v1", **raw)
        out = self.through_pipes(codes, sample_format="float32")
        found, _ = soundfile.read(io.BytesIO(out), dtype="float32", always_2d=True)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


if __name__ == "__main__":
    absltest.main()
