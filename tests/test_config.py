"""Configurations: variants, overrides by flag, validation, comparison and derived values."""

import importlib
import json
import pathlib

import ml_collections
from absl import flags
from absl.testing import absltest
from absl.testing import parameterized
from ml_collections import config_flags

from configs import base
from configs import encodec_24khz
from encodec_hk import config

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
VARIANTS = tuple(sorted(path.stem for path in CONFIGS.glob("*encodec_*.py")))


def get_config(name: str) -> ml_collections.ConfigDict:
    return importlib.import_module(f"configs.{name}").get_config()


def parse(name: str, *overrides: str) -> ml_collections.ConfigDict:
    """Return the configuration that run.py gets from its command line."""
    values = flags.FlagValues()
    argv = ["run.py", f"--config={CONFIGS / name}.py", *overrides]
    holder = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    values(argv)
    return holder.value


def flat(variant: ml_collections.ConfigDict) -> dict[str, object]:
    sections = {key: value for key, value in variant.to_dict().items() if isinstance(value, dict)}
    values = {key: value for key, value in variant.to_dict().items() if key not in sections}
    for section, fields in sections.items():
        values |= {f"{section}.{key}": value for key, value in fields.items()}
    return values


class VariantsTest(parameterized.TestCase):
    def test_all_variants(self):
        names = ("16khz", "24khz", "24khz_small", "32khz", "48khz", "tiny")
        expected = *(f"encodec_{name}" for name in names), "vocos_encodec_24khz"
        self.assertEqual(VARIANTS, expected)

    @parameterized.parameters(*VARIANTS)
    def test_is_valid_and_locked(self, name):
        variant = get_config(name)
        config.validate(variant)
        self.assertEqual(variant.name, name)
        self.assertEqual(variant.checkpoint, f"checkpoints/{name}.safetensors")
        for section in (variant, variant.model, variant.inference):
            self.assertTrue(section.is_locked)
        with self.assertRaises(AttributeError):
            variant.model.num_filter = 3

    @parameterized.parameters(
        ("encodec_24khz", {"bench.min_ratios": encodec_24khz.get_config().bench.min_ratios}),
        (
            "encodec_48khz",
            {
                "model.sample_rate": 48000,
                "model.channels": 2,
                "model.causal": False,
                "model.norm": "time_group_norm",
                "model.num_codebooks": 16,
                "model.bandwidths": (3.0, 6.0, 12.0, 24.0),
                "model.normalize": True,
                "model.segment_seconds": 1.0,
            },
        ),
        (
            "encodec_32khz",
            {
                "model.sample_rate": 32000,
                "model.causal": False,
                "model.ratios": (8, 5, 4, 4),
                "model.num_filters": 64,
                "model.shortcut": "identity",
                "model.num_codebooks": 4,
                "model.codebook_size": 2048,
                "model.bandwidths": (2.2,),
                "inference.bandwidth": 2.2,
                "language.num_codebooks": 4,
            },
        ),
        (
            "encodec_16khz",
            {
                "model.sample_rate": 16000,
                "model.causal": False,
                "model.num_filters": 64,
                "model.shortcut": "identity",
                "model.pad_mode": "constant",
                "model.num_codebooks": 4,
                "model.codebook_size": 2048,
                "model.bandwidths": (2.2,),
                "inference.bandwidth": 2.2,
                "language.num_codebooks": 4,
            },
        ),
        (
            "encodec_24khz_small",
            {
                "model.num_filters": 16,
                "model.num_codebooks": 16,
                "model.bandwidths": (1.5, 3.0, 6.0, 12.0),
                "language.num_codebooks": 16,
            },
        ),
        (
            "encodec_tiny",
            {
                "model.num_filters": 8,
                "model.latent_dim": 32,
                "model.num_codebooks": 8,
                "model.bandwidths": (1.5, 3.0, 6.0),
                "language.width": 32,
                "language.head_width": 16,
                "language.dilations": (1, 2, 4),
            },
        ),
        (
            "vocos_encodec_24khz",
            {
                "model.decoder": "vocos",
                "model.num_codebooks": 16,
                "model.bandwidths": (1.5, 3.0, 6.0, 12.0),
            },
        ),
    )
    def test_differs_from_base_in(self, name, expected):
        default, ours = flat(base.get_config()), flat(get_config(name))
        # tests/training/test_training_config.py checks the section `training`.
        ignored = ("name", "checkpoint", "training")
        differing = {
            key: value
            for key, value in ours.items()
            if value != default.get(key) and key.split(".")[0] not in ignored
        }
        self.assertEqual(differing, expected)

    @parameterized.parameters(
        # Hop, frame rate, bits of a code, {kbps: codebooks}; from the papers' tables.
        ("encodec_24khz", 320, 75, 10, {1.5: 2, 3.0: 4, 6.0: 8, 12.0: 16, 24.0: 32}),
        ("encodec_48khz", 320, 150, 10, {3.0: 2, 6.0: 4, 12.0: 8, 24.0: 16}),
        ("encodec_32khz", 640, 50, 11, {2.2: 4}),
        ("encodec_16khz", 320, 50, 11, {2.2: 4}),
        ("encodec_24khz_small", 320, 75, 10, {1.5: 2, 3.0: 4, 6.0: 8, 12.0: 16}),
        ("encodec_tiny", 320, 75, 10, {1.5: 2, 3.0: 4, 6.0: 8}),
    )
    def test_derived_values(self, name, hop, rate, bits, codebooks):
        model_config = get_config(name).model
        self.assertEqual(config.hop_length(model_config), hop)
        self.assertEqual(config.frame_rate(model_config), rate)
        self.assertEqual(config.bits_per_codebook(model_config), bits)
        self.assertEqual(model_config.bandwidths, tuple(codebooks))
        for bandwidth, count in codebooks.items():
            self.assertEqual(config.num_codebooks_for(model_config, bandwidth), count)
            self.assertAlmostEqual(config.bandwidth_for(model_config, count), bandwidth)

    def test_segments(self):
        model_config = get_config("encodec_48khz").model
        self.assertEqual(config.segment_length(model_config), 48000)
        self.assertEqual(config.segment_stride(model_config), 47520)
        model_config = get_config("encodec_24khz").model
        self.assertIsNone(config.segment_length(model_config))
        self.assertIsNone(config.segment_stride(model_config))

    def test_frame_rate_is_rounded_up(self):
        model_config = get_config("encodec_24khz").model
        model_config.sample_rate = 24001
        self.assertEqual(config.frame_rate(model_config), 76)


