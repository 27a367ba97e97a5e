"""`run.py bench`: that it times what it says, and what it refuses."""

import contextlib
import io
import json
import os
import pathlib
import tempfile

import pytest
from absl.testing import absltest
from absl.testing import parameterized

from configs import encodec_24khz
from configs import encodec_48khz
from encodec_hk.commands import bench


def small(config):
    """The configuration at its smallest, its checkpoint nowhere."""
    with config.unlocked():
        config.model.update({"num_filters": 2, "latent_dim": 8})
        config.checkpoint = "none.safetensors"
    return config


class BenchTest(parameterized.TestCase):
    def run_bench(self, config, **settings):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.assertEqual(bench.run(config, **settings), 0)
        return out.getvalue()

    def test_figures(self):
        folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        cores = os.sched_getaffinity(0)
        try:
            text = self.run_bench(
                small(encodec_24khz.get_config()),
                frames=5,
                bandwidth=3.0,
                threads=1,
                out=str(folder / "bench.json"),
            )
        finally:
            os.sched_setaffinity(0, cores)
        figures = json.loads((folder / "bench.json").read_text())
        self.assertEqual(figures["threads"], 1)
        self.assertEqual((figures["kbps"], figures["weights"]), (3.0, "random"))
        self.assertEqual(figures["pushes"], 5)
        self.assertAlmostEqual(figures["ms_of_a_push"], 320 / 24)
        for direction in ("encode", "decode"):
            found = figures[direction]
            self.assertBetween(found["median_ms"], 0, found["p99_ms"])
            self.assertRegex(text, f"{direction} +{found['median_ms']:.2f} ms")

    @pytest.mark.slow
    def test_segments(self):
        text = self.run_bench(small(encodec_48khz.get_config()), frames=1)
        self.assertIn("1 pushes of 990 ms each", text)

    @parameterized.parameters(
        ({"frames": 0}, "--frames: got 0"),
        ({"threads": 0}, "--threads: got 0, must be 1 to"),
        ({"threads": 10**6}, "--threads: got 1000000, must be 1 to"),
        ({"bandwidth": 2.0}, "bandwidth: got 2.0"),
    )
    def test_bad_calls(self, settings, message):
        with self.assertRaisesRegex(ValueError, message):
            bench.run(small(encodec_24khz.get_config()), **settings)


if __name__ == "__main__":
    absltest.main()
