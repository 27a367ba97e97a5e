"""Opus and MP3: bitrates, payload, and outputs aligned with inputs."""

import subprocess
from unittest import mock

import numpy as np
from absl.testing import parameterized

from encodec_hk.evaluation import baseline_coder
from encodec_hk.evaluation import metrics
from tests.evaluation import test_metrics


class BitratesTest(parameterized.TestCase):
    @parameterized.parameters(
        ("opus", (1.5, 3, 6, 12), 24000, 1, (6, 12, 24)),
        ("opus", (1.5,), 24000, 1, (6,)),  # Opus has none lower
        ("opus", (2.2,), 48000, 1, (6,)),
        ("opus", (3, 6, 12, 24), 48000, 2, (12, 24, 48)),
        ("mp3", (1.5, 3, 6, 12), 24000, 1, (8, 16, 24)),
        ("mp3", (3, 6, 12, 24), 48000, 2, (32, 48)),
        ("mp3", (1.5,), 48000, 1, (32,)),
    )
    def test_bitrates(self, kind, asked, sample_rate, channels, expected):
        self.assertEqual(
            baseline_coder.sensible_bitrates(kind, asked, sample_rate, channels), expected
        )


class BaselineTest(parameterized.TestCase):
    def baseline(self, kind, sample_rate=24000, channels=1, asked=(12,)):
        if baseline_coder.find_tool(kind) is None:
            self.skipTest(f"{kind}: the program is not installed")
        return baseline_coder.Baseline(kind, sample_rate, channels, asked)

    @parameterized.parameters(
        ("opus", 24000, 1, 24),
        ("opus", 32000, 1, 24),  # Opus resamples it to 48 kHz
        ("opus", 48000, 2, 48),
        ("mp3", 24000, 1, 32),
        ("mp3", 48000, 2, 96),
    )
    def test_sound(self, kind, sample_rate, channels, kbps):
        baseline = self.baseline(kind, sample_rate, channels)
        sound = test_metrics.clip("music_guitar", sample_rate, 1.5)[137:].astype(np.float32)
        sound = np.stack([sound, 0.5 * sound], axis=1)[:, :channels]
        made = baseline.code(sound, kbps)
        self.assertEqual((made.samples.shape, made.samples.dtype), (sound.shape, np.float32))
        seconds = len(sound) / sample_rate
        # The padding of the last frame and of the codec's delay counts too.
        payload = 8 * made.payload_bytes / seconds / 1000
        self.assertBetween(payload, kbps, 1.1 * kbps)
        self.assertBetween(made.total_bytes - made.payload_bytes, 100, 3000)
        self.assertGreater(min(made.encode_seconds, made.decode_seconds), 0)
        # Aligned: two samples off either way, it is worse.
        middle = slice(1000, len(sound) - 1000)
        values = [
            metrics.si_snr(sound[middle], np.roll(made.samples, shift, axis=0)[middle])
            for shift in (-2, 0, 2)
        ]
        self.assertEqual(max(values), values[1])
        self.assertGreater(values[1], 8)

    def test_ffmpeg_where_opus_tools_are_missing(self):
        found = baseline_coder.shutil.which
        self.baseline("opus")
        hidden = mock.patch.object(
            baseline_coder.shutil, "which", lambda name: None if name == "opusdec" else found(name)
        )
        baseline_coder.find_tool.cache_clear()
        self.addCleanup(baseline_coder.find_tool.cache_clear)
        with hidden:
            baseline = self.baseline("opus")
            sound = test_metrics.clip("speech_reading", 24000, 1.0).astype(np.float32)[:, None]
            made = baseline.code(sound, 24)
        self.assertIn("ffmpeg", baseline.facts()["tool"])
        self.assertEqual(len(made.samples), len(sound))
        self.assertGreater(metrics.si_snr(sound, made.samples), 5)

    @parameterized.parameters(*baseline_coder.KINDS)
    def test_missing(self, kind):
        baseline_coder.find_tool.cache_clear()
        self.addCleanup(baseline_coder.find_tool.cache_clear)
        with (
            mock.patch.object(baseline_coder.shutil, "which", return_value=None),
            self.assertRaisesRegex(ValueError, f"^{kind}: no .*: apt-get install "),
        ):
            baseline_coder.Baseline(kind, 24000, 1, (6,))

    def test_bad_settings(self):
        with self.assertRaisesRegex(
            ValueError, "^--baselines: got 'flac', must be one of opus, mp3, or empty for none$"
        ):
            baseline_coder.Baseline("flac", 24000, 1, (6,))
        with self.assertRaisesRegex(ValueError, "^opus: got 3 channels, must be 1 or 2$"):
            baseline_coder.Baseline("opus", 24000, 3, (6,))

    def test_a_program_that_fails(self):
        baseline = self.baseline("mp3")
        result = subprocess.CompletedProcess([], 1, "", "first\nno room left\n")
        with (
            mock.patch.object(baseline_coder.subprocess, "run", return_value=result),
            self.assertRaisesRegex(ValueError, "^ffmpeg: no room left$"),
        ):
            baseline.code(np.zeros((2400, 1), np.float32), 16)
