"""Checkpoints of the package `vocos` in: alone, joined with an encoder, and what is refused."""

import contextlib
import functools
import io
import pathlib
import shutil
import tempfile
from unittest import mock

import jax
import numpy as np
import pytest
import torch
import yaml
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from encodec_hk import bitstream
from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk.commands import convert
from encodec_hk.commands import infer
from encodec_hk.configs import encodec_24khz
from encodec_hk.configs import vocos_encodec_24khz
from encodec_hk.sound import sound_files
from encodec_hk.transcode import ecdc
from tests import hub_cache
from tests import random_networks
from tests import vocos_references

FACTS = {"source": "facebook/encodec_24khz", "source_sha256": "", "licence": "CC0-1.0"}


@functools.cache
def encodec():
    """The config and parameters of a small EnCodec with the decoder's codebooks, and one more."""
    model_config = encodec_24khz.get_config().model
    model_config.update({"num_filters": 2, "num_lstm_layers": 0, "num_codebooks": 5})
    model_config.bandwidths = (0.75, 3.0)
    params = random_networks.random_params(model_config)
    own = vocos_references.small().codebooks.numpy()
    params["quantizer"]["codebooks"][:4] = own
    return model_config, params


def noise(length):
    return 0.2 * np.random.default_rng(0).standard_normal((length, 1)).astype(np.float32)


