"""Configs of transformers and audiocraft, translated to ours and back."""

import json

import yaml
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk import config
from encodec_hk.convert import source_config
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

# MusicGen's: audiocraft's default.yaml, overridden by encodec_large_nq4_s640.yaml.
AUDIOCRAFT_32KHZ = """
sample_rate: 32000
channels: 1
compression_model: encodec
encodec:
  autoencoder: seanet
  quantizer: rvq
  sample_rate: ${sample_rate}
  channels: ${channels}
  causal: false
  renormalize: false
seanet:
  dimension: 128
  channels: ${channels}
  causal: ${encodec.causal}
  n_filters: 64
  n_residual_layers: 1
  ratios: [8, 5, 4, 4]
  activation: ELU
  activation_params: {"alpha": 1.}
  norm: weight_norm
  norm_params: {}
  kernel_size: 7
  residual_kernel_size: 3
  last_kernel_size: 7
  dilation_base: 2
  pad_mode: constant
  true_skip: true
  compress: 2
  lstm: 2
  disable_norm_outer_blocks: 0
  decoder:
    trim_right_ratio: 1.0
    final_activation: null
    final_activation_params: null
  encoder: {}
rvq: {n_q: 4, q_dropout: false, bins: 2048, decay: 0.99, kmeans_init: true, kmeans_iters: 50}
dora: {dir: "/checkpoint/${oc.env:A_VARIABLE_THAT_IS_NOT_SET}"}
"""


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


class AudiocraftTest(parameterized.TestCase):
    def changed(self, section, **change):
        xp_cfg = yaml.safe_load(AUDIOCRAFT_32KHZ)
        (xp_cfg[section] if section else xp_cfg).update(change)
        return source_config.from_audiocraft(yaml.safe_dump(xp_cfg))

    def test_32khz(self):
        found = source_config.from_audiocraft(AUDIOCRAFT_32KHZ)
        fields = references.model_config("encodec_32khz").to_dict() | {"pad_mode": "constant"}
        self.assertEqual(source_config.to_model(found).to_dict(), fields)

    def test_relative_interpolation(self):
        found = self.changed("seanet", kernel_size=5, last_kernel_size="${.kernel_size}")
        self.assertEqual(found["last_kernel_size"], 5)

    def test_audiocrafts_defaults(self):
        xp_cfg = yaml.safe_load(AUDIOCRAFT_32KHZ)
        for field in ("n_residual_layers", "lstm", "true_skip", "disable_norm_outer_blocks"):
            del xp_cfg["seanet"][field]
        stated = source_config.from_audiocraft(yaml.safe_dump(xp_cfg))
        self.assertEqual(stated["num_residual_layers"], 3)
        self.assertEqual(stated["num_lstm_layers"], 0)
        self.assertEqual(stated["shortcut"], "identity")

    def test_conv_shortcut(self):
        self.assertEqual(self.changed("seanet", true_skip=False)["shortcut"], "conv")

    def test_outer_blocks_without_weight_norm(self):
        self.changed("seanet", disable_norm_outer_blocks=2)

    @parameterized.parameters(
        ("", {"compression_model": "dac"}, "compression_model: got 'dac'"),
        ("", {"rvq": None}, "lacks rvq"),
        ("encodec", {"quantizer": "no_quant"}, "encodec.quantizer: got 'no_quant'"),
        ("encodec", {"autoencoder": "other"}, "encodec.autoencoder: got 'other'"),
        ("encodec", {"channels": 2}, r"encodec.channels: got 2, must be 1 \(seanet.channels\)"),
        ("seanet", {"activation": "ReLU"}, "seanet.activation: got 'ReLU', must be 'ELU'"),
        ("seanet", {"activation_params": {"alpha": 0.5}}, "seanet.activation_params: got"),
        ("seanet", {"norm_params": {"eps": 0.1}}, "seanet.norm_params: got {'eps': 0.1}"),
        ("seanet", {"decoder": {"trim_right_ratio": 0.5}}, "seanet.trim_right_ratio: got 0.5"),
        ("seanet", {"decoder": {"final_activation": "Tanh"}}, "seanet.final_activation: got 'Ta"),
        ("seanet", {"decoder": {"n_filters": 32}}, "seanet.decoder.n_filters: got 32, must be 64"),
        ("seanet", {"encoder": {"lstm": 1}}, "seanet.encoder.lstm: got 1, must be 2"),
        ("seanet", {"attention": True}, "seanet: unknown settings attention"),
        (
            "seanet",
            {"norm": "time_group_norm", "disable_norm_outer_blocks": 1},
            "seanet.disable_norm_outer_blocks: got 1, must be 0",
        ),
        ("seanet", {"dimension": "${no.such.key}"}, "xp.cfg: cannot be read"),
    )
    def test_unsupported(self, section, change, message):
        with self.assertRaisesRegex(ValueError, message):
            self.changed(section, **change)

    @parameterized.parameters("", "[1, 2]", "a: [", "no YAML of a config")
    def test_no_config(self, text):
        with self.assertRaisesRegex(ValueError, "^[^\n]+$"):
            source_config.from_audiocraft(text)


class ReconcileTest(parameterized.TestCase):
    def reconcile(self, name, **change):
        found = source_config.from_transformers(HUB_24KHZ | change)
        return source_config.reconcile(references.model_config(name), found)

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
            self.reconcile("encodec_24khz", num_filters=64, upsampling_ratios=[4, 5, 8, 2])
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
        self.assertEqual(source_config.reconcile(model, found)[0], model)


if __name__ == "__main__":
    absltest.main()
