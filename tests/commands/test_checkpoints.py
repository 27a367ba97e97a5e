"""Which checkpoint a command reads."""

import contextlib
import pathlib
import shutil
import tempfile
from typing import Any
from unittest import mock

import numpy as np
import safetensors.numpy
from absl.testing import absltest
from absl.testing import parameterized

from configs import encodec_16khz
from configs import encodec_24khz
from configs import encodec_tiny
from encodec_hk import bitstream
from encodec_hk.commands import checkpoints
from encodec_hk.commands import infer
from encodec_hk.convert import meta_language
from encodec_hk.language import language_file
from encodec_hk.sound import sound_files
from encodec_hk.system import file_paths
from tests import hub_cache
from tests import infer_cases
from tests import reference_files
from tests import references
from tests.language import random_language


class LoadCodecTest(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = self.enter_context(tempfile.TemporaryDirectory())
        self.path = str(pathlib.Path(folder, "weights.safetensors"))

    def in_an_empty_folder(self) -> pathlib.Path:
        folder = pathlib.Path(self.path).parent
        self.enter_context(mock.patch.object(file_paths, "ROOT", folder))
        self.enter_context(contextlib.chdir(folder))
        return folder

    def error(self, *arguments: Any) -> str:
        with self.assertRaisesRegex(ValueError, "^[^\n]+$") as context:
            checkpoints.load_codec(*arguments)
        return str(context.exception)

    @parameterized.parameters(
        (encodec_24khz, "use the published one with --checkpoint=facebook/encodec_24khz"),
        (
            encodec_16khz,
            "to make it: python run.py convert --config=encodec_16khz "
            "--source=compression_state_dict.bin --output={} (a file of facebook/audiogen-medium)",
        ),
        (encodec_tiny, "name an existing one with --checkpoint=FILE"),
    )
    def test_missing(self, config: Any, hint: str) -> None:
        self.in_an_empty_folder()
        variant = config.get_config()
        for path in (None, self.path):
            shown = path or variant.checkpoint
            message = f"checkpoint: {shown} does not exist; {hint.format(shown)}"
            self.assertEqual(self.error(variant, path), message)

    def test_missing_without_a_config(self) -> None:
        self.assertEqual(self.error(None, self.path), f"{self.path}: no such file")
        self.assertIn("got 'nothing', must be a .safetensors file", self.error(None, "nothing"))
        self.assertIn("checkpoint: got none", self.error(None, None))

    def test_shipped_name(self) -> None:
        folder = self.enter_context(tempfile.TemporaryDirectory())
        self.enter_context(contextlib.chdir(folder))
        for variant in (None, encodec_tiny.get_config()):
            codec = checkpoints.load_codec(variant, "encodec_tiny")
            self.assertEqual(codec.name, "encodec_tiny")

    def test_transformers(self) -> None:
        """A folder and a hub name, with and without a configuration."""
        folder = pathlib.Path(self.path).parent
        network = references.transformers_model("encodec_tiny")
        mine = reference_files.save_transformers(network, folder / "mine")
        shutil.copytree(mine, folder / "copy")
        hub_cache.use(self, folder / "cache")
        hub_cache.put(folder / "cache", "owner/model", folder / "copy")
        variant = encodec_tiny.get_config()
        variant.inference.bandwidth = 1.5
        for location in (str(mine), "owner/model"):
            codec = checkpoints.load_codec(None, location)
            self.assertEqual((codec.name, codec.bandwidth), ("encodec_tiny", 6.0))
            self.assertEqual(checkpoints.load_codec(variant, location).bandwidth, 1.5)
        variant.model.num_filters = 16
        message = f"{mine}: holds another model; config.model.num_filters: got 16, the checkpoint"
        self.assertStartsWith(self.error(variant, str(mine)), message)

    def test_infer(self) -> None:
        folder = pathlib.Path(self.path).parent
        model = references.tiny()
        mine = reference_files.save_transformers(references.transformers_model(model), folder / "a")
        sound_files.write(folder / "a.wav", infer_cases.noise(900), model.sample_rate)
        infer.run(None, str(folder / "a.wav"), str(folder / "a.ecdc"), checkpoint=str(mine))
        with open(folder / "a.ecdc", "rb") as file:
            header = bitstream.open_reader(file).header
        self.assertEqual((header.name, header.version), ("a", 1))
        self.assertEqual(header.fingerprint, checkpoints.load_codec(None, str(mine)).fingerprint)

    def test_own_checkpoint_from_another_folder(self) -> None:
        variant = encodec_tiny.get_config()
        root = pathlib.Path(self.path).parent
        infer_cases.save(str(root / "checkpoints" / "encodec_tiny.safetensors"), variant)
        self.enter_context(mock.patch.object(file_paths, "ROOT", root))
        self.enter_context(contextlib.chdir(root.parent))
        self.assertEqual(checkpoints.load_codec(variant, None).name, "encodec_tiny")

    def test_settings_of_the_config(self) -> None:
        variant = encodec_tiny.get_config()
        infer_cases.save(self.path, variant)
        variant.inference.bandwidth = 1.5
        self.assertEqual(checkpoints.load_codec(variant, self.path).bandwidth, 1.5)
        variant.checkpoint = self.path
        self.assertEqual(checkpoints.load_codec(variant, None).bandwidth, 1.5)
        self.assertEqual(checkpoints.load_codec(None, self.path).bandwidth, 6.0)

    def test_another_model(self) -> None:
        variant = encodec_tiny.get_config()
        infer_cases.save(self.path, variant)
        variant.model.num_filters = 16
        variant.model.bandwidths = (3.0, 6.0)
        with self.assertRaises(ValueError) as context:
            checkpoints.load_codec(variant, self.path)
        message = str(context.exception)
        self.assertIn("config.model.num_filters: got 16, the checkpoint has 8", message)
        self.assertIn("config.model.bandwidths: got (3.0, 6.0), ", message)
        self.assertEqual(message.count("got"), 2)

    def test_wrong_config(self) -> None:
        variant = encodec_tiny.get_config()
        variant.inference.batch_size = 0
        with self.assertRaisesRegex(ValueError, "config.inference.batch_size"):
            checkpoints.load_codec(variant, self.path)


class LoadLanguageTest(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.checkpoint = str(self.folder / "weights.safetensors")
        self.own = str(self.folder / "weights_language.safetensors")
        self.meta = str(self.folder / "meta.safetensors")
        metadata = {"format": meta_language.FORMAT}
        safetensors.numpy.save_file({"x": np.zeros(1)}, self.meta, metadata)

    def test_kinds(self) -> None:
        language_file.save(self.own, random_language.model())
        kinds = [checkpoints.language_kind(path) for path in (None, self.own, self.meta)]
        self.assertEqual(kinds, [None, "language", "meta"])
        self.assertIsNone(checkpoints.load_predictor(None))
        self.assertIsNone(checkpoints.load_predictor(self.own))

    @parameterized.parameters(False, True)
    def test_beside_the_checkpoint(self, with_meta: bool) -> None:
        path = self.meta if with_meta else None
        self.assertIsNone(checkpoints.load_language(None, self.checkpoint, path))
        language_file.save(self.own, random_language.model())
        found = checkpoints.load_language(None, self.checkpoint, path)
        assert found is not None
        self.assertEqual(found.fingerprint, random_language.model().fingerprint)


if __name__ == "__main__":
    absltest.main()
