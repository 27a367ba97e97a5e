"""ONNX: the exported graphs give the codec's codes and audio, whole and in streams."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from unittest import mock

import numpy as np
import onnx
import pytest
from absl.testing import absltest
from absl.testing import parameterized
from onnx import reference

import encodec_hk
from encodec_hk.networks import reach
from tests import exported_onnx
from tests import random_networks
from tests import references

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "export.md"
VARIANTS = {
    **random_networks.VARIANTS,
    "zeros": {"pad_mode": "constant", "num_residual_layers": 2, "dilation_base": 3},
    "zeros_ahead": {"pad_mode": "constant", "causal": False},
    "vocos_causal": {"decoder": "vocos", "vocos": {"causal": True}},
    "fourier_ahead": {"encoder": "fourier", "causal": False},
}
# 12 samples are a hop; an exact start needs 24 to 48, a segment has 120, one every 118.
LENGTHS = (1, 2, 5, 11, 12, 13, 24, 25, 47, 100, 119, 120, 301)
AUDIO_ERROR = 1e-4
EQUAL_CODES = 0.9995

# Runs before the Python of the page: as where only ONNX Runtime is installed.
ALONE = """
import sys
for name in ("encodec_hk", "jax", "haiku", "ml_collections", "onnx"):
    sys.modules[name] = None
"""
SAVE = """
results = {"audio": audio, "codes": codes, "decoded": decoded}
np.savez("results.npz", streamed=streamed, played=played, **results)
"""
SAVE_SEGMENTS = """
audio = 0.1 * np.random.default_rng(1).standard_normal((1, 2, 333)).astype(np.float32)
encoded = encode_segments(audio, np.array(3))
decoded = decode_segments(encoded, audio.shape[-1])
np.savez("results.npz", audio=audio, codes=np.concatenate([c for c, _ in encoded], axis=-1),
         scales=np.concatenate([s for _, s in encoded]), decoded=decoded)
