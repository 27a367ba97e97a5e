"""StableHLO: the exported programs give the codec's codes, without the package that made them."""

import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import jax
import jax.export
import numpy as np
import pytest
import safetensors.numpy
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from encodec_hk.export import model_facts
from encodec_hk.export import stablehlo_files
from tests import compilation
from tests import random_networks

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "export.md"
VARIANTS = {
    **random_networks.VARIANTS,
    "whole": {"causal": False, "norm": "time_group_norm"},
}
# Runs before the Python of the page: as where only JAX and safetensors are installed.
ALONE = """
import sys
for name in ("encodec_hk", "haiku", "chex", "ml_collections"):
    sys.modules[name] = None
"""
SAVE = """
streamed = np.concatenate(parts, axis=2)
np.savez("results.npz", audio=audio, codes=codes, decoded=decoded, streamed=streamed)
"""
SAVE_SEGMENTS = """
audio = 0.1 * np.random.default_rng(1).standard_normal((333, 2)).astype(np.float32)
codes, scales = encode_segments(audio)
decoded = decode_segments(codes, scales, len(audio))
np.savez("results.npz", audio=audio, codes=np.concatenate(codes, 1), scales=scales, decoded=decoded)
"""


def random_codec(model_config, **settings):
    params = random_networks.random_params(model_config)
    return encodec_hk.Codec(model_config, params, name="random", block_seconds=0.5, **settings)


class Programs:
    """An exported codec, loaded."""

    def __init__(self, codec, folder, num_codebooks=None):
        stablehlo_files.write(codec, folder, model_facts.facts(codec, "MIT"), num_codebooks)
        self.facts = json.loads((folder / "export.json").read_text())
        self.weights = safetensors.numpy.load_file(folder / "weights.safetensors")
        self.exported = {
            path.stem: jax.export.deserialize(bytearray(path.read_bytes()))
            for path in folder.glob("*.stablehlo")
        }

    def run(self, name, state, *arguments):
        return jax.jit(self.exported[name].call)(self.weights, state, *arguments)

    def fresh(self, name, batch):
        return {
            state["name"]: np.full([batch, *state["shape"][1:]], state["initial"], state["dtype"])
            for state in self.facts[name]["states"]
        }


class StablehloTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    def assert_equal_blocks(self, codec, batches, num_blocks=2, bound=0.0):
        """Blocks of both directions, with carried states, against those of the codec."""
        programs = Programs(codec, self.folder)
        for batch in batches:
            self._encode_and_decode(codec, programs, batch, num_blocks, bound)

    def _encode_and_decode(self, codec, programs, batch, num_blocks, bound):
        rng = np.random.default_rng(batch)
        frames, hop, count = codec.block_frames, codec.hop_length, codec.num_codebooks
        states = [codec.model.encoder_state(batch), programs.fresh("encoder", batch)]
        others = [codec.model.decoder_state(batch), programs.fresh("decoder", batch)]
        for block in range(num_blocks):
            audio = 0.1 * rng.standard_normal((batch, frames * hop, codec.channels), np.float32)
            is_last = np.full(batch, block == num_blocks - 1)
            size = np.full(batch, frames * hop, np.int32) - np.where(is_last, np.arange(batch), 0)
            size = size.astype(np.int32)
            expected = codec.encode_block(states[0], audio, size, is_last, num_codebooks=count)
            found = programs.run("encoder", states[1], audio, size, is_last)
            states = [expected[0], found[0]]
            np.testing.assert_array_equal(found[1], expected[1])
            codes = np.asarray(expected[1])
            size = -(-size // hop)
            expected = codec.decode_block(others[0], codes, size, is_last)
            found = programs.run("decoder", others[1], codes, size, is_last)
            others = [expected[0], found[0]]
            np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=bound)

    @parameterized.parameters(*VARIANTS)
    @pytest.mark.few(0)
    def test_equal_blocks(self, variant):
        codec = random_codec(random_networks.small(**VARIANTS[variant]))
        self.assert_equal_blocks(codec, (3,), 1 if codec.model.encoder_state(1) is None else 2)

    @pytest.mark.slow
    def test_every_batch_from_one_artifact(self):
        self.assert_equal_blocks(random_codec(random_networks.small()), (1, 3, 8))

    @parameterized.parameters("encodec_24khz", "encodec_48khz")
    @pytest.mark.slow
    def test_full_size(self, name):
        model_config = importlib.import_module(f"configs.{name}").get_config().model
        with compilation.normal():
            codec = random_codec(model_config)
            num_blocks = 1 if codec.framing.has_segments else 2
            self.assert_equal_blocks(codec, (1, 3), num_blocks)

    def test_fewer_codebooks(self):
        codec = random_codec(random_networks.small())
        programs = Programs(codec, self.folder, num_codebooks=2)
        self.assertEqual(programs.facts["encoder"]["num_codebooks"], 2)
        codes = programs.exported["encoder"].out_avals[-1]
        self.assertEqual((codes.dtype, codes.shape[1]), (np.int32, 2))

    def test_facts(self):
        codec = random_codec(random_networks.small(causal=False))
        programs = Programs(codec, self.folder)
        facts = programs.facts
        self.assertEqual((facts["hop"], facts["channels"], facts["licence"]), (12, 1, "MIT"))
        self.assertEqual(facts["fingerprint"], codec.fingerprint)
        self.assertEqual(facts["encoder"]["lag"], codec.encoder_program(1).lag)
        self.assertEqual(facts["decoder"]["lag"], codec.decoder_program().lag)
        self.assertEqual(
            set(facts["files"]),
            {
                "encoder.stablehlo",
                "decoder.stablehlo",
                "weights.safetensors",
            },
        )
        for exported in programs.exported.values():
            self.assertEqual(exported.platforms, ("cpu", "cuda", "tpu"))

    def test_a_decoder_alone(self):
        model_config = random_networks.small(decoder="vocos")
        params = random_networks.random_params(model_config)
        params = {key: value for key, value in params.items() if not key.startswith("encoder/")}
        programs = Programs(encodec_hk.Codec(model_config, params), self.folder)
        self.assertEqual(set(programs.exported), {"decoder"})
        self.assertNotIn("encoder", programs.facts)


class PageTest(parameterized.TestCase):
    """The Python of docs/export.md, in a process that has neither this package nor Haiku."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
        start = next(index for index, text in enumerate(blocks) if "jax.export" in text)
        self.load_and_run, self.stream, self.segments = blocks[start : start + 3]

    def run_page(self, codec, text):
        exported = self.folder / "codec_stablehlo"
        exported.mkdir()
        stablehlo_files.write(codec, exported, model_facts.facts(codec, ""))
        environment = {key: v for key, v in os.environ.items() if key != "PYTHONPATH"}
        result = subprocess.run(
            [sys.executable, "-c", ALONE + text],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        return np.load(self.folder / "results.npz")

    @pytest.mark.slow
    def test_batch_and_stream(self):
        codec = encodec_hk.load("encodec_tiny")
        results = self.run_page(codec, self.load_and_run + self.stream + SAVE)
        signals = [results["audio"][0], results["audio"][1, :17_001]]
        encoded = codec.encode(signals, num_codebooks=codec.num_codebooks)
        decoded = codec.decode(encoded)
        np.testing.assert_array_equal(results["streamed"][0], encoded.codes[0])
        for row, signal in enumerate(signals):
            frames = encoded.num_frames[row]
            np.testing.assert_array_equal(
                results["codes"][row, :, :frames], encoded.codes[row, :, :frames]
            )
            np.testing.assert_allclose(
                results["decoded"][row, : len(signal)], decoded[row, : len(signal)], atol=1e-6
            )

    @pytest.mark.slow
    def test_segments(self):
        codec = random_codec(random_networks.small(**VARIANTS["segmented"]))
        functions = self.load_and_run.partition("audio = ")[0] + self.segments
        results = self.run_page(codec, functions + SAVE_SEGMENTS)
        encoded = codec.encode([results["audio"]], num_codebooks=codec.num_codebooks)
        np.testing.assert_array_equal(results["codes"], encoded.codes[0])
        np.testing.assert_array_equal(results["scales"], encoded.scales[0])
        np.testing.assert_allclose(results["decoded"], codec.decode(encoded)[0], atol=1e-6)


if __name__ == "__main__":
    absltest.main()
