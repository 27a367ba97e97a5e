"""Part files: complete, or absent."""

import errno
import os
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest

from encodec_hk.system import part_file


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


if __name__ == "__main__":
    absltest.main()
