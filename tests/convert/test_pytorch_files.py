"""Reading PyTorch checkpoints: every kind of source, without running code from it."""

import json
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
from unittest import mock

import huggingface_hub
import huggingface_hub.errors
import numpy as np
import torch
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.convert import conversion
from encodec_hk.convert import pytorch_files
from encodec_hk.pretrained import source_config
from encodec_hk.pretrained import tensor_names
from encodec_hk.pretrained import weights
from tests import hub_cache
from tests import reference_files
from tests import references

ROOT = pathlib.Path(__file__).parents[2]


class Malicious:
    """Creates a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


class SourceTestCase(parameterized.TestCase):
    """Writes small checkpoints of each kind to a temporary folder."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.model = references.tiny()

    def official(self):
        return reference_files.save_official(references.official_model(self.model), self.folder)

    def transformers(self, folder="encodec_tiny", spelling="safetensors"):
        network = references.transformers_model(self.model)
        return reference_files.save_transformers(network, self.folder / folder, spelling)

    def audiocraft(self, folder="audiocraft", **seanet):
        network = references.official_model(self.model)
        return reference_files.save_audiocraft(network, self.folder / folder, self.model, **seanet)

    def params(self, source):
        return weights.to_haiku(source.tensors, self.model, source.naming)

    def error(self, path):
        with self.assertRaisesRegex(ValueError, "^[^\n]+$") as context:
            pytorch_files.read(str(path))
        return str(context.exception)


class ReadTest(SourceTestCase):
    def test_official(self):
        path = self.official()
        source = pytorch_files.read(str(path))
        self.assertEqual((source.name, source.file), (path.name, path.name))
        self.assertStartsWith(source.sha256, path.stem.rpartition("-")[2])
        self.assertIs(source.naming, tensor_names.OFFICIAL)
        self.assertIsNone(source.stated)

    @parameterized.parameters("safetensors", "bin", "weight_g")
    def test_transformers(self, spelling):
        folder = self.transformers(spelling=spelling)
        weights_file = "model.safetensors" if spelling == "safetensors" else "pytorch_model.bin"
        for path in (folder, folder / weights_file):
            source = pytorch_files.read(str(path))
            self.assertEqual((source.name, source.file), (path.name, weights_file))
            self.assertIs(source.naming, tensor_names.TRANSFORMERS)
            self.assertEqual(source_config.to_model(source.stated), self.model)

    def test_audiocraft(self):
        path = self.audiocraft()
        for given in (path, path.parent):
            source = pytorch_files.read(str(given))
            self.assertEqual((source.name, source.file), (given.name, path.name))
            self.assertIs(source.naming, tensor_names.OFFICIAL)
            self.assertEqual(conversion.reconcile(self.model, source.stated), (self.model, []))

    def test_all_hold_the_same(self):
        paths = [self.official(), self.audiocraft(), self.transformers("a")]
        paths += [self.transformers("b", "bin"), self.transformers("c", "weight_g")]
        first, *others = (self.params(pytorch_files.read(str(path))) for path in paths)
        for other in others:
            np.testing.assert_equal(other, first)

    @parameterized.parameters(torch.float16, torch.bfloat16, torch.float64)
    def test_other_float_types(self, dtype):
        state = references.official_model(self.model).state_dict()
        path = self.folder / "half.th"
        torch.save({key: value.to(dtype) for key, value in state.items()}, path)
        source = pytorch_files.read(str(path))
        self.assertEqual({str(value.dtype) for value in source.tensors.values()}, {"float32"})

    def test_wrong_hash(self):
        path = self.official()
        wrong = path.rename(self.folder / "encodec_24khz-00000000.th")
        self.assertIn("its name says 00000000", self.error(wrong))

    def test_damaged(self):
        path = self.official()
        damaged = self.folder / "damaged.th"
        damaged.write_bytes(path.read_bytes()[:-2000])
        self.assertIn("not a complete PyTorch checkpoint", self.error(damaged))
        damaged.write_bytes(b"")
        self.assertIn("not a complete PyTorch checkpoint", self.error(damaged))
        damaged.write_text("not a checkpoint")
        self.assertIn("refused", self.error(damaged))
        damaged = damaged.rename(self.folder / "damaged.safetensors")
        self.assertIn("not a complete safetensors file", self.error(damaged))

    @parameterized.parameters("value", "config", "whole", "plain pickle")
    def test_no_pickle_is_run(self, place):
        made = self.folder / "made_by_the_pickle"
        path = self.folder / "malicious.th"
        malicious = Malicious(made)
        if place == "plain pickle":
            path.write_bytes(pickle.dumps(malicious))
        elif place == "value":
            state = references.official_model(self.model).state_dict()
            torch.save({**state, "another": malicious}, path)
        else:
            package = {"best_state": {}, "xp.cfg": malicious}
            torch.save(package if place == "config" else malicious, path)
        self.assertRegex(self.error(path), "refused: not a pickle of tensors only")
        self.assertFalse(made.exists())
        with path.open("rb") as file:  # other loaders run it
            if place == "plain pickle":
                pickle.load(file)
            else:
                torch.load(file, weights_only=False)
        self.assertTrue(made.exists())

    def test_no_encodec(self):
        path = self.folder / "encodec_lm_24khz.th"
        torch.save({"emb.0.weight": torch.zeros(3, 2)}, path)
        self.assertIn("holds no EnCodec", self.error(path))
        torch.save([torch.zeros(3)], path)
        self.assertIn("holds no EnCodec", self.error(path))

    def test_no_such_source(self):
        for name in ("missing.th", "a/missing.th", "missing", "./a/b", "a/b/c"):
            self.assertIn("no such file or folder", self.error(name))

    def test_folder_without_a_checkpoint(self):
        self.assertIn("holds neither", self.error(self.folder))
        (self.folder / "config.json").write_text("{")
        self.assertIn("holds neither", self.error(self.folder))
        (self.folder / "model.safetensors").write_bytes(b"")
        self.assertIn("not a complete safetensors file", self.error(self.folder))

    def test_unsupported_settings_name_the_file(self):
        path = self.audiocraft(activation="ReLU")
        self.assertStartsWith(self.error(path), f"{path}: seanet.activation: got 'ReLU'")
        folder = self.transformers()
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"trim_right_ratio": 0.5}))
        self.assertStartsWith(self.error(folder), f"{folder / 'config.json'}: trim_right_ratio")

    def test_training_checkpoint_of_audiocraft(self):
        path = self.folder / "checkpoint.bin"
        torch.save({"best_state": {"model": {}}, "xp.cfg": {"seanet": {}}}, path)
        self.assertIn("xp.cfg is not text", self.error(path))


