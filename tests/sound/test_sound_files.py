"""Sound files, resampling and mixing."""

import itertools
import os
import pathlib
import tempfile
from unittest import mock

import numpy as np
import soundfile
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.sound import file_formats
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files

RATES = (8000, 11025, 22050, 24000, 44100, 48000, 96000)


def noise(length: int, channels: int = 1, scale: float = 0.1) -> np.ndarray:
    """Return deterministic noise [T, C]."""
    values = np.random.default_rng(length).normal(size=(length, channels))
    return (scale * values).astype(np.float32)


def tone(length: int, sample_rate: int, frequency: float = 440.0) -> np.ndarray:
    """Return a sine [T, 1] with silent ends."""
    times = np.arange(length) / sample_rate
    window = np.sin(np.pi * np.arange(length) / length) ** 2
    return (0.5 * window * np.sin(2 * np.pi * frequency * times)).astype(np.float32)[:, None]


class FilesTest(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    @parameterized.parameters(".wav", ".flac", ".ogg", ".mp3")
    def test_content_and_skipped_samples(self, suffix: str) -> None:
        path = self.folder / f"a{suffix}"
        sound_files.write(path, noise(70001, 2), 44100)
        whole = sound_files.read(path).samples
        with sound_files.SoundReader("name", content=path.read_bytes()) as reader:
            np.testing.assert_array_equal(reader.read(100), whole[:100])
            reader.skip(66000)
            np.testing.assert_array_equal(reader.read(5000), whole[66100:71100])
            reader.skip(10)
            self.assertEmpty(reader.read(10))
        with self.assertRaisesRegex(ValueError, "name: the file is empty"):
            sound_files.SoundReader("name", content=b"")

    @parameterized.parameters((44100, 2), (22050, 1))
    def test_blocks_of_an_mp3_file_of_few_kbps(self, sample_rate: int, channels: int) -> None:
        path = self.folder / "a.mp3"
        settings = {"compression_level": 0.99, "bitrate_mode": "CONSTANT"}
        samples = noise(3 * sample_rate, channels)
        soundfile.write(path, samples, sample_rate, **settings)
        with soundfile.SoundFile(path) as file:
            whole = file.read(dtype="float32", always_2d=True)
        with sound_files.SoundReader(path) as reader:
            blocks = [reader.read(5000) for _ in range(0, len(whole), 5000)]
            self.assertEmpty(reader.read(1))
        np.testing.assert_array_equal(np.concatenate(blocks), whole)

    @parameterized.parameters(
        *itertools.product((".wav", ".flac", ".aiff", ".au", ".caf", ".rf64", ".w64"), (1, 2, 6))
    )
    def test_lossless_round_trip(self, suffix: str, channels: int) -> None:
        path = self.folder / f"a{suffix}"
        samples = noise(70001, channels)
        samples = np.round(samples * 2**15) / np.float32(2**15)
        sound_files.write(path, samples, 44100)
        found = sound_files.read(path)
        self.assertEqual((found.sample_rate, found.subtype), (44100, "PCM_16"))
        np.testing.assert_array_equal(found.samples, samples)
        self.assertEqual(os.listdir(self.folder), [path.name])

    @parameterized.parameters(("int16", 2.0**-16), ("int24", 2.0**-24), ("float32", 0.0))
    def test_sample_formats(self, sample_format: str, tolerance: float) -> None:
        path = self.folder / "a.wav"
        sound_files.write(path, noise(1000), 24000, sample_format)
        found = sound_files.read(path)
        self.assertEqual(found.subtype, file_formats.SAMPLE_FORMATS[sample_format][0])
        np.testing.assert_allclose(found.samples, noise(1000), rtol=0, atol=tolerance)

    @parameterized.parameters(
        (".mp3", 44100, 2), (".ogg", 44100, 6), (".oga", 8000, 1), (".opus", 48000, 2)
    )
    def test_lossy_keeps_rate_channels_and_length(
        self, suffix: str, sample_rate: int, channels: int
    ) -> None:
        path = self.folder / f"a{suffix}"
        samples = np.repeat(tone(3 * sample_rate + 17, sample_rate), channels, axis=1)
        sound_files.write(path, samples, sample_rate, "int24")
        found = sound_files.read(path)
        self.assertEqual(found.sample_rate, sample_rate)
        self.assertEqual(found.samples.shape, samples.shape)
        # Vorbis takes the last of 6 channels for the bass channel and cuts its high frequencies.
        difference = (found.samples - samples)[:, :5]
        self.assertLess(np.abs(difference).max(), 0.05)

    @parameterized.parameters(
        ("a.flac", 24000, 1, "float32", "FLAC does not hold float32"),
        ("a.opus", 44100, 1, "int16", "a.opus: got 44100 Hz, Opus holds 8000, 12000, .* 48000 Hz"),
        ("a.mp3", 44100, 6, "int16", "a.mp3: got 6 channels, MP3 holds at most 2"),
        ("a.mp3", 96000, 1, "int16", "a.mp3: got 96000 Hz, MP3 holds 8000, .*, 48000 Hz"),
        # libsndfile crashes on these two.
        ("a.ogg", 250_000, 1, "int16", "a.ogg: got 250000 Hz, Vorbis holds at most 200000 Hz"),
        ("a.oga", 44100, 256, "int16", "a.oga: got 256 channels, Vorbis holds at most 255"),
        ("a.flac", 44100, 9, "int16", "a.flac: got 9 channels, FLAC holds at most 8"),
        ("a.wav", 44100, 1025, "int16", "a.wav: got 1025 channels, WAV holds at most 1024"),
        ("a.txt", 24000, 1, "int16", "got suffix '.txt', audio is written to .wav .flac"),
        ("a", 24000, 1, "int16", "got suffix ''"),
        ("a.wav", 24000, 1, "int8", "sample format: got 'int8', must be one of int16, int24"),
    )
    def test_not_writable(
        self, name: str, sample_rate: int, channels: int, sample_format: str, message: str
    ) -> None:
        path = self.folder / name
        for call in (
            lambda: file_formats.check_writable(path, sample_rate, channels, sample_format),
            lambda: sound_files.write(path, noise(100, channels), sample_rate, sample_format),
        ):
            with self.assertRaisesRegex(ValueError, message) as context:
                call()
            self.assertNotIn("\n", str(context.exception))
        self.assertEmpty(os.listdir(self.folder))

    def test_check_writable_accepts_and_writes_nothing(self) -> None:
        file_formats.check_writable(self.folder / "a.ogg", 44100, 2)
        self.assertEmpty(os.listdir(self.folder))

    @parameterized.parameters(
        *((".ogg", 200_000, 1), (".ogg", 8000, 255), (".flac", 655_350, 1), (".flac", 44100, 8)),
        *((".mp3", 11025, 2), (".opus", 12000, 255), (".wav", 8000, 1024), (".aiff", 8000, 1024)),
    )
    def test_the_most_that_a_container_holds(self, suffix, sample_rate, channels):
        path = self.folder / f"a{suffix}"
        sound_files.write(path, noise(3000, channels), sample_rate)
        found = sound_files.read(path)
        self.assertEqual((found.sample_rate, found.samples.shape[1]), (sample_rate, channels))

    def test_write_to_a_missing_folder(self) -> None:
        with self.assertRaisesRegex(ValueError, "a.wav: No such file or directory"):
            sound_files.write(self.folder / "none" / "a.wav", noise(10), 24000)

    def test_write_over_a_folder(self) -> None:
        (self.folder / "a.wav").mkdir()
        with self.assertRaisesRegex(ValueError, "a.wav: Is a directory"):
            sound_files.write(self.folder / "a.wav", noise(10), 24000)
        self.assertEqual(os.listdir(self.folder), ["a.wav"])

    @parameterized.parameters(KeyboardInterrupt, OSError(28, "No space left on device"))
    def test_interrupted_write_keeps_the_old_file(self, error: BaseException) -> None:
        path = self.folder / "a.wav"
        sound_files.write(path, noise(10), 24000)
        before = path.read_bytes()
        with (
            mock.patch.object(soundfile.SoundFile, "write", side_effect=error),
            self.assertRaises((KeyboardInterrupt, ValueError)),
        ):
            sound_files.write(path, noise(20), 24000)
        self.assertEqual(os.listdir(self.folder), ["a.wav"])
        self.assertEqual(path.read_bytes(), before)

    def test_wav_of_4_gib_becomes_rf64(self) -> None:
        path = self.folder / "a.wav"
        with mock.patch.object(sound_files, "_WAV_BYTES", 3999):
            sound_files.write(path, noise(1000), 24000, "float32")
        self.assertEqual(path.read_bytes()[:4], b"RF64")
        np.testing.assert_array_equal(sound_files.read(path).samples, noise(1000))

    def test_permissions_follow_the_umask(self) -> None:
        sound_files.write(self.folder / "a.wav", noise(10), 24000)
        (self.folder / "b").touch()
        modes = [(self.folder / name).stat().st_mode for name in ("a.wav", "b")]
        self.assertEqual(*modes)

    @parameterized.parameters("naïve – 音.wav", "a b.wav", "a[1].wav", ".hidden.wav")
    def test_names(self, name: str) -> None:
        sound_files.write(self.folder / name, noise(10), 24000)
        self.assertLen(sound_files.read(self.folder / name).samples, 10)

    def test_name_that_is_not_utf8(self) -> None:
        path = os.path.join(os.fsencode(self.folder), b"\xe9.wav")
        try:
            open(path, "wb").close()
        except OSError:
            self.skipTest("the file system takes UTF-8 only")
        with self.assertRaisesRegex(ValueError, "\ufffd.wav: the file is empty"):
            sound_files.read(os.fsdecode(path))
        sound_files.write(os.fsdecode(path), noise(10), 24000)
        self.assertLen(sound_files.read(os.fsdecode(path)).samples, 10)

    @parameterized.parameters(
        (None, "No such file or directory"),
        (b"", "the file is empty"),
        (b"This is no sound at all.\n" * 100, "Format not recognised"),
        (b"RIFF\x00\x00\x00\x00WAVE", "a.wav: "),
    )
    def test_unreadable(self, content: bytes | None, message: str) -> None:
        path = self.folder / "a.wav"
        if content is not None:
            path.write_bytes(content)
        with self.assertRaisesRegex(ValueError, message) as context:
            sound_files.read(path)
        self.assertNotIn("\n", str(context.exception))

    def test_folder_is_unreadable(self) -> None:
        with self.assertRaisesRegex(ValueError, "Is a directory"):
            sound_files.read(self.folder)

    def test_no_samples(self) -> None:
        sound_files.write(self.folder / "a.wav", noise(0), 24000)
        with self.assertRaisesRegex(ValueError, "holds no samples"):
            sound_files.read(self.folder / "a.wav")

    @parameterized.parameters(np.nan, np.inf)
    def test_samples_not_finite(self, value: float) -> None:
        samples = noise(72000)
        samples[60003:] = value
        soundfile.write(self.folder / "a.wav", samples, 24000, subtype="FLOAT")
        place = "NaN or infinite, at 2.5001 s .sample 60003.$"
        with self.assertRaisesRegex(ValueError, f"a.wav: holds samples that are {place}"):
            sound_files.read(self.folder / "a.wav")
        with sound_files.SoundReader(self.folder / "a.wav") as reader:
            self.assertLen(reader.read(48000), 48000)
            with self.assertRaisesRegex(ValueError, place):
                reader.read(24000)
        with self.assertRaisesRegex(ValueError, "NaN or infinite"):
            sound_files.limit(samples)

    def test_suffix_of_another_container(self) -> None:
        sound_files.write(self.folder / "a.flac", noise(10), 24000)
        os.rename(self.folder / "a.flac", self.folder / "a.wav")
        self.assertLen(sound_files.read(self.folder / "a.wav").samples, 10)


class LevelsTest(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()), "a.wav")

    def test_within_full_scale_is_untouched(self) -> None:
        samples = noise(100)
        for rescale in (False, True):
            limited, peak = sound_files.limit(samples, rescale=rescale)
            self.assertIs(limited, samples)
            self.assertEqual(peak, np.abs(samples).max())

    def test_clip(self) -> None:
        samples = np.array([[0.5], [-2.0], [1.5]], np.float32)
        limited, peak = sound_files.limit(samples)
        np.testing.assert_array_equal(limited, [[0.5], [-1], [1]])
        self.assertEqual(peak, 2.0)

    @parameterized.parameters(("int16", 15), ("int24", 23))
    def test_rescaled_peak_just_fits(self, sample_format: str, bits: int) -> None:
        samples = np.array([[0.5], [-2.0], [2.0]], np.float32)
        limited, peak = sound_files.limit(samples, rescale=True)
        self.assertEqual(peak, 2.0)
        sound_files.write(self.path, limited, 24000, sample_format)
        found = sound_files.read(self.path).samples
        np.testing.assert_array_equal(found[1], -found[2])
        np.testing.assert_allclose(found[:, 0], [0.25, -1, 1], rtol=0, atol=2.0**-14)
        self.assertLess(found.max(), 1)
        np.testing.assert_allclose(found, limited, rtol=0, atol=2.0**-bits)

    @parameterized.parameters("int16", "int24")
    def test_integers_never_wrap(self, sample_format: str) -> None:
        sound_files.write(self.path, np.array([[1.0], [1.5], [-1.0], [-7.0]]), 24000, sample_format)
        found = sound_files.read(self.path).samples[:, 0]
        np.testing.assert_allclose(found, [1, 1, -1, -1], rtol=0, atol=2.0**-15)

    def test_holds_any_value(self) -> None:
        self.assertTrue(file_formats.holds_any_value("a.wav", "float32"))
        self.assertFalse(file_formats.holds_any_value("a.wav", "int24"))
        self.assertFalse(file_formats.holds_any_value("a.mp3", "float32"))


