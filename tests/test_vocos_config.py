"""The fields of networks of spectra: validation, JSON, and what follows from them."""

import json
import tempfile

import ml_collections
from absl.testing import absltest
from absl.testing import parameterized

from configs import encodec_24khz
from configs import encodec_48khz
from configs import vocos_encodec_24khz
from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk.networks import reach
from tests import random_networks


def vocos_config(**fields) -> ml_collections.ConfigDict:
    model_config = vocos_encodec_24khz.get_config().model
    with model_config.ignore_type(), model_config.unlocked():
        model_config.vocos.update(fields)
    return model_config


class DecoderConfigTest(parameterized.TestCase):
    def test_seanet_leaves_no_trace_in_json(self):
        """Or the fingerprints of older checkpoints would change."""
        model_config = encodec_24khz.get_config().model
        model_config.vocos.dim = 7
        kept = json.loads(config.to_json(model_config))
        self.assertNotIn("decoder", kept)
        self.assertNotIn("vocos", kept)
        back = config.from_json(json.dumps(kept))
        self.assertEqual(back.to_dict(), encodec_24khz.get_config().model.to_dict())
        self.assertEqual(config.differences(model_config, kept), [])

    def test_vocos_in_json(self):
        model_config = vocos_config(dim=64, causal=True)
        text = config.to_json(model_config)
        self.assertIn('"bandwidths": [1.5, 3.0, 6.0, 12.0], "causal": true, "dim": 64', text)
        back = config.from_json(text)
        self.assertEqual(back, model_config)
        self.assertIsInstance(back.vocos.bandwidths, tuple)
        self.assertNotIn("head", text)  # of checkpoints from before there was another
        complex_config = vocos_config(head="complex")
        self.assertEqual(config.from_json(config.to_json(complex_config)), complex_config)
        found = config.differences(complex_config, json.loads(text))
        self.assertEqual(
            [each for each in found if each.field == "vocos.head"],
            [("vocos.head", "complex", "polar")],
        )

    def test_differences(self):
        found = config.differences(vocos_config(), json.loads(config.to_json(vocos_config(dim=64))))
        self.assertEqual(found, [("vocos.dim", 384, 64)])
        line = found[0].line("the checkpoint")
        self.assertEqual(line, "config.model.vocos.dim: got 384, the checkpoint has 64")
        seanet = vocos_config()
        seanet.decoder = "seanet"
        found = config.differences(vocos_config(), seanet)
        self.assertEqual(found, [("decoder", "vocos", "seanet")])
        found = config.differences(json.loads(config.to_json(seanet)), vocos_config())
        self.assertEqual(found, [("decoder", "seanet", "vocos")])

    @parameterized.parameters(
        ({"dim": 0}, r"config\.model\.vocos\.dim: got 0, must be"),
        ({"head": "real"}, r"config\.model\.vocos\.head: got 'real', must be one of polar, c"),
        ({"causal": 1}, r"config\.model\.vocos\.causal: got 1, must be True or False"),
        ({"n_fft": 1000}, r"n_fft: got 1000, must be a multiple of the hop \(320\), twice it"),
        ({"n_fft": 320}, r"n_fft: got 320, must be a multiple of the hop"),
        ({"bandwidths": (1.5, 2.0)}, r"vocos\.bandwidths: got 2\.0, must be a whole number"),
        ({"layers": 3}, r"config\.model\.vocos: unknown layers; .*must have dim, intermediate"),
    )
    def test_refuses(self, fields, message):
        with self.assertRaisesRegex(ValueError, message):
            config.validate_model(vocos_config(**fields))

    def test_refuses_other_decoders_and_stereo(self):
        model_config = vocos_config()
        model_config.decoder = "wavenet"
        with self.assertRaisesRegex(ValueError, "decoder: got 'wavenet', must be one of seanet, v"):
            config.validate_model(model_config)
        stereo = encodec_48khz.get_config().model
        stereo.decoder = "vocos"
        with self.assertRaisesRegex(
            ValueError, "channels: got 2, must be 1 where decoder is vocos"
        ):
            config.validate_model(stereo)

    @parameterized.parameters('"vocos": 3', '"vocos": {"dim": 3}', '"vocos": [1]')
    def test_refuses_json(self, section):
        text = config.to_json(encodec_24khz.get_config().model)
        with self.assertRaisesRegex(ValueError, r"config\.model\.vocos: "):
            config.from_json(f"{text[:-1]}, {section}}}")

    def test_the_nearest_norms(self):
        """2, 4, 8 and 16 codebooks have norms; of two equally near ones, the first is taken."""
        norms = config.vocos_norms(vocos_config())
        self.assertEqual(norms, (0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3))

    def test_lags(self):
        # Nine convolutions of three frames to come, and half of what the windows overlap.
        self.assertEqual(reach.lags(vocos_config()), (0, 27 * 320 + 480))
        self.assertEqual(reach.lags(vocos_config(causal=True, n_fft=640)), (0, 160))
        self.assertEqual(reach.minimum_first_blocks(vocos_config()), (7, 1))
        self.assertEqual(reach.receptive_field(vocos_config()), (2718, 58))


