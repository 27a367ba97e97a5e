"""`run.py infer`: inputs, outputs, formats, failures."""

import contextlib
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import types
from typing import Any
from unittest import mock

import jax
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from configs import encodec_24khz
from configs import encodec_48khz
from configs import encodec_tiny
from encodec_hk import checkpoint
from encodec_hk.blocks import streams
from encodec_hk.commands import checkpoints
from encodec_hk.commands import infer
from encodec_hk.sound import sound_files
from encodec_hk.system import file_paths
from encodec_hk.transcode import plan

REPOSITORY = pathlib.Path(__file__).parents[2]


class Unchanged:
    """Stands for a codec, and changes nothing but the level: samples go as codes."""

    name, source, fingerprint = "unchanged", "", 64 * "0"
    bandwidth = 6.0
    has_segments = False

    def __init__(self, gain: float = 1.0, batch_size: int = 8) -> None:
        self.model_config = encodec_tiny.get_config().model
        self.channels = self.model_config.channels
        self.sample_rate = self.model_config.sample_rate
        self.hop_length = 320
        self.block_frames = 75
        self.batch_size = batch_size
        self.num_devices = 1
        self.gain = gain
        self.places: list[int] = []  # of the batches of streams
        self.lengths: list[int] = []  # of the streams that have ended
        self.num_codebooks: set[int] = set()

    def stream_encoder(self, *, num_codebooks: int, batch: int, block_frames: int) -> Any:
        self.num_codebooks.add(num_codebooks)
        self.places.append(batch)
        self.taken = [0] * batch
        return types.SimpleNamespace(advance=self.encode, keep=self.keep)

    def stream_decoder(self, **_: Any) -> Any:
        nothing = mock.Mock(return_value=None)
        return types.SimpleNamespace(advance=self.decode, keep=nothing, warm_up=nothing)

    def encode(self, samples: list[np.ndarray | None], ends: list[bool]) -> Any:
        outputs = []
        for place, (piece, is_last) in enumerate(zip(samples, ends, strict=True)):
            outputs.append([] if piece is None else [streams.Codes(piece.T)])
            if piece is not None:
                assert (piece.dtype, piece.ndim) == (np.float32, 2)
                assert len(piece) <= 24000
                self.taken[place] += len(piece)
            if is_last:
                self.lengths.append(self.taken[place])
                self.taken[place] = 0
        return outputs

    def decode(self, codes: Any, scales: Any, ends: Any, num_samples: Any) -> list[np.ndarray]:
        nothing = np.zeros((0, self.channels), np.float32)
        return [nothing if piece is None else self.gain * piece.T for piece in codes]

    def keep(self, places: list[int]) -> None:
        self.places.append(len(places))
        self.taken = [self.taken[place] for place in places]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def sound(length: int, channels: int = 1) -> np.ndarray:
    """A slow wave [T, C] that any rate holds, of its own height in each channel."""
    wave = 0.4 * np.sin(2 * np.pi * np.arange(length) / max(length, 1))
    return (wave[:, None] * np.linspace(1, 0.5, channels)).astype(np.float32)


def save(path: str, config: Any) -> None:
    """Writes a checkpoint of random weights."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda expected: (0.1 * rng.normal(size=expected.shape)).astype(np.float32),
        checkpoint.expected_params(config.model),
    )
    facts = {"source": "random", "source_sha256": "", "licence": "none"}
    checkpoint.save(path, params, config.model, name=config.name, **facts)


class InferTestCase(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.codec: Any = Unchanged()
        self.stdout, self.stderr = "", ""

    def make(self, name: str, length: int = 2400, channels: int = 1, rate: int = 24000) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sound_files.write(path, sound(length, channels), rate)
        return str(path)

    def infer(self, inputs: str, output: str | None = None, **settings: Any) -> int:
        """Runs the command with the codec of the test; its streams are kept."""
        stdout, stderr = io.StringIO(), settings.pop("stderr", io.StringIO())
        with (
            mock.patch.object(checkpoints, "load_codec", return_value=self.codec),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            try:
                return infer.run(None, inputs, output, **settings)
            finally:
                self.stdout, self.stderr = stdout.getvalue(), stderr.getvalue()

    def tree(self) -> list[str]:
        """Every file below the folder of the test, hidden ones too."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if not path.is_dir()
        )