"""


def random_codec(variant):
    model_config = random_networks.small(**VARIANTS[variant])
    params = random_networks.random_params(model_config)
    return encodec_hk.Codec(model_config, params, name=variant, block_seconds=0.1)


def signal(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


class OnnxTestCase(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    def check_items(self, codec, exported, items, counts):
        """Encode items [T, C] with both, for several numbers of codebooks; decode with both.

        The codec's codes of fewer codebooks are the first of those of more.
        """
        encoded = codec.encode(items, num_codebooks=max(counts))
        decoded = codec.decode(encoded)
        wrong, total, largest = 0, 0, 0.0
        for index, item in enumerate(items):
            codes = encoded.codes[index, :, : encoded.num_frames[index]]
            for count in counts:
                found, scales = exported.encode(item, np.array(count))
                expected = codes[:count]
                self.assertEqual(found.shape, expected.shape)
                for margin in exported_onnx.margins(codec, exported.facts, item, found, expected):
                    self.assertLess(margin, exported_onnx.MARGIN, f"{len(item)} samples")
                wrong, total = wrong + np.sum(found != expected), total + found.size
            if scales is not None:
                own = encoded.scales[index, : len(scales)]
                np.testing.assert_allclose(scales[:, 0], own, rtol=1e-5)
                scales = own[:, None]
            audio = exported.decode(codes, scales, len(item))
            self.assertEqual(audio.shape, item.shape)
            difference = np.abs(audio - decoded[index, : len(item)]).max()
            self.assertLess(difference, AUDIO_ERROR, f"{len(item)} samples")
            largest = max(largest, difference)
        print(f"{codec.name}: {wrong} of {total} codes differ, audio by {largest:.1e} at most")
        self.assertLessEqual(wrong, (1 - EQUAL_CODES) * total)


class GraphsTest(OnnxTestCase):
    @parameterized.parameters(*VARIANTS)
    def test_whole_signals(self, variant):
        codec = random_codec(variant)
        exported = exported_onnx.Exported(codec, self.folder)
        for path in self.folder.glob("*.onnx"):
            onnx.checker.check_model(path, full_check=True)
        items = [signal(length, codec.channels, seed=length) for length in LENGTHS]
        self.check_items(codec, exported, items, (1,) if variant == "vocos" else (1, 3))

    def test_batches(self):
        exported = exported_onnx.Exported(random_codec("causal"), self.folder)
        audio, count = signal(5, 1, 100), {"num_codebooks": np.array(3)}
        codes = exported.run("encoder", audio=audio, **count)["codes"]
        decoded = exported.run("decoder", codes=codes)["audio"]
        for row in range(5):
            one = audio[row : row + 1]
            found = exported.run("encoder", audio=one, **count)["codes"]
            np.testing.assert_array_equal(found[0], codes[row])
            found = exported.run("decoder", codes=found)["audio"]
            np.testing.assert_allclose(found[0], decoded[row], atol=1e-6)

    @parameterized.parameters("causal", "segmented", "vocos_causal", "spectra")
    def test_another_runtime(self, variant):
        codec = random_codec(variant)
        exported = exported_onnx.Exported(codec, self.folder)
        for length in (1, 47):
            inputs = {"audio": signal(2, codec.channels, length), "num_codebooks": np.array(2)}
            for network in ("encoder", "decoder"):
                expected = exported.run(network, **inputs)
                found = reference.ReferenceEvaluator(f"{self.folder}/{network}.onnx")
                for value, other in zip(expected.values(), found.run(None, inputs), strict=True):
                    np.testing.assert_allclose(other, value, atol=1e-6)
                inputs = expected

    @parameterized.parameters("causal", "zeros", "vocos_causal", "spectra")
    def test_streams(self, variant):
        exported = exported_onnx.Exported(random_codec(variant), self.folder)
        rng = np.random.default_rng(1)
        hop, count = exported.facts["hop"], {"num_codebooks": np.array(3)}
        for frames in (8, 17, 40):
            audio = signal(2, 1, (frames - 1) * hop + int(rng.integers(1, hop + 1)), seed=frames)
            codes = exported.run("encoder", audio=audio, **count)["codes"]
            decoded = exported.run("decoder", codes=codes)["audio"]
            first = exported.facts["encoder"]["first_block"] // hop
            for _ in range(3):
                cuts = np.unique(rng.integers(first, frames, 6))
                pieces = np.split(audio, cuts * hop, axis=-1)
                found = exported.stream("encoder", pieces, **count)
                np.testing.assert_array_equal(found, codes)
                cuts = np.unique(rng.integers(exported.facts["decoder"]["first_block"], frames, 6))
                found = exported.stream("decoder", np.split(codes, cuts, axis=-1))
                np.testing.assert_allclose(found, decoded, atol=1e-6)

    def test_a_short_signal_is_a_whole_stream(self):
        exported = exported_onnx.Exported(random_codec("causal"), self.folder)
        inputs = {"audio": signal(1, 1, 7), "num_codebooks": np.array(2)}
        names = ("encoder", "encoder_start")
        whole, start = (exported.run(name, **inputs)["codes"] for name in names)
        np.testing.assert_array_equal(start, whole)


class FolderTest(OnnxTestCase):
    def test_facts(self):
        codec = random_codec("causal")
        exported = exported_onnx.Exported(codec, self.folder)
        networks = [
            *("decoder", "decoder_start", "decoder_step"),
            *("encoder", "encoder_start", "encoder_step"),
        ]
        files = [f"{name}.onnx" for name in networks] + ["decoder.weights", "encoder.weights"]
        self.assertCountEqual(exported.facts["files"], files)
        self.assertCountEqual(os.listdir(self.folder), [*files, "stream.json"])
        for name in networks:
            network, _, kind = name.partition("_")
            metadata = exported.session(name).get_modelmeta().custom_metadata_map
            self.assertEqual(metadata["fingerprint"], codec.fingerprint)
            self.assertEqual(json.loads(metadata["hop"]), 12)
            facts = exported.facts[network]
            self.assertEqual(json.loads(metadata[network]), facts)
            states = {state["name"]: state["shape"] for state in facts["states"]}
            inputs = {each.name: each.shape for each in exported.session(name).get_inputs()}
            outputs = {each.name for each in exported.session(name).get_outputs()}
            self.assertEqual(states.items() <= inputs.items(), kind == "step")
            self.assertEqual({f"next_{name}" for name in states} <= outputs, bool(kind))
        encoder = exported.facts["encoder"]
        first = reach.minimum_first_blocks(codec.model_config)[0] * 12
        self.assertEqual((encoder["first_block"], encoder["lag"]), (first, 0))
        self.assertIsNone(encoder["num_codebooks"])

    def test_graphs_have_no_parameters_of_their_own(self):
        exported_onnx.Exported(random_codec("causal"), self.folder)
        for path in self.folder.glob("*.onnx"):
            self.assertLess(path.stat().st_size, 60_000, path)

    def test_loops_declare_ranks(self):
        """OpenVINO refuses a loop whose inputs have no rank."""
        exported_onnx.Exported(random_codec("causal"), self.folder)
        graph = onnx.load(self.folder / "encoder.onnx", load_external_data=False).graph
        (loop,) = (node for node in graph.node if node.op_type == "Loop")
        body = loop.attribute[0].g
        for value in (*body.input, *body.output):
            self.assertTrue(value.type.tensor_type.HasField("shape"), value.name)

    def test_what_cannot_stream(self):
        facts = exported_onnx.Exported(random_codec("vocos"), self.folder).facts
        self.assertTrue(facts["encoder"]["streams"])
        self.assertFalse(facts["decoder"]["streams"])
        self.assertIn("looks ahead", facts["decoder"]["why_not"])
        self.assertFalse((self.folder / "decoder_step.onnx").exists())

    def test_a_decoder_alone(self):
        codec = random_codec("vocos_causal")
        params = {key: v for key, v in codec.params.items() if not key.startswith("encoder/")}
        codec = encodec_hk.Codec(codec.model_config, params)
        self.assertIsNone(exported_onnx.Exported(codec, self.folder).facts["encoder"])
        self.assertFalse(list(self.folder.glob("encoder*")))

    def test_fixed_bandwidth(self):
        exported = exported_onnx.Exported(random_codec("causal"), self.folder, num_codebooks=2)
        self.assertEqual(exported.run("encoder", audio=signal(1, 1, 30))["codes"].shape, (1, 2, 3))
        self.assertEqual(exported.facts["encoder"]["num_codebooks"], 2)

    def test_without_onnx(self):
        with (
            mock.patch.dict(sys.modules, {"onnx": None}),
            self.assertRaisesRegex(ValueError, r"export to ONNX needs onnx: pip install '.*\[onnx"),
        ):
            exported_onnx.Exported(random_codec("causal"), self.folder)


class PageTest(OnnxTestCase):
    """The Python of docs/export.md, in a process that has neither this package nor JAX."""

    def setUp(self):
        super().setUp()
        blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
        start = next(index for index, text in enumerate(blocks) if "import onnxruntime" in text)
        self.whole, self.stream, self.segments = blocks[start : start + 3]

    def run_page(self, codec, text):
        exported = self.folder / "codec_onnx"
        exported.mkdir()
        exported_onnx.Exported(codec, exported)
        environment = {key: v for key, v in os.environ.items() if key != "PYTHONPATH"}
        command = [sys.executable, "-c", ALONE + text]
        result = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        return np.load(self.folder / "results.npz")

    def test_whole_and_stream(self):
        codec = encodec_hk.load("encodec_tiny")
        results = self.run_page(codec, self.whole + self.stream + SAVE)
        encoded = codec.encode(results["audio"].swapaxes(1, 2), bandwidth=6.0)
        decoded = codec.decode(encoded).swapaxes(1, 2)
        np.testing.assert_array_equal(results["codes"], encoded.codes)
        np.testing.assert_array_equal(results["streamed"], encoded.codes)
        np.testing.assert_allclose(results["decoded"], decoded, atol=1e-6)
        played = results["played"][..., : decoded.shape[-1]]
        np.testing.assert_allclose(played, decoded, atol=1e-6)

    def test_segments(self):
        codec = random_codec("segmented")
        functions = self.whole.partition("audio = ")[0] + self.segments
        results = self.run_page(codec, functions + SAVE_SEGMENTS)
        encoded = codec.encode(results["audio"].swapaxes(1, 2), num_codebooks=3)
        np.testing.assert_array_equal(results["codes"], encoded.codes)
        np.testing.assert_allclose(results["scales"][:, 0], encoded.scales[0], rtol=1e-5)
        decoded = codec.decode(encoded).swapaxes(1, 2)
        np.testing.assert_allclose(results["decoded"], decoded, atol=1e-6)


@pytest.mark.slow
@pytest.mark.compiles_normally
class FullSizeTest(OnnxTestCase):
    @parameterized.parameters("encodec_24khz", "encodec_48khz", "encodec_32khz", "encodec_16khz")
    def test_whole_signals(self, variant):
        codec = references.codec(variant)
        exported = exported_onnx.Exported(codec, self.folder)
        lengths = (1, 31, 319, 320, 321, 2240, 47680, 100_000, 10 * codec.sample_rate)
        longest = references.audio(11, codec.sample_rate, codec.channels, seed=3)
        items = [longest[31 * index :][:length] for index, length in enumerate(lengths)]
        counts = list(exported.facts["bandwidths"].values())
        self.check_items(codec, exported, items, counts)

    def test_streams(self):
        exported = exported_onnx.Exported(references.codec("encodec_24khz"), self.folder)
        audio = references.audio(3.001, 24_000).T[None]
        count = {"num_codebooks": np.array(32)}
        codes = exported.run("encoder", audio=audio, **count)["codes"]
        decoded = exported.run("decoder", codes=codes)["audio"]
        for cuts in (range(7, 226), (7, 10, 100)):
            pieces = np.split(audio, np.array(cuts) * 320, axis=-1)
            found = exported.stream("encoder", pieces, **count)
            self.assertLessEqual(np.sum(found != codes), (1 - EQUAL_CODES) * codes.size)
            found = exported.stream("decoder", np.split(codes, cuts, axis=-1))
            np.testing.assert_allclose(found, decoded, atol=1e-5)


if __name__ == "__main__":
    absltest.main()
