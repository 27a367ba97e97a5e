"""A user's config beside that of a source."""

from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.convert import conversion
from tests import references


class ReconcileTest(parameterized.TestCase):
    def reconcile(self, name, **change):
        found = references.model_config("encodec_24khz").to_dict() | change
        return conversion.reconcile(references.model_config(name), found)

    def test_agreement(self):
        model, lines = self.reconcile("encodec_24khz")
        self.assertEqual(model, references.model_config("encodec_24khz"))
        self.assertEmpty(lines)

    def test_the_source_decides_the_pad_mode(self):
        model, lines = self.reconcile("encodec_24khz", pad_mode="constant")
        self.assertEqual(model.pad_mode, "constant")
        self.assertEqual(lines, ["pad_mode: constant, as the source states (config: reflect)"])

    def test_lists_every_difference(self):
        with self.assertRaises(ValueError) as context:
            self.reconcile("encodec_24khz", num_filters=64, ratios=(4, 5, 8, 2))
        self.assertEqual(
            str(context.exception).split("\n")[1:],
            [
                "- num_filters 32",
                "+ num_filters 64",
                "- ratios (8, 5, 4, 2)",
                "+ ratios (4, 5, 8, 2)",
            ],
        )

    def test_weight_norm_is_no_difference(self):
        model = references.tiny("no_lstm")
        found = model.to_dict() | {"norm": "weight_norm"}
        self.assertEqual(conversion.reconcile(model, found)[0], model)


if __name__ == "__main__":
    absltest.main()
