"""The cache of compiled programs: where it is, and that it is not in the way."""

import os
import pathlib
import stat
import subprocess
import sys
import tempfile

import pytest
from absl.testing import absltest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
from encodec_hk.blocks import compilation_cache
compilation_cache.enable()
import jax
print(jax.config.jax_compilation_cache_dir)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(jax.jit(lambda x: 2 * x)(21))
"""
TRACES = """
from encodec_hk.blocks import compilation_cache
compilation_cache.enable()
print(compilation_cache.traces_folder())
"""


class CompilationCacheTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    def run_program(self, **environment):
        """The folder in use; the program's result is checked."""
        folder, result = self.lines(PROGRAM, **environment)
        self.assertEqual(result, "42")
        return folder

    def lines(self, program, **environment):
        """What a process prints."""
        inherited = {name: v for name, v in os.environ.items() if not name.startswith("JAX_")}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**inherited, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment},
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.splitlines()

    def test_in_the_cache_folder_of_the_user(self):
        for _ in range(2):
            found = self.run_program(XDG_CACHE_HOME=str(self.folder))
            self.assertEqual(pathlib.Path(found).parent, self.folder / "encodec_hk")
            self.assertNotEmpty(list(pathlib.Path(found).iterdir()))

    def test_a_folder_that_was_named_stays(self):
        named = str(self.folder / "named")
        self.assertEqual(self.run_program(JAX_COMPILATION_CACHE_DIR=named), named)

    def test_a_folder_that_cannot_be_made(self):
        (self.folder / "file").touch(mode=stat.S_IRUSR)
        found = self.run_program(XDG_CACHE_HOME=str(self.folder / "file"))
        self.assertEqual(found, "None")

    @pytest.mark.slow
    def test_traces_lie_beside_the_programs(self):
        named = str(self.folder / "named")
        lines = self.lines(TRACES, JAX_COMPILATION_CACHE_DIR=named)
        self.assertEqual(lines, [str(self.folder / "named" / "traces")])
        for setting in (
            {"JAX_COMPILATION_CACHE_DIR": "gs://bucket/folder"},
            {"JAX_COMPILATION_CACHE_DIR": named, "JAX_ENABLE_COMPILATION_CACHE": "false"},
        ):
            self.assertEqual(self.lines(TRACES, **setting), ["None"])


if __name__ == "__main__":
    absltest.main()
