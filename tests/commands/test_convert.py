"""`run.py convert`: all directions, checked against the networks of the sources."""

import contextlib
import importlib
import io
import os
import pathlib
import tempfile
from unittest import mock

import chex
import jax
import ml_collections
import numpy as np
import pytest
import torch
import transformers
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from encodec_hk import checkpoint
from encodec_hk.commands import convert
from encodec_hk.convert import verify
from encodec_hk.pretrained import published
from encodec_hk.pretrained import weights
from tests import random_networks
from tests import reference_files
from tests import references


def variant_of(model):
    """Return a whole configuration with a model config."""
    variant = importlib.import_module("configs.encodec_tiny").get_config()
    with variant.unlocked():
        variant.model = ml_collections.ConfigDict(model.to_dict())
        variant.inference.bandwidth = model.bandwidths[-1]
    return variant


def random_params(model, seed=0):
    rng = np.random.default_rng(seed)
    expected = checkpoint.expected_params(model)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), expected)


def encode_torch(network, audio):
    """Return codes [K, F], scales and decoded audio of audio [T, C] from either reference."""
    x = torch.from_numpy(audio.T[None].copy())
    with torch.inference_mode():
        if isinstance(network, transformers.EncodecModel):
            encoded = network.encode(x, bandwidth=network.config.target_bandwidths[-1])
            frames = list(zip(encoded.audio_codes, encoded.audio_scales, strict=True))
            codes, scale = frames[-1]
            frames[-1] = codes[..., : codes.shape[-1] - encoded.last_frame_pad_length], scale
            y = network.decode(
                encoded.audio_codes,
                encoded.audio_scales,
                last_frame_pad_length=encoded.last_frame_pad_length,
            ).audio_values
        else:
            frames = network.encode(x)
            y = network.decode(frames)
    codes = torch.cat([codes[0] for codes, _ in frames], dim=1).numpy()
    scales = None if frames[0][1] is None else np.array([[float(s) for _, s in frames]])
    return codes, scales, y[0, :, : len(audio)].numpy().T


