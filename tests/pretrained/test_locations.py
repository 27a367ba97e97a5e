"""What `load` takes: folders and files of transformers, hub names, names of shipped models."""

import contextlib
import io
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

import chex
import ml_collections
import numpy as np
import pytest
import safetensors.torch
import torch
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from encodec_hk import checkpoint
from encodec_hk.commands import convert
from encodec_hk.configs import encodec_tiny
from encodec_hk.pretrained import locations
from encodec_hk.system import file_paths
from encodec_hk.transcode import ecdc
from tests import hub_cache
from tests import reference_files
from tests import references

ROOT = pathlib.Path(__file__).parents[2]
VARIANTS = tuple(name for name in references.TINY if name != "no_lstm")
LAYOUTS = ("safetensors", "safetensors weight_g", "safetensors folded", "sharded")
PUBLISHED = ("encodec_24khz", "encodec_48khz", "encodec_32khz", "encodec_16khz")


class LocationTestCase(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    def write(self, variant, layout="safetensors", name="mine"):
        is_tiny = isinstance(variant, str) and variant in references.TINY
        model = references.tiny(variant) if is_tiny else variant
        network = references.transformers_model(model)
        return reference_files.save_transformers(network, self.folder / name, layout)

    def converted(self, source, **settings):
        """Return what `run.py convert` makes of a source."""
        output = self.folder / "converted.safetensors"
        with contextlib.redirect_stdout(io.StringIO()):
            convert.run(None, source=str(source), output=str(output), force=True, **settings)
        return checkpoint.load(output)

    def error(self, location):
        with self.assertRaisesRegex(ValueError, "^[^\n]+$") as context:
            locations.load(location)
        return str(context.exception)


class TransformersTest(LocationTestCase):
    def assert_as_converted(self, loaded, source):
        converted = self.converted(source)
        fingerprints = [
            checkpoint.fingerprint(each.config, each.params) for each in (loaded, converted)
        ]
        self.assertEqual(*fingerprints)

    @parameterized.product(variant=VARIANTS, layout=LAYOUTS)
    def test_equals_conversion(self, variant, layout):
        folder = self.write(variant, layout)
        self.assert_as_converted(locations.load(folder), folder)
        if layout == "sharded":
            self.assertGreater(len(list(folder.glob("*.safetensors"))), 1)
            self.assertFalse((folder / "model.safetensors").exists())
        else:
            self.assert_as_converted(locations.load(folder / "model.safetensors"), folder)

    @parameterized.parameters(*((name, layout) for name in PUBLISHED for layout in LAYOUTS))
    @pytest.mark.slow
    def test_published_variants_equal_conversion(self, variant, layout):
        folder = self.write(variant, layout)
        loaded = locations.load(folder)
        self.assert_as_converted(loaded, folder)
        self.assertEqual(loaded.name, variant)

    @parameterized.parameters(*LAYOUTS)
    def test_codes_are_those_of_transformers(self, layout):
        model = references.tiny()
        codec = encodec_hk.load(self.write("causal", layout))
        audio = references.audio(2, model.sample_rate, model.channels, seed=5)
        with torch.inference_mode():
            network = references.transformers_model(model)
            kbps = network.config.target_bandwidths[-1]
            expected = network.encode(torch.from_numpy(audio.T[None].copy()), bandwidth=kbps)
        codes = codec.encode(audio[None], num_codebooks=model.num_codebooks).codes
        self.assertGreaterEqual(np.mean(codes == expected.audio_codes[0].numpy()), 0.9995)

    @parameterized.parameters(torch.float16, torch.bfloat16)
    def test_half_precision(self, dtype):
        folder = self.write("causal")
        path = folder / "model.safetensors"
        tensors = safetensors.torch.load_file(path)
        tensors = {key: value.to(dtype) for key, value in tensors.items()}
        safetensors.torch.save_file(tensors, path)
        loaded = locations.load(folder)
        self.assert_as_converted(loaded, folder)
        self.assertEqual(loaded.params["quantizer"]["codebooks"].dtype, np.float32)

    def test_name_and_source(self):
        folder = self.write("encodec_tiny", name="some_folder")
        for location in (folder, folder / "model.safetensors", str(folder)):
            loaded = locations.load(location)
            self.assertEqual(
                (loaded.name, loaded.source), ("encodec_tiny", "transformers: some_folder")
            )
        loaded = locations.load(self.write("causal", name="other_folder"))
        self.assertEqual(loaded.name, "other_folder")

    def test_beside_a_config(self):
        variant = encodec_tiny.get_config()
        folder = self.write("encodec_tiny")
        codec = encodec_hk.load(folder, variant)
        self.assertEqual(codec.fingerprint, encodec_hk.load(folder).fingerprint)
        variant.name, variant.model.norm = "its_name", "none"  # folded, it is the same network
        codec = encodec_hk.load(folder, variant)
        self.assertEqual((codec.name, codec.model_config.norm), ("its_name", "none"))
        variant.model.num_filters = 16
        with self.assertRaisesRegex(ValueError, "num_filters: got 16, the checkpoint has 8"):
            encodec_hk.load(folder, variant)

    @pytest.mark.slow
    def test_pytorch_is_not_imported(self):
        folder = self.write("causal", "sharded")
        shutil.copytree(folder, self.folder / "copy")
        hub_cache.put(self.folder / "cache", "owner/tiny", self.folder / "copy")
        program = f"""
import sys, numpy, encodec_hk
for location in ({str(folder)!r}, "owner/tiny", "encodec_tiny"):
    codec = encodec_hk.load(location)
codec.encode(numpy.zeros((1, 9000, 1), numpy.float32))
print(*sys.modules)
"""
        environment = {"HF_HUB_CACHE": str(self.folder / "cache"), "HF_HUB_OFFLINE": "1"}
        with mock.patch.dict("os.environ", environment):
            run = subprocess.run(
                [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True
            )
        modules = run.stdout.decode().split()
        self.assertIn("huggingface_hub", modules)
        for module in ("torch", "transformers", "omegaconf"):
            self.assertNotIn(module, modules)


class TransformersErrorTest(LocationTestCase):
    @parameterized.parameters("bin", "weight_g")
    def test_needs_conversion(self, layout):
        folder = self.write("causal", layout, name="with space")
        output = "'with space.safetensors'"
        command = f"python run.py convert --source='{folder}' --output={output}"
        message = f"{folder}: PyTorch must read pytorch_model.bin, once, to convert it: {command}"
        self.assertEqual(self.error(folder), message)
        path = folder / "pytorch_model.bin"
        self.assertIn(
            f"{path}: PyTorch must read this file, once, to convert it: ", self.error(path)
        )

    def test_audiocraft(self):
        path = self.folder / "compression_state_dict.bin"
        path.touch()
        self.assertIn("PyTorch must read compression_state_dict.bin", self.error(self.folder))

    def test_no_config(self):
        folder = self.write("causal")
        (folder / "config.json").unlink()
        self.assertIn("no config.json with model.safetensors", self.error(folder))
        message = self.error(folder / "model.safetensors")
        self.assertIn("no config.json of transformers beside it; to name its config: ", message)
        self.assertIn("convert --config=VARIANT --source=", message)
        self.assertEndsWith(message, " --output=mine.safetensors")

    def test_folder_without_a_model(self):
        message = (
            f"{self.folder}: holds no config.json with model.safetensors, as a folder of "
            "transformers does"
        )
        self.assertEqual(self.error(self.folder), message)
        (self.folder / "a.safetensors").touch()
        self.assertEqual(self.error(self.folder), f"{message}; name a file in it: a.safetensors")

    @parameterized.parameters(
        ("{", "not JSON"),
        ('{"model_type": "bert"}', "model_type: got 'bert', must be 'encodec'"),
        ('{"model_type": "encodec", "upsampling_ratios": 3}', "a field has no valid value"),
    )
    def test_config(self, text, message):
        folder = self.write("causal")
        (folder / "config.json").write_text(text)
        self.assertStartsWith(self.error(folder), f"{folder / 'config.json'}: {message}")

    def test_other_network(self):
        folder = self.write("causal")
        fields = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(fields | {"num_filters": 8}))
        with self.assertRaisesRegex(ValueError, "(?m)^the tensors are not|: the tensors are not"):
            locations.load(folder)

    def test_damaged(self):
        path = self.write("causal") / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-9])
        self.assertIn("not a complete safetensors file", self.error(path.parent))
        self.assertIn("not a whole safetensors file", self.error(path))

    def test_not_finite(self):
        path = self.write("causal") / "model.safetensors"
        tensors = safetensors.torch.load_file(path)
        tensors["encoder.layers.0.conv.bias"][0] = torch.nan
        safetensors.torch.save_file(tensors, path)
        self.assertIn("NaN or infinity in encoder/conv_in.b", self.error(path))

    def test_missing_shard(self):
        folder = self.write("causal", "sharded")
        shard = sorted(folder.glob("*.safetensors"))[1]
        shard.unlink()
        self.assertIn(f"lists {shard.name}, which is not there", self.error(folder))

    @parameterized.parameters({"weight_map": {"a": "../a.safetensors"}}, {"weight_map": 3}, {})
    def test_damaged_index(self, **index):
        folder = self.write("causal", "sharded")
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        self.assertIn("weight_map: must give names of safetensors files", self.error(folder))


