"""`run.py export --format=web`."""

import io
import pathlib
import shutil
import tempfile
from contextlib import redirect_stdout

from absl.testing import absltest

import encodec_hk
from encodec_hk.commands import export
from encodec_hk.language import language_file
from encodec_hk.system import file_paths
from tests import web_cases
from tests.language import random_language


class ExportWebTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.package = web_cases.package(self.folder / "package")

    def export(self, **arguments):
        arguments = {"format": "web", "checkpoint": "encodec_tiny", **arguments}
        with redirect_stdout(io.StringIO()) as output:
            export.run(None, output=str(self.folder / "page"), **arguments)
        return output.getvalue()

    def test_writes_and_replaces(self):
        output = self.export(runtime=str(self.package))
        self.assertIn("index.html", output)
        self.assertEndsWith(output, f"wrote {self.folder / 'page'}\n")
        index = self.folder / "page" / "index.html"
        with self.assertRaisesRegex(ValueError, "exists already; --force replaces it"):
            self.export(runtime=str(self.package))
        index.write_text("old")
        with self.assertRaisesRegex(ValueError, "holds no npm package"):
            self.export(runtime=str(self.folder), force=True)
        self.assertEqual(index.read_text(), "old")
        self.export(runtime=str(self.package), force=True)
        self.assertNotEqual(index.read_text(), "old")

    def test_language_model_beside_the_checkpoint(self):
        checkpoint = self.folder / "mine.safetensors"
        shutil.copyfile(file_paths.shipped("checkpoints") / "encodec_tiny.safetensors", checkpoint)
        codec = encodec_hk.load("encodec_tiny").fingerprint
        language = self.folder / "mine_language.safetensors"
        language_file.save(language, random_language.model(codec=codec))
        output = self.export(checkpoint=str(checkpoint), runtime=str(self.package))
        self.assertIn("model/language.safetensors", output)
        language.write_bytes(b"damaged")
        with self.assertRaisesRegex(ValueError, "mine_language.safetensors: not a whole"):
            self.export(checkpoint=str(checkpoint), runtime=str(self.package), force=True)

    def test_runtime_of_another_format(self):
        with self.assertRaisesRegex(ValueError, "^--runtime: for --format=web alone, got"):
            self.export(format="stablehlo", runtime=str(self.package))
        self.assertFalse((self.folder / "page").exists())


if __name__ == "__main__":
    absltest.main()
