"""The hub: what is fetched, and what is said where it cannot be."""

import pathlib
import tempfile
from unittest import mock

import huggingface_hub
import huggingface_hub.errors
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.pretrained import hub
from tests import hub_cache


class NameTest(parameterized.TestCase):
    @parameterized.parameters("facebook/encodec_24khz", "a/b", "A.b-c/d_e.1")
    def test_names(self, text):
        self.assertTrue(hub.is_name(text))

    @parameterized.parameters(
        *("encodec_24khz", "a/b/c", "/a/b", "a/b.safetensors", "a/b.th", "a--b/c", "a/..", "~/a")
    )
    def test_others(self, text):
        self.assertFalse(hub.is_name(text))


class RepositoryTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        hub_cache.use(self, self.folder / "cache")
        self.asked = self.enter_context(mock.patch.object(huggingface_hub, "get_hf_file_metadata"))
        self.download = self.enter_context(mock.patch.object(huggingface_hub, "hf_hub_download"))
        self.repository = hub.Repository("owner/model")

    def put(self, *names):
        source = self.folder / "source"
        source.mkdir()
        for name in names:
            (source / name).touch()
        hub_cache.put(self.folder / "cache", "owner/model", source)

    def error(self):
        with self.assertRaisesRegex(ValueError, "^owner/model: [^\n]+$") as context:
            self.repository.fetch("config.json")
        return str(context.exception)

    def test_cached_files_need_no_network(self):
        self.put("config.json")
        path = self.repository.fetch("config.json")
        self.assertEqual(path.parent.name, hub_cache.COMMIT)
        self.asked.assert_not_called()
        self.download.assert_not_called()

    def test_all_files_are_of_one_commit(self):
        self.put("config.json")
        self.download.return_value = str(self.folder / hub_cache.COMMIT / "model.safetensors")
        self.repository.fetch("config.json")
        self.repository.fetch("model.safetensors")
        self.download.assert_called_once_with(
            "owner/model", "model.safetensors", revision=hub_cache.COMMIT
        )
        self.assertIn(f"/resolve/{hub_cache.COMMIT}/", self.asked.call_args.args[0])

    def test_no_such_file(self):
        self.asked.side_effect = huggingface_hub.errors.EntryNotFoundError("404")
        self.assertIsNone(self.repository.fetch("config.json"))
        message = "owner/model: this hub repository holds no EnCodec"
        self.assertEqual(str(self.repository.missing("EnCodec")), message)

    def test_unreachable(self):
        self.asked.side_effect = ConnectionError("Name or service not known")
        for file in ("config.json", "model.safetensors"):
            self.assertIsNone(self.repository.fetch(file))
        self.asked.assert_called_once()
        self.assertEqual(
            str(self.repository.missing("EnCodec")),
            "owner/model: no such file or folder; not in the hub's cache, and the hub cannot be "
            "reached (Name or service not known)",
        )

    @parameterized.parameters(
        ("RepositoryNotFoundError", "no such file or folder, and no such repository on the hub"),
        ("GatedRepoError", "to those who accept its terms: do so at https://huggingface.co/owner/"),
        ("HfHubHTTPError", "the hub refuses access (401)"),
    )
    def test_refusals(self, kind, message):
        error = getattr(huggingface_hub.errors, kind)
        self.asked.side_effect = error("401\nmore", response=mock.Mock())
        self.assertIn(message, self.error())

    def test_download_that_fails(self):
        self.download.side_effect = OSError("No space left on device\nmore")
        self.assertIn("config.json cannot be downloaded (No space left on device)", self.error())


if __name__ == "__main__":
    absltest.main()