class ConvertTestCase(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.output = self.folder / "out" / "model.safetensors"
        self.model = references.tiny()

    def convert(self, source, output=None, variant=None, **settings):
        """Run the command, with --config if given, and return what it prints."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            status = convert.run(
                variant, source=str(source), output=str(output or self.output), **settings
            )
        self.assertEqual(status, 0)
        return printed.getvalue()

    def error(self, *arguments, **settings):
        with self.assertRaises(ValueError) as context:
            self.convert(*arguments, **settings)
        return str(context.exception)

    def official(self, stem="encodec_tiny"):
        network = references.official_model(self.model)
        return reference_files.save_official(network, self.folder, stem)

    def transformers(self, name="facebook_tiny"):
        network = references.transformers_model(self.model)
        return reference_files.save_transformers(network, self.folder / name)

    def ours(self, model=None):
        """Return a checkpoint of ours with the weights of the references."""
        self.model = model or self.model
        self.convert(self.official(), variant=variant_of(self.model), licence="CC0-1.0")
        return self.output

    def assert_same_codec(self, codec, network):
        model = codec.model_config
        for samples in (6 * model.sample_rate // 5 + 77, 31):
            audio = references.audio(2, model.sample_rate, model.channels, seed=5)[-samples:]
            codes, scales, decoded = encode_torch(network, audio)
            encoded = codec.encode(audio[None], num_codebooks=model.num_codebooks)
            self.assertGreaterEqual(np.mean(encoded.codes[0] == codes), 0.9995)
            theirs = codec.encoded(codes[None], num_samples=[len(audio)], scales=scales)
            np.testing.assert_allclose(codec.decode(theirs)[0], decoded, atol=1e-5)


class InTest(ConvertTestCase):
    @parameterized.parameters(*references.TINY)
    @pytest.mark.few(0)
    def test_official(self, name):
        self.ours(references.tiny(name))
        network = references.official_model(self.model)
        self.assert_same_codec(encodec_hk.load(self.output), network)

    def test_all_kinds_of_sources_give_the_same(self):
        expected = checkpoint.load(self.ours()).params
        network = references.official_model(self.model)
        audiocraft = reference_files.save_audiocraft(network, self.folder / "ac", self.model)
        for source in (self.transformers(), audiocraft, audiocraft.parent):
            for variant in (None, variant_of(self.model)):
                self.convert(source, variant=variant, force=True)
                loaded = checkpoint.load(self.output)
                chex.assert_trees_all_equal(loaded.params, expected)
                same = self.model.to_dict()
                if variant is None and source != self.folder / "facebook_tiny":
                    same["bandwidths"] = self.model.bandwidths[-1:]
                self.assertEqual(loaded.config.to_dict(), same)

    def test_provenance(self):
        printed = self.convert(self.transformers(), licence="CC0-1.0")
        metadata = checkpoint.load(self.output).metadata
        self.assertEqual(metadata["source"], "facebook_tiny (model.safetensors)")
        self.assertEqual(metadata["name"], "facebook_tiny")
        self.assertEqual(metadata["licence"], "CC0-1.0")
        self.assertIn(f"SHA-256 {metadata['source_sha256']}", printed)
        self.assertIn("4 cluster_size: moving average", printed)
        self.assertEndsWith(printed, f"wrote {self.output}\n")
        self.assertEqual(os.listdir(self.output.parent), ["model.safetensors"])

    def test_the_source_decides_the_pad_mode(self):
        variant = variant_of(self.model)
        variant.model.pad_mode = "constant"
        printed = self.convert(self.transformers(), variant=variant)
        self.assertIn("pad_mode: reflect, as the source states (config: constant)\n", printed)
        self.assertEqual(checkpoint.load(self.output).config.pad_mode, "reflect")

    def test_config_and_source_differ(self):
        variant = variant_of(self.model)
        variant.model.num_filters = 8
        message = self.error(self.transformers(), variant=variant)
        self.assertEqual(message.split("\n")[1:], ["- num_filters 8", "+ num_filters 4"])
        self.assertFalse(self.output.parent.exists())

    def test_tensors_and_config_differ(self):
        variant = variant_of(self.model)
        variant.model.num_residual_layers = 0
        message = self.error(self.official(), variant=variant)
        self.assertIn("\n- encoder.model.2.conv.conv.weight [8, 4, 4]\n", message)
        self.assertIn("\n+ encoder.model.1.block.1.conv.conv.bias [2]\n", message)
        self.assertFalse(self.output.parent.exists())

    @parameterized.parameters("encodec_24khz", "encodec_48khz")
    @pytest.mark.few(0)
    def test_recognises_bare_state_dicts(self, name):
        network = references.official_model(name)
        printed = self.convert(reference_files.save_official(network, self.folder, "unknown"))
        self.assertIn(f"config: {name}, by its tensors\n", printed)
        loaded = checkpoint.load(self.output)
        self.assertEqual(loaded.name, name)
        self.assertEqual(loaded.config, references.model_config(name))

    def test_knows_published_checkpoints(self):
        source = self.official()
        known = published.Known(source.name, "encodec_tiny", "", "CC-BY-4.0")
        with mock.patch.object(published, "manifest", return_value=[known]):
            self.assertIn("its tensors are not those of encodec_tiny", self.error(source))
            self.convert(source, variant=variant_of(self.model))
        self.assertEqual(checkpoint.load(self.output).metadata["licence"], "CC-BY-4.0")

    def test_unknown_state_dict(self):
        message = self.error(self.official())
        self.assertRegex(message, "not those of encodec_24khz or encodec_48khz: give --config$")

    @parameterized.parameters("model", "model.th", ".")
    def test_output_name(self, name):
        message = self.error(self.transformers(), output=self.folder / name)
        self.assertIn("must be a file name that ends in .safetensors", message)

    def test_output_that_cannot_be_written(self):
        (self.folder / "file").write_bytes(b"")
        message = self.error(self.transformers(), output=self.folder / "file" / "a.safetensors")
        self.assertIn("cannot be written", message)

    @parameterized.parameters(("", "a.safetensors"), ("a", ""), (None, None))
    def test_needs_source_and_output(self, source, output):
        with self.assertRaisesRegex(ValueError, "needs --source and --output$"):
            convert.run(None, source=source, output=output)

    def test_own_checkpoint(self):
        self.assertIn("is a checkpoint of this project", self.error(self.ours(), force=True))


class OutTest(ConvertTestCase):
    @parameterized.parameters(*(name for name in references.TINY if name != "no_lstm"))
    def test_round_trip(self, name):
        ours = self.ours(references.tiny(name))
        exported = self.folder / "exported"
        self.convert(ours, output=exported, to="transformers")
        # Compares PyTorch with PyTorch: InTest and VerifyTest compare with ours.
        network = transformers.EncodecModel.from_pretrained(exported).eval()
        audio = references.audio(2, self.model.sample_rate, self.model.channels, seed=3)
        codes, _, decoded = encode_torch(network, audio)
        expected_codes, _, expected = encode_torch(references.transformers_model(self.model), audio)
        self.assertGreaterEqual(np.mean(codes == expected_codes), 0.9995)
        if np.array_equal(codes, expected_codes):
            np.testing.assert_allclose(decoded, expected, atol=1e-5)
        again = self.folder / "again.safetensors"
        self.convert(exported, output=again, variant=variant_of(self.model))
        back, first = checkpoint.load(again), checkpoint.load(ours)
        self.assertEqual(back.config, first.config)
        # g * (v / |v|) for v = w and g = |w|.
        chex.assert_trees_all_close(back.params, first.params, rtol=3e-7)

    def test_weights_are_exact_in_pytorch(self):
        exported = self.folder / "exported"
        params = checkpoint.load(self.ours()).params
        self.convert(self.output, output=exported, to="transformers")
        network = transformers.EncodecModel.from_pretrained(exported)
        w = network.encoder.layers[0].conv.weight.detach().numpy()
        np.testing.assert_array_equal(w.T, params["encoder/conv_in"]["w"])

    @parameterized.parameters("causal", "group_norm")
    def test_processor(self, name):
        exported = self.folder / "exported"
        self.convert(self.ours(references.tiny(name)), output=exported, to="transformers")
        processor = transformers.AutoProcessor.from_pretrained(exported)
        self.assertIsInstance(processor, transformers.EncodecFeatureExtractor)
        self.assertEqual(processor.sampling_rate, self.model.sample_rate)
        self.assertEqual(processor.feature_size, self.model.channels)
        self.assertEqual(processor.chunk_length_s, self.model.segment_seconds)

    def test_from_a_pytorch_source(self):
        exported = self.folder / "exported"
        self.convert(
            self.official(), output=exported, to="transformers", variant=variant_of(self.model)
        )
        network = transformers.EncodecModel.from_pretrained(exported).eval()
        expected = references.official_model(self.model)
        audio = references.audio(1, 24000, 1, seed=3)
        np.testing.assert_array_equal(
            encode_torch(network, audio)[0], encode_torch(expected, audio)[0]
        )

    def test_never_overwrites_a_folder(self):
        exported = self.folder / "exported"
        exported.mkdir()
        self.convert(self.ours(), output=exported, to="transformers")
        self.assertIn("config.json", os.listdir(exported))
        message = self.error(self.output, output=exported, to="transformers")
        self.assertIn("already exists", message)

    def test_a_file_is_replaced_by_force_alone(self):
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self.output.write_text("a checkpoint of weeks")
        source, variant = self.official(), variant_of(self.model)
        message = self.error(source, variant=variant)
        self.assertIn("exists already; --force replaces it", message)
        self.assertEqual(self.output.read_text(), "a checkpoint of weeks")
        self.convert(source, variant=variant, force=True)
        self.assertGreater(self.output.stat().st_size, 1000)

    def test_no_such_network_in_transformers(self):
        ours = self.ours(references.tiny("no_lstm"))
        message = self.error(ours, output=self.folder / "exported", to="transformers")
        self.assertStartsWith(message, "num_lstm_layers: got 0")
        self.assertFalse((self.folder / "exported").exists())

    def test_an_encoder_that_pytorch_has_not(self):
        """Neither read, where --config describes one, nor written."""
        model = random_networks.small(encoder="fourier")
        message = self.error(self.official(), variant=variant_of(model))
        self.assertStartsWith(message, "config.model.encoder: got 'fourier', must be seanet, as")
        path = self.folder / "fourier.safetensors"
        origin = {"source": "random", "source_sha256": "", "licence": "none"}
        params = random_networks.random_params(model)
        checkpoint.save(path, params, model, name="small", **origin)
        message = self.error(path, output=self.folder / "exported", to="transformers")
        self.assertStartsWith(message, "encoder: got 'fourier', must be seanet in transformers'")

    def test_unknown_target(self):
        self.assertIn("must be one of haiku, transformers", self.error(self.folder, to="onnx"))


class VerifyTest(ConvertTestCase):
    @parameterized.parameters("causal", "group_norm")
    @pytest.mark.few(0)
    def test_report(self, name):
        self.model = references.tiny(name)
        printed = self.convert(self.transformers(), verify=True)
        for k in range(4):
            self.assertRegex(printed, rf"codebook  {k}: 100.000% equal\n")
        self.assertRegex(printed, r"audio: .*\de-0[5-9] largest difference")

    def test_both_ends(self):
        printed = self.convert(
            self.transformers(), output=self.folder / "exported", to="transformers", verify=True
        )
        self.assertEqual(printed.count("codebook  3: 100.000% equal"), 2)

    def test_failure_leaves_nothing(self):
        with mock.patch.object(weights, "to_haiku", return_value=random_params(self.model)):
            message = self.error(self.transformers(), verify=True)
        self.assertIn("does not compute what the source's does", message)
        self.assertEmpty(os.listdir(self.output.parent))

    def test_signal(self):
        signal = verify.signal(24000, 2)
        np.testing.assert_array_equal(signal, verify.signal(24000, 2))
        self.assertEqual(signal.dtype, np.float32)
        self.assertBetween(np.abs(signal).max(), 0.1, 1.0)


if __name__ == "__main__":
    absltest.main()