class VocosFilesTestCase(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.source = vocos_references.small().save(self.folder / "source")
        self.output = self.folder / "vocos.safetensors"

    def convert(self, variant=None, source=None, **settings):
        printed = io.StringIO()
        source = str(source or self.source)
        with contextlib.redirect_stdout(printed):
            convert.run(variant, source=source, output=str(self.output), force=True, **settings)
        return printed.getvalue()

    def error(self, *arguments, **settings):
        with self.assertRaises(ValueError) as context:
            self.convert(*arguments, **settings)
        return str(context.exception)

    def rewrite(self, section=None, **arguments):
        """Change arguments of the config; None takes one away."""
        fields = yaml.safe_load((self.source / "config.yaml").read_text())
        if section is not None:
            given = fields[section]["init_args"]
            given.update(arguments)
            fields[section]["init_args"] = {k: v for k, v in given.items() if v is not None}
        (self.source / "config.yaml").write_text(yaml.safe_dump(fields))

    def rewrite_tensors(self, **tensors):
        state = vocos_references.small().state() | {
            key.replace("__", "."): value for key, value in tensors.items()
        }
        state = {key: value for key, value in state.items() if value is not None}
        torch.save(state, self.source / "pytorch_model.bin")

    def save_encodec(self, **changes):
        model_config, params = encodec()
        path = self.folder / "encodec.safetensors"
        facts = FACTS | {"name": "encodec_24khz"} | changes
        params = facts.pop("params", params)
        checkpoint.save(path, params, model_config, **facts)
        return path


class AloneTest(VocosFilesTestCase):
    def test_sounds_as_the_source(self):
        printed = self.convert(licence="CC0-1.0")
        self.assertIn("1 not needed, head.istft.window: the Hann window", printed)
        self.assertIn(
            "it decodes codes of encodec_24khz, and has no encoder: --join adds one", printed
        )
        codec = encodec_hk.load(self.output)
        self.assertEqual(codec.codes_of, ("encodec_24khz", "", None))
        self.assertEqual(codec.source, "source (pytorch_model.bin)")
        self.assertEqual(codec.num_codebooks, 4)
        codes = np.random.default_rng(0).integers(0, 1024, (1, 4, 31))
        for norm, count in enumerate((2, 4)):
            expected = vocos_references.small().decode(codes[0, :count], norm)
            found = codec.decode(codec.encoded(codes[:, :count]))[0, :, 0]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)

    def test_the_weights_file_and_the_hub(self):
        self.convert(source=self.source / "pytorch_model.bin")
        expected = encodec_hk.load(self.output).fingerprint
        name = "charactr/vocos-encodec-24khz"
        hub_cache.put(self.folder / "hub", name, self.source)
        hub_cache.use(self, self.folder / "hub")
        self.convert(source=name)
        with self.assertRaisesRegex(ValueError, f"{name}: PyTorch must read pytorch_model.bin"):
            encodec_hk.load(name)
        loaded = checkpoint.load(self.output)
        self.assertEqual(encodec_hk.load(self.output).fingerprint, expected)
        self.assertEqual(loaded.name, "vocos_encodec_24khz")
        self.assertEqual(loaded.metadata["licence"], "MIT (stated on the hub)")

    def test_beside_a_config(self):
        variant = vocos_encodec_24khz.get_config()
        message = self.error(variant)
        self.assertIn("- vocos.dim 384\n+ vocos.dim 24", message)
        variant.model.update({"num_codebooks": 4, "bandwidths": (1.5, 3.0)})
        variant.model.vocos.update({"dim": 24, "intermediate": 40, "num_layers": 2})
        variant.model.vocos.bandwidths = (1.5, 3.0)
        variant.inference.bandwidth = 3.0
        self.convert(variant)
        self.assertEqual(checkpoint.load(self.output).name, "vocos_encodec_24khz")
        codec = encodec_hk.load(self.output, variant)
        self.assertEqual((codec.bandwidth, codec.has_encoder), (3.0, False))
        # An EnCodec is no such decoder.
        message = self.error(variant, source=self.save_encodec())
        self.assertIn("differs from --config", message)

    def test_published_sizes(self):
        """The shipped config is the network of the published one."""
        reference = vocos_references.Reference.__new__(vocos_references.Reference)
        with mock.patch.object(vocos_references.Reference, "_condition"):
            reference.__init__()
        reference.save(self.source)
        self.convert(vocos_encodec_24khz.get_config(), int16=True)
        params = checkpoint.load(self.output).params
        count = sum(map(np.size, jax.tree.leaves(params))) - 16 * 1024 * 128
        self.assertEqual(count, sum(p.numel() for p in reference.network.parameters()))

    def test_infer_from_metas_files(self):
        self.convert()
        header = bitstream.meta_header("encodec_24khz", 8, 5000)  # more than the decoder has
        codes = np.random.default_rng(0).integers(0, 1024, (8, 16))
        with open(self.folder / "a.ecdc", "wb") as file:
            writer = bitstream.open_writer(file, header)
            writer.write(codes.astype(np.int32), None)
            writer.finish(5000)

        def decode(**settings):
            paths = (str(self.folder / name) for name in ("a.ecdc", "a.wav"))
            settings |= {"checkpoint": str(self.output), "sample_format": "float32"}
            with contextlib.redirect_stdout(io.StringIO()):
                infer.run(None, *paths, **settings)

        with self.assertRaisesRegex(ValueError, "a.ecdc: num_codebooks: got 8, must be .* 1 to 4"):
            decode()
        decode(bandwidth=1.5)
        expected = vocos_references.small().decode(codes[:2], 0)[:5000]
        found = sound_files.read(self.folder / "a.wav").samples[:, 0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)

    def test_verify(self):
        with vocos_references.torchaudio():
            vocos_references.package("models")
            printed = self.convert(verify=True)
        self.assertRegex(printed, r"(?m)^  audio at 1.5 kbps: \d\.\d+e-0[678] largest difference")
        self.assertIn("audio at 3 kbps", printed)

    def test_not_to_transformers(self):
        message = self.error(to="transformers")
        self.assertIn("decoder: got 'vocos', must be seanet in transformers' EnCodec", message)

    @parameterized.parameters(
        ("backbone", {"dropout": 1}, "config.yaml: backbone: unknown arguments dropout"),
        ("backbone", {"dim": None}, "config.yaml: backbone: lacks dim"),
        ("backbone", {"input_channels": 100}, "backbone.input_channels: got 100, must be 128"),
        ("backbone", {"adanorm_num_embeddings": 3}, "embeddings: got 3, must be 2"),
        ("head", {"padding": "center"}, "head.padding: got 'center', must be 'same'"),
        ("head", {"hop_length": 256}, "head.hop_length: got 256, must be 320"),
        ("head", {"n_fft": 1000}, "n_fft: got 1000, must be a multiple of the hop"),
        (
            "feature_extractor",
            {"encodec_model": "encodec_48khz"},
            "got 'encodec_48khz', must be en",
        ),
        ("feature_extractor", {"bandwidths": [2.0, 3.0]}, "bandwidths: got 2.0, must be a whole"),
        (
            "feature_extractor",
            {"bandwidths": "all"},
            "bandwidths: got 'all', must be a list of kbps",
        ),
    )
    def test_refuses_configs(self, section, arguments, message):
        self.rewrite(section, **arguments)
        self.assertIn(message, self.error())

    @parameterized.parameters(
        ("a: [", "config.yaml: cannot be read"),
        ("[]", "config.yaml: lacks feature_extractor: it is no config of vocos"),
        (
            "feature_extractor: {class_path: vocos.feature_extractors.MelSpectrogramFeatures}",
            "got 'vocos.feature_extractors.MelSpectrogramFeatures', must be vocos.feature_extract",
        ),
    )
    def test_refuses_other_files(self, text, message):
        (self.source / "config.yaml").write_text(text)
        self.assertIn(message, self.error())

    def test_refuses_tensors(self):
        self.rewrite_tensors(head__out__bias=None, more=torch.zeros(3))
        message = self.error()
        self.assertIn("- head.out.bias [1282]\n+ more [3]", message)
        self.rewrite_tensors(head__istft__window=torch.ones(1280))
        self.assertIn("must be the periodic Hann window of 1280 samples", self.error())
        self.rewrite_tensors(head__out__bias=torch.full((1282,), torch.nan))
        self.assertIn("NaN or infinity in decoder/head/linear.b", self.error())
        torch.save({"a": pathlib.PurePosixPath("x")}, self.source / "pytorch_model.bin")
        self.assertIn("refused: not a pickle of tensors only", self.error())
        (self.source / "pytorch_model.bin").unlink()
        self.assertIn("has config.yaml, but not pytorch_model.bin beside it", self.error())

    def test_tensors_of_encodec_are_left_out(self):
        self.rewrite_tensors(
            feature_extractor__encodec__encoder__x=torch.zeros(3), head__istft__window=None
        )
        printed = self.convert()
        self.assertIn("1 not needed, feature_extractor.encodec.: the EnCodec model", printed)


