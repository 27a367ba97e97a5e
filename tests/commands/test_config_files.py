"""--config: which file it names, and the errors of files and fields."""

import contextlib
import pathlib
import sys
import tempfile
from unittest import mock

from absl import flags
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.commands import command_line
from encodec_hk.commands import config_files
from encodec_hk.system import file_paths

OWN = """
from encodec_hk.configs import encodec_tiny


def get_config(name="own"):
    config = encodec_tiny.get_config()
    config.name = name
    return config
"""


class ConfigTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.enter_context(contextlib.chdir(self.folder))

    def parse(self, *arguments):
        """Return the config of a command line; exit with the message of its error."""
        argv = ["run.py", "describe", *arguments]
        values = command_line.define(flags.FlagValues(), argv)
        with (
            mock.patch.object(sys, "argv", argv),
            mock.patch.object(command_line.startup, "fail", side_effect=str),
        ):
            command_line.parse(argv, values)
        return values["config"].value

    def error(self, *arguments):
        with self.assertRaises(SystemExit) as caught:
            self.parse(*arguments)
        message = caught.exception.code
        self.assertNotIn("\n", message)
        return message

    @parameterized.parameters(
        "encodec_tiny", "encodec_tiny.py", "configs/encodec_tiny.py", "configs/encodec_tiny"
    )
    def test_a_shipped_config_from_any_folder(self, name):
        path = str(file_paths.shipped_configs()["encodec_tiny"])
        self.assertEqual(config_files.find(name), path)
        self.assertEqual(self.parse(f"--config={name}").name, "encodec_tiny")
        self.assertEqual(self.parse("--config", name).name, "encodec_tiny")

    def test_the_default(self):
        (self.folder / "encodec_24khz_small.py").write_text(OWN)
        self.assertEqual(self.parse().name, "encodec_24khz_small")
        argv = ["run.py", "infer", "--", "--config=nothing"]
        self.assertFalse(config_files.resolve(argv))

    @parameterized.parameters("encodec_tiny", "encodec_tiny.py", "configs/encodec_tiny.py")
    def test_a_file_of_the_current_folder_wins(self, name):
        path = pathlib.Path(name).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(OWN)
        self.assertEqual(self.parse(f"--config={name}").name, "own")

    def test_a_folder_of_the_name_of_a_config_is_no_config(self):
        (self.folder / "encodec_tiny").mkdir()
        self.assertEqual(self.parse("--config=encodec_tiny").name, "encodec_tiny")

    def test_a_file_of_ones_own_builds_on_a_shipped_one(self):
        (self.folder / "mine.py").write_text(OWN)
        variant = self.parse("--config=mine.py", "--config.model.num_filters=4")
        self.assertEqual((variant.name, variant.model.num_filters), ("own", 4))
        self.assertEqual(self.parse("--config=mine.py:other").name, "other")

    @parameterized.parameters(
        ("nothing", "; the shipped configs are encodec_16khz, .*, vocos_encodec_24khz$"),
        ("other/encodec_tiny.py", "the shipped configs are encodec_16khz, "),
        ("encodec_tny", "; nearest are encodec_tiny, "),
        ("", "the shipped configs are"),
    )
    def test_no_such_config(self, name, message):
        error = self.error(f"--config={name}")
        self.assertStartsWith(error, f"--config: No such file or directory: '{name}'; ")
        self.assertRegex(error, message)

    @parameterized.parameters(
        (
            "model.lstm=2",
            "model.lstm: config.model has no field lstm; nearest: config.model.num_lstm_layers",
        ),
        ("model.num_filter=2", "nearest: config.model.num_filters"),
        (
            "modle.num_filters=2",
            "modle.num_filters: config has no field modle; nearest: config.mod",
        ),
        ("num_codebooks=2", "config has no field num_codebooks; nearest: config.language.num_cod"),
        ("num_codebooks=2", ", config.model.num_codebooks"),
        ("training.losses.mell=1", "nearest: config.training.losses.mel"),
        ("model.zzz=1", "config.model has no field zzz, has bandwidths, causal, "),
        ("model.num_filters.x=1", "config.model.num_filters is a field, must be a section"),
        ("model.num_filters=x", "model.num_filters: got 'x', must be a whole number"),
        ("model.num_filters=1.5", "model.num_filters: got '1.5', must be a whole number"),
        ("model.causal=maybe", "model.causal: got 'maybe', must be True or False"),
        ("training.losses.mel=loud", "training.losses.mel: got 'loud', must be a number"),
        ("model=3", "model: got '3', must be a section; set its fields one by one"),
    )
    def test_wrong_overrides(self, override, message):
        error = self.error(f"--config.{override}")
        self.assertStartsWith(error, "--config.")
        self.assertIn(message, error)

    def test_wrong_override_of_a_config_of_ones_own(self):
        (self.folder / "mine.py").write_text(OWN)
        error = self.error("--config", "mine.py", "--config.model.channel=2")
        self.assertIn("has no field channel; nearest: config.model.channels", error)

    @parameterized.parameters(
        ("def get_config(:", "--config: SyntaxError: "),
        ("import nothing_at_all", "--config: ModuleNotFoundError: No module named 'nothing_at"),
        ("def get_config():\n    raise ValueError('of its own')", "--config: ValueError: of its"),
        ("def get_config():\n    raise KeyError('of its own')", "--config: KeyError: 'of its own'"),
    )
    def test_files_with_errors(self, text, message):
        (self.folder / "mine.py").write_text(text)
        self.assertStartsWith(self.error("--config=mine.py"), message)


if __name__ == "__main__":
    absltest.main()