class SoundsTest(InferTestCase):
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
            expected = np.tile(sound(length, channels).mean(1, keepdims=True), (1, channels))
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
        self.codec = Unchanged(gain=5.0)
        source, target = self.make("a.wav"), str(self.folder / "b.wav")
        self.assertEqual(self.infer(source, target, sample_format=sample_format), 0)
        self.assertRegex(self.stderr, r"b\.wav: peak 2\.000 .*clipped; --rescale")
        samples = sound_files.read(target).samples
        np.testing.assert_allclose(samples, np.clip(5 * sound(2400), -1, 1), rtol=0, atol=2.0**-12)

    def test_rescale(self) -> None:
        self.codec = Unchanged(gain=5.0)
        source, target = self.make("a.wav"), str(self.folder / "b.wav")
        self.assertEqual(self.infer(source, target, rescale=True), 0)
        self.assertRegex(self.stderr, r"b\.wav: peak 2\.000 .*scaled to fit")
        samples = sound_files.read(target).samples
        np.testing.assert_allclose(samples, 2.5 * sound(2400), rtol=0, atol=2.0**-12)

    def test_rescale_leaves_what_fits(self) -> None:
        source, target = self.make("a.wav"), str(self.folder / "b.wav")
        self.infer(source, target, rescale=True)
        self.assertEqual(self.stderr, "")
        np.testing.assert_array_equal(
            sound_files.read(source).samples, sound_files.read(target).samples
        )

    def test_float_keeps_what_is_too_loud(self) -> None:
        self.codec = Unchanged(gain=5.0)
        source, target = self.make("a.wav"), str(self.folder / "b.wav")
        self.infer(source, target, sample_format="float32")
        self.assertEqual(self.stderr, "")
        self.assertAlmostEqual(float(sound_files.read(target).samples.max()), 2.0, places=3)

    @parameterized.parameters(
        ({}, 8, "6"), ({"bandwidth": 1.5}, 2, "1.5"), ({"num_codebooks": 3}, 3, "2.25")
    )
    def test_bandwidths(self, settings: dict[str, Any], count: int, kbps: str) -> None:
        self.infer(self.make("a.wav"), **settings)
        self.assertEqual(self.codec.num_codebooks, {count})
        self.assertEqual(self.tree(), ["a.wav", f"a_{kbps}kbps.wav"])
        self.assertRegex(self.stdout, rf"1 of 1 files, 0\.1 s of audio in .*, {kbps} kbps\n$")

    @parameterized.parameters(
        ({"bandwidth": 6.0, "num_codebooks": 8}, "bandwidth and num_codebooks: got both"),
        ({"bandwidth": 2.0}, "bandwidth: got 2.0"),
        ({"num_codebooks": 9}, "num_codebooks: got 9"),
        ({"sample_format": "int8"}, "sample format: got 'int8'"),
    )
    def test_wrong_settings(self, settings: dict[str, Any], message: str) -> None:
        with self.assertRaisesRegex(ValueError, message):
            self.infer(self.make("a.wav"), **settings)
        self.assertEqual(self.tree(), ["a.wav"])


class NamesTest(InferTestCase):
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
        for _ in range(2):  # the second time its own outputs are there
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
        ("-", None, "OUT: got none, must be named where IN is -"),
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


class FailuresTest(InferTestCase):
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
        self.codec = Unchanged(batch_size=1)
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