class JoinTest(VocosFilesTestCase):
    @pytest.mark.slow
    def test_has_the_encoder_of_one_and_the_sound_of_the_other(self):
        path = self.save_encodec()
        self.assertNotIn("no encoder", self.convert(join=str(path)))
        encoder, codec = encodec_hk.load(path), encodec_hk.load(self.output)
        encoded = codec.encode([noise(5000), noise(1500)], num_codebooks=4)
        expected = encoder.encode([noise(5000), noise(1500)], num_codebooks=4)
        np.testing.assert_array_equal(encoded.codes, expected.codes)
        found = codec.decode(encoded)[0, :, 0]
        sound = vocos_references.small().decode(encoded.codes[0], 1)[:5000]
        np.testing.assert_allclose(found, sound, rtol=0, atol=1e-5)
        self.assertEqual(codec.codes_of, encoder.codes_of)
        self.assertEqual(codec.num_codebooks, 4)
        loaded = checkpoint.load(self.output)
        self.assertEqual(
            loaded.source, "source (pytorch_model.bin), encoder of facebook/encodec_24khz"
        )
        self.assertEndsWith(loaded.metadata["licence"], "; of the encoder: CC0-1.0")
        # Each writes the other's files, and reads them.
        for version in (0, 1):
            headers = [ecdc.header(each, 4, 5000, version) for each in (encoder, codec)]
            self.assertEqual(*headers)
            ecdc.check(headers[0], codec)
        self.assertEqual(headers[0].fingerprint, encoder.fingerprint)

    def test_a_decoder_that_was_converted_before(self):
        self.convert()
        alone = self.folder / "alone.safetensors"
        shutil.move(self.output, alone)
        self.convert(source=alone, join=str(self.save_encodec()))
        first = encodec_hk.load(self.output)
        self.assertTrue(first.has_encoder)
        self.convert(join=str(self.save_encodec()))
        self.assertEqual(encodec_hk.load(self.output).fingerprint, first.fingerprint)

    def test_rounded_codebooks_are_the_same(self):
        self.convert(join=str(self.save_encodec(int16=True)))
        self.assertTrue(encodec_hk.load(self.output).has_encoder)

    def test_refuses(self):
        model_config, params = encodec()
        changed = {key: dict(value) for key, value in params.items()}
        changed["quantizer"]["codebooks"] = params["quantizer"]["codebooks"][::-1].copy()
        path = self.save_encodec(params=changed)
        message = self.error(join=str(path))
        self.assertStartsWith(message, f"--join={path}: its codebooks are not those of the decoder")
        path = self.save_encodec()
        self.assertIn("decoder: got 'seanet', must be vocos", self.error(source=path, join=path))
        self.convert()
        alone = self.folder / "alone.safetensors"
        shutil.move(self.output, alone)
        self.assertEndsWith(self.error(join=str(alone)), ": has no encoder")
        other = config.from_json(config.to_json(model_config))
        with other.unlocked():
            other.update({"sample_rate": 16000, "num_codebooks": 3, "bandwidths": (0.5,)})
        fewer = {**params, "quantizer": {"codebooks": params["quantizer"]["codebooks"][:3]}}
        checkpoint.save(path, fewer, other, name="x", **FACTS)
        message = self.error(join=str(path))
        self.assertIn("sample_rate: got 16000, the decoder has 24000", message)
        self.assertIn("num_codebooks: got 3, the decoder has 4", message)

    def test_beside_a_config(self):
        message = self.error(vocos_encodec_24khz.get_config(), join=str(self.save_encodec()))
        self.assertIn("- num_filters 32\n+ num_filters 2", message)


if __name__ == "__main__":
    absltest.main()
