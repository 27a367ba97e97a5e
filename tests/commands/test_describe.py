"""`run.py describe`: counts against the published ones, and what it prints."""

import importlib
import io
import math

import ml_collections
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk import config as config_lib
from encodec_hk.commands import describe
from encodec_hk.networks import model


def get_config(variant: str) -> ml_collections.ConfigDict:
    return importlib.import_module(f"configs.{variant}").get_config()


def text(config: ml_collections.ConfigDict) -> str:
    out = io.StringIO()
    describe.run(config, out)
    return out.getvalue()


class CountsTest(parameterized.TestCase):
    @parameterized.parameters(
        # Numbers in Meta's checkpoints, codebooks aside: bias vectors of the LSTM's second kind,
        # magnitudes of weight_norm (one for each output channel, or input channel of a transposed
        # convolution), and the total.
        ("encodec_24khz", 2 * 2 * 4 * 512, 4993, 14_851_810),
        ("encodec_48khz", 2 * 2 * 4 * 512, 0, 14_856_294),
    )
    def test_parameters_are_those_of_the_reference(self, variant, biases, magnitudes, reference):
        config = get_config(variant)
        calls = describe.trace(config.model)
        ours = sum(call.num_parameters for call in calls if call.path.split("/")[0] != "quantizer")
        self.assertEqual(
            tuple(describe.reference_surplus(config.model, calls).values()), (biases, magnitudes)
        )
        self.assertEqual(ours + biases + magnitudes, reference)
        self.assertIn(f"= {reference:,} in PyTorch, codebooks aside", text(config))

    @parameterized.parameters("encodec_48khz", "encodec_32khz", "encodec_tiny")
    def test_every_parameter_is_listed_once(self, variant):
        model_config = get_config(variant).model
        params = model.build(model_config).param_shapes()
        listed = {
            call.path: call.parameters for call in describe.trace(model_config) if call.parameters
        }
        expected = {
            path: {name: leaf.shape for name, leaf in leaves.items()}
            for path, leaves in params.items()
        }
        self.assertEqual(listed, expected)

    def test_multiply_adds(self):
        config = get_config("encodec_tiny").model
        work = {}
        for call in describe.trace(config):
            work.setdefault(call.path, []).append(call.multiply_adds)
        self.assertEqual(work["encoder/conv_in"], [24000 * 7 * 1 * 8])
        # A strided convolution works for every output, a transposed one for every input.
        self.assertEqual(work["encoder/stage_3/downsample"], [75 * 16 * 64 * 128])
        self.assertEqual(work["decoder/stage_0/upsample"], [75 * 16 * 128 * 64])
        self.assertEqual(work["encoder/lstm/layer_1"], [75 * (128 + 128) * 4 * 128])
        # Encoding compares with every entry of all codebooks, decoding looks them up.
        self.assertEqual(work["quantizer"], [75 * 8 * 1024 * 32, 0])
        self.assertEqual(work["encoder"], [0])

    def test_encoder_and_decoder_mirror_each_other(self):
        calls = describe.trace(get_config("encodec_24khz").model)
        for root in ("encoder", "decoder"):
            total = sum(c.multiply_adds for c in calls if c.path.split("/")[0] == root)
            self.assertEqual(total, 1_489_766_400)


class OutputTest(parameterized.TestCase):
    def test_24khz(self):
        printed = text(get_config("encodec_24khz"))
        for line in (
            r"^encodec_24khz: 24000 Hz, mono, causal$",
            r"^encoder +\[75, 128\] +7,419,376 +1,489,766,400$",
            r"^  conv_in +\[24000, 32\] +256 +5,376,000  w \[7, 1, 32\], b \[32\]$",
            r"^    downsample +\[12000, 64\] +8,256 +98,304,000  w \[4, 32, 64\], b \[64\]$",
            r"^quantizer\.encode +\[32, 75\] +4,194,304 +314,572,800  codebooks \[32, 1024, 128\]$",
            r"^    upsample +\[600, 256\] +2,097,408 .* w \[2, 512, 2048\], b \[256\]$",
            r"^decoder +\[24000, 1\] +7,419,249 ",
            r"^parameters +14,838,625 .* and 4,194,304 in 32 codebooks$",
            r"^hop +320 samples \(13\.33 ms\)$",
            r"^frame rate +75 frames per second$",
            r"^receptive field +encoder 2718 samples \(113\.2 ms\), decoder 9 frames \(120 ms\)$",
            r"^ +of the convolutions; the LSTM's memory is unlimited$",
            r"^look-ahead +7 frames \(2240 samples, 93\.33 ms\) for an exact start, ",
            r"^multiply-adds +3,294\.1 M per second of audio ",
            r"^    5    3\.75      6     4\.5      7    5\.25      8       6 \*$",
        ):
            self.assertRegex(printed, rf"(?m){line}")

    def test_48khz(self):
        printed = text(get_config("encodec_48khz"))
        for line in (
            r"^encodec_48khz: 48000 Hz, stereo, not causal$",
            r"^    norm +\[48000, 32\] +64 +0  offset \[32\], scale \[32\]$",
            r"^ +of the convolutions; .* unlimited, and time_group_norm sees the whole input$",
            r"^look-ahead +not causal: it codes segments of 48000 samples, one every 47520: 1\.01 ",
        ):
            self.assertRegex(printed, rf"(?m){line}")

    @parameterized.parameters(
        {"ratios": (4, 3), "bandwidths": (20.0,), "num_lstm_layers": 0, "channels": 4},
        {"norm": "none", "num_residual_layers": 3, "shortcut": "identity"},
        {"causal": False, "num_residual_layers": 0},
        {"sample_rate": 24001, "bandwidths": (0.76,)},
    )
    def test_any_network(self, **fields):
        config = get_config("encodec_tiny")
        config.model.update(fields)
        config.inference.bandwidth = config.model.bandwidths[0]
        printed = text(config)
        rate = config_lib.frame_rate(config.model)
        self.assertRegex(printed, rf"(?m)^quantizer\.encode +\[8, {rate}\]")
        hop = math.prod(config.model.ratios)
        self.assertRegex(printed, rf"(?m)^decoder +\[{rate * hop}, {config.model.channels}\]")

    def test_refuses_a_wrong_config(self):
        config = get_config("encodec_tiny")
        config.model.ratios = (8, 0)
        with self.assertRaisesRegex(ValueError, r"config\.model\.ratios: got \(8, 0\)"):
            describe.run(config)


if __name__ == "__main__":
    absltest.main()
