"""Cores that a process may use."""

import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.system import machine


class CoresTest(parameterized.TestCase):
    def test_limit(self):
        """In a process of its own: the limit cannot be taken back for threads that run."""
        script = "from encodec_hk.system import machine; machine.limit_cores(1); "
        script += "print(machine.num_cores())"
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        self.assertEqual(result.stdout, "1\n", result.stderr)

    @parameterized.parameters(0, -1, 2**20)
    def test_refuses(self, count):
        allowed = f"1 to {machine.num_cores()}"
        with self.assertRaisesRegex(ValueError, f"^--threads: got {count}, must be {allowed}$"):
            machine.limit_cores(count, field="--threads")


if __name__ == "__main__":
    absltest.main()
