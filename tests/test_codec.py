"""The codec: items of any lengths, alone or together; what it refuses; what it compiles."""

import os
import pickle
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest
from absl.testing import parameterized

import encodec_hk
from configs import base
from tests import compilation
from tests import random_networks

VARIANTS = random_networks.VARIANTS
CAUSAL = VARIANTS["causal"]


def make(variant, **settings):
    model_config = random_networks.small(**variant)
    settings = {"name": "small", "block_seconds": 0.1, **settings}
    return encodec_hk.Codec(model_config, random_networks.random_params(model_config), **settings)


def draw(codec, lengths, seed=0):
    rng = np.random.default_rng(seed)
    shape = (codec.channels,)
    return [0.1 * rng.standard_normal((n, *shape)).astype(np.float32) for n in lengths]


def item(encoded, index):
    """Codes [K, F] of one item, without padding."""
    return encoded.codes[index, :, : encoded.num_frames[index]]


class CodecTest(chex.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.codecs = {name: make(variant, batch_size=4) for name, variant in VARIANTS.items()}

    @parameterized.parameters(*VARIANTS)
    def test_items_together_equal_items_alone(self, variant):
        codec = self.codecs[variant]
        lengths = [1, 11, 12, 13, 119, 120, 121, 237, 238, 239, 240, 777]
        audio = draw(codec, lengths)
        together = codec.encode(audio, num_codebooks=3)
        self.assertEqual(together.num_samples.tolist(), lengths)
        decoded = codec.decode(together)
        chex.assert_shape(decoded, (len(lengths), 777, codec.channels))
        for index, samples in enumerate(audio):
            alone = codec.encode([samples], num_codebooks=3)
            np.testing.assert_array_equal(item(together, index), item(alone, 0))
            np.testing.assert_array_equal(together.codes[index, :, alone.codes.shape[2] :], 0)
            if codec.model_config.normalize:
                count = alone.scales.shape[1]
                np.testing.assert_array_equal(together.scales[index, :count], alone.scales[0])
                np.testing.assert_array_equal(together.scales[index, count:], 0)
            expected = codec.decode(alone)[0]
            self.assertLen(expected, len(samples))
            np.testing.assert_allclose(decoded[index, : len(samples)], expected, atol=1e-5)
            np.testing.assert_array_equal(decoded[index, len(samples) :], 0)

    @parameterized.parameters(*VARIANTS)
    def test_other_lengths_compile_nothing(self, variant):
        codec = make({**VARIANTS[variant], "num_filters": 6})  # of its own: nothing is compiled yet
        with compilation.counted() as compiled:
            codec.decode(codec.encode(draw(codec, [100, 500])))
            self.assertNotEmpty(compiled)
            compiled.clear()
            codec.decode(codec.encode(draw(codec, [7, 301])))
            codec.decode(codec.encode(np.stack(draw(codec, [77, 77]))))
            self.assertEmpty(compiled)
            array = jax.numpy.asarray(np.stack(draw(codec, [78, 78])))
            compiled.clear()
            codec.decode(codec.encode(array))
            self.assertEmpty(compiled)

    def test_normalised_over_time_without_segments(self):
        codec = make({"causal": False, "norm": "time_group_norm", "channels": 2})
        audio = draw(codec, [50, 300, 120])
        together = codec.encode(audio)
        for index, samples in enumerate(audio):
            np.testing.assert_array_equal(item(together, index), item(codec.encode([samples]), 0))
        self.assertEqual(codec.decode(together).shape, (3, 300, 2))

    def test_the_config_may_change_afterwards(self):
        model_config = random_networks.small()
        codec = encodec_hk.Codec(model_config, random_networks.random_params(model_config))
        audio = draw(codec, [200])
        before = codec.encode(audio, num_codebooks=2)
        model_config.pad_mode = "constant"
        model_config.num_codebooks = 2
        self.assertEqual(codec.num_codebooks, 3)
        after = codec.encode(audio, num_codebooks=3)
        np.testing.assert_array_equal(after.codes[:, :2], before.codes)

    def test_numpy_numbers_are_numbers(self):
        codec = self.codecs["causal"]
        audio = draw(codec, [60])
        expected = codec.encode(audio, num_codebooks=3)
        for rate in (
            {"num_codebooks": np.int64(3)},
            {"bandwidth": np.float64(1.2)},
            {"bandwidth": np.float32(1.2)},
        ):
            chex.assert_trees_all_equal(codec.encode(audio, **rate), expected)

    @parameterized.parameters(
        ({"batch_size": 0}, "Codec.batch_size: got 0"),
        ({"batch_size": 2.5}, "Codec.batch_size: got 2.5"),
        ({"block_seconds": -1.0}, "Codec.block_seconds: got -1.0"),
        ({"block_seconds": float("inf")}, "Codec.block_seconds: got inf"),
        ({"bandwidth": 5.0}, "whole number of codebooks"),
        (
            {"decode_precision": "half"},
            "Codec.decode_precision: got 'half', must be one of float32",
        ),
    )
    def test_bad_settings(self, settings, message):
        with self.assertRaisesRegex(ValueError, message):
            make(CAUSAL, **settings)

    def test_precision_of_the_decoder_alone(self):
        """A CPU computes the same; what a GPU would be told stands in the programs."""
        codec = make(CAUSAL, decode_precision="bfloat16")
        ends = np.array([84], np.int32), np.array([True])
        audio, codes = np.zeros((1, 84, 1), np.float32), np.zeros((1, 3, 7), np.int32)

        def text(block, *args, **static):
            return block.func.lower(*block.args, *args, **block.keywords, **static).as_text()

        state = codec.model.encoder_state(1)
        encoding = text(codec.encode_rows, state, audio, *ends, num_codebooks=3)
        state = codec.model.decoder_state(1)
        frames = ends[0] // 12, ends[1]
        decoding = text(codec.decode_rows, state, codes, *frames)
        exact = text(make(CAUSAL).decode_rows, state, codes, *frames)
        self.assertIn("HIGHEST", encoding)
        self.assertIn("HIGHEST", exact)
        self.assertNotIn("HIGHEST", decoding)

    @parameterized.parameters(*VARIANTS)
    @pytest.mark.few(0)
    def test_fewer_codebooks_give_the_first_codes(self, variant):
        codec = self.codecs[variant]
        audio = draw(codec, [300, 40])
        every = codec.encode(audio, num_codebooks=3)
        for count, bandwidth in [(2, 0.8), (3, 1.2)]:
            by_number = codec.encode(audio, num_codebooks=count)
            chex.assert_trees_all_equal(by_number, codec.encode(audio, bandwidth=bandwidth))
            np.testing.assert_array_equal(by_number.codes, every.codes[:, :count])
            self.assertEqual(codec.decode(by_number).shape, (2, 300, codec.channels))

    def test_default_bandwidth(self):
        self.assertEqual(self.codecs["causal"].bandwidth, 1.2)
        self.assertEqual(make(CAUSAL, bandwidth=0.4).bandwidth, 0.4)
        model_config = base.get_config().model
        codec = encodec_hk.Codec(model_config, random_networks.random_params(model_config))
        self.assertEqual(codec.bandwidth, 6.0)
        self.assertEqual((codec.frame_rate, codec.hop_length, codec.num_codebooks), (75, 320, 32))

    def test_an_array_is_its_rows(self):
        codec = self.codecs["causal"]
        audio = np.stack(draw(codec, [60, 60]))
        expected = codec.encode(list(audio))
        chex.assert_trees_all_equal(codec.encode(audio), expected)
        chex.assert_trees_all_equal(codec.encode(jax.numpy.asarray(audio)), expected)
        chex.assert_trees_all_equal(codec.encode(audio.astype(np.float64)), expected)
        chex.assert_shape(expected.codes, (2, 3, 5))
        chex.assert_type(expected.codes, np.int32)

    def test_silence_and_full_scale_square(self):
        for codec in self.codecs.values():
            silence = np.zeros((250, codec.channels), np.float32)
            square = np.where(np.arange(250)[:, None] % 7 < 3, 1, -1) * np.ones_like(silence)
            decoded = codec.decode(codec.encode([silence, square]))
            chex.assert_tree_all_finite(decoded)

    @parameterized.parameters(*VARIANTS)
    def test_bare_codes(self, variant):
        codec = self.codecs[variant]
        audio = draw(codec, [300])
        encoded = codec.encode(audio)
        bare = codec.encoded(encoded.codes, num_samples=[300], scales=encoded.scales)
        chex.assert_trees_all_equal(bare, encoded)
        decoded = codec.decode(codec.encoded(encoded.codes))
        self.assertGreaterEqual(decoded.shape[1], 300)
        if not codec.model_config.normalize:
            np.testing.assert_array_equal(decoded[:, :300], codec.decode(encoded))

    @parameterized.named_parameters(
        ("no_items", [], "no items"),
        ("empty", [np.zeros((0, 1), np.float32)], "no samples"),
        ("channels", [np.zeros((5, 2), np.float32)], r"got shape \(5, 2\), must be \[T, 1\]"),
        ("array", np.zeros((5, 1), np.float32), r"got one array of shape \(5, 1\), must be \[B"),
        ("none", None, "got NoneType, must be an array or a list"),
        ("number", 0.5, "got float, must be an array or a list"),
        ("rank", [np.zeros(5, np.float32)], r"got shape \(5,\)"),
        ("integers", [np.zeros((5, 1), np.int16)], "got int16, must be float"),
        ("nan", [np.array([[0.0], [np.nan]])], "sample 1"),
        ("infinite", [np.array([[np.inf]])], "sample 0"),
        (
            "nan_of_one_item",
            [np.zeros((9, 1)), np.where(np.arange(9)[:, None] == 7, np.nan, 0.0)],
            r"^audio\[1\]: got NaN or infinity at sample 7, must be finite$",
        ),
    )
    def test_bad_audio(self, audio, message):
        with self.assertRaisesRegex(ValueError, message):
            self.codecs["causal"].encode(audio)

    @parameterized.parameters(
        ({"bandwidth": 0.5}, "whole number of codebooks"),
        ({"bandwidth": 99.0}, "nearest is 1.2"),
        ({"bandwidth": 0.0}, "whole number"),
        ({"num_codebooks": 0}, "got 0"),
        ({"num_codebooks": 4}, "got 4"),
        ({"num_codebooks": 1, "bandwidth": 0.4}, "both"),
    )
    def test_bad_rates(self, rate, message):
        with self.assertRaisesRegex(ValueError, message):
            self.codecs["causal"].encode(np.zeros((1, 5, 1)), **rate)

    @parameterized.named_parameters(
        ("high", {"codes": np.full((1, 3, 5), 16)}, "got 16, must be 0 to 15"),
        ("negative", {"codes": np.full((1, 3, 5), -1)}, "got -1"),
        ("floats", {"codes": np.zeros((1, 3, 5))}, "float64"),
        ("codebooks", {"codes": np.zeros((1, 4, 5), int)}, "K from 1 to 3"),
        ("rank", {"codes": np.zeros((3, 5), int)}, r"\[B, K, F\]"),
        ("samples", {"num_samples": np.array([61])}, "61 samples have 6"),
        ("no_samples", {"num_samples": [0]}, "num_samples: got 0, must be 1 to"),
        ("half_samples", {"num_samples": [59.5]}, "num_samples: got float64"),
        ("frames", {"num_frames": np.array([4])}, "got 4 of 5"),
        ("no_frames", {"num_frames": None}, "num_frames: got object"),
        ("items", {"num_frames": np.array([5, 5])}, r"got int64 of shape \(2,\), must be"),
        ("scales", {"scales": np.ones((1, 1))}, "must be None of a model that does not normalise"),
    )
    def test_bad_codes(self, changes, message):
        codec = self.codecs["causal"]
        good = codec.encode(draw(codec, [60]))
        fields = {
            name: getattr(good, name) for name in ("codes", "num_frames", "num_samples", "scales")
        }
        with self.assertRaisesRegex(ValueError, message):
            codec.decode(encodec_hk.Encoded(**{**fields, **changes}))

    def test_scales_are_needed_where_the_variant_normalises(self):
        codec = self.codecs["segmented"]
        good = codec.encode(draw(codec, [300]))
        for scales, message in [
            (None, "got None"),
            (good.scales[:, :1], r"got shape \(1, 1\), must be \[1, 3\]"),
            (good.scales[0], r"got shape \(3,\)"),
            (np.full((1, 3), np.nan), "must be finite and above 0"),
            (-good.scales, "must be finite and above 0"),
        ]:
            bad = encodec_hk.Encoded(
                codes=good.codes,
                num_frames=good.num_frames,
                num_samples=good.num_samples,
                scales=scales,
            )
            with self.assertRaisesRegex(ValueError, message):
                codec.decode(bad)

    def test_lists_are_arrays(self):
        codec = self.codecs["segmented"]
        good = codec.encode(draw(codec, [300, 40]))
        lists = encodec_hk.Encoded(
            codes=good.codes.tolist(),
            num_frames=good.num_frames.tolist(),
            num_samples=good.num_samples.tolist(),
            scales=good.scales.tolist(),
        )
        np.testing.assert_array_equal(codec.decode(lists), codec.decode(good))

    def test_only_encoded_is_decoded(self):
        codec = self.codecs["causal"]
        for bad in (np.zeros((1, 3, 5), np.int32), None):
            with self.assertRaisesRegex(ValueError, "must be Encoded"):
                codec.decode(bad)
        for counts in ({"num_frames": 5}, {"num_samples": [10**12]}, {"num_samples": ["5"]}):
            with self.assertRaisesRegex(ValueError, "num_"):
                codec.encoded(np.zeros((1, 3, 5), np.int32), **counts)

    @pytest.mark.slow
    def test_double_precision_changes_nothing(self):
        code = (
            "import numpy as np, encodec_hk; from tests import random_networks as networks\n"
            "config = networks.small()\n"
            "codec = encodec_hk.Codec(config, networks.random_params(config))\n"
            "encoded = codec.encode(np.ones((1, 30, 1), np.float32))\n"
            "print(encoded.codes.tolist(), codec.decode(encoded).dtype)"
        )
        outputs = []
        for enabled in ("0", "1"):
            result = subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                env={**os.environ, "JAX_ENABLE_X64": enabled},
            )
            outputs.append((result.returncode, result.stdout))
        self.assertEqual(outputs[0], outputs[1])
        self.assertEqual(outputs[0][0], 0, result.stderr)

    def test_shows_what_it_is(self):
        model_config = random_networks.small(channels=2)
        params = random_networks.random_params(model_config)
        codec = encodec_hk.Codec(model_config, params, name="small", devices=jax.devices()[:1])
        pattern = r"<Codec small: 1200 Hz stereo, 3 codebooks, 0\.\d M parameters, on 1 cpu>"
        self.assertRegex(repr(codec), f"^{pattern}$")
        self.assertContainsSubset(["Codec", "Encoded", "load"], dir(encodec_hk))

    def test_pickles(self):
        """For multiprocessing, which spawns: codes and settings stay the same."""
        model_config = random_networks.small()
        params = random_networks.random_params(model_config)
        codec = encodec_hk.Codec(model_config, params, name="a", batch_size=3, block_seconds=0.2)
        again = pickle.loads(pickle.dumps(codec))
        self.assertEqual(repr(again), repr(codec))
        for name in ("fingerprint", "batch_size", "block_frames", "bandwidth", "source"):
            self.assertEqual(getattr(again, name), getattr(codec, name))
        audio = 0.1 * np.random.default_rng(0).standard_normal((2, 500, 1)).astype(np.float32)
        chex.assert_trees_all_equal(again.encode(audio), codec.encode(audio))

    def test_wrong_parameters_are_listed(self):
        model_config = random_networks.small()
        params = random_networks.random_params(model_config)
        params["encoder/conv_in"]["w"] = np.zeros((7, 1, 5), np.float32)
        del params["quantizer"]
        with self.assertRaisesRegex(ValueError, r"(?s)- encoder/conv_in\.w.*- quantizer"):
            encodec_hk.Codec(model_config, params)

    def test_pytorch_is_not_imported(self):
        code = (
            "import sys, numpy as np, encodec_hk; from tests import random_networks as networks\n"
            "config = networks.small()\n"
            "codec = encodec_hk.Codec(config, networks.random_params(config))\n"
            "codec.decode(codec.encode(np.zeros((1, 30, 1), np.float32)))\n"
            "print([n for n in sys.modules if n.split('.')[0] in ('torch', 'transformers')])"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        self.assertEqual(result.stdout.strip(), "[]", result.stderr)