class EncoderConfigTest(parameterized.TestCase):
    def test_in_json(self):
        model_config = random_networks.small(encoder="fourier", fourier={"dim": 20})
        text = config.to_json(model_config)
        self.assertIn(
            '"fourier": {"dim": 20, "intermediate": 24, "n_fft": 48, "num_layers": 2}', text
        )
        self.assertNotIn("vocos", text)
        self.assertEqual(config.from_json(text).to_dict()["fourier"]["dim"], 20)
        self.assertEqual(config.to_json(config.from_json(text)), text)
        found = config.differences(model_config, random_networks.small())
        self.assertEqual(found, [("encoder", "fourier", "seanet")])
        found = config.differences(model_config, random_networks.small(encoder="fourier"))
        self.assertEqual(found, [("fourier.dim", 20, 16)])

    @parameterized.parameters(
        ({"encoder": "wavenet"}, "encoder: got 'wavenet', must be one of seanet, fourier"),
        (
            {"fourier": {"n_fft": 50}},
            r"fourier\.n_fft: got 50, must be a multiple of the hop \(12\)",
        ),
        ({"fourier": {"dim": 0}}, r"fourier\.dim: got 0, must be"),
        ({"channels": 2}, "channels: got 2, must be 1 where encoder is fourier"),
        ({"causal": False, "norm": "time_group_norm"}, "norm: got 'time_group_norm', must be wei"),
    )
    def test_refuses(self, fields, message):
        with self.assertRaisesRegex(ValueError, message):
            random_networks.small(**{"encoder": "fourier", **fields})

    def test_codes_do_not_depend_on_the_decoder(self):
        model_config = random_networks.small(**random_networks.VARIANTS["spectra"])
        params = random_networks.random_params(model_config)
        mixed = random_networks.small(encoder="fourier")
        coding = {key: v for key, v in params.items() if not key.startswith("decoder")}
        found = checkpoint.codes_fingerprint(model_config, params)
        self.assertEqual(found, checkpoint.fingerprint(mixed, coding))

    @parameterized.parameters(
        ({}, "1"),
        ({"decoder": "vocos"}, "2"),
        ({"decoder": "vocos", "vocos": {"head": "complex"}}, "3"),
        ({"encoder": "fourier"}, "3"),
    )
    def test_format_version(self, fields, version):
        model_config = random_networks.small(**fields)
        path = f"{self.enter_context(tempfile.TemporaryDirectory())}/model.safetensors"
        params = random_networks.random_params(model_config)
        origin = {"source": "random", "source_sha256": "", "licence": "none"}
        checkpoint.save(path, params, model_config, name="small", **origin)
        self.assertEqual(checkpoint.read_metadata(path)["format_version"], version)
        loaded = checkpoint.load(path)
        self.assertEqual(config.to_json(loaded.config), config.to_json(model_config))


if __name__ == "__main__":
    absltest.main()
