"""The scheduler: each row has its outputs in order, whatever the lengths of the others."""

import chex
import numpy as np
from absl.testing import parameterized
from hypothesis import given
from hypothesis import strategies as st

from encodec_hk.blocks import program
from encodec_hk.blocks import scheduler

LAG = 5


class RunningSums:
    """A stand-in for a codec: running sums of pairs of steps, `lag` outputs late.

    Steps are [1, n] and outputs [n / 2, 1], so that both axes are told apart. The state, of each
    row the sum and the outputs that wait, is changed in place by numpy: it is never fetched late.
    """

    def __init__(self, test, *, first, lag, sizes):
        self.test, self.first, self.lag, self.sizes = test, first, lag, sizes
        self.num_blocks = 0

    def fresh_state(self, batch):
        return [[0, [0] * self.lag] for _ in range(batch)]

    def step(self, state, block, num_valid, is_last):
        self.num_blocks += 1
        size = block.shape[2] // 2
        self.test.assertIn(size, self.sizes)
        outputs = np.zeros((len(block), size, 1), np.int64)
        for row, count in enumerate(num_valid):
            total, late = state[row]
            is_new = total == 0 and count
            self.test.assertTrue(is_last[row] or count % 2 == 0)
            self.test.assertTrue(not is_new or is_last[row] or count >= 2 * self.first)
            sums = total + np.cumsum(block[row, 0, :count])
            state[row][0] = sums[-1] if count else total
            late += sums[::2].tolist()
            ready = size if is_last[row] else int(count) // 2
            given = late[:ready]
            outputs[row, : len(given), 0] = given
            del late[:ready]
            if is_last[row] and not late:
                state[row] = [0, [0] * self.lag]
        return state, outputs

    def program(self):
        return program.Program(
            step=self.step,
            fresh_state=self.fresh_state,
            steps_axis=1,
            outputs_axis=0,
            unit=2,
            gain=1,
            first=self.first,
            lag=self.lag,
        )


def sums_of(steps):
    return np.cumsum(steps)[::2].tolist()


def taken(row):
    return [int(value) for part in row.take() for value in part[:, 0]]


