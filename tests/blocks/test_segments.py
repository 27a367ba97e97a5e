"""Cutting, normalisation and overlap-add of the 48 kHz model's segments."""

import chex
import numpy as np
from absl.testing import parameterized
from hypothesis import given
from hypothesis import strategies as st

from encodec_hk.blocks import segments

LENGTH, STRIDE, HOP = 48000, 47520, 320
FRAMING = segments.Framing(LENGTH, STRIDE, HOP)


def frames(num_samples):
    return sum(FRAMING.frames(num_samples))


class SegmentsTest(chex.TestCase):
    @parameterized.parameters(
        (1, [1], [1]),
        (47520, [47520], [149]),
        (47521, [47521, 1], [149, 1]),
        (48000, [48000, 480], [150, 2]),
        (95040, [48000, 47520], [150, 149]),
        (95201, [48000, 47681, 161], [150, 150, 1]),
    )
    def test_cut(self, num_samples, lengths, counts):
        pieces = FRAMING.cut(np.arange(num_samples)[:, None])
        self.assertEqual([len(piece) for piece in pieces], lengths)
        self.assertEqual([piece[0, 0] for piece in pieces], list(range(0, num_samples, STRIDE)))
        self.assertEqual(FRAMING.frames(num_samples), counts)

    @given(st.integers(1, 10**6))
    def test_longest_inverts_the_frames(self, num_samples):
        longest = FRAMING.longest(frames(num_samples))
        self.assertGreaterEqual(longest, num_samples)
        self.assertEqual(frames(longest), frames(num_samples))
        self.assertGreater(frames(longest + 1), frames(num_samples))

    @given(st.integers(1, 300_000), st.sampled_from([FRAMING, segments.Framing(120, 48, 12)]))
    def test_a_first_segment_is_known_to_be_full(self, num_samples, framing):
        """Only where every signal of at least so many frames has a full first segment."""
        whole = -(-framing.length // framing.hop)
        counts = framing.frames(num_samples)
        if framing.is_full(sum(counts)):
            self.assertEqual(counts[0], whole)
        if num_samples > framing.length:
            self.assertTrue(framing.is_full(sum(framing.frames(num_samples))))
        shorter = (whole - 1) * framing.hop
        self.assertFalse(framing.is_full(sum(framing.frames(min(num_samples, shorter)))))

    def test_longest_of_no_signal(self):
        self.assertEqual(FRAMING.longest(0), 0)

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
