"""Payloads of .ecdc, Ogg Opus and MP3 files."""

import io
import math
import struct

import numpy as np
from absl.testing import parameterized

from encodec_hk import bitstream
from encodec_hk.evaluation import payloads

RNG = np.random.default_rng(0)


def ecdc(header, segments, scales=None):
    file = io.BytesIO()
    writer = bitstream.open_writer(file, header)
    for index, codes in enumerate(segments):
        writer.write(codes, None if scales is None else scales[index : index + 1])
    writer.finish(header.num_samples)
    return file.getvalue()


def header(**fields):
    facts = {
        "version": 1,
        "name": "some",
        "sample_rate": 24000,
        "channels": 1,
        "hop_length": 320,
        "num_codebooks": 3,
        "bits": 10,
        "segment_length": None,
        "segment_stride": None,
        "normalize": False,
        "num_samples": 200 * 320,
        "fingerprint": None,
    }
    return bitstream.Header(**{**facts, **fields})


def page(segments, data):
    return b"OggS" + struct.pack("<BBqIIIB", 0, 0, 0, 1, 0, 0, len(segments)) + segments + data


def frame(bitrate=4, padding=0, mono=True):
    """Return a silent frame of MPEG-2, layer III, at 24 kHz; bitrate 4 is 32 kbps."""
    head = bytes((0xFF, 0xF3, bitrate << 4 | 1 << 2 | padding << 1, 0xC0 if mono else 0))
    size = 72 * 1000 * payloads.MP3_KBPS[1][bitrate - 1] // 24000 + padding
    return head + bytes(size - 4)


class EcdcTest(parameterized.TestCase):
    def test_version_1(self):
        """Two blocks of 75 frames and one of 50, each of whole bytes."""
        codes = RNG.integers(0, 1024, (3, 200))
        data = ecdc(header(), [codes])
        expected = 2 * math.ceil(75 * 3 * 10 / 8) + math.ceil(50 * 3 * 10 / 8)
        self.assertEqual(payloads.ecdc_payload(data), expected)
        self.assertBetween(len(data) - expected, 100, 300)

    def test_version_1_with_segments(self):
        fields = {"segment_length": 24000, "segment_stride": 23760, "normalize": True}
        data = ecdc(
            header(**fields, num_samples=30000),
            [RNG.integers(0, 1024, (3, 75)), RNG.integers(0, 1024, (3, 20))],
            np.array([0.5, 0.25], np.float32),
        )
        expected = 4 + math.ceil(75 * 3 * 10 / 8) + 4 + math.ceil(20 * 3 * 10 / 8)
        self.assertEqual(payloads.ecdc_payload(data), expected)

    def test_version_0(self):
        found = bitstream.meta_header("encodec_24khz", 8, 200 * 320)
        data = ecdc(found, [RNG.integers(0, 1024, (8, 200))])
        self.assertEqual(payloads.ecdc_payload(data), 200 * 8 * 10 // 8)

    def test_damage(self):
        with self.assertRaises(ValueError):
            payloads.ecdc_payload(b"RIFF" + bytes(100))
        data = ecdc(header(), [RNG.integers(0, 1024, (3, 200))])
        with self.assertRaisesRegex(ValueError, "no block at byte"):
            payloads.ecdc_payload(data[:90] + bytes(10) + data[100:])

    def test_kbps(self):
        self.assertEqual(payloads.kbps(1500, 2.0), 6.0)


class OpusAndMp3Test(parameterized.TestCase):
    def test_ogg(self):
        """A packet that ends with its page, one that continues, one of 255 bytes, an empty one."""
        data = page(bytes((3, 255)), bytes(258)) + page(bytes((5, 255, 0, 0)), bytes(260))
        self.assertEqual(payloads.ogg_packets(data), [3, 260, 255, 0])
        self.assertEqual(payloads.opus_payload(data), 255)

    @parameterized.parameters(b"RIFF", page(bytes((3, 4)), bytes(6)), b"OggS")
    def test_no_ogg(self, data):
        with self.assertRaisesRegex(ValueError, "^Ogg: "):
            payloads.ogg_packets(data)

    def test_mp3(self):
        info = bytearray(frame())
        info[13:17] = b"Info"
        tag = b"ID3\4\0\0\0\0\1\2" + bytes(130)
        sound = frame() + frame(padding=1) + frame(8, mono=False)
        data = tag + bytes(info) + sound + b"TAG" + bytes(125)
        self.assertEqual(payloads.mp3_payload(data), len(sound))
        self.assertEqual(payloads.mp3_payload(sound), len(sound))

    @parameterized.parameters(b"RIFF", b"\xff\xf3", frame() + b"xxxx", bytes(3))
    def test_no_mp3(self, data):
        with self.assertRaisesRegex(ValueError, "^MP3: no frame at byte "):
            payloads.mp3_payload(data)
