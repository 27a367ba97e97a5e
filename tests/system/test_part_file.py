"""Part files: complete, or absent."""

import errno
import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest

from encodec_hk.system import part_file

ROOT = pathlib.Path(__file__).parents[2]


class PartFileTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = self.folder / "file.txt"

    def test_has_its_name_at_the_end_of_the_context(self):
        with part_file.PartFile(self.path) as part:
            part.file.write(b"content")
            self.assertFalse(self.path.exists())
        self.assertEqual(self.path.read_bytes(), b"content")
        self.assertLen(os.listdir(self.folder), 1)

    def test_exceptions_and_interruptions_leave_the_old_file(self):
        self.path.write_text("old")
        for kind in (ValueError, KeyboardInterrupt):
            with self.assertRaises(kind), part_file.PartFile(self.path) as part:
                part.file.write(b"new")
                raise kind
        self.assertEqual(self.path.read_text(), "old")
        self.assertLen(os.listdir(self.folder), 1)

    def test_failed_rename_leaves_nothing(self):
        full = OSError(errno.ENOSPC, "No space left on device")
        with mock.patch.object(os, "replace", side_effect=full), self.assertRaises(OSError):
            part_file.write(self.path, b"content")
        self.assertEmpty(os.listdir(self.folder))

    def test_write(self):
        part_file.write(self.path, b"first")
        part_file.write(str(self.path), b"second")
        self.assertEqual(self.path.read_bytes(), b"second")
        with self.assertRaises(FileNotFoundError):
            part_file.write(self.folder / "nowhere" / "file", b"")

    def test_readable_by_others_as_the_umask_says(self):
        before = os.umask(0o022)
        self.addCleanup(os.umask, before)
        part_file.write(self.path, b"")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o644)

    def test_files_of_killed_processes_are_removed(self):
        """And those of running ones are left, also while they get their names."""
        program = (
            "import os, sys; from encodec_hk.system import part_file\n"
            "part = part_file.PartFile(sys.argv[1]); part.file.write(b'new'); part.file.flush()\n"
            "print(flush=True); sys.stdin.read(); part.close()"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, self.folder / name],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for name in ("killed.txt", "running.txt")
        ]
        for process in processes:
            self.addCleanup(process.stdout.close)
            self.addCleanup(process.stdin.close)
            process.stdout.readline()
        processes[0].kill()
        processes[0].wait()
        (self.folder / ".x.part").touch()  # not a name of ours
        self.assertLen(os.listdir(self.folder), 3)
        part_file.write(self.path, b"content")
        running = f".running.txt.{processes[1].pid}.part"
        self.assertCountEqual(os.listdir(self.folder), ["file.txt", running, ".x.part"])
        processes[1].communicate()
        self.assertEqual((self.folder / "running.txt").read_bytes(), b"new")

    def test_a_file_is_not_removed_between_its_last_write_and_its_name(self):
        replace = os.replace

        def clean_and_replace(*paths):
            part_file.remove_stale(self.folder)
            replace(*paths)

        with mock.patch.object(os, "replace", clean_and_replace):
            part_file.write(self.path, b"content")
        self.assertEqual(self.path.read_bytes(), b"content")

    def test_a_file_that_is_removed_before_it_is_locked_is_made_anew(self):
        lock = part_file.lock
        calls = []

        def late(*arguments, **keywords):
            if not calls:
                calls.append(arguments)
                part_file.remove_stale(self.folder)
            return lock(*arguments, **keywords)

        with mock.patch.object(part_file, "lock", late):
            part_file.write(self.path, b"content")
        self.assertEqual(os.listdir(self.folder), ["file.txt"])

    def test_two_files_for_one_name(self):
        """As of threads, or of equal process IDs in two containers: the last one stays."""
        with part_file.PartFile(self.path) as first, part_file.PartFile(self.path) as second:
            first.file.write(b"first")
            second.file.write(b"second")
        self.assertEqual(self.path.read_bytes(), b"first")
        self.assertLen(os.listdir(self.folder), 1)


if __name__ == "__main__":
    absltest.main()
