"""Entropy and use of codebooks."""

import json
import math

import numpy as np
from absl.testing import parameterized

from encodec_hk.evaluation import code_counts

RNG = np.random.default_rng(0)


class CodeCountsTest(parameterized.TestCase):
    def test_by_hand(self):
        codes = np.array([[0, 1, 2, 3], [5, 5, 5, 5], [0, 0, 0, 1]])
        uniform, constant, skewed = code_counts.statistics(code_counts.count(codes, 8))
        self.assertEqual(uniform, {"entropy": 2.0, "perplexity": 4.0, "used": 4, "dead": 4})
        self.assertEqual(constant, {"entropy": 0.0, "perplexity": 1.0, "used": 1, "dead": 7})
        entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
        self.assertAlmostEqual(skewed["entropy"], entropy)
        self.assertAlmostEqual(skewed["perplexity"], 2**entropy)

    def test_files_add_up(self):
        files = RNG.integers(0, 16, (2, 2, 50))
        together = code_counts.count(np.concatenate(files, axis=1), 16)
        kept = [code_counts.to_json(code_counts.count(codes, 16)) for codes in files]
        one_by_one = sum(code_counts.from_json(json.loads(json.dumps(value))) for value in kept)
        np.testing.assert_array_equal(together, one_by_one)
        self.assertEqual(together.sum(), 200)

    def test_nothing(self):
        (found,) = code_counts.statistics(code_counts.count(np.zeros((1, 0), int), 4))
        self.assertEqual(found, {"entropy": 0.0, "perplexity": 1.0, "used": 0, "dead": 4})
