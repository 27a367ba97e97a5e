"""Files found by suffix in folders and globs."""

import contextlib
import errno
import os
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.system import file_paths

SUFFIXES = frozenset({".wav", ".flac"})
FILES = ("b.wav", "a.FLAC", "notes.txt", ".hidden.wav", "d/c.wav", ".d/c.wav", "d/e/f.flac")


class FindTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name in FILES:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def find(self, pattern: str) -> list[str]:
        found = file_paths.find(self.folder / pattern, SUFFIXES)
        self.assertEqual(found.unreadable, [])
        return [os.path.relpath(name, self.folder) for name in found.files]

    @parameterized.parameters(
        ("", ["a.FLAC", "b.wav", "d/c.wav", "d/e/f.flac"]),
        ("d", ["d/c.wav", "d/e/f.flac"]),
        ("*", ["a.FLAC", "b.wav"]),
        ("**/*.flac", ["d/e/f.flac"]),
        ("b.wav", ["b.wav"]),
        ("notes.txt", []),
        ("nowhere", []),
    )
    def test_finds(self, pattern, expected):
        self.assertEqual(self.find(pattern), expected)

    def test_names_that_exist_are_no_globs(self):
        for name in ("[b].wav", "[d]/g.wav"):
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
        self.assertEqual(self.find("[b].wav"), ["[b].wav"])
        self.assertEqual(self.find("[d]"), ["[d]/g.wav"])

    def test_folders_are_no_files(self):
        (self.folder / "g.wav").mkdir()
        self.assertEqual(self.find("*.wav"), ["b.wav"])

    @parameterized.parameters(
        ("", ["a.FLAC", "b.wav", "d/c.wav", "d/e/f.flac", "d/far/g.wav"]),
        ("**", ["a.FLAC", "b.wav", "d/c.wav", "d/e/f.flac", "d/far/g.wav"]),
        ("**/*.wav", ["b.wav", "d/c.wav", "d/far/g.wav"]),
        ("**/e/**/*.flac", ["d/e/f.flac"]),
        ("*/**/*.flac", ["d/e/f.flac"]),
        ("d/**/c.wav", ["d/c.wav"]),
    )
    def test_links(self, pattern, expected):
        """Loops end, no folder is searched twice, and links elsewhere are followed."""
        far = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (far / "g.wav").touch()
        (far / "back").symlink_to(self.folder)
        for name, target in (
            ("d/loop", "../d"),
            ("d/up", "../.."),
            ("d/e/again", "../../d/e"),
            ("d/a", "e"),
            ("d/far", far),
            ("d/far2", far),
            ("d/nowhere", "none"),
            ("d/e/self", "self"),
        ):
            (self.folder / name).symlink_to(target)
        self.assertEqual(self.find(pattern), expected)

    def test_relative_globs(self):
        self.enterContext(contextlib.chdir(self.folder))
        up = f"../{self.folder.name[:-1]}*"  # not all of the folder of temporary files
        for pattern in ("**/*.wav", "./**/*.wav", f"{up}/**/[bc].wav"):
            found = [os.path.normpath(name) for name in file_paths.find(pattern, SUFFIXES).files]
            base = "" if pattern[:2] != ".." else f"../{self.folder.name}/"
            self.assertEqual(found, [f"{base}b.wav", f"{base}d/c.wav"])
        self.assertEqual(file_paths.find("**/*.wav", SUFFIXES).files, ["b.wav", "d/c.wav"])

    def test_unreadable_folders_are_reported(self):
        closed, scandir = str(self.folder / "d" / "e"), os.scandir

        def refuse(path):
            if path == closed:
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return scandir(path)

        with mock.patch.object(os, "scandir", refuse):  # root may read every folder
            found = file_paths.find(self.folder / "d", SUFFIXES)
        self.assertEqual(found.files, [str(self.folder / "d" / "c.wav")])
        self.assertEqual(found.unreadable, [f"{closed}: Permission denied"])


class ShippedTest(parameterized.TestCase):
    def test_of_a_clone(self):
        self.assertFalse(file_paths.is_installed())
        self.assertEqual(file_paths.shipped("configs"), file_paths.ROOT / "configs")
        self.assertIn("encodec_tiny", file_paths.shipped_configs())
        self.assertNotIn("base", file_paths.shipped_configs())
        path = file_paths.shipped_checkpoints()["encodec_24khz_small"]
        self.assertEqual(path, file_paths.ROOT / "checkpoints" / "encodec_24khz_small.safetensors")

    def test_of_an_installed_package(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(mock.patch.object(file_paths, "PACKAGE", folder))
        for name in (
            *("configs/base.py", "configs/encodec_one.py", "checkpoints/two.safetensors"),
            "checkpoints/two_language.safetensors",
        ):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        self.assertTrue(file_paths.is_installed())
        path = folder / "configs" / "encodec_one.py"
        self.assertEqual(file_paths.shipped_configs(), {"encodec_one": path})
        path = folder / "checkpoints" / "two.safetensors"
        self.assertEqual(file_paths.shipped_checkpoints(), {"two": path})


if __name__ == "__main__":
    absltest.main()
