"""The stream of training crops, and the selection for validation.

Shapes: B batch, T samples, C channels.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any
from unittest import mock

import chex
import numpy as np
import pytest
import soundfile
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files
from encodec_hk.training import crops
from encodec_hk.training import sound_index

RATE = 8000
LENGTH = 400
UNIT = 2.0**-15  # of 16-bit files


def noise(length: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Deterministic noise [T, C]."""
    values = np.random.default_rng(seed).normal(size=(length, channels))
    return (0.1 * values).astype(np.float32)


class FolderTest(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    def write(self, name: str, samples: np.ndarray, sample_rate: int = RATE) -> pathlib.Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sound_files.write(
            path, samples, sample_rate, "float32" if path.suffix == ".wav" else "int16"
        )
        return path

    def constant(self, name: str, value: float, seconds: float = 0.5) -> pathlib.Path:
        return self.write(name, np.full((int(seconds * RATE), 1), value, np.float32))

    def crops(
        self, sources: list[sound_index.SoundFile] | None = None, **changes: Any
    ) -> crops.Crops:
        settings: dict[str, Any] = {
            "sample_rate": RATE,
            "channels": 1,
            "crop_length": LENGTH,
            "batch_size": 4,
            "seed": 0,
            "mix_probabilities": (1.0, 0.0, 0.0),
            "gain_db": (0.0, 0.0),
            "num_workers": 0,
        }
        found = sound_index.scan(str(self.folder)) if sources is None else sources
        iterator = crops.batches(found, **(settings | changes))
        self.addCleanup(iterator.close)
        return iterator

    def noises(self) -> None:
        for number in range(5):
            self.write(f"{number}.flac", noise(2000 + 700 * number, seed=number))


class ScanTest(FolderTest):
    def test_headers_in_order_of_paths(self) -> None:
        self.write("b/a.flac", noise(24000, 2), 24000)
        self.write("a.wav", noise(441), 44100)
        self.write("b/.hidden.wav", noise(100))
        (self.folder / "notes.txt").write_text("no sound")
        with mock.patch.object(os, "walk", side_effect=reversed_walk):
            sources = sound_index.scan(str(self.folder))
        expected = [
            sound_index.SoundFile(str(self.folder / "a.wav"), 441, 44100, 1),
            sound_index.SoundFile(str(self.folder / "b/a.flac"), 24000, 24000, 2),
        ]
        self.assertEqual(sources, expected)
        self.assertEqual([source.seconds for source in sources], [0.01, 1.0])
        self.assertEqual(sound_index.scan(f"{self.folder}/**/*.flac"), expected[1:])

    @parameterized.parameters((3, 3), (8, 6))
    def test_unreadable_files_are_left_out_with_warnings(self, files: int, lines: int) -> None:
        self.write("good.wav", noise(100))
        self.write("empty.wav", noise(0))
        for number in range(files - 1):
            (self.folder / f"{number}.flac").write_bytes(b"fLaC, or is it?")
        with self.assertLogs("absl", "WARNING") as logs:
            sources = sound_index.scan(str(self.folder))
        self.assertEqual([pathlib.Path(source.path).name for source in sources], ["good.wav"])
        self.assertLen(logs.output, lines)
        self.assertIn("0.flac: ", logs.output[0])
        if lines > 5:
            self.assertIn("8 files that cannot be read", logs.output[-1])

    def test_empty_file_is_named_with_the_reason(self) -> None:
        self.write("good.wav", noise(100))
        path = self.write("empty.wav", noise(0))
        with self.assertLogs("absl", "WARNING") as logs:
            sound_index.scan(str(self.folder))
        self.assertIn(f"{path}: the file holds no samples; the file is left out", logs.output[0])

    def test_nothing_found(self) -> None:
        with self.assertRaisesRegex(ValueError, f"^{self.folder}: no sound files$"):
            sound_index.scan(str(self.folder))
        with self.assertRaisesRegex(ValueError, "nowhere: no sound files$"):
            sound_index.scan(str(self.folder / "nowhere"))
        (self.folder / "a.wav").write_bytes(b"")
        with self.assertRaisesRegex(ValueError, "none of 1 sound files can be read$"):
            sound_index.scan(str(self.folder))


class ReadCropTest(FolderTest):
    @parameterized.parameters(8000, 16000, 22050, 24000, 44100, 48000, 96000)
    def test_equals_that_part_of_the_whole_resampled_file(self, rate: int) -> None:
        target = 24000
        samples = noise(2 * rate, 2)
        self.write("a.wav", samples, rate)
        (source,) = sound_index.scan(str(self.folder))
        whole = resampling.resample(resampling.mix(samples, 1), rate, target)
        step = rate // np.gcd(rate, target)  # samples of the file per common sample
        for start in (0, step, (rate // step) * step, (2 * rate // step - 3) * step):
            crop = sound_index.read_crop(source, start, sample_rate=target, channels=1, length=5000)
            chex.assert_shape(crop, (5000, 1))
            self.assertEqual(crop.dtype, np.float32)
            at = start * target // rate
            expected = np.zeros((5000, 1), np.float32)
            expected[: len(whole) - at] = whole[at : at + 5000]
            # Past the end, the whole lacks the ringing of the filter.
            inside = min(5000, len(whole) - at)
            np.testing.assert_allclose(crop[:inside], expected[:inside], rtol=0, atol=1e-6)
            np.testing.assert_allclose(crop[inside + 400 :], 0, rtol=0, atol=1e-6)

    @parameterized.parameters((1, 2), (2, 1), (6, 2))
    def test_channels(self, given: int, wanted: int) -> None:
        samples = noise(1000, given)
        self.write("a.wav", samples)
        (source,) = sound_index.scan(str(self.folder))
        crop = sound_index.read_crop(source, 10, sample_rate=RATE, channels=wanted, length=900)
        np.testing.assert_array_equal(crop, resampling.mix(samples, wanted)[10:910])

    def test_only_the_crop_is_read(self) -> None:
        self.write("a.flac", noise(400000))
        (source,) = sound_index.scan(str(self.folder))
        with mock.patch.object(
            soundfile.SoundFile, "read", autospec=True, side_effect=soundfile.SoundFile.read
        ) as read:
            sound_index.read_crop(source, 300000, sample_rate=RATE, channels=1, length=LENGTH)
        self.assertEqual(read.call_args.args[1], LENGTH)

    @parameterized.parameters((44100, 2), (24000, 1), (8000, 1))
    def test_mp3_of_few_kbps(self, rate: int, channels: int) -> None:
        path = self.folder / "a.mp3"
        settings = {"compression_level": 0.99, "bitrate_mode": "CONSTANT"}
        samples = noise(5 * rate, channels) * np.linspace(0, 1, 5 * rate)[:, None]
        soundfile.write(path, samples, rate, **settings)
        whole = sound_files.read(path).samples
        (source,) = sound_index.scan(str(self.folder))
        for start in (0, 1000, rate, 2 * rate + 7, 3 * rate + 7, 4 * rate):
            crop = sound_index.read_crop(
                source, start, sample_rate=rate, channels=channels, length=LENGTH
            )
            np.testing.assert_allclose(crop, whole[start : start + LENGTH], rtol=0, atol=1e-6)

    def test_file_that_became_shorter(self) -> None:
        self.constant("a.wav", 0.5, seconds=1.0)
        (source,) = sound_index.scan(str(self.folder))
        self.constant("a.wav", 0.5, seconds=0.5)
        sound_index.read_crop(source, 0, sample_rate=RATE, channels=1, length=RATE // 2)
        with self.assertRaisesRegex(ValueError, "a.wav: the file ends before its header says$"):
            sound_index.read_crop(source, 1, sample_rate=RATE, channels=1, length=RATE // 2)


class StreamTest(FolderTest):
    def test_a_batch_is_a_function_of_the_seed(self) -> None:
        self.noises()
        changes: dict[str, Any] = {"mix_probabilities": (0.4, 0.3, 0.3), "gain_db": (-10.0, 6.0)}
        first, second = self.crops(**changes), self.crops(**changes)
        batches = [next(first) for _ in range(3)]
        chex.assert_shape(batches, (4, LENGTH, 1))
        self.assertEqual(batches[0].dtype, np.float32)
        for batch in batches:
            np.testing.assert_array_equal(next(second), batch)
        items = np.concatenate(batches).reshape(12, -1)
        self.assertLen(np.unique(items, axis=0), 12)
        self.assertFalse(np.array_equal(next(self.crops(**changes, seed=1)), batches[0]))

    @parameterized.parameters((0, 0), (2, 0))
    @pytest.mark.few(0)
    def test_resumes_from_a_state(self, workers: int, workers_after: int) -> None:
        self.noises()
        whole = self.crops()
        batches = [next(whole) for _ in range(5)]
        begun = self.crops(num_workers=workers)
        for batch in batches[:3]:
            np.testing.assert_array_equal(next(begun), batch)
        state = json.loads(json.dumps(begun.get_state()))
        resumed = self.crops(num_workers=workers_after)
        resumed.set_state(state)
        self.assertEqual(resumed.get_state(), state)
        for batch in batches[3:]:
            np.testing.assert_array_equal(next(resumed), batch)
        # Back again, while workers are running.
        whole.set_state({"next_batch": 1})
        np.testing.assert_array_equal(next(whole), batches[1])
        self.assertEqual(whole.get_state(), {"next_batch": 2})

    @parameterized.parameters(2, 4)
    def test_shards_concatenate_to_the_batch(self, count: int) -> None:
        self.noises()
        whole = self.crops()
        shards = [self.crops(shard_index=index, shard_count=count) for index in range(count)]
        for _ in range(3):
            np.testing.assert_array_equal(np.concatenate([next(s) for s in shards]), next(whole))

    @pytest.mark.slow
    def test_batches_that_repeat(self) -> None:
        self.noises()
        once = self.crops()
        expected = [next(once) for _ in range(4)]
        for count, index in ((1, 0), (2, 1)):
            repeated = self.crops(num_batches=3, shard_count=count, shard_index=index)
            found = [next(repeated) for _ in range(7)]
            size = 4 // count
            for number, batch in enumerate(found):
                part = expected[number % 3][index * size : (index + 1) * size]
                np.testing.assert_array_equal(batch, part)
        self.assertFalse(np.array_equal(expected[3], expected[0]))

    @pytest.mark.slow
    def test_processes_of_a_script_with_flags(self) -> None:
        self.noises()
        script = self.folder / "script.py"
        script.write_text(
            "from absl import app\n"
            "import numpy as np\n"
            "from encodec_hk.training import crops\n"
            "from encodec_hk.training import sound_index\n"
            "def main(argv):\n"
            "    settings = dict(sample_rate=8000, channels=1, crop_length=400, batch_size=4,\n"
            "        seed=0, mix_probabilities=(1.0,), gain_db=(0.0, 0.0), num_workers=2)\n"
            "    stream = crops.batches(sound_index.scan(argv[1]), **settings)\n"
            "    stream.set_state({'next_batch': 1})\n"
            "    np.save(argv[2], np.stack([next(stream) for _ in range(3)]))\n"
            "if __name__ == '__main__':\n"
            "    app.run(main)\n"
        )
        output = self.folder / "batches.npy"
        result = subprocess.run(
            [sys.executable, str(script), str(self.folder), str(output)],
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"PYTHONPATH": str(pathlib.Path(crops.__file__).parents[2])},
        )
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        stream = self.crops()
        expected = [next(stream) for _ in range(4)][1:]
        np.testing.assert_array_equal(np.load(output), np.stack(expected))

    @parameterized.parameters(
        ({"batch_size": 5, "shard_count": 2}, "got 5, must be a multiple of shard_count"),
        ({"shard_index": 2, "shard_count": 2}, "shard_index: got 2"),
        ({"seed": -1}, "seed: got -1"),
        ({"crop_length": 0}, "crop_length: got 0"),
        ({"mix_probabilities": (0.5, 0.4)}, "that add up to 1"),
        ({"mix_probabilities": (1.5, -0.5)}, "that add up to 1"),
        ({"mix_probabilities": ()}, "that add up to 1"),
        ({"gain_db": (6.0, -10.0)}, "gain_db: got"),
        ({"sources": []}, "sources: got none"),
    )
    def test_bad_arguments(self, changes: dict[str, Any], message: str) -> None:
        sources = changes.pop("sources", [sound_index.SoundFile("a.wav", 100, RATE, 1)])
        with self.assertRaisesRegex(ValueError, message):
            self.crops(sources, **changes)


class ItemsTest(FolderTest):
    def test_crops_of_another_rate_and_of_stereo(self) -> None:
        samples = noise(44100, 2)
        self.write("a.flac", samples, 44100)
        whole = resampling.resample(resampling.mix(samples, 1), 44100, 24000)
        batch = next(self.crops(sample_rate=24000, crop_length=2400))
        chex.assert_shape(batch, (4, 2400, 1))
        # Crops may start between the samples of the whole file; their levels are equal.
        levels = np.sqrt(np.mean(batch**2, axis=(1, 2)))
        np.testing.assert_allclose(levels, np.sqrt(np.mean(whole**2)), rtol=0.1)

    def test_short_files_are_followed_by_zeros(self) -> None:
        samples = np.round(noise(150) / UNIT) * np.float32(UNIT)
        self.write("a.flac", samples)
        expected = np.pad(samples, ((0, LENGTH - 150), (0, 0)))
        np.testing.assert_array_equal(next(self.crops()), np.stack([expected] * 4))

    @pytest.mark.slow
    def test_sources_by_duration_and_crops_uniformly(self) -> None:
        # The value of a sample tells its file, and its place in the ramp.
        ramp = np.linspace(0.3, 0.6, 3 * RATE, dtype=np.float32)[:, None]
        self.write("long.wav", ramp)
        self.constant("short.wav", 0.1, seconds=1.0)
        batch = next(self.crops(batch_size=2000, crop_length=100))
        starts = batch[:, 0, 0]
        from_long = starts > 0.2
        # 3 of 4, to six standard deviations of 0.0097. By files it would be 1 of 2.
        self.assertAlmostEqual(from_long.mean(), 0.75, delta=0.058)
        places = (starts[from_long] - 0.3) / (0.6 - 0.3) * 3 * RATE / (3 * RATE - 100)
        counts = np.histogram(places, bins=10, range=(0, 1))[0]
        expected = from_long.sum() / 10
        chi2 = float(np.sum((counts - expected) ** 2 / expected))
        self.assertLess(chi2, 33.7)  # 9 degrees of freedom: exceeded by chance once in 10,000
        self.assertLess(places.min(), 0.01)
        self.assertGreater(places.max(), 0.99)

    def test_a_mixture_is_the_sum(self) -> None:
        self.constant("a.wav", 0.125)
        items = next(self.crops(batch_size=400, mix_probabilities=(0.5, 0.3, 0.2)))
        np.testing.assert_array_equal(items, np.broadcast_to(items[:, :1], items.shape))
        counts = items[:, 0, 0] / 0.125
        # Five standard deviations of 400 draws.
        for count, share in ((1, 0.5), (2, 0.3), (3, 0.2)):
            deviation = 5 * np.sqrt(share * (1 - share) / 400)
            self.assertAlmostEqual(np.mean(counts == count), share, delta=deviation)
        self.assertEqual(set(counts), {1, 2, 3})

    def test_parts_of_a_mixture_are_independent(self) -> None:
        self.constant("a.wav", 0.0625)
        self.constant("b.wav", 0.25)
        items = next(self.crops(batch_size=100, mix_probabilities=(0.0, 1.0)))
        self.assertEqual(set(items[:, 0, 0]), {0.125, 0.3125, 0.5})

    @pytest.mark.slow
    def test_gains_are_uniform_in_decibels(self) -> None:
        self.constant("a.wav", 0.25)
        items = next(self.crops(batch_size=2000, gain_db=(-10.0, 6.0)))[:, 0, 0]
        decibels = 20 * np.log10(items / 0.25)
        self.assertBetween(decibels.min(), -10.0001, -9.8)
        self.assertBetween(decibels.max(), 5.8, 6.0001)
        # Uniform: mean -2, standard deviation 16 / sqrt(12), both to five standard errors.
        self.assertAlmostEqual(decibels.mean(), -2.0, delta=0.52)
        self.assertAlmostEqual(decibels.std(), 16 / np.sqrt(12), delta=0.3)

    def test_each_part_has_its_own_gain(self) -> None:
        self.constant("a.wav", 0.25)
        items = next(
            self.crops(batch_size=500, mix_probabilities=(0.0, 1.0), gain_db=(-10.0, 0.0))
        )[:, 0, 0]
        # With one gain for both, 10 % of the sums would be in the last decibel.
        decibels = 20 * np.log10(items / 0.5)
        self.assertLess(np.mean(decibels > -1), 0.05)

    def test_gains_are_drawn_again_if_the_sum_clips(self) -> None:
        self.constant("a.wav", 0.9)
        items = next(self.crops(batch_size=500, gain_db=(-10.0, 6.0)))[:, 0, 0]
        self.assertLessEqual(items.max(), 1.0)
        decibels = 20 * np.log10(items / 0.9)
        # Uniform over -10 to 0.9 dB; scaled or clipped items would pile up at full scale.
        self.assertAlmostEqual(decibels.mean(), (-10 + 0.915) / 2, delta=0.75)
        self.assertLess(np.mean(items > 0.999), 0.02)

    def test_sums_that_always_clip_are_scaled(self) -> None:
        self.write("a.wav", np.tile(np.float32([[0.9], [-0.45]]), (500, 1)))
        items = next(self.crops(gain_db=(6.0, 6.0)))
        np.testing.assert_allclose(
            np.abs(items).max(axis=(1, 2)), sound_files.FULL_SCALE, rtol=1e-6
        )
        np.testing.assert_allclose(np.abs(items).min(axis=(1, 2)), 0.5, rtol=1e-3)

    def test_silence_is_drawn_again(self) -> None:
        self.constant("silent.wav", 5e-5, seconds=0.5)
        self.constant("sound.wav", 2e-4, seconds=0.5)
        items = next(self.crops(batch_size=200))[:, 0, 0]
        np.testing.assert_allclose(items, 2e-4, rtol=1e-5)

    def test_silent_data_gives_silence(self) -> None:
        self.constant("silent.wav", 0.0)
        self.assertFalse(next(self.crops()).any())


class BadFilesTest(FolderTest):
    def damaged(self) -> list[sound_index.SoundFile]:
        """Return sources of which one file was cut since, one deleted, one has NaN, one is good."""
        cut, gone = self.write("cut.flac", noise(9000)), self.write("gone.wav", noise(9000))
        self.write("nan.wav", np.full((9000, 1), np.nan, np.float32))
        self.constant("good.wav", 0.25, seconds=1.0)
        sources = sound_index.scan(str(self.folder))
        cut.write_bytes(cut.read_bytes()[:300])
        gone.unlink()
        return sources

    def test_another_crop_is_drawn(self) -> None:
        sources = self.damaged()
        stream = self.crops(sources, batch_size=50)
        with self.assertLogs("absl", "WARNING") as logs:
            items = next(stream)
        np.testing.assert_array_equal(items, np.full((50, LENGTH, 1), 0.25, np.float32))
        lines = "\n".join(logs.output)
        for name, reason in (
            ("cut.flac", ""),
            ("gone.wav", "No such file or directory"),
            ("nan.wav", "samples are NaN or infinite"),
        ):
            self.assertRegex(lines, f"{name}: {reason}.*another crop is drawn")
        self.assertLessEqual(len(logs.output), 12)  # once for each file, perhaps by each thread

    def test_data_of_bad_files_only(self) -> None:
        sources = [source for source in self.damaged() if "good" not in source.path]
        with self.assertLogs("absl", "WARNING"), self.assertRaisesRegex(ValueError, "16 crops in"):
            next(self.crops(sources))


class ValidationTest(FolderTest):
    def items(self, count: int, **changes: Any) -> list[np.ndarray]:
        settings: dict[str, Any] = {"sample_rate": RATE, "channels": 1, "seconds": 0.1}
        sources = sound_index.scan(str(self.folder))
        return crops.validation_excerpts(sources, count=count, **(settings | changes))

    def test_folders_take_turns(self) -> None:
        for number in range(6):
            self.constant(f"a/{number}.wav", 0.1 + number / 100)
        for number in range(2):
            self.constant(f"b/{number}.wav", 0.2 + number / 100)
        self.constant("c/0.wav", 0.3)
        values = [float(item[0, 0]) for item in self.items(6)]
        # Three of the six files of a/ are the second, the fourth and the last.
        np.testing.assert_allclose(values, [0.11, 0.20, 0.30, 0.13, 0.21, 0.15], rtol=1e-6)
        self.assertLen(self.items(100), 9)

    def test_middle_of_long_files_and_all_of_short_ones(self) -> None:
        samples = noise(4001)
        self.write("a.wav", samples)
        self.write("b.wav", samples[:500])
        long, short = self.items(2)
        np.testing.assert_array_equal(long, samples[1600:2400])
        np.testing.assert_array_equal(short, samples[:500])

    def test_rate_and_channels(self) -> None:
        self.write("a.flac", noise(4410, 2), 44100)
        (item,) = self.items(1, sample_rate=24000, channels=2, seconds=1.0)
        chex.assert_shape(item, (2400, 2))

    def test_unreadable_file(self) -> None:
        path = self.write("a.wav", noise(100))
        sources = sound_index.scan(str(self.folder))
        path.unlink()
        with self.assertRaisesRegex(ValueError, f"^{path}: No such file"):
            crops.validation_excerpts(sources, sample_rate=RATE, channels=1, seconds=1.0, count=1)


def reversed_walk(folder: str, onerror: Any = None) -> Any:
    """Return what os.walk might, in an unusual order."""
    yield str(pathlib.Path(folder, "b")), [], ["a.flac", ".hidden.wav"]
    yield folder, ["b"], ["notes.txt", "a.wav"]


if __name__ == "__main__":
    absltest.main()
