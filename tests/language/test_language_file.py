"""Language models as files: kept to the bit, and refused in one line where they are damaged."""

import json
import tempfile

import numpy as np
import safetensors.numpy
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.language import language_file
from tests.language import random_language


class LanguageFileTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = f"{folder.name}/a_language.safetensors"
        self.model = random_language.model()
        language_file.save(self.path, self.model)

    def rewritten(self, change):
        """Change the metadata and the tensors of the file."""
        with open(self.path, "rb") as file:
            data = file.read()
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size])["__metadata__"]
        tensors = safetensors.numpy.load(data)
        change(metadata, tensors)
        with open(self.path, "wb") as file:
            file.write(safetensors.numpy.save(tensors, metadata=metadata))

    def refused(self, message):
        with self.assertRaisesRegex(ValueError, message) as raised:
            language_file.load(self.path)
        self.assertNotIn("\n", str(raised.exception))
        self.assertIn(self.path, str(raised.exception))

    def test_round_trip(self):
        found = language_file.load(self.path)
        self.assertEqual(found.fingerprint, self.model.fingerprint)
        self.assertEqual((found.sizes, found.codec), (self.model.sizes, self.model.codec))
        for module, values in self.model.params.items():
            for name, value in values.items():
                np.testing.assert_array_equal(found.params[module][name], value)

    def test_fingerprint_depends_on_every_integer(self):
        def change(metadata, tensors):
            tensors["head_2_logits.b"] = tensors["head_2_logits.b"].copy()
            tensors["head_2_logits.b"][5] += 1

        self.rewritten(change)
        self.assertNotEqual(language_file.load(self.path).fingerprint, self.model.fingerprint)

    @parameterized.parameters(
        ("format", "encodec_hk", "not a language model"),
        ("format_version", "2", "format_version '2', this program reads 1"),
        ("codec", "00", "codec: got '00', must be 64 hexadecimal digits"),
        ("sizes", "{", "sizes: got '{', must be the sizes of a model"),
        ("sizes", "[" * 99999, "sizes: got .*, must be the sizes of a model"),
        ("sizes", None, "its metadata lacks sizes"),
    )
    def test_wrong_metadata(self, field, value, message):
        def change(metadata, tensors):
            metadata[field] = value
            if value is None:
                del metadata[field]

        self.rewritten(change)
        self.refused(message)

    @parameterized.parameters(
        ("width", 4096, "sizes.width: got 4096, must be at most 512"),
        ("head_width", True, "sizes.head_width: got True, must be a whole number"),
        ("dilations", [], "sizes.dilations"),
        ("dilations", [2**20], "sizes.dilations"),
        ("codebook_size", 48, "sizes.codebook_size: got 48, must be a power of two"),
        ("num_codebooks", 3, "head_3_hidden.b: got int32.*, must be none"),
    )
    def test_wrong_sizes(self, field, value, message):
        def change(metadata, tensors):
            metadata["sizes"] = json.dumps(json.loads(metadata["sizes"]) | {field: value})

        self.rewritten(change)
        self.refused(message)

    def test_inexact_products(self):
        def change(metadata, tensors):
            tensors["layer_0_first.b"] = tensors["layer_0_first.b"] + 2**24

        self.rewritten(change)
        self.refused("layer_0_first: got sums of .*, must be at most 2")

    def test_other_norm(self):
        def change(metadata, tensors):
            tensors["language.norm_factors"] = tensors["language.norm_factors"] + 2**20

        self.rewritten(change)
        self.refused("language.norm_factors: got .*, must be 0 to")

    def test_cut_off_and_missing(self):
        with open(self.path, "rb") as file:
            data = file.read()
        for size in (0, 5, 900, len(data) - 1):
            with open(self.path, "wb") as file:
                file.write(data[:size])
            self.refused("not a whole safetensors file")
        self.path += ".none"
        self.refused("no such file")


if __name__ == "__main__":
    absltest.main()
