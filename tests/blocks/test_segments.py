"""Normalisation and overlap-add of the 48 kHz model's segments."""

import chex
import numpy as np
from absl.testing import parameterized

from encodec_hk import framing
from encodec_hk.blocks import segments

LENGTH, STRIDE, HOP = 48000, 47520, 320
FRAMING = framing.Framing(LENGTH, STRIDE, HOP)


class SegmentsTest(chex.TestCase):
    def test_normalize(self):
        segment = np.array([[0.3, 0.1], [-0.5, -0.1]], np.float32)
        normalized, scale = segments.normalize(segment)
        self.assertAlmostEqual(float(scale), 1e-8 + ((0.2**2 + 0.3**2) / 2) ** 0.5, places=7)
        np.testing.assert_allclose(normalized * scale, segment, rtol=1e-6)
        silence, scale = segments.normalize(np.zeros((5, 2), np.float32))
        self.assertEqual(scale, np.float32(1e-8))
        chex.assert_tree_all_finite(silence)

    @parameterized.parameters(100, 95201, 150000)
    def test_overlap_add_of_equal_segments_is_the_signal(self, num_samples):
        rng = np.random.default_rng(0)
        signal = rng.standard_normal((num_samples + LENGTH, 2)).astype(np.float32)
        parts = [  # each as long as its frames, as the decoder gives it
            signal[STRIDE * index :][: count * HOP]
            for index, count in enumerate(FRAMING.frames(num_samples))
        ]
        joined = segments.overlap_add(parts, STRIDE)
        self.assertGreaterEqual(len(joined), num_samples)
        np.testing.assert_allclose(joined, signal[: len(joined)], atol=1e-5)

    def test_overlap_add_gives_what_no_later_segment_changes(self):
        rng = np.random.default_rng(0)
        parts = [rng.standard_normal((n, 2)).astype(np.float32) for n in (12, 12, 12, 7)]
        joined = segments.OverlapAdd(5)
        pieces = [joined.push(part) for part in parts] + [joined.finish()]
        self.assertEqual([len(piece) for piece in pieces], [0, 5, 5, 5, 7])
        np.testing.assert_array_equal(np.concatenate(pieces), segments.overlap_add(parts, 5))

    def test_overlap_add_by_hand(self):
        # Weights of a first segment of 3: 1/4, 1/2, 1/4.
        first, second = np.ones((3, 1), np.float32), np.full((2, 1), 4.0, np.float32)
        joined = segments.overlap_add([first, second], 2)
        np.testing.assert_allclose(joined[:, 0], [1.0, 1.0, (1 * 0.25 + 4 * 0.25) / 0.5, 4.0])
