"""Work in a thread: order, bounds, and errors in the caller."""

import threading

from absl.testing import absltest

from encodec_hk.system import background


def failing():
    raise ValueError("no")


class BackgroundTest(absltest.TestCase):
    def test_calls_run_in_order_in_one_thread(self):
        calls, found = background.Calls(3), []
        for number in range(20):
            calls.put(lambda number=number: found.append((number, threading.get_ident())))
        calls.wait()
        self.assertEqual([number for number, _ in found], list(range(20)))
        self.assertLen({thread for _, thread in found}, 1)
        self.assertNotEqual(found[0][1], threading.get_ident())
        calls.stop()

    def test_the_error_of_a_call_is_raised_later(self):
        calls = background.Calls(3)
        calls.put(failing)
        with self.assertRaisesRegex(ValueError, "no"):
            calls.wait()
        calls.stop()

    def test_put_waits_for_a_place(self):
        calls, go = background.Calls(1), threading.Event()
        calls.put(go.wait)
        second = threading.Thread(target=calls.put, args=(lambda: None,))
        second.start()
        second.join(0.05)
        self.assertTrue(second.is_alive())
        go.set()
        second.join(5)
        self.assertFalse(second.is_alive())
        calls.stop()

    def test_items_come_in_order_and_not_too_far_ahead(self):
        taken = []

        def items():
            for number in range(30):
                taken.append(number)
                yield number

        ahead = background.Ahead(items(), 4)
        for expected in range(30):
            self.assertEqual(next(ahead), expected)
            self.assertLessEqual(len(taken), expected + 6)
        self.assertEqual(list(ahead), [])
        ahead.stop()

    def test_the_error_of_an_item_comes_after_those_before_it(self):
        def items():
            yield 1
            failing()

        ahead = background.Ahead(items(), 4)
        self.assertEqual(next(ahead), 1)
        with self.assertRaisesRegex(ValueError, "no"):
            next(ahead)
        ahead.stop()


if __name__ == "__main__":
    absltest.main()
