"""Opus and MP3: the rates, the payload, and outputs that stand where the input stood."""

import struct
import subprocess
from unittest import mock

import numpy as np
from absl.testing import parameterized

from encodec_hk.evaluation import baseline_coder
from encodec_hk.evaluation import metrics
from encodec_hk.evaluation import packets
from tests import test_metrics


def page(segments, data):
    return b"OggS" + struct.pack("<BBqIIIB", 0, 0, 0, 1, 0, 0, len(segments)) + segments + data


def frame(bitrate=4, padding=0, mono=True):
    """A frame of MPEG-2, layer III, at 24 kHz, with no sound in it: 32 kbps at 4."""
    head = bytes((0xFF, 0xF3, bitrate << 4 | 1 << 2 | padding << 1, 0xC0 if mono else 0))
    size = 72 * 1000 * packets.MP3_KBPS[1][bitrate - 1] // 24000 + padding
    return head + bytes(size - 4)


class PacketsTest(parameterized.TestCase):
    def test_ogg(self):
        """A packet that ends with its page, one that goes on, one of 255 bytes, an empty one."""
        data = page(bytes((3, 255)), bytes(258)) + page(bytes((5, 255, 0, 0)), bytes(260))
        self.assertEqual(packets.ogg_packets(data), [3, 260, 255, 0])
        self.assertEqual(packets.opus_payload(data), 255)

    @parameterized.parameters(b"RIFF", page(bytes((3, 4)), bytes(6)), b"OggS")
    def test_no_ogg(self, data):
        with self.assertRaisesRegex(ValueError, "^Ogg: "):
            packets.ogg_packets(data)

    def test_mp3(self):
        info = bytearray(frame())
        info[13:17] = b"Info"
        tag = b"ID3\4\0\0\0\0\1\2" + bytes(130)
        sound = frame() + frame(padding=1) + frame(8, mono=False)
        data = tag + bytes(info) + sound + b"TAG" + bytes(125)
        self.assertEqual(packets.mp3_payload(data), len(sound))
        self.assertEqual(packets.mp3_payload(sound), len(sound))

    @parameterized.parameters(b"RIFF", b"\xff\xf3", frame() + b"xxxx", bytes(3))
    def test_no_mp3(self, data):
        with self.assertRaisesRegex(ValueError, "^MP3: no frame at byte "):
            packets.mp3_payload(data)


class RatesTest(parameterized.TestCase):
    @parameterized.parameters(
        ("opus", (1.5, 3, 6, 12), 24000, 1, (6, 12, 24)),
        ("opus", (1.5,), 24000, 1, (6,)),  # the lowest there is
        ("opus", (2.2,), 48000, 1, (6,)),
        ("opus", (3, 6, 12, 24), 48000, 2, (12, 24, 48)),
        ("mp3", (1.5, 3, 6, 12), 24000, 1, (8, 16, 24)),
        ("mp3", (3, 6, 12, 24), 48000, 2, (32, 48)),
        ("mp3", (1.5,), 48000, 1, (32,)),
    )
    def test_rates(self, kind, asked, sample_rate, channels, expected):
        self.assertEqual(
            baseline_coder.sensible_rates(kind, asked, sample_rate, channels), expected
        )


class BaselineTest(parameterized.TestCase):
    def baseline(self, kind, sample_rate=24000, channels=1, asked=(12,)):
        if baseline_coder.find_tool(kind) is None:
            self.skipTest(f"{kind}: the program is not installed")
        return baseline_coder.Baseline(kind, sample_rate, channels, asked)

    @parameterized.parameters(
        ("opus", 24000, 1, 24),
        ("opus", 32000, 1, 24),  # has to be resampled to 48 kHz
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
        # The last frame, and what fills the codec's delay, count too.
        payload = 8 * made.payload_bytes / seconds / 1000
        self.assertBetween(payload, kbps, 1.1 * kbps)
        self.assertBetween(made.total_bytes - made.payload_bytes, 100, 3000)
        self.assertGreater(min(made.encode_seconds, made.decode_seconds), 0)
        # Aligned: a sample off either way, it is worse.
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
        with self.assertRaisesRegex(ValueError, "^--baselines: got 'flac', must be of opus, mp3$"):
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
