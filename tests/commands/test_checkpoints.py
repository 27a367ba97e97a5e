"""Which checkpoint a command reads."""

import contextlib
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from configs import encodec_24khz
from configs import encodec_tiny
from encodec_hk.commands import checkpoints
from encodec_hk.system import file_paths
from tests import infer_cases


class LoadCodecTest(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = self.enter_context(tempfile.TemporaryDirectory())
        self.path = str(pathlib.Path(folder, "weights.safetensors"))

    def test_missing(self) -> None:
        folder = pathlib.Path(self.path).parent
        self.enter_context(mock.patch.object(file_paths, "ROOT", folder))
        self.enter_context(contextlib.chdir(folder))
        variant = encodec_24khz.get_config()
        command = (
            "python run.py convert --config=configs/encodec_24khz.py "
            "--source=facebook/encodec_24khz --output="
        )
        for path in (None, self.path):
            with self.assertRaises(ValueError) as context:
                checkpoints.load_codec(variant, path)
            self.assertIn(command + (path or variant.checkpoint), str(context.exception))
        with self.assertRaisesRegex(
            ValueError, "does not exist; name an existing one with --checkpoint=FILE"
        ):
            checkpoints.load_codec(encodec_tiny.get_config(), None)
        with self.assertRaisesRegex(
            ValueError, "does not exist; name an existing one with --checkpoint=FILE"
        ):
            checkpoints.load_codec(None, self.path)
        with self.assertRaisesRegex(ValueError, "checkpoint: got none"):
            checkpoints.load_codec(None, None)

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


if __name__ == "__main__":
    absltest.main()
