"""What codes cost and tell: sizes of .ecdc files, entropy and use of codebooks."""

import io
import math

import numpy as np
from absl.testing import parameterized

from encodec_hk import bitstream
from encodec_hk.evaluation import code_rates

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


class SizesTest(parameterized.TestCase):
    def test_version_1(self):
        """Two blocks of 75 frames and one of 50, each of whole bytes."""
        codes = RNG.integers(0, 1024, (3, 200))
        data = ecdc(header(), [codes])
        expected = 2 * math.ceil(75 * 3 * 10 / 8) + math.ceil(50 * 3 * 10 / 8)
        self.assertEqual(code_rates.ecdc_sizes(data), (expected, len(data)))
        self.assertBetween(len(data) - expected, 100, 300)

    def test_version_1_with_segments(self):
        fields = {"segment_length": 24000, "segment_stride": 23760, "normalize": True}
        data = ecdc(
            header(**fields, num_samples=30000),
            [RNG.integers(0, 1024, (3, 75)), RNG.integers(0, 1024, (3, 20))],
            np.array([0.5, 0.25], np.float32),
        )
        expected = 4 + math.ceil(75 * 3 * 10 / 8) + 4 + math.ceil(20 * 3 * 10 / 8)
        self.assertEqual(code_rates.ecdc_sizes(data).payload, expected)

    def test_version_0(self):
        found = bitstream.meta_header("encodec_24khz", 8, 200 * 320)
        data = ecdc(found, [RNG.integers(0, 1024, (8, 200))])
        self.assertEqual(code_rates.ecdc_sizes(data), (200 * 8 * 10 // 8, len(data)))

    def test_damage(self):
        with self.assertRaises(ValueError):
            code_rates.ecdc_sizes(b"RIFF" + bytes(100))
        data = ecdc(header(), [RNG.integers(0, 1024, (3, 200))])
        with self.assertRaisesRegex(ValueError, "no block at byte"):
            code_rates.ecdc_sizes(data[:90] + bytes(10) + data[100:])

    def test_kbps(self):
        self.assertEqual(code_rates.kbps(1500, 2.0), 6.0)


class CodeCountsTest(parameterized.TestCase):
    def test_by_hand(self):
        counts = code_rates.CodeCounts(3, 8)
        counts.add(np.array([[0, 1, 2, 3], [5, 5, 5, 5], [0, 0, 0, 1]]))
        uniform, constant, skewed = counts.statistics()
        self.assertEqual(uniform, {"entropy": 2.0, "perplexity": 4.0, "used": 4, "dead": 4})
        self.assertEqual(constant, {"entropy": 0.0, "perplexity": 1.0, "used": 1, "dead": 7})
        entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
        self.assertAlmostEqual(skewed["entropy"], entropy)
        self.assertAlmostEqual(skewed["perplexity"], 2**entropy)

    def test_files_add_up(self):
        first, second = RNG.integers(0, 16, (2, 2, 50))
        together, one_by_one = code_rates.CodeCounts(2, 16), code_rates.CodeCounts(2, 16)
        together.add(np.concatenate([first, second], axis=1))
        for codes in (first, second):
            counts = code_rates.CodeCounts(2, 16)
            counts.add(codes)
            one_by_one.add_text(counts.to_text())
        np.testing.assert_array_equal(together.counts, one_by_one.counts)
        self.assertEqual(together.counts.sum(), 200)

    def test_nothing(self):
        (found,) = code_rates.CodeCounts(1, 4).statistics()
        self.assertEqual(found, {"entropy": 0.0, "perplexity": 1.0, "used": 0, "dead": 4})
