"""Traces kept on disk: that they are found, equal to what they stand for, and no trouble."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

import chex
import numpy as np
import pytest
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from encodec_hk.blocks import traces
from encodec_hk.networks import padding
from tests import compilation
from tests import random_networks

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import hashlib, sys
from unittest import mock
from encodec_hk.networks import padding
from tests.blocks import test_traces
params = test_traces.params()
with mock.patch.object(padding, "pad_block", side_effect=padding.pad_block) as layer:
    codes, audio = test_traces.coded(test_traces.codec(sys.argv[1], params))
print(layer.call_count)
print(hashlib.sha256(codes.tobytes() + audio.tobytes()).hexdigest())
"""
VARIANTS = {
    "causal": {},
    "looking_ahead": {"causal": False},
    "segments": {
        **{"causal": False, "norm": "time_group_norm", "normalize": True, "channels": 2},
        **{"segment_seconds": 1.0},
    },
}


def params(**overrides):
    """Random ones; to know their shapes, the networks are traced."""
    return random_networks.random_params(random_networks.small(**overrides))


def codec(folder=None, own_params=None, **overrides):
    return encodec_hk.Codec(
        random_networks.small(**overrides),
        params(**overrides) if own_params is None else own_params,
        block_seconds=0.5,
        traces_folder=folder,
    )


def coded(codec):
    """Codes and audio of two signals, of several blocks."""
    rng = np.random.default_rng(0)
    audio = [0.1 * rng.standard_normal((n, codec.channels), np.float32) for n in (2000, 31)]
    encoded = codec.encode(audio)
    return encoded.codes, codec.decode(encoded)


class TracesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()), "traces")

    def counted(self, **overrides):
        """Codes and audio, and how many layers a new process traces for them."""
        traces._kept.cache_clear()
        own_params = params(**overrides)
        with mock.patch.object(padding, "pad_block", side_effect=padding.pad_block) as layer:
            results = coded(codec(self.folder, own_params, **overrides))
        return results, layer.call_count

    @parameterized.parameters(*VARIANTS)
    @pytest.mark.few(0)
    def test_equal_with_and_without(self, variant):
        expected = coded(codec(**VARIANTS[variant]))
        first, traced = self.counted(**VARIANTS[variant])
        second, traced_again = self.counted(**VARIANTS[variant])
        chex.assert_trees_all_equal(expected, first, second)
        self.assertGreater(traced, 0)
        self.assertEqual(traced_again, 0)

    @pytest.mark.slow
    def test_a_second_process_does_not_trace(self):
        outputs = []
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, str(self.folder)],
                env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
                capture_output=True,
                text=True,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            outputs.append(done.stdout.split())
        (traced, expected), (traced_again, found) = outputs
        self.assertGreater(int(traced), 0)
        self.assertEqual((traced_again, found), ("0", expected))

    def test_damaged_files_are_made_anew(self):
        expected, _ = self.counted()
        files = sorted(self.folder.iterdir())
        self.assertLen(files, 5)  # two programs, two states, the parameters
        damages = (
            lambda data: b"",
            lambda data: data[:-1],
            lambda data: b"not of this program" * 10,
            lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
            lambda data: data[:40],
        )
        for file, damage in zip(files, damages, strict=True):
            file.write_bytes(damage(file.read_bytes()))
        found, traced = self.counted()
        self.assertGreater(traced, 0)
        self.assertEqual(self.counted()[1], 0)
        self.assertEqual(sorted(self.folder.iterdir()), files)
        chex.assert_trees_all_equal(found, expected)

    def test_damaged_files_are_deleted_on_a_full_disk(self):
        self.counted()
        for file in self.folder.iterdir():
            file.write_bytes(file.read_bytes()[:-1])
        with mock.patch.object(traces.part_file, "PartFile", side_effect=OSError):
            self.counted()
        self.assertEmpty(list(self.folder.iterdir()))

    def test_a_folder_that_cannot_be_made(self):
        self.folder.touch()
        self.counted()
        _, traced = self.counted()
        self.assertGreater(traced, 0)

    def test_what_cannot_be_exported_is_traced(self):
        with mock.patch.object(traces.jax.export, "export", side_effect=NotImplementedError):
            found, _ = self.counted()
        chex.assert_trees_all_equal(found, coded(codec()))

    def test_other_models_have_files_of_their_own(self):
        self.counted()
        count = len(list(self.folder.iterdir()))
        _, traced = self.counted(num_codebooks=4)
        self.assertGreater(traced, 0)
        self.assertLen(list(self.folder.iterdir()), 2 * count)

    def test_every_block_takes_the_same_program(self):
        traces._kept.cache_clear()
        own = codec(self.folder)
        samples = np.zeros((600, 1), np.float32)
        runner = own.runner(own.encoder_program(3), 2, (50,))
        rows = [runner.open(), runner.open()]
        with compilation.counted() as compiled:
            for _ in range(3):
                for row in rows:
                    row.put(samples)
                runner.advance(wait=True)
            rows[0].drop()
            runner.advance(wait=True)
            runner.shrink(1)
            for _ in range(3):
                rows[1].put(samples)
                runner.advance(wait=True)
        self.assertLen(compiled, 2)  # for two places, and for one


class SurroundingsTest(absltest.TestCase):
    def test_other_source_is_another_key(self):
        with tempfile.TemporaryDirectory() as folder:
            package = pathlib.Path(folder, "package")
            shutil.copytree(traces._PACKAGE, package)
            self.enter_context(mock.patch.object(traces, "_PACKAGE", package))
            facts = traces._surroundings.__wrapped__
            before = facts()
            changed = list(package.glob("networks/*.py"))
            self.assertIn("seanet.py", [path.name for path in changed])
            changed += [package / "config.py", package / "system/rules.py"]
            for path in changed:
                path.write_text(path.read_text() + "\n")
                self.assertNotEqual(facts(), before, path.name)
                before = facts()
            (package / "networks/seanet.py").rename(package / "networks/renamed.py")
            self.assertNotEqual(facts(), before)
            before = facts()
            (package / "sound/resampling.py").write_text("")
            self.assertEqual(facts(), before)

    def test_settings_of_jax_are_another_key(self):
        facts = traces._surroundings.__wrapped__
        before = facts()
        with mock.patch.dict(os.environ, {"JAX_ENABLE_X64": "1"}):
            self.assertNotEqual(facts(), before)


if __name__ == "__main__":
    absltest.main()
