"""The cache of compiled programs: where it is, and that it is not in the way."""

import os
import pathlib
import pickle
import stat
import subprocess
import sys
import tempfile
import zlib
from unittest import mock

import pytest
from absl.testing import absltest

from encodec_hk.blocks import compilation_cache

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
from encodec_hk.blocks import compilation_cache
compilation_cache.enable_compilation_cache()
import jax
print(jax.config.jax_compilation_cache_dir)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(jax.jit(lambda x: 2 * x)(21))
"""
TRACES = """
from encodec_hk.blocks import compilation_cache
compilation_cache.enable_compilation_cache()
print(compilation_cache.traces_folder())
"""
# Prints the programs that were read from the cache and those that were compiled for it.
COUNTED = """
import sys
import encodec_hk
print(encodec_hk.enable_compilation_cache())
import jax
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
names = []
jax.monitoring.register_event_listener(lambda name, **_: names.append(name.split("/")[-1]))
print(jax.jit(lambda x: 2 * x)(21))
print(names.count("cache_hits"), names.count("cache_misses"))
"""
FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
"""


def empty(data):
    return b""


def truncated(data):
    return data[: len(data) // 2]


def garbage(data):
    return b"\0" + data[::-1]


def pickled(data):
    return pickle.dumps(data)


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

    @pytest.mark.slow
    def test_in_the_cache_folder_of_the_user(self):
        for _ in range(2):
            found = self.run_program(XDG_CACHE_HOME=str(self.folder))
            self.assertEqual(pathlib.Path(found).parent, self.folder / "encodec_hk")
            self.assertNotEmpty(list(pathlib.Path(found).iterdir()))

    def test_a_folder_that_was_named_stays(self):
        named = str(self.folder / "named")
        self.assertEqual(self.run_program(JAX_COMPILATION_CACHE_DIR=named), named)

    @pytest.mark.slow
    def test_a_folder_that_cannot_be_made(self):
        (self.folder / "file").touch(mode=stat.S_IRUSR)
        found = self.run_program(XDG_CACHE_HOME=str(self.folder / "file"))
        self.assertEqual(found, "None")

    def counted(self, program=COUNTED):
        """The programs that a process read from the cache and compiled; it must not warn."""
        environment = {
            **{name: v for name, v in os.environ.items() if not name.startswith("JAX_")},
            **{"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(self.folder)},
        }
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        folder, result, counts = done.stdout.splitlines()
        self.assertEqual(result, "42")
        self.cache = pathlib.Path(folder).parent
        return tuple(map(int, counts.split())), done.stderr

    def entries(self):
        return sorted(self.cache.glob("*-cache"))

    @pytest.mark.slow
    def test_entries_that_cannot_be_read_are_made_anew(self):
        (_, compiled), _ = self.counted()
        self.assertGreater(compiled, 0)
        self.assertEqual(self.counted(), ((compiled, 0), ""))
        for damage in (empty, truncated, garbage):
            entry = self.entries()[0]
            entry.write_bytes(damage(entry.read_bytes()))
            self.assertEqual(self.counted(), ((compiled - 1, 1), ""), damage.__name__)
        self.assertEqual(self.counted(), ((compiled, 0), ""))

    @pytest.mark.slow
    def test_a_full_disk(self):
        """The process goes on, and leaves nothing that the next one cannot read."""
        counts, stderr = self.counted(FULL_DISK + COUNTED)
        self.assertEqual(counts[0], 0)
        self.assertIn("Error writing persistent compilation cache entry", stderr)
        self.assertEmpty(list(self.cache.iterdir()))
        (_, compiled), stderr = self.counted()
        self.assertGreater(compiled, 0)
        self.assertEqual(stderr, "")
        self.assertEqual(self.counted(), ((compiled, 0), ""))

    def test_which_entries_are_whole(self):
        whole = zlib.compress(b"a program" * 100)
        for damage in (empty, truncated, garbage, pickled):
            (self.folder / "other-cache").write_bytes(whole)
            (self.folder / "damaged-cache").write_bytes(damage(whole))
            (self.folder / "notes.txt").write_bytes(b"")
            for _ in range(2):
                compilation_cache.remove_unreadable(self.folder)
                self.assertCountEqual(
                    os.listdir(self.folder), ["other-cache", "notes.txt", "checked.json"]
                )
        (self.folder / "checked.json").write_bytes(b"[1, 2")
        compilation_cache.remove_unreadable(self.folder)
        self.assertTrue((self.folder / "other-cache").exists())

    def test_entries_of_another_compression(self):
        """Without its module nothing is known of them, and JAX does not read them."""
        entry = self.folder / "a-cache"
        entry.write_bytes(b"\x28\xb5\x2f\xfd" + b"0123")
        module = mock.Mock(ZstdError=ArithmeticError)
        module.decompress.side_effect = ArithmeticError
        for zstd, is_kept in ((None, True), (module, False)):
            (self.folder / "checked.json").unlink(missing_ok=True)
            with mock.patch.object(compilation_cache, "_zstd", return_value=zstd):
                compilation_cache.remove_unreadable(self.folder)
            self.assertEqual(entry.exists(), is_kept)

    def test_an_entry_is_read_once(self):
        (self.folder / "a-cache").write_bytes(zlib.compress(b"a program"))
        with mock.patch.object(zlib, "decompress", side_effect=zlib.decompress) as read:
            for _ in range(3):
                compilation_cache.remove_unreadable(self.folder)
        read.assert_called_once()

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
