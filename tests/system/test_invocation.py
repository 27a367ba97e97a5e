"""The name of the program in messages, and the commands that they advise."""

import contextlib
import pathlib
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.system import file_paths
from encodec_hk.system import invocation


class InvocationTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = self.enter_context(tempfile.TemporaryDirectory())
        self.enter_context(contextlib.chdir(self.folder))
        self.enter_context(mock.patch.object(sys, "executable", "/usr/bin/python3"))

    @parameterized.parameters(
        ("run.py", "run.py", "python3 run.py"),
        ("../a clone/run.py", "run.py", "python3 '../a clone/run.py'"),
        ("/env/bin/encodec-hk", "encodec-hk", "encodec-hk"),
        ("/env/lib/encodec_hk/__main__.py", "encodec-hk", "python3 -m encodec_hk"),
    )
    def test_as_started(self, started, name, command):
        with mock.patch.object(sys, "argv", [started, "infer"]):
            self.assertEqual(invocation.name(), name)
            self.assertEqual(invocation.command(), command)

    def test_in_a_process_of_the_user(self):
        run_py = file_paths.ROOT / "run.py"
        with mock.patch.object(sys, "argv", ["own.py"]):
            self.assertEqual(invocation.command(), f"python3 {run_py}")
            with contextlib.chdir(file_paths.ROOT):
                self.assertEqual(invocation.command(), "python3 run.py")
            with mock.patch.object(file_paths, "is_installed", return_value=True):
                self.assertEqual(invocation.command(), "encodec-hk")

    def test_to_start(self):
        run_py = pathlib.Path(__file__).parents[2] / "run.py"
        self.assertEqual(invocation.to_start(), [sys.executable, str(run_py)])
        with mock.patch.object(file_paths, "is_installed", return_value=True):
            self.assertEqual(invocation.to_start(), [sys.executable, "-m", "encodec_hk"])


if __name__ == "__main__":
    absltest.main()