class SchedulerTest(chex.TestCase):
    @given(
        lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
        places=st.integers(1, 5),
        size=st.sampled_from([1, 2, 5]),
        lag=st.sampled_from([0, LAG]),
    )
    def test_whole_rows_of_any_lengths(self, lengths, places, size, lag):
        sums = RunningSums(self, first=1, lag=lag, sizes=(size,))
        runner = scheduler.Scheduler(sums.program(), places=places, sizes=(size,))
        rng = np.random.default_rng(len(lengths))
        steps = [rng.integers(1, 100, (1, length)) for length in lengths]
        rows = [runner.open() for _ in steps]
        for row, own in zip(rows, steps, strict=True):
            row.put(own)
            row.end()
        runner.advance(wait=True)
        for row, own in zip(rows, steps, strict=True):
            self.assertTrue(row.is_done)
            self.assertEqual(taken(row), sums_of(own))

    @given(data=st.data(), batch=st.integers(1, 3), lag=st.sampled_from([0, 1, LAG]))
    def test_rows_that_come_in_pieces(self, data, batch, lag):
        """Each row has its own outputs, whatever arrives when, and whether one waits for them."""
        sums = RunningSums(self, first=3, lag=lag, sizes=(1, 4, 10))
        runner = scheduler.Scheduler(sums.program(), places=batch, sizes=(1, 4, 10))
        waits = data.draw(st.booleans())
        rows, found, steps = [], [], []
        current = [None] * batch
        for _ in range(data.draw(st.integers(1, 6))):
            for place in range(batch):
                piece = np.arange(1, data.draw(st.integers(0, 30)) + 1)[None]
                if current[place] is None:
                    current[place] = len(rows)
                    rows.append(runner.open())
                    found.append([])
                    steps.append(np.zeros((1, 0), int))
                index = current[place]
                rows[index].put(piece)
                steps[index] = np.concatenate([steps[index], piece], axis=1)
                if data.draw(st.booleans()):
                    rows[index].end()
                    current[place] = None
            runner.advance(wait=waits)
            for row, own in zip(rows, found, strict=True):
                own += taken(row)
                if waits:
                    self.assertEqual(row.is_done, row.has_ended)
        for row in rows:
            row.end()
        runner.advance(wait=True)
        for row, own, expected in zip(rows, found, steps, strict=True):
            self.assertEqual(own + taken(row), sums_of(expected))

    def test_runs_ahead_of_its_outputs(self):
        """A block is dispatched before the outputs of the block before are fetched."""
        sums = RunningSums(self, first=1, lag=0, sizes=(2,))
        runner = scheduler.Scheduler(sums.program(), places=1, sizes=(2,))
        row = runner.open()
        row.put(np.arange(1, 5)[None])
        runner.advance()
        self.assertEqual((sums.num_blocks, taken(row)), (1, []))
        row.put(np.arange(5, 9)[None])
        runner.advance()
        self.assertEqual((sums.num_blocks, taken(row)), (2, [1, 6]))
        runner.advance()  # nothing to run
        self.assertEqual((sums.num_blocks, taken(row)), (2, [15, 28]))

    def test_a_dropped_row_frees_its_place(self):
        for lag in (0, LAG):
            sums = RunningSums(self, first=1, lag=lag, sizes=(2,))
            runner = scheduler.Scheduler(sums.program(), places=1, sizes=(2,))
            dropped, waiting, last = (runner.open() for _ in range(3))
            for row in (dropped, waiting, last):
                row.put(np.arange(1, 9)[None])
            runner.advance(wait=True)
            waiting.drop()  # never had a place
            dropped.put(np.arange(1, 9)[None])
            dropped.drop()
            last.end()
            runner.advance(wait=True)
            self.assertEqual(taken(last), sums_of(np.arange(1, 9)))
            self.assertEqual(taken(dropped) + taken(waiting), [])
            self.assertTrue(dropped.is_done and waiting.is_done)

    def test_rows_go_on_in_fewer_places(self):
        program_of = {"step": lambda state, block, *_: (state + block.sum(), state[:, None, None])}
        rows_of = program.Program(
            **program_of,
            fresh_state=lambda batch: np.arange(batch),
            steps_axis=0,
            outputs_axis=0,
            unit=1,
            gain=1,
        )
        runner = scheduler.Scheduler(rows_of, places=4, sizes=(1,))
        rows = [runner.open() for _ in range(4)]
        for row in rows:
            row.put(np.zeros((1, 1), int))
        for row in rows[::2]:
            row.end()
        runner.advance(wait=True)
        self.assertEqual([int(row.take()[0][0, 0]) for row in rows], [0, 1, 2, 3])
        runner.shrink(2)
        for row in rows[1::2]:
            row.put(np.zeros((1, 1), int))
        runner.advance(wait=True)
        self.assertEqual([int(row.take()[0][0, 0]) for row in rows[1::2]], [1, 3])

    def test_rows_without_a_state_are_whole_in_a_block(self):
        blocks = []

        def step(state, block, num_valid, is_last):
            self.assertIsNone(state)
            blocks.append((block[:, :, 0].tolist(), num_valid.tolist()))
            return None, block * 2

        whole = program.Program(
            step=step, fresh_state=None, steps_axis=0, outputs_axis=0, unit=2, gain=2
        )
        runner = scheduler.Scheduler(whole, places=2, sizes=(2,))
        rows = [runner.open() for _ in range(3)]
        for length, row in zip((4, 1, 3), rows, strict=True):
            row.put(np.arange(1, length + 1)[:, None])
        runner.advance(wait=True)
        self.assertEqual(blocks, [])  # none has ended
        for row in rows:
            row.end()
        runner.advance(wait=True)
        self.assertEqual(
            blocks,
            [([[1, 2, 3, 4], [1, 0, 0, 0]], [4, 1]), ([[1, 2, 3, 0], [0, 0, 0, 0]], [3, 0])],
        )
        outputs = [np.concatenate(row.take())[:, 0].tolist() for row in rows]
        self.assertEqual(outputs, [[2, 4, 6, 8], [2, 0], [2, 4, 6, 0]])

    @parameterized.parameters((1, 8, 1), (2, 8, 2), (3, 8, 4), (8, 8, 8), (9, 8, 8), (5, 6, 6))
    def test_places(self, num_rows, limit, expected):
        self.assertEqual(scheduler.places_for(num_rows, limit), expected)

    @parameterized.parameters(
        *((1, 8, 8, 1), (2, 8, 8, 8), (8, 8, 8, 8), (9, 8, 8, 16), (33, 8, 8, 64), (99, 8, 8, 64)),
        *((2, 1, 4, 4), (9, 1, 4, 4), (4, 8, 3, 6), (7, 8, 3, 12), (99, 6, 3, 18)),
    )
    def test_places_of_devices(self, num_rows, limit, num_devices, expected):
        self.assertEqual(scheduler.places_for(num_rows, limit, num_devices), expected)

    def test_buckets(self):
        sizes = sorted({scheduler.bucket(length, 10) for length in range(1, 321)})
        self.assertEqual(sizes, [10, 20, 30, 40, 60, 80, 120, 160, 240, 320])
        for length in range(1, 321):
            size = scheduler.bucket(length, 10)
            self.assertLessEqual(length, size)
            self.assertLess(size, max(11, 1.5 * length + 10))