class HubTest(SourceTestCase):
    """The hub through its local cache, without network access."""

    def setUp(self):
        super().setUp()
        self.cache = self.folder / "cache"
        hub_cache.use(self, self.cache)

    def put(self, name, folder):
        hub_cache.put(self.cache, name, folder)

    @parameterized.parameters("safetensors", "weight_g")
    def test_hub_transformers(self, spelling):
        self.put("owner/encodec_tiny", self.transformers(spelling=spelling))
        source = pytorch_files.read("owner/encodec_tiny")
        self.assertEqual(source.name, "owner/encodec_tiny")
        self.assertEqual(source_config.to_model(source.stated), self.model)

    def test_hub_audiocraft(self):
        path = self.audiocraft()
        # MusicGen's repositories also hold the config of the language model.
        (path.parent / "config.json").write_text('{"model_type": "musicgen"}')
        self.put("owner/musicgen", path.parent)
        source = pytorch_files.read("owner/musicgen")
        self.assertEqual(source.file, "compression_state_dict.bin")
        self.assertIs(source.naming, tensor_names.OFFICIAL)

    def test_hub_reference_to_another(self):
        self.put("owner/encodec_tiny", self.transformers())
        path = self.folder / "compression_state_dict.bin"
        torch.save({"pretrained": "owner/encodec_tiny", "exported": True}, path)
        self.assertEqual(pytorch_files.read(str(path)).name, "owner/encodec_tiny")

    @parameterized.parameters("dac_44khz", "owner/again", "/etc/passwd", "a.bin")
    def test_hub_reference_to_nowhere(self, name):
        path = self.folder / "audiocraft" / "compression_state_dict.bin"
        path.parent.mkdir()
        torch.save({"pretrained": name, "exported": True}, path)
        if name == "owner/again":
            self.put(name, path.parent)
            path = name
        self.assertIn(f"refers to {name!r}", self.error(path))

    def test_hub_unreachable(self):
        self.assertIn("the hub cannot be reached", self.error("owner/model"))

    def test_hub_without_an_encodec(self):
        other = self.folder / "other"
        other.mkdir()
        (other / "config.json").write_text('{"model_type": "bert"}')
        self.put("owner/other", other)
        missing = huggingface_hub.errors.EntryNotFoundError("404")
        with mock.patch.object(huggingface_hub, "get_hf_file_metadata", side_effect=missing):
            self.assertIn("holds no EnCodec checkpoint", self.error("owner/other"))


class ExtrasTest(SourceTestCase):
    def test_not_installed(self):
        source = self.official()
        with mock.patch.dict(sys.modules, torch=None):
            message = self.error(source)
        self.assertEndsWith(message, "conversion needs torch: pip install '.[convert]'")

    def test_imported_when_used(self):
        program = "import sys, encodec_hk.commands.convert; print(*sys.modules)"
        run = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True
        )
        modules = run.stdout.decode().split()
        for module in ("torch", "transformers", "omegaconf", "huggingface_hub"):
            self.assertNotIn(module, modules)


if __name__ == "__main__":
    absltest.main()