class BatchesTest(InferTestCase):
    def test_places(self) -> None:
        """As many as there are files, up to the batch size; each file has one to itself."""
        lengths = [3, 1, 2, 70_000, 24_000, 24_001, 5]
        for index, length in enumerate(lengths):
            self.make(f"in/{index}.wav", length)
        for batch_size, places in ((2, 2), (4, 4), (64, 8)):
            self.codec = Unchanged(batch_size=batch_size)
            self.infer(str(self.folder / "in"), str(self.folder / "out"))
            self.assertEqual(self.codec.places, [places])
            self.assertCountEqual(self.codec.lengths, lengths)
            for index in range(len(lengths)):
                given = sound_files.read(self.folder / "in" / f"{index}.wav").samples
                found = sound_files.read(self.folder / "out" / f"{index}.wav").samples
                np.testing.assert_array_equal(given, found)

    def test_a_long_file_at_the_end_has_fewer_places(self) -> None:
        for name, seconds in (("a", 80), ("b", 1), ("c", 2), ("d", 1), ("e", 1)):
            self.make(f"in/{name}.wav", seconds * 24000)
        self.infer(str(self.folder / "in"), str(self.folder / "out"))
        self.assertEqual(self.codec.places, [8, 1])
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
        self.infer(str(self.folder / "in"), str(self.folder / "out"), stderr=Terminal())
        self.assertIn("100%", self.stderr)
        self.assertIn("2/2", self.stderr)
        self.assertNotIn("[1/2]", self.stdout)


class LoadCodecTest(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = self.enter_context(tempfile.TemporaryDirectory())
        self.path = str(pathlib.Path(folder, "weights.safetensors"))

    def test_missing(self) -> None:
        folder = pathlib.Path(self.path).parent
        self.enter_context(mock.patch.object(file_paths, "ROOT", folder))
        self.enter_context(contextlib.chdir(folder))
        config = encodec_24khz.get_config()
        command = (
            "python run.py convert --config=configs/encodec_24khz.py "
            "--source=facebook/encodec_24khz --output="
        )
        for path in (None, self.path):
            with self.assertRaises(ValueError) as context:
                checkpoints.load_codec(config, path)
            self.assertIn(command + (path or config.checkpoint), str(context.exception))
        with self.assertRaisesRegex(
            ValueError, "does not exist; name an existing one with --checkpoint=FILE"
        ):
            checkpoints.load_codec(encodec_tiny.get_config(), None)
        with self.assertRaisesRegex(
            ValueError, "does not exist; name an existing one with --checkpoint=FILE"
        ):
            checkpoints.load_codec(None, self.path)
        with self.assertRaisesRegex(ValueError, "checkpoint: got none"):
            checkpoints.load_codec(None, None)

    def test_own_checkpoint_from_another_folder(self) -> None:
        config = encodec_tiny.get_config()
        root = pathlib.Path(self.path).parent
        save(str(root / "checkpoints" / "encodec_tiny.safetensors"), config)
        self.enter_context(mock.patch.object(file_paths, "ROOT", root))
        self.enter_context(contextlib.chdir(root.parent))
        self.assertEqual(checkpoints.load_codec(config, None).name, "encodec_tiny")

    def test_settings_of_the_config(self) -> None:
        config = encodec_tiny.get_config()
        save(self.path, config)
        config.inference.bandwidth = 1.5
        self.assertEqual(checkpoints.load_codec(config, self.path).bandwidth, 1.5)
        config.checkpoint = self.path
        self.assertEqual(checkpoints.load_codec(config, None).bandwidth, 1.5)
        self.assertEqual(checkpoints.load_codec(None, self.path).bandwidth, 6.0)

    def test_another_model(self) -> None:
        config = encodec_tiny.get_config()
        save(self.path, config)
        config.model.num_filters = 16
        config.model.bandwidths = (3.0, 6.0)
        with self.assertRaises(ValueError) as context:
            checkpoints.load_codec(config, self.path)
        message = str(context.exception)
        self.assertIn("config.model.num_filters: got 16, the checkpoint has 8", message)
        self.assertIn("config.model.bandwidths: got (3.0, 6.0), ", message)
        self.assertEqual(message.count("got"), 2)

    def test_wrong_config(self) -> None:
        config = encodec_tiny.get_config()
        config.inference.batch_size = 0
        with self.assertRaisesRegex(ValueError, "config.inference.batch_size"):
            checkpoints.load_codec(config, self.path)


class CodecTest(InferTestCase):
    """With the networks, small and random."""

    def use(self, config: Any) -> str:
        path = str(self.folder / "weights.safetensors")
        save(path, config)
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
            [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertLen(sound_files.read(target).samples, 2400)


class FindTest(InferTestCase):
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
