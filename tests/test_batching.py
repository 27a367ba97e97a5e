"""The scheduler of rows: outputs in order, whatever the lengths, and no row sees another."""

import chex
import numpy as np
from absl.testing import parameterized
from hypothesis import given
from hypothesis import strategies as st

from encodec_hk import batching


def running_sum(state, block, num_valid, is_last):
    """A stand-in for the codec: every second running sum of a row; the state is the sum so far."""
    total = state[:, None] + np.cumsum(block, axis=1)
    ends = np.take_along_axis(total, np.maximum(num_valid - 1, 0)[:, None], axis=1)[:, 0]
    ends = np.where(num_valid > 0, ends, state)
    return np.where(is_last, 0, ends), total[:, ::2]


class BatchingTest(chex.TestCase):
    @given(
        lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
        batch=st.integers(1, 5),
        size=st.sampled_from([2, 4, 10]),
    )
    def test_rows_of_any_lengths(self, lengths, batch, size):
        rng = np.random.default_rng(len(lengths))
        rows = [rng.integers(1, 100, length) for length in lengths]
        state = np.zeros(batch, np.int64)
        outputs = batching.run(running_sum, state, rows, size=size, batch=batch)
        self.assertLen(outputs, len(rows))
        for row, output in zip(rows, outputs, strict=True):
            np.testing.assert_array_equal(output, np.cumsum(row)[::2])

    @parameterized.parameters((1, 8, 1), (2, 8, 2), (3, 8, 4), (8, 8, 8), (9, 8, 8), (5, 6, 6))
    def test_places(self, num_rows, limit, expected):
        self.assertEqual(batching.places(num_rows, limit), expected)

    def test_buckets(self):
        sizes = sorted({batching.bucket(length, 10) for length in range(1, 321)})
        self.assertEqual(sizes, [10, 20, 30, 40, 60, 80, 120, 160, 240, 320])
        for length in range(1, 321):
            size = batching.bucket(length, 10)
            self.assertLessEqual(length, size)
            self.assertLess(size, max(11, 1.5 * length + 10))