class FlagsTest(parameterized.TestCase):
    @parameterized.parameters(
        ("encodec_24khz", "model.num_filters=16", 16),
        ("encodec_24khz", "model.ratios=(8,8,5)", (8, 8, 5)),
        ("encodec_32khz", "model.ratios=(8,5,4,2)", (8, 5, 4, 2)),
        ("encodec_24khz", "model.bandwidths=(3,6.0)", (3, 6.0)),
        ("encodec_24khz", "model.norm=none", "none"),
        ("encodec_48khz", "model.segment_seconds=None", None),
        ("encodec_48khz", "model.segment_seconds=2", 2),
        ("encodec_32khz", "model.segment_seconds=0.5", 0.5),
        ("encodec_48khz", "model.normalize=False", False),
        ("encodec_24khz", "inference.bandwidth=3", 3.0),
        ("encodec_24khz", "checkpoint=other.safetensors", "other.safetensors"),
    )
    def test_override(self, name, assignment, expected):
        variant = parse(name, f"--config.{assignment}")
        config.validate(variant)
        field = assignment.partition("=")[0]
        self.assertEqual(flat(variant)[field], expected)

    def test_another_frame_rate(self):
        overrides = ("model.ratios=(4,4,2)", "model.bandwidths=(7.5,15)", "inference.bandwidth=15")
        variant = parse("encodec_24khz", *(f"--config.{override}" for override in overrides))
        config.validate(variant)
        self.assertEqual(config.num_codebooks_for(variant.model, 15), 2)
        with self.assertRaisesRegex(ValueError, r"bandwidths: got 1\.5, .* nearest is 7\.5"):
            config.validate(parse("encodec_24khz", f"--config.{overrides[0]}"))

    @parameterized.parameters(
        ("model.num_filters=1.5", flags.IllegalFlagValueError),
        ("model.causal=3", flags.IllegalFlagValueError),
        ("model.depth=3", AttributeError),
    )
    def test_refused_override(self, assignment, error):
        with self.assertRaises(error):
            parse("encodec_24khz", f"--config.{assignment}")


