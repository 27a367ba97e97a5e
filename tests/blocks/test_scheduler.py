"""The scheduler of rows: outputs in order, whatever the lengths, and no row sees another."""

import chex
import numpy as np
from absl.testing import parameterized
from hypothesis import given
from hypothesis import strategies as st

from encodec_hk.blocks import scheduler


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
        outputs = scheduler.run(running_sum, state, rows, size=size, batch=batch)
        self.assertLen(outputs, len(rows))
        for row, output in zip(rows, outputs, strict=True):
            np.testing.assert_array_equal(output, np.cumsum(row)[::2])

    @given(data=st.data(), batch=st.integers(1, 3), lag=st.sampled_from([0, 1, 5]))
    def test_rows_that_come_in_pieces(self, data, batch, lag):
        """Outputs of each row, one for two steps, whatever comes when and how much of it."""
        first, sizes = 3, (1, 4, 10)

        def step(state, block, num_valid, is_last):
            """Running sums, `lag` outputs late; the state is the sum, and outputs that wait."""
            total, late = state
            self.assertIn(block.shape[1] // 2, sizes)
            outputs = np.zeros((batch, block.shape[1] // 2), np.int64)
            for row in range(batch):
                count = int(num_valid[row])
                is_new = total[row] == 0
                self.assertTrue(is_last[row] or count % 2 == 0)
                self.assertTrue(not (is_new and count) or is_last[row] or count >= 2 * first)
                sums = total[row] + np.cumsum(block[row, :count])
                total[row] = sums[-1] if count else total[row]
                late[row] += sums[::2].tolist()
                ready = outputs.shape[1] if is_last[row] else count // 2
                given = late[row][:ready]
                outputs[row, : len(given)] = given
                late[row] = late[row][ready:]
                if is_last[row] and not late[row]:
                    total[row], late[row] = 0, [0] * lag
            return (total, late), outputs

        state = np.zeros(batch, np.int64), [[0] * lag for _ in range(batch)]
        stream = scheduler.Stream(
            step, state, batch=batch, sizes=sizes, first=first, unit=2, gain=1, lag=lag,
            like=np.zeros(0, np.int64),
        )  # fmt: skip
        rows = [np.zeros(0, np.int64) for _ in range(batch)]
        found = [[] for _ in range(batch)]
        for _ in range(data.draw(st.integers(1, 6))):
            ends = data.draw(st.lists(st.booleans(), min_size=batch, max_size=batch))
            for place in range(batch):
                piece = np.arange(1, data.draw(st.integers(0, 30)) + 1)
                rows[place] = np.concatenate([rows[place], piece])
                stream.put(place, piece)
            for place, parts in enumerate(stream.advance(ends)):
                found[place] += parts
                if ends[place]:
                    sums = [value for part in found[place] for value in part]
                    self.assertEqual(sums, np.cumsum(rows[place])[::2].tolist())
                    rows[place], found[place] = rows[place][:0], []

    @parameterized.parameters((1, 8, 1), (2, 8, 2), (3, 8, 4), (8, 8, 8), (9, 8, 8), (5, 6, 6))
    def test_places(self, num_rows, limit, expected):
        self.assertEqual(scheduler.places(num_rows, limit), expected)

    @parameterized.parameters(
        *((1, 8, 8, 1), (2, 8, 8, 8), (8, 8, 8, 8), (9, 8, 8, 16), (33, 8, 8, 64), (99, 8, 8, 64)),
        *((2, 1, 4, 4), (9, 1, 4, 4), (4, 8, 3, 6), (7, 8, 3, 12), (99, 6, 3, 18)),
    )
    def test_places_of_devices(self, num_rows, limit, num_devices, expected):
        self.assertEqual(scheduler.places(num_rows, limit, num_devices), expected)

    def test_buckets(self):
        sizes = sorted({scheduler.bucket(length, 10) for length in range(1, 321)})
        self.assertEqual(sizes, [10, 20, 30, 40, 60, 80, 120, 160, 240, 320])
        for length in range(1, 321):
            size = scheduler.bucket(length, 10)
            self.assertLessEqual(length, size)
            self.assertLess(size, max(11, 1.5 * length + 10))
