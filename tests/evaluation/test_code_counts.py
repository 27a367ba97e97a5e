"""Entropy and use of codebooks."""

import math

import numpy as np
from absl.testing import parameterized

from encodec_hk.evaluation import code_counts

RNG = np.random.default_rng(0)


class CodeCountsTest(parameterized.TestCase):
    def test_by_hand(self):
        counts = code_counts.CodeCounts(3, 8)
        counts.add(np.array([[0, 1, 2, 3], [5, 5, 5, 5], [0, 0, 0, 1]]))
        uniform, constant, skewed = counts.statistics()
        self.assertEqual(uniform, {"entropy": 2.0, "perplexity": 4.0, "used": 4, "dead": 4})
        self.assertEqual(constant, {"entropy": 0.0, "perplexity": 1.0, "used": 1, "dead": 7})
        entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
        self.assertAlmostEqual(skewed["entropy"], entropy)
        self.assertAlmostEqual(skewed["perplexity"], 2**entropy)

    def test_files_add_up(self):
        first, second = RNG.integers(0, 16, (2, 2, 50))
        together, one_by_one = code_counts.CodeCounts(2, 16), code_counts.CodeCounts(2, 16)
        together.add(np.concatenate([first, second], axis=1))
        for codes in (first, second):
            counts = code_counts.CodeCounts(2, 16)
            counts.add(codes)
            one_by_one.add_text(counts.to_text())
        np.testing.assert_array_equal(together.counts, one_by_one.counts)
        self.assertEqual(together.counts.sum(), 200)

    def test_nothing(self):
        (found,) = code_counts.CodeCounts(1, 4).statistics()
        self.assertEqual(found, {"entropy": 0.0, "perplexity": 1.0, "used": 0, "dead": 4})
