"""`run.py export`: the folder, what it replaces, and wrong arguments."""

import contextlib
import io
import json
import os
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.commands import export
from encodec_hk.commands import usage_for_models
from encodec_hk.export import export_formats
from encodec_hk.pretrained import published


def write(codec, folder, facts, num_codebooks):
    """Stands for a format: writes the facts alone, in no time."""
    (folder / "export.json").write_text(json.dumps({**facts, "count": num_codebooks}))


class ExportTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.output = self.folder / "deep" / "exported"
        entry = export_formats.ExportFormat(write, "export.json")
        self.enter_context(mock.patch.dict(export_formats.FORMATS, {"stablehlo": entry}))

    def export(self, output=None, **settings):
        """Run the command; return the facts that it wrote."""
        arguments = {"format": "stablehlo", "checkpoint": "encodec_tiny", **settings}
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            status = export.run(None, output=str(output or self.output), **arguments)
        self.assertEqual(status, 0)
        self.assertIn("MB  export.json\nwrote ", printed.getvalue())
        return json.loads((output or self.output).joinpath("export.json").read_text())

    def assert_error(self, message, **settings):
        with self.assertRaises(ValueError) as context:
            self.export(**settings)
        self.assertIn(message, str(context.exception))
        self.assertLen(str(context.exception).splitlines(), 1)

    def test_facts(self):
        facts = self.export(bandwidth=3.0)
        self.assertEqual((facts["name"], facts["licence"]), ("encodec_tiny", "MIT"))
        self.assertEqual((facts["count"], facts["bandwidths"]), (4, {"1.5": 2, "3": 4, "6": 8}))
        self.assertEqual(facts["codes_of"]["fingerprint"], facts["fingerprint"])
        self.assertEqual(os.listdir(self.output.parent), ["exported"])  # nothing is left beside it

    def test_licence_of_the_user(self):
        self.assertEqual(self.export(licence="CC0-1.0")["licence"], "CC0-1.0")

    def test_an_empty_folder_is_filled(self):
        self.output.mkdir(parents=True)
        self.assertIsNone(self.export()["count"])

    def test_an_export_is_replaced_by_force_alone(self):
        self.export()
        (self.output / "old").touch()
        self.assert_error("exported exists already; --force replaces it")
        self.export(force=True)
        self.assertEqual(os.listdir(self.output), ["export.json"])

    def test_what_no_export_wrote_is_never_replaced(self):
        self.output.mkdir(parents=True)
        (self.output / "mine").touch()
        for force in (False, True):
            self.assert_error("already exists, must be a new or an empty folder", force=force)
        self.assert_error("already exists", output=self.output / "mine", force=True)
        self.assertEqual(os.listdir(self.output), ["mine"])

    def test_a_failure_leaves_the_earlier_export(self):
        self.export()
        entry = export_formats.ExportFormat(mock.Mock(side_effect=ValueError("no")), "export.json")
        with mock.patch.dict(export_formats.FORMATS, {"stablehlo": entry}):
            self.assert_error("no", force=True)
        replace, calls = os.replace, []

        def fail_once(source, target):
            calls.append(target)
            if len(calls) == 2:  # the new folder, after the old one was moved away
                raise OSError("disk")
            replace(source, target)

        with mock.patch.object(os, "replace", fail_once):
            self.assert_error("exported cannot be written (disk)", force=True)
        self.assertEqual(os.listdir(self.output), ["export.json"])
        self.assertEqual(os.listdir(self.output.parent), ["exported"])

    @parameterized.parameters(
        ({"format": None}, "export: needs --format and --output"),
        ({"format": "v1"}, "format: got 'v1', must be one of "),
        ({"bandwidth": 5.0}, "--bandwidth: got 5.0, must be a whole number of codebooks of 0.75"),
        ({"checkpoint": "nothing"}, "checkpoint: got 'nothing', must be a .safetensors file"),
        ({"output": pathlib.Path("/dev/null/x")}, "/dev/null/x cannot be written"),
    )
    def test_bad_calls(self, settings, message):
        self.assert_error(message, **settings)

    def test_flag_offers_the_formats(self):
        self.assertCountEqual(usage_for_models.EXPORT_FORMATS, export_formats.FORMATS)


class LicenceTest(absltest.TestCase):
    def test_of_a_published_model(self):
        codec = mock.Mock(source="facebook/encodec_24khz")
        expected = published.find("facebook/encodec_24khz", "", "").licence
        self.assertEqual(export.checkpoints.licence(None, "a_folder", codec), expected)
        codec.source = "transformers: mine"
        self.assertEqual(
            export.checkpoints.licence(None, "a_folder", codec), "unknown, see the source"
        )


if __name__ == "__main__":
    absltest.main()