class NamesTest(LocationTestCase):
    def test_shipped(self):
        with contextlib.chdir(self.folder):
            loaded = locations.load("encodec_24khz_small")
        own = checkpoint.load(ROOT / "checkpoints" / "encodec_24khz_small.safetensors")
        self.assertEqual(loaded.metadata, own.metadata)

    def test_shipped_to_transformers(self):
        with contextlib.redirect_stdout(io.StringIO()):
            target = str(self.folder / "exported")
            convert.run(None, source="encodec_tiny", output=target, to="transformers")
        loaded, own = locations.load(target), locations.load("encodec_tiny")
        self.assertEqual((loaded.name, loaded.config), ("encodec_tiny", own.config))
        chex.assert_trees_all_close(loaded.params, own.params, rtol=3e-7)

    def test_link_to_a_file(self):
        """As in the hub's cache, where the files of a folder are links into another."""
        blobs = self.write("causal", name="blobs")
        (self.folder / "snapshot").mkdir()
        for name in ("config.json", "model.safetensors"):
            (self.folder / "snapshot" / name).symlink_to(blobs / name)
        (blobs / "config.json").rename(blobs / "0123")
        (self.folder / "snapshot" / "config.json").unlink()
        (self.folder / "snapshot" / "config.json").symlink_to(blobs / "0123")
        loaded = locations.load(self.folder / "snapshot" / "model.safetensors")
        self.assertEqual(loaded.name, "snapshot")

    def test_installed(self):
        checkpoints = self.folder / "package" / "checkpoints"
        checkpoints.mkdir(parents=True)
        shutil.copy(ROOT / "checkpoints" / "encodec_tiny.safetensors", checkpoints)
        with mock.patch.object(file_paths, "shipped", return_value=checkpoints):
            self.assertEqual(locations.load("encodec_tiny").name, "encodec_tiny")
            self.assertIn("or a shipped model: encodec_tiny", self.error("encodec_24khz_small"))

    def test_what_exists_goes_before_a_name(self):
        self.write("causal", name="encodec_tiny")
        with contextlib.chdir(self.folder):
            self.assertEqual(locations.load("encodec_tiny").config, references.tiny())

    @parameterized.parameters("nothing", "a/b/c", "../a/b", "", "a--b/c")
    def test_nothing(self, name):
        self.assertEqual(
            self.error(name),
            f"checkpoint: got {name!r}, must be a .safetensors file, a transformers folder, a hub "
            "name like facebook/encodec_24khz, or a shipped model: encodec_24khz_small, "
            "encodec_tiny",
        )

    @parameterized.parameters("a.safetensors", "owner/a.safetensors", "a.th")
    def test_no_such_file(self, name):
        self.assertEqual(self.error(name), f"{name}: no such file")

    def test_neither_safetensors_nor_a_pickle(self):
        path = self.folder / "notes.txt"
        path.write_text("nothing of interest" * 9)
        self.assertIn("not a whole safetensors file", self.error(path))


