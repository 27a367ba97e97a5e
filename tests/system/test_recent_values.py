"""A cache that threads share."""

import itertools
import threading

from absl.testing import absltest

from encodec_hk.system import recent_values


class RecentValuesTest(absltest.TestCase):
    def test_keeps_the_last(self):
        made, values = itertools.count(), recent_values.RecentValues(2)
        found = [values.get(key, lambda: next(made)) for key in "abacab"]
        self.assertEqual(found, [0, 1, 0, 2, 0, 3])

    def test_threads_share_a_value(self):
        values, begun, may_end = recent_values.RecentValues(2), threading.Event(), threading.Event()
        calls = []

        def make():
            calls.append(1)
            begun.set()
            may_end.wait(10)
            return len(calls)

        found: list[int] = []
        threads = [
            threading.Thread(target=lambda: found.append(values.get(0, make))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        self.assertTrue(begun.wait(10))
        may_end.set()
        for thread in threads:
            thread.join()
        self.assertEqual(found, [1, 1])

    def test_an_error_is_not_kept(self):
        values = recent_values.RecentValues(2)
        with self.assertRaises(ZeroDivisionError):
            values.get(0, lambda: 1 // 0)
        self.assertEqual(values.get(0, lambda: 5), 5)


if __name__ == "__main__":
    absltest.main()
