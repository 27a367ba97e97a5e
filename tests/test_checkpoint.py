"""Checkpoint files: round trips, and the errors of damaged and foreign files."""

import hashlib
import json
import os
import pathlib
import tempfile
from unittest import mock

import chex
import jax
import numpy as np
import safetensors
import safetensors.numpy
from absl.testing import absltest
from absl.testing import parameterized

from configs import encodec_tiny
from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk.system import part_file

PROVENANCE = {
    "name": "encodec_tiny",
    "source": "a test",
    "source_sha256": "0" * 64,
    "licence": "CC0-1.0",
}


def small_config():
    model_config = encodec_tiny.get_config().model
    with model_config.unlocked():
        model_config.num_filters = 4
        model_config.latent_dim = 8
        model_config.codebook_size = 16
        model_config.bandwidths = (0.6, 2.4)
        model_config.ratios = (3, 2)
        model_config.sample_rate = 450
    return model_config


def random_params(model_config, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape, np.float32),
        checkpoint.expected_params(model_config),
    )


class CheckpointTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.path = self.folder / "model.safetensors"
        self.model_config = small_config()

    def save(self, params=None, path=None, int16=False):
        params = random_params(self.model_config) if params is None else params
        checkpoint.save(path or self.path, params, self.model_config, int16=int16, **PROVENANCE)
        return params

    def rewrite(self, change):
        """Save a good file and pass its tensors and metadata through `change`."""
        self.save()
        with safetensors.safe_open(self.path, framework="numpy") as file:
            metadata = dict(file.metadata())
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        change(tensors, metadata)
        safetensors.numpy.save_file(tensors, self.path, metadata=metadata or None)

    def error(self):
        with self.assertRaises(ValueError) as context:
            checkpoint.load(self.path)
        message = str(context.exception)
        self.assertStartsWith(message, f"{self.path}: ")
        return message

    def test_is_readable_as_the_umask_allows(self):
        self.save()
        umask = os.umask(0)
        os.umask(umask)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o666 & ~umask)

    def test_round_trip(self):
        params = self.save()
        loaded = checkpoint.load(self.path)
        jax.tree.map(np.testing.assert_array_equal, dict(loaded.params), dict(params))
        self.assertEqual(loaded.config, self.model_config)
        self.assertTrue(loaded.config.is_locked)
        self.assertEqual(loaded.name, "encodec_tiny")
        self.assertEqual(
            loaded.metadata,
            {
                **PROVENANCE,
                "format": "encodec_hk",
                "format_version": "1",
                "config": config.to_json(self.model_config),
            },
        )

    def test_file_is_plain_safetensors(self):
        self.save()
        tensors = safetensors.numpy.load_file(self.path)
        self.assertIn("encoder/stage_0/residual_0/conv_0.w", tensors)
        self.assertEqual({str(value.dtype) for value in tensors.values()}, {"float32"})

    def test_integers_on_disk(self):
        params = random_params(self.model_config)
        params["encoder/conv_in"]["w"][0] = 0.0
        params["encoder/conv_in"]["b"] *= 1e-30
        self.save(params, int16=True)
        tensors = safetensors.numpy.load_file(self.path)
        types = {(key.partition(":")[2], str(value.dtype)) for key, value in tensors.items()}
        self.assertEqual(types, {("", "int16"), ("low", "uint8"), ("scale", "float32")})
        fine = {key.partition("/")[0] for key in tensors if key.endswith(":low")}
        self.assertEqual(fine, {"encoder"})
        loaded = checkpoint.load(self.path).params
        chex.assert_trees_all_equal_shapes_and_dtypes(dict(loaded), dict(params))

        def assert_near(found, value):
            step = np.max(np.abs(value), axis=-1, keepdims=True) / 32767 + 1e-37
            # Half a step, and the rounding of float32: 32767 steps of 2^-24, twice.
            np.testing.assert_array_less(np.abs(found - value) / step, 0.504)

        jax.tree.map(assert_near, dict(loaded), dict(params))
        self.assertTrue(np.any(loaded["encoder/conv_in"]["b"]))
        np.testing.assert_allclose(
            loaded["encoder/conv_out"]["w"], params["encoder/conv_out"]["w"], rtol=0, atol=1e-6
        )

        # Rounding again changes nothing.
        checkpoint.save(self.path, loaded, self.model_config, int16=True, **PROVENANCE)
        again = checkpoint.load(self.path).params
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), dict(again), dict(loaded)
        )
        chex.assert_trees_all_equal(again["encoder/conv_out"], loaded["encoder/conv_out"])

    def test_damaged_integers(self):
        self.save(int16=True)
        whole = safetensors.numpy.load_file(self.path)
        metadata = checkpoint.read_metadata(self.path)
        name = "encoder/conv_in.w"
        for change, message in (
            ({f"{name}:scale": None}, f"- {name} float32"),
            ({f"{name}:scale": whole[f"{name}:scale"][:1]}, "scale float32"),
            ({f"{name}:scale": np.float32(np.nan) * whole[f"{name}:scale"]}, "NaN or infinity"),
            ({name: None}, f"- {name} float32"),
            ({f"{name}:low": whole[f"{name}:low"][:1]}, "low uint8"),
            ({f"{name}:low": whole[f"{name}:low"].astype(np.int32)}, "low int32"),
        ):
            tensors = {key: value for key, value in (whole | change).items() if value is not None}
            safetensors.numpy.save_file(tensors, self.path, metadata=metadata)
            self.assertIn(message, self.error())

    def test_fingerprint(self):
        """It depends on the config and the numbers alone, not on a file."""
        params = self.save()
        digest = hashlib.sha256(config.to_json(self.model_config).encode())
        values = {f"{module}.{name}": v for module in params for name, v in params[module].items()}
        for name, value in sorted(values.items()):
            digest.update(f"{name} {list(value.shape)}".encode() + value.astype("<f4").tobytes())
        found = checkpoint.fingerprint(self.model_config, params)
        self.assertEqual(found, digest.hexdigest())
        loaded = checkpoint.load(self.path)
        self.assertEqual(checkpoint.fingerprint(loaded.config, loaded.params), found)
        other = jax.tree.map(np.copy, params)
        other["encoder/conv_in"]["b"][0] += 1e-6
        self.assertNotEqual(checkpoint.fingerprint(self.model_config, other), found)
        self.model_config.pad_mode = "constant"
        self.assertNotEqual(checkpoint.fingerprint(self.model_config, params), found)

    @parameterized.parameters(
        ("encodec_tiny", "c0e48fe4f96ecfc87c3406bbcdfafd27fe05d8da571a89f40a77c85bbc7b04c4"),
        ("encodec_24khz_small", "57fad32915cf84904bb1bbbb98513cfb931bf626a4c66d109f8350b02ec74792"),
    )
    def test_shipped_files_stay_the_same(self, name, fingerprint):
        """New fields of the config show neither in it nor in fingerprints, which files hold."""
        path = pathlib.Path(__file__).parents[1] / "checkpoints" / f"{name}.safetensors"
        loaded = checkpoint.load(path)
        self.assertEqual(config.to_json(loaded.config), loaded.metadata["config"])
        self.assertEqual(checkpoint.fingerprint(loaded.config, loaded.params), fingerprint)

    def test_makes_its_folder(self):
        self.save(path=self.folder / "new" / "folder" / "model.safetensors")
        self.assertLen(os.listdir(self.folder / "new" / "folder"), 1)

    def test_failed_save_leaves_the_old_file(self):
        old = self.save()

        def write_half(path, content):
            with part_file.PartFile(path) as part:
                part.file.write(content[:9])
                raise OSError("disk full")

        with (
            mock.patch.object(part_file, "write", write_half),
            self.assertRaisesRegex(OSError, "disk full"),
        ):
            self.save(random_params(self.model_config, seed=1))
        self.assertEqual(os.listdir(self.folder), ["model.safetensors"])
        loaded = checkpoint.load(self.path)
        jax.tree.map(np.testing.assert_array_equal, dict(loaded.params), dict(old))

    def test_save_checks_the_params(self):
        params = random_params(self.model_config)
        del params["encoder/conv_in"]["b"]
        with self.assertRaisesRegex(ValueError, r"(?m)^- encoder/conv_in.b float32\[4\]$"):
            self.save(params)
        self.assertEmpty(os.listdir(self.folder))

    def test_missing_file(self):
        self.assertIn("no such file", self.error())

    @parameterized.parameters(0, 4, 100, 5000)
    def test_truncated(self, size):
        self.save()
        self.path.write_bytes(self.path.read_bytes()[:size])
        self.assertIn("not a whole safetensors file", self.error())

    def test_foreign_file(self):
        self.path.write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(100))
        self.assertIn("not a whole safetensors file", self.error())

    @parameterized.parameters(None, ({"format": "pt"},))
    def test_foreign_safetensors(self, metadata):
        tensors = {"encoder.layers.0.conv.bias": np.zeros(4, np.float32)}
        safetensors.numpy.save_file(tensors, self.path, metadata=metadata)
        self.assertIn("run.py convert", self.error())

    def test_other_version(self):
        self.rewrite(lambda tensors, metadata: metadata.update(format_version="4"))
        self.assertRegex(self.error(), "format_version '4', this program reads 1, 2 and 3$")

    @parameterized.parameters("name", "config", "source", "source_sha256", "licence")
    def test_missing_metadata(self, key):
        self.rewrite(lambda tensors, metadata: metadata.pop(key))
        self.assertRegex(self.error(), f"lacks {key}$")

    @parameterized.parameters("{", "[]", "{}", json.dumps({"sample_rate": 24000}))
    def test_damaged_config(self, text):
        self.rewrite(lambda tensors, metadata: metadata.update(config=text))
        self.assertIn("config.model", self.error())

    def test_tensors_that_differ_are_listed(self):
        def change(tensors, metadata):
            del tensors["decoder/conv_out.b"]
            tensors["decoder/conv_out.gain"] = np.ones(3, np.float32)
            tensors["encoder/conv_in.w"] = tensors["encoder/conv_in.w"][:5]
            tensors["quantizer.codebooks"] = tensors["quantizer.codebooks"].astype(np.float64)

        self.rewrite(change)
        self.assertEqual(
            self.error().split("\n")[1:],
            [
                "- decoder/conv_out.b float32[1]",
                "+ decoder/conv_out.gain float32[3]",
                "- encoder/conv_in.w float32[7, 1, 4]",
                "+ encoder/conv_in.w float32[5, 1, 4]",
                "- quantizer.codebooks float32[8, 16, 8]",
                "+ quantizer.codebooks float64[8, 16, 8]",
            ],
        )


if __name__ == "__main__":
    absltest.main()