class ValidateTest(parameterized.TestCase):
    @parameterized.parameters(
        ("model.sample_rate", 0, "got 0, must be a whole number of at least 1"),
        ("model.channels", 0, "got 0, must be a whole number of at least 1"),
        ("model.causal", 1, "got 1, must be True or False"),
        ("model.ratios", (8, 0), r"got \(8, 0\), must be a tuple of one or more whole numbers"),
        ("model.ratios", (8, -5), "above 0"),
        ("model.ratios", (), r"got \(\), must be a tuple of one or more"),
        ("model.ratios", (8, 2.0), r"got \(8, 2\.0\)"),
        ("model.ratios", (8, True), r"got \(8, True\)"),
        ("model.num_filters", 33, r"got 33, must be a multiple of compress \(2\)"),
        ("model.num_filters", True, "got True, must be a whole number of at least 1"),
        ("model.latent_dim", 0, "at least 1"),
        ("model.num_residual_layers", -1, "at least 0"),
        ("model.kernel_size", 6, "got 6, must be an odd whole number above 0"),
        ("model.kernel_size", -1, "odd"),
        ("model.last_kernel_size", 0, "odd"),
        ("model.residual_kernel_size", 4, "odd"),
        ("model.dilation_base", 0, "at least 1"),
        ("model.compress", 0, "at least 1"),
        ("model.num_lstm_layers", -1, "got -1, must be a whole number of at least 0"),
        (
            "model.norm",
            "layer_norm",
            "got 'layer_norm', must be one of weight_norm, time_group_norm, none",
        ),
        ("model.norm", "time_group_norm", "weight_norm or none where causal is True"),
        ("model.shortcut", "true_skip", "one of conv, identity"),
        ("model.shortcut", ["conv"], "one of conv, identity"),
        ("model.pad_mode", "replicate", "one of reflect, constant"),
        ("model.num_codebooks", 0, "at least 1"),
        ("model.codebook_size", 1000, "got 1000, must be a power of two of at least 2"),
        ("model.codebook_size", 1, "power of two"),
        ("model.codebook_size", 1024.0, "power of two"),
        ("model.bandwidths", (), "tuple of one or more numbers above 0"),
        ("model.bandwidths", (1.5, 0.0), "above 0"),
        ("model.bandwidths", ("6",), "numbers above 0"),
        (
            "model.bandwidths",
            (1.5, 5.0),
            r"must be a whole number of codebooks of 0\.75 kbps, 1 to 32; nearest is 5\.25$",
        ),
        ("model.bandwidths", (48.0,), "got 48.0, must be .*; nearest is 24$"),
        ("model.bandwidths", (0.1,), "nearest is 0.75$"),
        (
            "model.num_codebooks",
            8,
            r"^config\.model\.bandwidths: got 12\.0, .* 1 to 8; nearest is 6",
        ),
        ("model.normalize", True, "must be False where causal is True"),
        ("model.segment_seconds", 1.0, "must be None where causal is True"),
        ("model.segment_seconds", "abc", r"None or a number above 0 \(seconds\)"),
        ("model.segment_seconds", 0, "None or a number above 0"),
        ("model.overlap", 1.0, r"got 1\.0, must be a number in \[0, 1\)"),
        ("model.overlap", -0.1, r"number in \[0, 1\)"),
        ("model.overlap", float("nan"), r"number in \[0, 1\)"),
        ("inference.bandwidth", 5.0, "nearest is 5.25"),
        ("inference.bandwidth", float("inf"), "number above 0"),
        ("inference.batch_size", 0, "at least 1"),
        ("inference.block_seconds", 0.0, "number above 0"),
        ("inference.decode_precision", "float16", "one of float32, tensorfloat32, bfloat16"),
        ("name", "", "a string that is not empty"),
        ("checkpoint", None, "a string that is not empty"),
    )
    def test_refuses(self, field, value, message):
        variant = get_config("encodec_24khz")
        _assign(variant, field, value)
        with self.assertRaisesRegex(ValueError, message) as caught:
            config.validate(variant)
        self.assertNotIn("\n", str(caught.exception))
        if not message.startswith("^"):
            self.assertStartsWith(str(caught.exception), f"config.{field}: got ")

    def test_segment_is_at_least_a_hop(self):
        variant = get_config("encodec_48khz")
        variant.model.segment_seconds = 0.0066
        with self.assertRaisesRegex(
            ValueError, r"segment_seconds: got 0\.0066, .* \(0\.00666667 s\)"
        ):
            config.validate(variant)

    @parameterized.parameters(
        ({"model.num_lstm_layers": 0},),
        ({"model.ratios": (1,)},),
        ({"model.num_residual_layers": 0},),
        ({"model.bandwidths": (3, 6)},),
        ({"model.num_filters": 9, "model.compress": 3},),
        ({"model.overlap": 0},),
    )
    def test_accepts(self, assignments):
        variant = get_config("encodec_24khz")
        for field, value in assignments.items():
            _assign(variant, field, value)
        if "model.ratios" in assignments:
            variant.model.bandwidths = (240.0,)  # 24000 frames per second
            variant.inference.bandwidth = 240.0
        config.validate(variant)

    def test_names_missing_and_unknown_fields(self):
        variant = get_config("encodec_24khz").copy_and_resolve_references().unlock()
        del variant.model.ratios
        variant.model.depth = 3
        with self.assertRaisesRegex(ValueError, "config.model: missing ratios; unknown depth"):
            config.validate(variant)

    def test_other_sections_are_not_checked(self):
        variant = get_config("encodec_24khz").unlock()
        variant.train = ml_collections.ConfigDict({"steps": 1})
        config.validate(variant)

    @parameterized.parameters((0,), (33,), (True,), (2.0,))
    def test_bandwidth_for_refuses(self, count):
        with self.assertRaisesRegex(ValueError, "num_codebooks: got .*, 1 to 32"):
            config.bandwidth_for(get_config("encodec_24khz").model, count)

    @parameterized.parameters((5.0,), (0.0,), (-6.0,), (24.75,), (float("nan"),), ("6",))
    def test_num_codebooks_for_refuses(self, bandwidth):
        with self.assertRaisesRegex(ValueError, "^bandwidth: got"):
            config.num_codebooks_for(get_config("encodec_24khz").model, bandwidth)


