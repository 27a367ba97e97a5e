"""Errors in the section `training` of a configuration, and their messages."""

import importlib
import pathlib

import ml_collections
from absl.testing import parameterized

from encodec_hk.training import training_config

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem != "__init__")


def get_config(name: str = "base") -> ml_collections.ConfigDict:
    return importlib.import_module(f"configs.{name}").get_config()


def assign(config: ml_collections.ConfigDict, field: str, value: object) -> None:
    """Set a field of any section, whatever its type."""
    *sections, name = field.split(".")
    for section in sections:
        config = config[section]
    with config.ignore_type():
        config[name] = value


_OR_EACH = "or a tuple of one for each of mel_windows"


class ValidateTest(parameterized.TestCase):
    def refuses(self, config, message):
        with self.assertRaises(ValueError) as caught:
            training_config.validate(config)
        self.assertEqual(str(caught.exception), message)
        self.assertNotIn("\n", message)

    def test_there_are_configs(self):
        self.assertContainsSubset({"base", "encodec_24khz_small", "encodec_48khz"}, NAMES)

    @parameterized.parameters(*NAMES)
    def test_accepts_every_config(self, name):
        training_config.validate(get_config(name))

    @parameterized.parameters(
        ("seed", -1, "a whole number of at least 0"),
        ("num_steps", 0, "a whole number of at least 1"),
        ("num_steps", 1e3, "a whole number of at least 1"),
        ("batch_size", 0, "a whole number of at least 1"),
        ("batch_size", True, "a whole number of at least 1"),
        ("crop_seconds", 0.0, "a number above 0"),
        ("crop_seconds", float("nan"), "a number above 0"),
        ("dtype", "float16", "one of float32, bfloat16"),
        ("learning_rate", 0.0, "a number above 0"),
        ("learning_rate", "3e-4", "a number above 0"),
        ("adam_betas", (0.5, 1.0), "a tuple of two numbers in [0, 1)"),
        ("adam_betas", (0.5,), "a tuple of two numbers in [0, 1)"),
        ("adam_betas", 0.5, "a tuple of two numbers in [0, 1)"),
        ("schedule", "linear", "one of constant, cosine"),
        ("warmup_steps", -1, "a whole number of at least 0"),
        ("max_gradient_norm", 0.0, "None or a number above 0"),
        ("average_decay", 1.0, "a number in [0, 1)"),
        ("frozen", "encoder", "a tuple of different names of encoder, quantizer, decoder"),
        ("frozen", ("lstm",), "a tuple of different names of encoder, quantizer, decoder"),
        (
            "frozen",
            ("encoder", "encoder"),
            "a tuple of different names of encoder, quantizer, decoder",
        ),
        (
            "frozen",
            ("encoder", "decoder"),
            "without encoder or without decoder: one of them must train",
        ),
        ("losses", None, "a ConfigDict"),
        ("losses.mel", -1.0, "a number of at least 0"),
        ("losses.commitment", float("inf"), "a number of at least 0"),
        ("mel_windows", (), "a tuple of one or more multiples of 4 (samples)"),
        ("mel_windows", (64, 30), "a tuple of one or more multiples of 4 (samples)"),
        ("mel_windows", (0,), "a tuple of one or more multiples of 4 (samples)"),
        ("num_mels", 0, f"a whole number of at least 1, {_OR_EACH}"),
        ("num_mels", (8, 0), f"a whole number of at least 1, {_OR_EACH}"),
        ("num_mels", (8,), f"a whole number of at least 1, {_OR_EACH}"),
        ("mel_exponent", -0.1, "None or a number of at least 0"),
        ("stft_windows", (64, 30), "a tuple of one or more multiples of 4 (samples)"),
        ("stft_floor", 0.0, "a number above 0"),
        ("bandwidth_per", "item", "one of batch, crop"),
        ("mel_floor", 0.0, "a number above 0"),
        ("balancer.enabled", 1, "True or False"),
        ("balancer.decay", 1.0, "a number in [0, 1)"),
        ("codebooks.decay", -0.1, "a number in [0, 1)"),
        ("codebooks.first_step", 0.5, "a whole number of at least 0"),
        ("codebooks.kmeans_iterations", -1, "a whole number of at least 0"),
        ("codebooks.restart_below", -1.0, "a number of at least 0"),
        ("discriminator.num_filters", 0, "a whole number of at least 1"),
        (
            "discriminator.windows",
            (128, 62),
            "a tuple of one or more different multiples of 4 (samples)",
        ),
        (
            "discriminator.windows",
            (128, 256, 128),
            "a tuple of one or more different multiples of 4 (samples)",
        ),
        ("discriminator.init", "uniform", "one of pytorch, he"),
        ("discriminator.learning_rate", 0.0, "None or a number above 0"),
        ("discriminator.first_step", -1, "a whole number of at least 0"),
        ("discriminator.update_probability", 1.5, "a number in [0, 1]"),
        ("pre_emphasis", -0.9, "a number in [0, 1]"),
        ("data.mix_probabilities", (0.5, 0.5), "a tuple of three numbers that add up to 1"),
        ("data.mix_probabilities", (0.5, 0.3, 0.1), "a tuple of three numbers that add up to 1"),
        ("data.mix_probabilities", (1.5, -0.5, 0.0), "a tuple of three numbers that add up to 1"),
        ("data.gain_db", (0.0, "6"), "a tuple of two numbers (dB)"),
        ("data.gain_db", (6.0, -10.0), "the lower gain first"),
        ("data.repeated_batches", 0, "None or a whole number of at least 1"),
        ("data.repeated_batches", 8, "None unless encoder and quantizer are frozen"),
        ("data.num_workers", -1, "a whole number of at least 0"),
        ("log_every", 0, "a whole number of at least 1"),
        ("checkpoint_every", 0, "a whole number of at least 1"),
        ("num_checkpoints", 0, "a whole number of at least 1"),
        ("validate_every", 0, "a whole number of at least 1"),
        ("validation_items", -1, "a whole number of at least 0"),
        ("validation_seconds", 0.0, "a number above 0"),
    )
    def test_refuses(self, field, value, allowed):
        config = get_config()
        assign(config, f"training.{field}", value)
        self.refuses(config, f"config.training.{field}: got {value!r}, must be {allowed}")

    @parameterized.parameters(
        ("data.gain_db", (0, 0)),
        ("data.mix_probabilities", (1, 0, 0)),
        ("max_gradient_norm", 5),
        ("schedule", "cosine"),
        ("dtype", "bfloat16"),
        ("adam_betas", (0, 0.999)),
        ("validation_items", 0),
        ("codebooks.restart_below", 0),
        ("discriminator.learning_rate", 1e-3),
        ("discriminator.update_probability", 0),
        ("discriminator.update_probability", 1),
        ("losses.mel", 0),
        ("mel_windows", (64, 64)),
        ("num_mels", (8,) * 7),
        ("mel_exponent", 0),
        ("bandwidth_per", "crop"),
    )
    def test_accepts(self, field, value):
        config = get_config()
        assign(config, f"training.{field}", value)
        training_config.validate(config)

    def test_missing_and_unknown_fields(self):
        config = get_config().copy_and_resolve_references().unlock()
        del config.training.num_mels
        config.training.momentum = 0.9
        with self.assertRaisesRegex(
            ValueError, "^config.training: missing num_mels; unknown momentum; must have seed, "
        ):
            training_config.validate(config)

    @parameterized.parameters("losses", "balancer", "codebooks", "discriminator", "data")
    def test_missing_and_unknown_fields_of_sections(self, section):
        config = get_config().copy_and_resolve_references().unlock()
        names = tuple(config.training[section])
        del config.training[section][names[0]]
        config.training[section].other = 1
        with self.assertRaisesRegex(
            ValueError, f"^config.training.{section}: missing {names[0]}; unknown other; must have "
        ):
            training_config.validate(config)

    def test_missing_section(self):
        config = get_config().copy_and_resolve_references().unlock()
        del config.training
        self.refuses(config, "config: missing training; must have training")
        config.training = 3
        self.refuses(config, "config.training: got 3, must be a ConfigDict")

    def test_other_sections_are_checked_too(self):
        config = get_config()
        config.model.num_filters = 33
        self.refuses(config, "config.model.num_filters: got 33, must be a multiple of compress (2)")

    def test_a_loss_is_needed(self):
        config = get_config()
        for name in ("time_l1", "time_l2", "mel", "adversarial", "feature"):
            config.training.losses[name] = 0.0
        # The decoder learns nothing from the commitment loss alone.
        message = (
            "config.training.losses: got weights of 0, must have one above 0 for a loss of the "
            "output"
        )
        self.refuses(config, message)
        config.training.losses.time_l2 = 1e-3
        training_config.validate(config)

    def test_a_loss_is_needed_before_the_discriminator_starts(self):
        config = get_config()
        for name in ("time_l1", "mel"):
            config.training.losses[name] = 0.0
        training_config.validate(config)
        config.training.discriminator.first_step = 10
        self.refuses(
            config,
            "config.training.discriminator.first_step: got 10, must be 0 if no other loss of the "
            "output has a weight above 0",
        )
        config.training.losses.time_l1 = 0.1
        training_config.validate(config)

    @parameterized.parameters("mel_windows", "discriminator.windows")
    def test_a_crop_holds_the_longest_window(self, field):
        config = get_config()
        assign(config, f"training.{field}", (64, 4096))
        config.training.crop_seconds = 0.16
        self.refuses(
            config,
            "config.training.crop_seconds: got 0.16, must be at least the longest window "
            "(0.170667 s)",
        )
        config.training.crop_seconds = 0.17  # rounded up to 13 frames of 320: 4160 samples
        training_config.validate(config)

    def test_a_crop_is_no_longer_than_a_segment(self):
        config = get_config("encodec_48khz")
        for seconds in (0.5, 1.0):
            config.training.crop_seconds = seconds
            training_config.validate(config)
        config.training.crop_seconds = 1.001
        self.refuses(
            config, "config.training.crop_seconds: got 1.001, must be at most one segment (1.0 s)"
        )
        config.model.segment_seconds = None  # one segment, the whole signal
        training_config.validate(config)
