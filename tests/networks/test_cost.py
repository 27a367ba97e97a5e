"""Counts of parameters and multiply-adds, against the published ones."""

import importlib

import ml_collections
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.networks import cost
from encodec_hk.networks import model


def get_config(variant: str) -> ml_collections.ConfigDict:
    return importlib.import_module(f"configs.{variant}").get_config().model


class TraceTest(parameterized.TestCase):
    @parameterized.parameters(
        # Numbers in Meta's checkpoints, codebooks aside: second bias vectors of the LSTM,
        # magnitudes of weight_norm (one for each output channel, or input channel of a transposed
        # convolution), and the total.
        ("encodec_24khz", 2 * 2 * 4 * 512, 4993, 14_851_810),
        ("encodec_48khz", 2 * 2 * 4 * 512, 0, 14_856_294),
    )
    def test_parameters_are_those_of_the_reference(self, variant, biases, magnitudes, reference):
        model_config = get_config(variant)
        calls = cost.trace(model_config)
        ours = sum(call.num_parameters for call in calls if call.path.split("/")[0] != "quantizer")
        self.assertEqual(
            tuple(cost.reference_surplus(model_config, calls).values()), (biases, magnitudes)
        )
        self.assertEqual(ours + biases + magnitudes, reference)

    @parameterized.parameters("encodec_48khz", "encodec_32khz", "encodec_tiny")
    def test_every_parameter_is_listed_once(self, variant):
        model_config = get_config(variant)
        params = model.build(model_config).param_shapes()
        listed = {
            call.path: call.parameters for call in cost.trace(model_config) if call.parameters
        }
        expected = {
            path: {name: leaf.shape for name, leaf in leaves.items()}
            for path, leaves in params.items()
        }
        self.assertEqual(listed, expected)

    def test_multiply_adds(self):
        work = {}
        for call in cost.trace(get_config("encodec_tiny")):
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
        calls = cost.trace(get_config("encodec_24khz"))
        for root in ("encoder", "decoder"):
            total = sum(c.multiply_adds for c in calls if c.path.split("/")[0] == root)
            self.assertEqual(total, 1_489_766_400)


class MultiplyAddsTest(absltest.TestCase):
    def test_per_frame(self):
        found = cost.multiply_adds_per_frame(get_config("encodec_24khz"), 8)
        self.assertEqual(round(found["encode"] * 75), 1_489_766_400 + 314_572_800 // 4)
        self.assertEqual(round(found["decode"] * 75), 1_489_766_400)
        self.assertEqual(round(found["encoder/lstm"] * 75), 314_572_800)
        self.assertEqual(round(found["quantizer.encode"] * 75), 314_572_800 // 4)


if __name__ == "__main__":
    absltest.main()
