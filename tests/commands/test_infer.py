"""`run.py infer`: inputs, outputs, formats, failures."""

import contextlib
import os
import subprocess
import sys
from typing import Any
from unittest import mock

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from configs import encodec_48khz
from configs import encodec_tiny
from encodec_hk.sound import sound_files
from encodec_hk.transcode import plan
from tests import infer_cases


class SoundsTest(infer_cases.InferTestCase):
    @parameterized.product(
        rate=(8000, 11025, 22050, 24000, 44100, 96000), channels=(1, 2, 6), length=(1, 2, 4801)
    )
    def test_rate_channels_and_length_are_kept(self, rate: int, channels: int, length: int) -> None:
        source = self.make("a.wav", length, channels, rate)
        self.assertEqual(self.infer(source, str(self.folder / "b.wav")), 0)
        found = sound_files.read(self.folder / "b.wav")
        self.assertEqual((found.sample_rate, found.samples.shape), (rate, (length, channels)))
        self.assertEqual(self.codec.lengths, [-(-length * 24000 // rate)])
        if length > 2:
            expected = np.tile(
                infer_cases.sound(length, channels).mean(1, keepdims=True), (1, channels)
            )
            np.testing.assert_allclose(found.samples, expected, rtol=0, atol=0.02)

    @parameterized.product(
        source=(".wav", ".flac", ".mp3", ".ogg", ".opus"),
        target=(".wav", ".flac", ".mp3", ".ogg", ".opus"),
    )
    def test_containers(self, source: str, target: str) -> None:
        given = self.make(f"a{source}", 24001, 2, 48000)
        wanted = self.folder / f"b{target}"
        self.assertEqual(self.infer(given, str(wanted)), 0)
        found = sound_files.read(wanted)
        self.assertEqual((found.sample_rate, found.samples.shape), (48000, (24001, 2)))
        container = {".wav": "PCM_16", ".flac": "PCM_16", ".mp3": "MPEG_LAYER_III"}
        expected = container.get(target, {".ogg": "VORBIS", ".opus": "OPUS"}.get(target))
        self.assertEqual(found.subtype, expected)

    @parameterized.parameters(("int16", "PCM_16"), ("int24", "PCM_24"), ("float32", "FLOAT"))
    def test_sample_formats(self, sample_format: str, subtype: str) -> None:
        source, target = self.make("a.wav"), str(self.folder / "b.wav")
        self.assertEqual(self.infer(source, target, sample_format=sample_format), 0)
        self.assertEqual(sound_files.read(target).subtype, subtype)

    @parameterized.parameters("int16", "int24")
    def test_clipping_is_reported(self, sample_format: str) -> None:
        self.codec = infer_cases.Unchanged(gain=5.0)
        source, target = self.make("a.wav"), str(self.folder / "b.wav")
        self.assertEqual(self.infer(source, target, sample_format=sample_format), 0)
        self.assertRegex(self.stderr, r"b\.wav: peak 2\.000 .*clipped; --rescale")
        samples = sound_files.read(target).samples
        np.testing.assert_allclose(
            samples, np.clip(5 * infer_cases.sound(2400), -1, 1), rtol=0, atol=2.0**-12
        )

    def test_rescale(self) -> None:
        self.codec = infer_cases.Unchanged(gain=5.0)
        source, target = self.make("a.wav"), str(self.folder / "b.wav")
        self.assertEqual(self.infer(source, target, rescale=True), 0)
        self.assertRegex(self.stderr, r"b\.wav: peak 2\.000 .*scaled to fit")
        samples = sound_files.read(target).samples
        np.testing.assert_allclose(samples, 2.5 * infer_cases.sound(2400), rtol=0, atol=2.0**-12)

    def test_rescale_leaves_what_fits(self) -> None:
        source, target = self.make("a.wav"), str(self.folder / "b.wav")
        self.infer(source, target, rescale=True)
        self.assertEqual(self.stderr, "")
        np.testing.assert_array_equal(
            sound_files.read(source).samples, sound_files.read(target).samples
        )

    def test_float_exceeds_full_scale(self) -> None:
        self.codec = infer_cases.Unchanged(gain=5.0)
        source, target = self.make("a.wav"), str(self.folder / "b.wav")
        self.infer(source, target, sample_format="float32")
        self.assertEqual(self.stderr, "")
        self.assertAlmostEqual(float(sound_files.read(target).samples.max()), 2.0, places=3)

    @parameterized.parameters(
        ({}, 8, "6"), ({"bandwidth": 1.5}, 2, "1.5"), ({"num_codebooks": 3}, 3, "2.25")
    )
    def test_bandwidths(self, settings: dict[str, Any], count: int, kbps: str) -> None:
        self.infer(self.make("a.wav"), **settings)
        self.assertEqual(self.codec.counts, {count})
        self.assertEqual(self.tree(), ["a.wav", f"a_{kbps}kbps.wav"])
        self.assertRegex(self.stdout, rf"1 of 1 files, 0\.1 s of audio in .*, {kbps} kbps\n$")

    @parameterized.parameters(
        ({"bandwidth": 6.0, "num_codebooks": 8}, "bandwidth and num_codebooks: got both"),
        ({"bandwidth": 2.0}, "bandwidth: got 2.0"),
        ({"num_codebooks": 9}, "num_codebooks: got 9"),
        ({"sample_format": "int8"}, "--sample_format: got 'int8', must be one of"),
    )
    def test_wrong_settings(self, settings: dict[str, Any], message: str) -> None:
        with self.assertRaisesRegex(ValueError, message):
            self.infer(self.make("a.wav"), **settings)
        self.assertEqual(self.tree(), ["a.wav"])


class NamesTest(infer_cases.InferTestCase):
    def test_file_into_folders(self) -> None:
        source = self.make("a.flac")
        (self.folder / "there").mkdir()
        self.infer(source, str(self.folder / "there"))
        self.infer(source, str(self.folder / "new") + os.sep)
        self.infer(source, str(self.folder / "deep" / "er" / "b.flac"))
        self.assertEqual(self.tree(), ["a.flac", "deep/er/b.flac", "new/a.wav", "there/a.wav"])

    @parameterized.parameters("naïve – 音.wav", "a b.wav", "a[1].wav", "b*.wav", "c.d.wav", "e.WAV")
    def test_unusual_names(self, name: str) -> None:
        self.infer(self.make(name))
        self.assertIn(f"{name[:-4]}_6kbps.wav", self.tree())

    def test_folder_keeps_its_tree(self) -> None:
        for name in ("a.wav", "b/c.flac", "b/d/é.ogg", ".hidden.wav", ".git/e.wav", "f.MP3"):
            self.make(f"in/{name}")
        (self.folder / "in" / "notes.txt").write_text("no sound")
        (self.folder / "in" / "folder.wav").mkdir()
        inputs = self.tree()
        self.assertEqual(self.infer(str(self.folder / "in"), str(self.folder / "out")), 0)
        outputs = ["out/a.wav", "out/b/c.wav", "out/b/d/é.wav", "out/f.wav"]
        self.assertEqual(self.tree(), sorted(inputs + outputs))
        self.assertIn("4 of 4 files", self.stdout)

    @parameterized.parameters("", "/", "/../in", "/.")
    def test_folder_without_out(self, end: str) -> None:
        self.make("in/b/a.wav")
        self.infer(str(self.folder / "in") + end, bandwidth=1.5)
        self.assertEqual(self.tree(), ["in/b/a.wav", "in_1.5kbps/b/a.wav"])

    def test_current_folder(self) -> None:
        self.make("in/a.wav")
        self.enter_context(contextlib.chdir(self.folder / "in"))
        self.infer(".")
        self.infer("*.wav", "out")
        self.infer("./*.wav")
        expected = ["in/a.wav", "in/a_6kbps.wav", "in/out/a.wav", "in_6kbps/a.wav"]
        self.assertEqual(self.tree(), expected)

    def test_files_named_as_stdin_and_stdout(self) -> None:
        os.rename(self.make("in/a.wav"), self.folder / "in" / "-")
        self.enter_context(contextlib.chdir(self.folder / "in"))
        self.infer("./-", "../b.wav")
        self.assertEqual(self.tree(), ["b.wav", "in/-"])
        with self.assertRaisesRegex(ValueError, "in/-: exists already"):
            self.infer("../b.wav", "./-")

    def test_one_output_that_exists_is_refused(self) -> None:
        source = self.make("in/a.wav")
        (self.folder / "out").mkdir()
        for output, name in ((None, "in/a_6kbps.wav"), ("b.wav", "b.wav"), ("out", "out/a.wav")):
            (self.folder / name).write_text("a recording")
            where = output and str(self.folder / output)
            with self.assertRaisesRegex(ValueError, f"{name}: exists already; --force replaces it"):
                self.infer(source, where)
            self.assertEqual((self.folder / name).read_text(), "a recording")
            self.infer(source, where, force=True)
            self.assertNotEqual((self.folder / name).read_bytes(), b"a recording")

    @parameterized.parameters(
        ("in", "out", "out"), ("in/*.flac", None, "in"), ("in", None, "in_6kbps")
    )
    def test_outputs_that_exist_are_kept(self, inputs: str, output: str | None, place: str) -> None:
        """The same command goes on with what is missing, unless it is to replace."""
        for name in "abc":
            self.make(f"in/{name}.flac")
        tag = "_6kbps" if place == "in" else ""
        kept, made = (self.folder / place / f"{name}{tag}.wav" for name in "bc")
        kept.parent.mkdir(exist_ok=True)
        kept.write_text("a recording")
        arguments = str(self.folder / inputs), output and str(self.folder / output)
        self.infer(*arguments)
        self.assertEqual(kept.read_text(), "a recording")
        self.assertTrue(made.is_file())
        self.assertIn("2 of 2 files", self.stdout)
        self.assertRegex(self.stdout, f"kept 1 that exist already, such as .*b{tag}.wav; --force")
        self.infer(*arguments)
        self.assertRegex(self.stdout, "0 of 0 files(.*\\n)*kept 3 that exist")
        self.infer(*arguments, force=True)
        self.assertNotEqual(kept.read_bytes(), b"a recording")

    def test_patterns_without_out_can_be_repeated(self) -> None:
        """Outputs of earlier runs beside the inputs are no inputs."""
        for name in ("a.wav", "a.mp3", "b/c.wav", "b/d_6kbps.wav", "e_copy.txt.wav"):
            self.make(f"in/{name}")
        pattern = str(self.folder / "in" / "**" / "*")
        made = ["a", "a.mp3", "b/c", "b/d_6kbps", "e_copy.txt"]
        inputs = self.tree()
        self.infer(pattern)
        first = [f"in/{name}_6kbps.wav" for name in made]
        self.assertCountEqual(self.tree(), inputs + first)
        self.assertNotIn("left out", self.stdout)
        self.infer(pattern)
        self.assertCountEqual(self.tree(), inputs + first)
        self.assertRegex(self.stdout, "0 of 0 files(.*\n)*kept 5 .*(.*\n)*left out 5 that an earl")
        self.infer(pattern, bandwidth=1.5, suffix=".flac")
        second = [f"in/{name}_1.5kbps.flac" for name in made]
        self.assertCountEqual(self.tree(), inputs + first + second)
        self.infer(pattern, force=True)
        self.assertCountEqual(self.tree(), inputs + first + second)
        self.assertRegex(self.stdout, "5 of 5 files(.*\n)*left out 10 that an earlier run wrote")

    def test_codes_beside_sound(self) -> None:
        """Codes of an earlier run are decoded, and not coded again."""
        names = ["a.wav", "a_3kbps.ecdc", "a_1.5kbps.wav", "b.ecdc", "b_1codebooks.ecdc"]
        for name in names:
            (self.folder / name).touch()
        pattern = str(self.folder / "*")
        for suffix, expected in (
            (".wav", ["a.wav", "a_3kbps.ecdc", "b.ecdc", "b_1codebooks.ecdc"]),
            (".ecdc", ["a.wav", "b.ecdc"]),
        ):
            found = plan.find(pattern, None, suffix)
            self.assertEqual([file.name for file in found.files], expected)
            self.assertCountEqual([file.name for file in (*found.files, *found.earlier)], names)

    def test_names_of_outputs_can_be_inputs(self) -> None:
        """Alone, or where OUT is named."""
        self.make("in/a.wav")
        self.make("in/a_6kbps.wav")
        self.make("in/b_decoded.wav")
        self.infer(str(self.folder / "in"), str(self.folder / "out"))
        self.infer(str(self.folder / "in" / "*_*.wav"))
        outputs = ["a.wav", "a_6kbps.wav", "b_decoded.wav"]
        beside = ["in/a_6kbps_6kbps.wav", "in/b_decoded_6kbps.wav"]
        expected = [f"{folder}/{name}" for folder in ("in", "out") for name in outputs]
        self.assertCountEqual(self.tree(), expected + beside)
        self.infer(str(self.folder / "in"))
        found = [name for name in self.tree() if name.startswith("in_6kbps")]
        self.assertEqual(found, ["in_6kbps/a.wav", "in_6kbps/b_decoded.wav"])

    def test_equal_stems_keep_their_suffix(self) -> None:
        for name in ("a.wav", "a.mp3", "b.flac", "b.ogg", "c.flac", "d.wav", "d.mp3", "d.mp3.wav"):
            self.make(f"in/{name}")
        self.infer(str(self.folder / "in"), str(self.folder / "out"))
        names = "a.mp3 a b.flac b.ogg c d d.mp3 d.mp3.wav_2"
        found = {name.removeprefix("out/") for name in self.tree() if name.startswith("out/")}
        self.assertEqual(found, {f"{name}.wav" for name in names.split()})
        self.infer(str(self.folder / "in" / "a.*"))
        self.assertContainsSubset(["in/a_6kbps.wav", "in/a.mp3_6kbps.wav"], self.tree())

    @parameterized.parameters(
        ("*.wav", ["out/a.wav"]),
        ("**/*.wav", ["out/a.wav", "out/b/c.wav", "out/b/d/e.wav"]),
        ("b/*", ["out/f.wav", "out/c.wav"]),
        ("b/**", ["out/f.wav", "out/c.wav", "out/d/e.wav"]),
        ("?/c.wav", ["out/b/c.wav"]),
        ("[ab].wav", ["out/a.wav"]),
    )
    def test_globs(self, pattern: str, outputs: list[str]) -> None:
        for name in ("a.wav", "b/c.wav", "b/d/e.wav", "b/f.flac", "b/.g.wav"):
            self.make(name)
        (self.folder / "b" / "notes.txt").write_text("no sound")
        inputs = self.tree()
        for _ in range(2):  # the second time, its own outputs exist
            self.infer(str(self.folder / pattern), str(self.folder / "out"))
            self.assertEqual(self.tree(), sorted(inputs + outputs))

    def test_outputs_inside_the_folder_are_no_inputs(self) -> None:
        self.make("in/a.wav")
        for _ in range(2):
            self.infer(str(self.folder / "in"), str(self.folder / "in" / "out"))
            self.assertEqual(self.tree(), ["in/a.wav", "in/out/a.wav"])

    def test_folder_into_one_above(self) -> None:
        self.make("in/b/a.wav")
        self.infer(str(self.folder / "in"), str(self.folder))
        self.assertEqual(self.tree(), ["b/a.wav", "in/b/a.wav"])

    def test_links_to_files(self) -> None:
        self.make("a.wav")
        (self.folder / "in").mkdir()
        (self.folder / "in" / "b.wav").symlink_to("../a.wav")
        self.infer(str(self.folder / "in"), str(self.folder / "out"))
        self.assertEqual(self.tree(), ["a.wav", "in/b.wav", "out/b.wav"])

    def test_an_input_is_never_overwritten(self) -> None:
        source = self.make("in/a.wav")
        (self.folder / "link.wav").symlink_to("in/a.wav")
        before = self.tree()
        folder = str(self.folder / "in")
        for inputs, output in (
            (source, source),
            (source, folder),
            (source, str(self.folder / "link.wav")),
            (folder, folder),
            (os.path.join(folder, "*.wav"), folder),
        ):
            with self.assertRaisesRegex(ValueError, "wav: is an input, name another OUT"):
                self.infer(inputs, output)
        self.assertEqual(self.tree(), before)
        self.assertEqual(self.codec.lengths, [])

    @parameterized.parameters(
        ("", None, "IN: got an empty name"),
        ("none.wav", None, "none.wav: no such file or folder"),
        ("none*.wav", None, "none\\*.wav: found no sound files"),
        ("empty", None, "empty: found no sound files .*wav"),
        ("a.ecdc", None, "a.ecdc: no such file or folder"),
        ("in", "b.ecdc", "b.ecdc: must be a folder"),
        ("in", "-", "OUT: got -, must be a folder"),
        ("-", None, "OUT: got none, must be named if IN is -"),
        ("in/a.wav", "b.txt", "b.txt: got suffix '.txt'"),
        ("in/a.wav", "b", "b: got suffix ''"),
        ("in", "b.wav", "b.wav: must be a folder"),
        ("in", "notes.txt", "notes.txt: must be a folder"),
        ("in/*.wav", "b.wav", "b.wav: must be a folder"),
        ("notes.txt", None, "notes.txt: Format not recognised"),
    )
    def test_wrong_names(self, inputs: str, output: str | None, message: str) -> None:
        self.make("in/a.wav")
        (self.folder / "empty").mkdir()
        (self.folder / "notes.txt").write_text("no sound")
        before = self.tree()
        self.enter_context(contextlib.chdir(self.folder))
        with self.assertRaisesRegex(ValueError, message) as context:
            self.infer(inputs, output)
        self.assertNotIn("\n", str(context.exception))
        self.assertEqual(self.tree(), before)


class FailuresTest(infer_cases.InferTestCase):
    def test_unreadable_files_are_skipped_and_reported(self) -> None:
        for name in ("a.wav", "b/c.wav", "z.wav"):
            self.make(f"in/{name}")
        (self.folder / "in" / "empty.wav").touch()
        (self.folder / "in" / "b" / "text.wav").write_text("no sound")
        (self.folder / "in" / "zero.flac").write_bytes(b"fLaC" + bytes(100))
        self.assertEqual(self.infer(str(self.folder / "in"), str(self.folder / "out")), 1)
        found = [name for name in self.tree() if name.startswith("out/")]
        self.assertEqual(found, ["out/a.wav", "out/b/c.wav", "out/z.wav"])
        self.assertIn("3 of 6 files", self.stdout)
        lines = self.stderr.splitlines()
        self.assertEqual(lines[0], "skipped 3:")
        self.assertLen(lines, 4)
        self.assertRegex(lines[1], r"in/b/text\.wav: .*Format not recognised$")
        self.assertRegex(lines[2], r"in/empty\.wav: the file is empty \(0 bytes\)$")
        self.assertRegex(lines[3], r"in/zero\.flac: ")

    @parameterized.parameters(".m4a", ".MP4", ".webm", ".aac", ".wma", ".mkv")
    def test_formats_of_others(self, suffix: str) -> None:
        """They are skipped files of folders and patterns; no sound is not."""
        path = self.folder / "in" / f"my song{suffix}"
        path.parent.mkdir()
        path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
        (path.parent / "cover.jpg").write_bytes(b"no sound")
        message = (
            f"my song{suffix}: libsndfile does not read {suffix.lower()}; ffmpeg converts it "
            r"\(ffmpeg -i '.*/my song\..*' '.*/my song\.wav'\)"
        )
        for name in ("in", "in/*"):
            self.assertEqual(self.infer(str(self.folder / name)), 1)
            self.assertRegex(self.stderr, f"^skipped 1:\n.*/in/{message}\n$")
        with self.assertRaisesRegex(ValueError, message):
            self.infer(str(path))
        self.make("in/a.wav")
        self.assertEqual(self.infer(str(path.parent), str(self.folder / "out")), 1)
        self.assertRegex(self.stderr, f"^skipped 1:\n.*/in/{message}\n$")
        self.assertTrue((self.folder / "out" / "a.wav").exists())

    def test_formats_of_others_with_another_suffix(self) -> None:
        (self.folder / "a.wav").write_bytes(b"\x1aE\xdf\xa3" + bytes(100))
        message = r"a\.wav: libsndfile does not read Matroska or WebM; .* \S*/a_converted\.wav\)$"
        with self.assertRaisesRegex(ValueError, message):
            self.infer(str(self.folder / "a.wav"))

    def test_only_unreadable_files(self) -> None:
        (self.folder / "empty.wav").touch()
        self.assertEqual(self.infer(str(self.folder)), 1)
        self.assertIn("0 of 1 files", self.stdout)

    def test_one_unreadable_file(self) -> None:
        (self.folder / "empty.wav").touch()
        with self.assertRaisesRegex(ValueError, "empty.wav: the file is empty"):
            self.infer(str(self.folder / "empty.wav"))

    def test_folder_that_cannot_be_searched(self) -> None:
        self.make("in/a.wav")
        self.make("in/shut/b.wav")
        scandir = os.scandir

        def refuse(path: str) -> Any:
            if str(path).endswith("shut"):
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        with mock.patch.object(os, "scandir", refuse):
            self.assertEqual(self.infer(str(self.folder / "in"), str(self.folder / "out")), 1)
        self.assertRegex(self.stderr, "in/shut: Permission denied\n$")
        self.assertTrue((self.folder / "out" / "a.wav").exists())

    def test_output_that_cannot_be_written(self) -> None:
        self.make("in/a.wav")
        self.make("in/b/c.wav")
        (self.folder / "out").mkdir()
        (self.folder / "out" / "b").touch()
        self.assertEqual(self.infer(str(self.folder / "in"), str(self.folder / "out")), 1)
        self.assertRegex(self.stderr, "skipped 1:\n.*out/b: File exists\n$")
        self.assertTrue((self.folder / "out" / "a.wav").exists())

    def test_interruption(self) -> None:
        for name in "abc":
            self.make(f"in/{name}.wav")
        self.codec = infer_cases.Unchanged(batch_size=1)
        close, calls = sound_files.SoundWriter.close, []

        def interrupted(writer: sound_files.SoundWriter) -> None:
            calls.append(writer)
            if len(calls) == 2:
                raise KeyboardInterrupt
            close(writer)

        with mock.patch.object(sound_files.SoundWriter, "close", interrupted):
            self.assertEqual(self.infer(str(self.folder / "in"), str(self.folder / "out")), 130)
        self.assertEqual([n for n in self.tree() if "out" in n], ["out/a.wav"])
        self.assertIn("interrupted: 1 of 3 files written", self.stderr)


class BatchesTest(infer_cases.InferTestCase):
    def test_places(self) -> None:
        """There are as many as files, up to the batch size; files do not share a place."""
        lengths = [3, 1, 2, 70_000, 24_000, 24_001, 5]
        for index, length in enumerate(lengths):
            self.make(f"in/{index}.wav", length)
        for batch_size, places in ((2, 2), (4, 4), (64, 8)):
            self.codec = infer_cases.Unchanged(batch_size=batch_size)
            self.infer(str(self.folder / "in"), str(self.folder / "out"), force=True)
            self.assertEqual(self.codec.batches, [places])
            self.assertCountEqual(self.codec.lengths, lengths)
            for index in range(len(lengths)):
                given = sound_files.read(self.folder / "in" / f"{index}.wav").samples
                found = sound_files.read(self.folder / "out" / f"{index}.wav").samples
                np.testing.assert_array_equal(given, found)

    def test_a_long_file_at_the_end_has_fewer_places(self) -> None:
        for name, seconds in (("a", 80), ("b", 1), ("c", 2), ("d", 1), ("e", 1)):
            self.make(f"in/{name}.wav", seconds * 24000)
        self.infer(str(self.folder / "in"), str(self.folder / "out"))
        self.assertEqual(self.codec.batches, [8, 1])
        self.assertLen(sound_files.read(self.folder / "out" / "a.wav").samples, 80 * 24000)

    def test_lines(self) -> None:
        for name in "ab":
            self.make(f"in/{name}.wav")
        self.infer(str(self.folder / "in"), str(self.folder / "out"))
        self.assertRegex(self.stdout, r"^\[1/2\] .*in/a\.wav -> .*out/a\.wav\n\[2/2\] ")
        self.assertEqual(self.stderr, "")

    def test_bar_on_a_terminal(self) -> None:
        for name in "ab":
            self.make(f"in/{name}.wav")
        self.infer(str(self.folder / "in"), str(self.folder / "out"), stderr=infer_cases.Terminal())
        self.assertIn("100%", self.stderr)
        self.assertIn("2/2", self.stderr)
        self.assertNotIn("[1/2]", self.stdout)


class CodecTest(infer_cases.InferTestCase):
    """With small random networks."""

    def use(self, config: Any) -> str:
        path = str(self.folder / "weights.safetensors")
        infer_cases.save(path, config)
        self.codec = encodec_hk.load(path)
        return path

    def test_folder_equals_files_alone(self) -> None:
        self.use(encodec_tiny.get_config())
        for index, (length, channels, rate) in enumerate(
            ((1, 1, 8000), (1, 2, 96000), (700, 6, 11025), (48000, 2, 44100), (36000, 1, 24000))
        ):
            self.make(f"in/{index}.wav", length, channels, rate)
        self.assertEqual(self.infer(str(self.folder / "in"), str(self.folder / "out")), 0)
        for path in sorted((self.folder / "in").iterdir()):
            together = sound_files.read(self.folder / "out" / path.name)
            self.infer(str(path), str(self.folder / "alone.wav"), force=True)
            alone = sound_files.read(self.folder / "alone.wav")
            self.assertEqual(together.sample_rate, alone.sample_rate)
            np.testing.assert_allclose(together.samples, alone.samples, rtol=0, atol=2.0**-14)

    def test_stereo_in_segments(self) -> None:
        config = encodec_48khz.get_config()
        with config.unlocked():
            config.model.update({"num_filters": 2, "latent_dim": 8, "segment_seconds": 0.1})
        self.use(config)
        sizes = ((1, 1, 8000), (4753, 2, 48000), (700, 6, 22050), (9000, 2, 44100))
        for index, (length, channels, rate) in enumerate(sizes):
            self.make(f"in/{index}.wav", length, channels, rate)
        self.assertEqual(self.infer(str(self.folder / "in"), str(self.folder / "out")), 0)
        for index, (length, channels, rate) in enumerate(sizes):
            found = sound_files.read(self.folder / "out" / f"{index}.wav")
            self.assertEqual((found.sample_rate, found.samples.shape), (rate, (length, channels)))

    def test_torch_is_not_imported(self) -> None:
        path = self.use(encodec_tiny.get_config())
        source, target = self.make("a.wav"), str(self.folder / "b.wav")
        program = (
            "import sys\n"
            "from encodec_hk.commands import infer\n"
            f"status = infer.run(None, {source!r}, {target!r}, checkpoint={path!r})\n"
            "found = {'torch', 'transformers', 'tensorflow'} & set(sys.modules)\n"
            "assert not found, found\n"
            "sys.exit(status)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=infer_cases.REPOSITORY,
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertLen(sound_files.read(target).samples, 2400)


class FindTest(infer_cases.InferTestCase):
    def test_order_and_root(self) -> None:
        for name in ("b.wav", "a/c.wav", "a.wav"):
            self.make(name)
        found = plan.find(str(self.folder))
        names = [str(file.relative_to(self.folder)) for file in found.files]
        self.assertEqual(names, ["a/c.wav", "a.wav", "b.wav"])
        self.assertEqual((found.root, found.is_folder), (self.folder, True))
        found = plan.find(str(self.folder / "*" / "*.wav"))
        self.assertEqual((found.root, found.is_folder), (self.folder, False))


if __name__ == "__main__":
    absltest.main()