class ResampleTest(parameterized.TestCase):
    @parameterized.parameters(*itertools.product(RATES, (1, 2, 5, 31, 1000, 44101)))
    def test_round_trip_of_lengths(self, sample_rate: int, length: int) -> None:
        there = resampling.resample(noise(length, 2), sample_rate, 24000)
        self.assertEqual(there.shape, (-(-length * 24000 // sample_rate), 2))
        back = resampling.resample(there, 24000, sample_rate, length)
        self.assertEqual(back.shape, (length, 2))
        self.assertEqual(back.dtype, np.float32)

    @parameterized.parameters(*RATES)
    def test_round_trip_of_a_tone(self, sample_rate: int) -> None:
        samples = tone(sample_rate, sample_rate)
        there = resampling.resample(samples, sample_rate, 32000)
        np.testing.assert_allclose(there, tone(32000, 32000), rtol=0, atol=1e-4)
        back = resampling.resample(there, 32000, sample_rate, len(samples))
        np.testing.assert_allclose(back, samples, rtol=0, atol=1e-4)

    def test_equal_rates_pass_through(self) -> None:
        np.testing.assert_array_equal(resampling.resample(noise(10), 8000, 8000), noise(10))
        padded = resampling.resample(noise(10), 8000, 8000, 12)
        np.testing.assert_array_equal(padded, np.pad(noise(10), ((0, 2), (0, 0))))

    def test_silence_at_the_end_changes_nothing_before(self) -> None:
        samples = noise(5000)
        long = resampling.resample(samples, 44100, 24000, 4000)
        short = resampling.resample(samples, 44100, 24000)
        np.testing.assert_allclose(long[: len(short)], short, rtol=0, atol=1e-6)


class MixTest(parameterized.TestCase):
    def test_equal_counts_pass_through(self) -> None:
        samples = noise(10, 3)
        self.assertIs(resampling.mix(samples, 3), samples)

    def test_mean_of_two_channels_has_the_bits_of_the_mean(self) -> None:
        samples = noise(100_001, 2, scale=3.0)
        samples[0] = 1e-45, 0.0
        expected = samples.mean(axis=1, keepdims=True, dtype=np.float32)
        np.testing.assert_array_equal(resampling.mix(samples, 1), expected)

    @parameterized.parameters((1, 2), (2, 1), (6, 2), (2, 6))
    def test_mean_for_every_channel(self, given: int, wanted: int) -> None:
        mixed = resampling.mix(noise(10, given), wanted)
        self.assertEqual((mixed.shape, mixed.dtype), ((10, wanted), np.float32))
        mean = noise(10, given).mean(axis=1)
        for channel in range(wanted):
            np.testing.assert_allclose(mixed[:, channel], mean, rtol=0, atol=1e-7)


class ShippedClipsTest(parameterized.TestCase):
    FOLDER = pathlib.Path(__file__).parents[2] / "assets" / "clips"

    def test_every_clip_has_a_licence(self) -> None:
        clips = sorted(self.FOLDER.glob("*.flac"))
        licences = (self.FOLDER / "LICENSES.md").read_text()
        self.assertNotEmpty(clips)
        for clip in clips:
            self.assertIn(f"## {clip.name}\n", licences)
            found = sound_files.read(clip)
            self.assertBetween(len(found.samples) / found.sample_rate, 3, 8.1)
            self.assertBetween(np.abs(found.samples).max(), 0.1, 0.99)


if __name__ == "__main__":
    absltest.main()
