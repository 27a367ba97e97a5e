"""The data set of Debian packages, made from a package that the test builds."""

import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest
import zipfile
from unittest import mock

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.datasets import deb_archive
from encodec_hk.datasets import debian
from encodec_hk.datasets import debian_packages
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files

needs_dpkg = unittest.skipUnless(shutil.which("dpkg-deb"), "dpkg-deb is not installed")

TOYS = debian_packages.Package(
    "toys",
    "toys",
    "voices and tunes",
    "GPL-9",
    (
        debian_packages.Rule(r"/secret", None),
        debian_packages.Rule(r"_desc_(el|es)\.", r"speech_\1", "heldout", minutes=0.05),
        debian_packages.Rule(r"_desc_(\w+)\.", r"speech_\1"),
        debian_packages.Rule(r"/music/", "music_toys"),
    ),
    archives=".pk3",
)


def tone(seconds: float, value: float = 0.5, sample_rate: int = 48000) -> np.ndarray:
    """Return stereo: a sine on the left, silence on the right."""
    times = np.arange(int(seconds * sample_rate)) / sample_rate
    left = value * np.sin(2 * np.pi * 440 * times)
    return np.stack([left, 0 * left], axis=1).astype(np.float32)


class BuildTest(absltest.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.out = self.folder / "out"
        self.tree = self.folder / "tree"
        self.enter_context(contextlib.redirect_stdout(io.StringIO()))
        self.errors = self.enter_context(contextlib.redirect_stderr(io.StringIO()))

    def add(self, name: str, samples: np.ndarray) -> None:
        path = self.tree / "usr/share/toys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sound_files.write(path, samples, 48000)

    def package(self) -> None:
        """Build toys_1.2-3_all.deb from the tree."""
        for name, text in (
            ("usr/share/doc/toys/copyright", "all is free"),
            (
                "DEBIAN/control",
                "Package: toys\nVersion: 1:1.2-3\nArchitecture: all\n"
                "Maintainer: N <n@example.org>\nDescription: sounds\n",
            ),
        ):
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for path in self.tree.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        deb = self.folder / "toys_1%3a1.2-3_all.deb"
        subprocess.run(["dpkg-deb", "--build", self.tree, deb], check=True, capture_output=True)

    def build(self, **changes: int) -> None:
        debian.build(self.out, [TOYS], deb_dir=self.folder, **changes)

    def written(self) -> list[str]:
        return sorted(str(p.relative_to(self.out)) for p in self.out.rglob("*") if p.is_file())

    @needs_dpkg
    def test_the_files_of_a_package(self) -> None:
        self.add("a/dog_desc_fr.ogg", tone(1.0))
        self.add("b/dog_desc_fr.ogg", tone(1.0))
        self.add("a/dog.desc.fr/x.wav", tone(1.0))  # no rule
        self.add("music/tune one.flac", tone(0.5))
        self.add("music/tune_one.flac", tone(0.5))  # gets the same name
        self.add("music/secret.flac", tone(0.5))
        self.add("music/short.wav", tone(0.29))
        self.add("music/quiet.wav", tone(0.5, 0.019))  # 0.0095 when mixed
        for number in range(5):
            self.add(f"{number}_desc_el.wav", tone(1.0))
        broken = self.tree / "usr/share/toys/music/broken.ogg"
        broken.write_bytes(b"OggS and no more")
        with zipfile.ZipFile(self.tree / "usr/share/toys/more.pk3", "w") as archive:
            archive.write(self.tree / "usr/share/toys/music/tune one.flac", "music/zipped.flac")
        self.package()
        self.build()
        files = self.written()
        # The rule asks for three seconds: three of the five files.
        held_out = [name for name in files if name.startswith("heldout")]
        self.assertLen(held_out, 3)
        for name in held_out:
            self.assertRegex(name, r"^heldout/speech_el/toys-\d_desc_el.flac$")
        self.assertEqual(
            [name for name in files if name not in held_out],
            [
                "SOURCES.md",
                "licences/toys.txt",
                "sources.json",
                "train/music_toys/toys-more-music-zipped.flac",
                "train/music_toys/toys-music-tune_one.flac",
                "train/music_toys/toys-music-tune_one_2.flac",
                "train/speech_fr/toys-a-dog_desc_fr.flac",
                "train/speech_fr/toys-b-dog_desc_fr.flac",
            ],
        )
        found = sound_files.read(self.out / "train/music_toys/toys-music-tune_one.flac")
        self.assertEqual((found.sample_rate, found.subtype), (24000, "PCM_16"))
        expected = resampling.resample(resampling.mix(tone(0.5), 1), 48000, 24000)
        np.testing.assert_allclose(found.samples, expected, rtol=0, atol=1e-4)
        sources = (self.out / "SOURCES.md").read_text()
        rest = r"voices and tunes \| toys 1:1\.2-3 \| GPL-9 \|\n"
        for row in (r"heldout/speech_el \| 3 \| 0\.1", r"train/speech_fr \| 2 \| 0\.0"):
            self.assertRegex(sources, rf"\| {row} \| {rest}")
        self.assertEqual((self.out / "licences/toys.txt").read_text(), "all is free")
        self.assertRegex(self.errors.getvalue(), r"broken\.ogg: .*; left out\n$")

    @needs_dpkg
    def test_resumes(self) -> None:
        for name in ("x_desc_fr.wav", "y_desc_ru.wav", "z_desc_ru.wav"):
            self.add(name, tone(0.5))
        self.package()
        write = sound_files.write
        stopped = mock.Mock(side_effect=[write, write, KeyboardInterrupt])

        def interrupted(path: pathlib.Path, *rest: object) -> None:
            action = stopped()
            if isinstance(action, type):
                raise action
            action(path, *rest)

        with (
            mock.patch.object(sound_files, "write", interrupted),
            self.assertRaises(KeyboardInterrupt),
        ):
            self.build()
        # The first source is complete, and nothing of the second is there.
        self.assertEqual(self.written(), ["train/speech_fr/toys-x_desc_fr.flac"])
        self.assertEqual([p.name for p in self.out.iterdir()], ["train"])
        with mock.patch.object(sound_files, "write", side_effect=write) as again:
            self.build()
        self.assertEqual(again.call_count, 2)
        self.assertLen([name for name in self.written() if name.endswith(".flac")], 3)
        with mock.patch.object(deb_archive, "_command", side_effect=AssertionError):
            self.build()  # nothing is missing
        record = json.loads((self.out / "sources.json").read_text())["toys"]
        self.assertEqual(record["sources"]["train/speech_ru"], [2, 1 / 60])
        with self.assertRaisesRegex(ValueError, "made with 24000 Hz and 1 channels, asked for 480"):
            self.build(sample_rate=48000)

    @needs_dpkg
    def test_broken_packages(self) -> None:
        deb = self.folder / "toys_1_all.deb"
        deb.write_bytes(b"no package")
        with self.assertRaisesRegex(ValueError, r"^dpkg-deb --show toys_1_all\.deb: [^\n]+$"):
            self.build()
        self.add("x_desc_fr.wav", tone(0.5))
        self.package()
        deb.unlink()
        (made,) = self.folder.glob("toys*.deb")
        made.rename(self.folder / "other_1_all.deb")
        other = debian_packages.Package("other", "other", "", "", ())
        with self.assertRaisesRegex(ValueError, "other_1_all.deb: is package toys, must be other$"):
            debian.build(self.out, [other], deb_dir=self.folder)
        self.assertEqual(self.written(), [])

    def test_no_deb_in_the_folder(self) -> None:
        with self.assertRaisesRegex(ValueError, r"has 0 files toys_\*\.deb, must have one"):
            self.build()


class CommandTest(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = self.enter_context(tempfile.TemporaryDirectory())

    def run_main(self, *arguments: str) -> tuple[int, str]:
        error = io.StringIO()
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
            status = debian.main([self.folder, *arguments])
        return status, error.getvalue()

    def test_unknown_package_of_the_list(self) -> None:
        status, error = self.run_main("--packages=klettres-data,toys")
        self.assertEqual(status, 2)
        self.assertRegex(
            error, r"^debian: --packages: got 'toys', must be one of tuxpaint-[^\n]+\n$"
        )

    def test_no_apt_get(self) -> None:
        with mock.patch.dict(os.environ, {"PATH": self.folder}):
            status, error = self.run_main("--packages=klettres-data")
        self.assertEqual(status, 2)
        self.assertEqual(error, "debian: apt-get: not found; this needs Debian or a derivative\n")

    @parameterized.parameters(
        ("echo 'E: Unable to locate package klettres-data' >&2; exit 100", "E: Unable to locate"),
        ("exit 3", "exit status 3"),
    )
    def test_apt_get_fails(self, script: str, reason: str) -> None:
        fake = pathlib.Path(self.folder, "apt-get")
        fake.write_text(f"#!/bin/sh\n{script}\n")
        fake.chmod(0o755)
        with mock.patch.dict(os.environ, {"PATH": f"{self.folder}:{os.environ['PATH']}"}):
            status, error = self.run_main("--packages=klettres-data")
        self.assertEqual(status, 2)
        self.assertStartsWith(error, f"debian: apt-get download klettres-data: {reason}")
        self.assertLen(error.splitlines(), 1)

    def test_bad_rate(self) -> None:
        status, error = self.run_main("--sample_rate=0")
        self.assertEqual((status, len(error.splitlines())), (2, 1))


class TableTest(parameterized.TestCase):
    @parameterized.parameters(
        ("tuxpaint-stamps-default", "/stamps/a/duck_desc_el.ogg", "heldout/speech_el"),
        ("tuxpaint-stamps-default", "/stamps/a/duck_desc_da.ogg.ogg", "heldout/speech_da"),
        ("tuxpaint-stamps-default", "/stamps/a/duck_desc_pt_BR.wav", "train/speech_pt_BR"),
        ("tuxpaint-stamps-default", "/stamps/a/duck_desc.ogg", "train/speech_en"),
        ("tuxpaint-stamps-default", "/stamps/a/7_es.ogg", "heldout/speech_es"),
        ("tuxpaint-stamps-default", "/stamps/a/7_zh_tw.ogg", "train/speech_zh_tw"),
        ("tuxpaint-stamps-default", "/stamps/a/7.ogg", "train/speech_en"),
        ("tuxpaint-stamps-default", "/stamps/a/A_filled_en_GB.ogg", "train/speech_en_GB"),
        ("tuxpaint-stamps-default", "/stamps/a/duck.ogg", "train/effects_tuxpaint"),
        ("hedgewars-data", "/Data/Music/x.ogg", "heldout/music_hedgewars"),
        ("hedgewars-data", "/Data/Sounds/voices/Pirate/x.ogg", "train/speech_hedgewars"),
        ("hedgewars-data", "/Data/Sounds/x.ogg", "train/effects_hedgewars"),
        ("sonic-pi-samples", "/sonic-pi/samples/bd_ada.flac", "heldout/music_sonic-pi"),
        ("sonic-pi-samples", "/sonic-pi/samples/loop_garzul.flac", None),
        ("sonic-pi-samples", "/sonic-pi/buffers/rand-stream.wav", None),
    )
    def test_folders_of_files(self, name: str, path: str, expected: str | None) -> None:
        (package,) = (package for package in debian_packages.PACKAGES if package.name == name)
        root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        file = root / path[1:]
        file.parent.mkdir(parents=True)
        file.touch()
        groups = debian._group(package, root)
        self.assertEqual([f"{g.split}/{g.source}" for g in groups], [expected] if expected else [])

    def test_shipped_clips_are_excluded(self) -> None:
        licences = pathlib.Path(__file__).parents[2] / "assets/clips/LICENSES.md"
        clips = re.findall(r"sonic-pi \S+ `etc/samples/(\S+)`", licences.read_text())
        self.assertLen(clips, 3)
        rules = next(p.rules for p in debian_packages.PACKAGES if p.name == "sonic-pi-samples")
        for clip in clips:
            first = next(r for r in rules if re.search(r.pattern, f"/samples/{clip}"))
            self.assertIsNone(first.source)


if __name__ == "__main__":
    absltest.main()