class HubTest(LocationTestCase):
    """The hub through its local cache, without network access."""

    def setUp(self):
        super().setUp()
        self.cache = self.folder / "cache"
        hub_cache.use(self, self.cache)

    def put(self, name, layout="safetensors", variant="causal"):
        hub_cache.put(self.cache, name, self.write(variant, layout))

    @parameterized.parameters(*LAYOUTS)
    def test_equals_conversion(self, layout):
        self.put("owner/some.model", layout)
        before = sorted(self.folder.rglob("*"))
        loaded = locations.load("owner/some.model")
        self.assertEqual(sorted(self.folder.rglob("*")), before)
        self.assertEqual(loaded.name, "some.model")
        self.assertEqual(loaded.source, "transformers: owner/some.model")
        converted = self.converted("owner/some.model")
        self.assertEqual(
            checkpoint.fingerprint(loaded.config, loaded.params),
            checkpoint.fingerprint(converted.config, converted.params),
        )

    def test_versions_of_ecdc(self):
        """The default is version 0 for Meta's published weights alone."""
        fields = references.tiny().to_dict() | {"codebook_size": 1024, "bandwidths": (0.75, 3.0)}
        for name, version in (("facebook/encodec_24khz", 0), ("owner/finetuned", 1)):
            self.put(name, variant=ml_collections.ConfigDict(fields))
            codec = encodec_hk.load(name)
            with mock.patch.object(codec, "name", "encodec_24khz"):
                self.assertEqual(ecdc.header(codec, 2, 900).version, version)
                self.assertEqual(ecdc.header(codec, 2, 900, version=0).version, 0)

    def test_published(self):
        self.put("facebook/encodec_24khz")
        loaded = locations.load("facebook/encodec_24khz")
        self.assertEqual((loaded.name, loaded.source), ("encodec_24khz", "facebook/encodec_24khz"))

    def test_needs_conversion(self):
        self.put("owner/model", "bin")
        self.assertEqual(
            self.error("owner/model"),
            "owner/model: PyTorch must read pytorch_model.bin, once, to convert it: python run.py "
            "convert --source=owner/model --output=model.safetensors",
        )

    def test_musicgen(self):
        folder = self.folder / "musicgen"
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": "musicgen"}')
        (folder / "compression_state_dict.bin").touch()
        hub_cache.put(self.cache, "owner/musicgen", folder)
        self.assertIn(
            "convert --source=owner/musicgen --output=musicgen.safetensors",
            self.error("owner/musicgen"),
        )

    def test_partly_in_the_cache(self):
        folder = self.write("causal")
        (folder / "model.safetensors").unlink()
        hub_cache.put(self.cache, "owner/model", folder)
        message = "not in the hub's cache, and the hub cannot be reached (HF_HUB_OFFLINE is set)"
        self.assertIn(message, self.error("owner/model"))

    def test_huggingface_hub_is_not_installed(self):
        with mock.patch.dict(sys.modules, huggingface_hub=None):
            message = self.error("owner/model")
        self.assertEqual(message, "a hub name needs huggingface_hub: pip install '.[hub]'")


if __name__ == "__main__":
    absltest.main()
