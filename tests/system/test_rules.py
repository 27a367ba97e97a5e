"""Names that someone may have meant."""

from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.system import rules

NAMES = ("num_lstm_layers", "num_filters", "num_codebooks", "norm", "normalize", "channels")


class NearestTest(parameterized.TestCase):
    @parameterized.parameters(
        ("channel", "; nearest is channels"),
        ("lstm", "; nearest is num_lstm_layers"),
        ("num_filter", "; nearest are num_filters, "),
        ("normalise", "; nearest are normalize, norm"),
        ("zzz", ""),
    )
    def test_hint(self, name, expected):
        self.assertStartsWith(rules.nearest_hint(name, NAMES), expected)
        if not expected:
            self.assertEmpty(rules.nearest(name, NAMES))

    def test_check_names_the_nearest(self):
        fields = dict.fromkeys(NAMES, rules.BOOL)
        section = dict.fromkeys(NAMES, True)
        section["chanels"] = section.pop("channels")
        with self.assertRaisesRegex(
            ValueError, "^part: missing channels; unknown chanels; nearest is channels; must have"
        ):
            rules.check("part", section, fields)


if __name__ == "__main__":
    absltest.main()
