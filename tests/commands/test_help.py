"""Help: the pages of the program and its commands, and the examples on them."""

import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
from unittest import mock

import numpy as np
import pytest
import soundfile
from absl import flags
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk import version
from encodec_hk.commands import command_line
from encodec_hk.commands import help_pages
from encodec_hk.commands import usage

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = tuple(
    (name, example) for name, entry in usage.COMMANDS.items() for example in entry.examples
)


def run(*arguments):
    return subprocess.run(
        [sys.executable, "run.py", *arguments], cwd=ROOT, capture_output=True, text=True
    )


class AskedTest(parameterized.TestCase):
    @parameterized.parameters(
        ([], True),
        (["--help"], True),
        (["-h"], True),
        (["help"], True),
        (["help", "infer"], True),
        (["--config", "encodec_tiny"], True),  # no command
        (["infer", "--help"], True),
        (["infer", "a.wav", "-h"], True),
        (["infer", "--helpfull"], True),
        (["--helpshort"], True),
        (["--version"], True),
        (["infer", "a.wav"], False),
        (["--config", "encodec_tiny", "infer", "help"], False),
        (["infer", "-", "-"], False),
        (["infer", "--", "--help"], False),
    )
    def test_is_asked(self, arguments, expected):
        self.assertEqual(help_pages.is_asked(["run.py", *arguments]), expected)


class PagesTest(parameterized.TestCase):
    @parameterized.parameters(*usage.COMMANDS)
    def test_page_of_a_command(self, name):
        text = help_pages.page(name)
        for argument, meaning in usage.COMMANDS[name].arguments:
            self.assertIn(f"\n  {argument.strip('[]')} ", text)
            self.assertIn(meaning.split(",")[0], " ".join(text.split()))
        for flag in usage.COMMANDS[name].flags:
            self.assertRegex(text, rf"(?m)^  --{flag.name}\b")
        self.assertIn("\n  --config=CONFIG ", text)
        shown = set(re.findall(r"(?m)^  --(\w+)", text)) - {"config", "version"}
        self.assertEqual(shown, {flag.name for flag in usage.COMMANDS[name].flags})
        self.assertLessEqual(max(map(len, text.splitlines())), 100)

    def test_overview_names_every_command(self):
        for name, entry in usage.COMMANDS.items():
            self.assertRegex(help_pages.overview(), rf"(?m)^  {name} +{entry.summary[:40]}")

    def test_every_flag_has_a_default_in_words(self):
        for name, entry in usage.COMMANDS.items():
            for flag in entry.flags:
                with self.subTest(f"{name} --{flag.name}"):
                    self.assertNotRegex(help_pages.page(name), r"default: (None|\[|\))")
                    self.assertEndsWith(flag.text, ".")

    def test_flags_of_one_name_are_of_one_kind(self):
        kinds = {}
        for entry in usage.COMMANDS.values():
            for flag in entry.flags:
                kind = ("names" if isinstance(flag.kind, tuple) else flag.kind, flag.default)
                self.assertEqual(kinds.setdefault(flag.name, kind), kind, flag.name)

    def test_every_command_has_examples(self):
        self.assertEqual({name for name, _ in EXAMPLES}, set(usage.COMMANDS))

    @parameterized.parameters(*EXAMPLES)
    def test_examples_are_command_lines(self, name, example):
        words = shlex.split(re.sub(r" [<>]\S+", "", example))
        self.assertEqual(words[0], name)
        argv = ["run.py", *words]
        values = command_line.define(flags.FlagValues(), argv)
        with mock.patch.object(sys, "argv", argv):
            arguments = command_line.parse(argv, values)[2:]
            command_line.settings(name, arguments, values)


@pytest.mark.slow
class ExamplesTest(absltest.TestCase):
    def test_examples_with_files(self):
        """Those of infer, info and describe, in a folder that has the files they name."""
        folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        audio = np.sin(np.arange(24000) / 10) / 2
        (folder / "music").mkdir()
        for name in ("speech.wav", "music/one.wav", "music/two.wav"):
            soundfile.write(folder / name, audio, 24000)
        (folder / "samples.raw").write_bytes((audio * 2**15).astype("<i2").tobytes())
        examples = [text for name, text in EXAMPLES if name in ("infer", "describe", "info")]
        for example in examples:
            command = f"{sys.executable} {ROOT / 'run.py'} {example}"
            result = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)
            self.assertEqual(result.returncode, 0, f"{example}: {result.stderr}")
        self.assertTrue((folder / "music_3kbps/two.flac").is_file())
        self.assertEqual((folder / "decoded.raw").stat().st_size, 2 * 24000)


class ProcessTest(parameterized.TestCase):
    @parameterized.parameters(
        (["--help"], help_pages.overview),
        (["--helpfull"], help_pages.overview),
        (["help", "bench"], lambda: help_pages.page("bench")),
        (["bench", "-h"], lambda: help_pages.page("bench")),
    )
    def test_shows_a_page(self, arguments, page):
        result = run(*arguments)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        with mock.patch.object(sys, "argv", ["run.py"]):
            self.assertEqual(result.stdout, f"{page()}\n")

    def test_no_command(self):
        result = run()
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertStartsWith(result.stderr, "usage: ")

    def test_help_about_an_unknown_command(self):
        result = run("trian", "--help")
        self.assertEqual(result.returncode, 2)
        self.assertRegex(result.stderr, "^run.py: command: got 'trian', .*; nearest is train\n$")

    def test_version(self):
        self.assertEqual(run("--version").stdout, f"encodec-hk {version.__version__}\n")

    def test_is_quick(self):
        code = (
            "import sys; sys.argv = ['run.py', '--help']; from encodec_hk import __main__\n"
            "try: __main__.main()\n"
            "except SystemExit: assert not {'jax', 'numpy', 'absl'} & set(sys.modules)\n"
        )
        result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
        self.assertEqual(result.returncode, 0, result.stderr)


if __name__ == "__main__":
    absltest.main()
