"""Configs of transformers, translated to ours and back."""

import json

from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk import config
from encodec_hk.pretrained import source_config
from tests import references

# The hub's config.json, older than the field `use_conv_shortcut`.
HUB_24KHZ = {
    "architectures": ["EncodecModel"],
    "audio_channels": 1,
    "chunk_length_s": None,
    "codebook_dim": 128,
    "codebook_size": 1024,
    "compress": 2,
    "dilation_growth_rate": 2,
    "hidden_size": 128,
    "kernel_size": 7,
    "last_kernel_size": 7,
    "model_type": "encodec",
    "norm_type": "weight_norm",
    "normalize": False,
    "num_filters": 32,
    "num_lstm_layers": 2,
    "num_residual_layers": 1,
    "overlap": None,
    "pad_mode": "reflect",
    "residual_kernel_size": 3,
    "sampling_rate": 24000,
    "target_bandwidths": [1.5, 3.0, 6.0, 12.0, 24.0],
    "torch_dtype": "float32",
    "transformers_version": "4.31.0.dev0",
    "trim_right_ratio": 1.0,
    "upsampling_ratios": [8, 5, 4, 2],
    "use_causal_conv": True,
}


class TransformersTest(parameterized.TestCase):
    def test_hub_24khz(self):
        model = source_config.to_model(source_config.from_transformers(HUB_24KHZ))
        self.assertEqual(model, references.model_config("encodec_24khz"))

    @parameterized.parameters(
        "encodec_24khz",
        "encodec_48khz",
        "encodec_32khz",
        "encodec_24khz_small",
        *(name for name in references.TINY if name != "no_lstm"),
    )
    def test_round_trip(self, name):
        model = references.tiny(name) if name in references.TINY else references.model_config(name)
        fields = {"model_type": "encodec", **source_config.to_transformers(model)}
        self.assertEqual(source_config.to_model(source_config.from_transformers(fields)), model)

    def test_segments(self):
        found = source_config.from_transformers(
            HUB_24KHZ | {"chunk_length_s": 1, "overlap": 0.25, "use_causal_conv": False}
        )
        self.assertEqual(found["segment_seconds"], 1.0)
        self.assertEqual(found["overlap"], 0.25)

    @parameterized.parameters(
        ({"model_type": "musicgen"}, "^model_type: got 'musicgen'"),
        ({"trim_right_ratio": 0.5}, "^trim_right_ratio: got 0.5, must be 1.0$"),
        ({"codebook_dim": 64}, r"^codebook_dim: got 64, must be 128 \(the hidden_size\)"),
        ({"chunk_length_s": 1.0}, "^overlap: got None beside chunk_length_s"),
    )
    def test_unsupported(self, change, message):
        with self.assertRaisesRegex(ValueError, message):
            source_config.from_transformers(HUB_24KHZ | change)

    @parameterized.parameters(
        ({"norm_type": "layer_norm"}, "config.model.norm: got 'layer_norm'"),
        ({"pad_mode": "replicate"}, "config.model.pad_mode: got 'replicate'"),
        ({"target_bandwidths": [1.7]}, "config.model.bandwidths: got 1.7"),
        ({"normalize": True}, "config.model.normalize: got True"),
    )
    def test_not_allowed(self, change, message):
        with self.assertRaisesRegex(ValueError, message):
            source_config.to_model(source_config.from_transformers(HUB_24KHZ | change))

    def test_no_lstm(self):
        with self.assertRaisesRegex(ValueError, "^num_lstm_layers: got 0"):
            source_config.to_transformers(references.tiny("no_lstm"))

    def test_bandwidths_reach_all_codebooks(self):
        # 1000 * 1.001 is just below 1001, so transformers would lose a codebook in rounding down.
        fields = references.tiny().to_dict()
        fields |= {"codebook_size": 2, "num_codebooks": 13, "sample_rate": 77 * 320}
        fields |= {"bandwidths": (0.077,)}
        model = config.from_json(json.dumps(fields))
        self.assertLess(1000 * config.bandwidth_for(model, 13), 1001)
        theirs = source_config.to_transformers(model)
        self.assertLen(theirs["target_bandwidths"], 2)
        found = source_config.from_transformers({"model_type": "encodec", **theirs})
        self.assertEqual(found["num_codebooks"], 13)
        self.assertEqual(source_config.to_model(found).num_codebooks, 13)


if __name__ == "__main__":
    absltest.main()
