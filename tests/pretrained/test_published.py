"""Published checkpoints that are known by name."""

import pathlib

from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.pretrained import published
from tests import references

ROOT = pathlib.Path(__file__).parents[2]


class ManifestTest(absltest.TestCase):
    def test_entries(self):
        entries = published.manifest()
        self.assertNotEmpty(entries)
        for entry in entries:
            self.assertTrue((ROOT / "configs" / f"{entry.config}.py").is_file())
            self.assertTrue(entry.licence)

    def test_find(self):
        file = "encodec_24khz-d7cc33bc.th"
        for found in (
            published.find(file, file, "d7cc33bc" + 56 * "0"),
            published.find("renamed.th", "renamed.th", "d7cc33bc" + 56 * "0"),
            published.find("facebook/encodec_24khz", "model.safetensors", 64 * "0"),
        ):
            self.assertEqual(found.config, "encodec_24khz")
        self.assertIsNone(published.find("other/model", "model.safetensors", 64 * "0"))


class VariantTest(parameterized.TestCase):
    @parameterized.parameters("encodec_24khz", "encodec_48khz", "encodec_16khz", "encodec_tiny")
    def test_shipped_config(self, name):
        self.assertEqual(published.variant_of(references.model_config(name)), name)

    def test_folded_weight_norm(self):
        model = references.model_config("encodec_24khz")
        model.norm = "none"
        self.assertEqual(published.variant_of(model), "encodec_24khz")

    def test_none(self):
        model = references.model_config("encodec_24khz")
        model.pad_mode = "constant"
        self.assertIsNone(published.variant_of(model))


if __name__ == "__main__":
    absltest.main()
