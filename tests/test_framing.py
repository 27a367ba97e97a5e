"""How signals are divided into segments and frames."""

from absl.testing import parameterized
from hypothesis import given
from hypothesis import strategies as st

from encodec_hk.framing import Framing

LENGTH, STRIDE, HOP = 48000, 47520, 320
FRAMING = Framing(LENGTH, STRIDE, HOP)
OVERLAPPING = Framing(120, 48, 12)
UNDIVIDED = Framing.undivided(HOP)


class FramingTest(parameterized.TestCase):
    @parameterized.parameters(
        (1, [1]),
        (47520, [149]),  # one segment of 47520 samples
        (47521, [149, 1]),  # 47521 and 1
        (48000, [150, 2]),  # 48000 and 480
        (95040, [150, 149]),  # 48000 and 47520
        (95201, [150, 150, 1]),  # 48000, 47681 and 161
    )
    def test_frames(self, num_samples, counts):
        self.assertEqual(FRAMING.frames(num_samples), counts)
        self.assertEqual(FRAMING.num_segments(num_samples), len(counts))

    @given(st.integers(1, 10**6))
    def test_longest_inverts_the_frames(self, num_samples):
        longest = FRAMING.longest(FRAMING.num_frames(num_samples))
        self.assertGreaterEqual(longest, num_samples)
        self.assertEqual(FRAMING.num_frames(longest), FRAMING.num_frames(num_samples))
        self.assertGreater(FRAMING.num_frames(longest + 1), FRAMING.num_frames(num_samples))

    @given(st.integers(1, 300_000), st.sampled_from([FRAMING, OVERLAPPING]))
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

    @given(st.integers(0, 10**6), st.sampled_from([FRAMING, OVERLAPPING, UNDIVIDED]))
    def test_number_of_frames_is_their_sum(self, num_samples, framing):
        self.assertEqual(framing.num_frames(num_samples), sum(framing.frames(num_samples)))

    def test_undivided(self):
        self.assertFalse(UNDIVIDED.has_segments)
        self.assertTrue(FRAMING.has_segments)
        self.assertEqual(UNDIVIDED.frames(2**40 + 1), [2**40 // HOP + 1])
        self.assertEqual(UNDIVIDED.longest(7), 7 * HOP)
        self.assertFalse(UNDIVIDED.is_full(10**12))

    def test_a_header_may_say_any_length(self):
        """Without a list of the segments."""
        self.assertEqual(FRAMING.num_frames(STRIDE * 10**9 + LENGTH - STRIDE), 150 * 10**9 + 2)
