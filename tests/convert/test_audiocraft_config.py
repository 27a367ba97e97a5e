"""audiocraft's `xp.cfg`, translated to our config."""

import yaml
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.convert import audiocraft_config
from encodec_hk.pretrained import source_config
from tests import references

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


class AudiocraftTest(parameterized.TestCase):
    def changed(self, section, **change):
        xp_cfg = yaml.safe_load(AUDIOCRAFT_32KHZ)
        (xp_cfg[section] if section else xp_cfg).update(change)
        return audiocraft_config.parse(yaml.safe_dump(xp_cfg))

    def test_32khz(self):
        found = audiocraft_config.parse(AUDIOCRAFT_32KHZ)
        fields = references.model_config("encodec_32khz").to_dict() | {"pad_mode": "constant"}
        self.assertEqual(source_config.to_model(found).to_dict(), fields)

    def test_relative_interpolation(self):
        found = self.changed("seanet", kernel_size=5, last_kernel_size="${.kernel_size}")
        self.assertEqual(found["last_kernel_size"], 5)

    def test_audiocrafts_defaults(self):
        xp_cfg = yaml.safe_load(AUDIOCRAFT_32KHZ)
        for field in ("n_residual_layers", "lstm", "true_skip", "disable_norm_outer_blocks"):
            del xp_cfg["seanet"][field]
        stated = audiocraft_config.parse(yaml.safe_dump(xp_cfg))
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
            audiocraft_config.parse(text)


if __name__ == "__main__":
    absltest.main()