class JsonTest(parameterized.TestCase):
    @parameterized.parameters(*VARIANTS)
    def test_round_trip(self, name):
        model_config = get_config(name).model
        back = config.from_json(config.to_json(model_config))
        self.assertEqual(back.to_dict(), model_config.to_dict())
        self.assertIsInstance(back.ratios, tuple)
        self.assertTrue(back.is_locked)
        self.assertEqual(config.to_json(back), config.to_json(model_config))

    def test_segments_can_be_switched_off_after_a_round_trip(self):
        back = config.from_json(config.to_json(get_config("encodec_48khz").model))
        back.segment_seconds = None
        self.assertIsNone(back.segment_seconds)

    @parameterized.parameters(
        ("{", "config.model: not JSON"),
        ("[]", r"config.model: got \[\], must be a JSON object"),
        ("{}", "config.model: missing .*ratios"),
    )
    def test_refuses_text(self, text, message):
        with self.assertRaisesRegex(ValueError, message):
            config.from_json(text)

    @parameterized.parameters(
        ('"channels": 1', '"channels": 0', "config.model.channels: got 0"),
        ('"channels": 1', '"channel": 1', "missing channels; unknown channel"),
        ('"overlap": 0.01', '"overlap": NaN', "config.model.overlap: got nan"),
        ('"ratios": [8, 5, 4, 2]', '"ratios": {"a": 1}', "config.model.ratios"),
    )
    def test_refuses_fields(self, old, new, message):
        text = config.to_json(get_config("encodec_24khz").model)
        self.assertIn(old, text)
        with self.assertRaisesRegex(ValueError, message):
            config.from_json(text.replace(old, new))


class DifferencesTest(absltest.TestCase):
    def test_names_fields_and_both_values(self):
        model_config = get_config("encodec_tiny").model
        expected = model_config.copy_and_resolve_references()
        with expected.unlocked():
            expected.update({"num_filters": 99, "ratios": (2, 3)})
        found = config.differences(model_config, expected)
        self.assertEqual([each.field for each in found], ["num_filters", "ratios"])
        filters = model_config.num_filters
        self.assertEqual(found[0], ("num_filters", filters, 99))
        self.assertEqual(
            found[0].line("the checkpoint"),
            f"config.model.num_filters: got {filters}, the checkpoint has 99",
        )

    def test_fields_from_json_are_equal(self):
        model_config = get_config("encodec_48khz").model
        kept = json.loads(config.to_json(model_config))
        self.assertEqual(config.differences(model_config, kept), [])
        del kept["overlap"]
        self.assertEqual(
            config.differences(model_config, kept), [("overlap", model_config.overlap, None)]
        )

    def test_folded_weight_norm_is_no_norm(self):
        model_config = get_config("encodec_24khz").model
        self.assertEqual(model_config.norm, "weight_norm")
        for norm, folded, is_different in (
            ("none", False, True),
            ("none", True, False),
            ("time_group_norm", True, True),
        ):
            found = config.differences(
                model_config, {**model_config.to_dict(), "norm": norm}, folded=folded
            )
            self.assertEqual([each.field for each in found], ["norm"] * is_different)


def _assign(variant: ml_collections.ConfigDict, field: str, value: object) -> None:
    """Set a field without the type checks of ConfigDict, as a config file can."""
    section, _, name = field.rpartition(".")
    part = variant[section] if section else variant
    with part.ignore_type():
        part[name] = value


if __name__ == "__main__":
    absltest.main()
