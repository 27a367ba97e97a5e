"""Ray: two workers on one machine end in the bytes of one process, also if one is killed."""

import functools
import pathlib
import tempfile

import pytest
from absl.testing import absltest

from encodec_hk.tokens import ray_engine
from tests import tokenize_cases


@pytest.mark.slow
class RayEngineTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        pytest.importorskip("ray")
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.inputs, self.output = self.folder / "in", self.folder / "out"
        tokenize_cases.write_clips(self.inputs, 24, ".wav")
        tokenize_cases.run(tokenize_cases.job(self.inputs, self.folder / "expected"))

    def run_ray(self, **settings):
        results = []
        work = ray_engine.RayRun(
            functools.partial(
                tokenize_cases.job_of_worker, str(self.inputs), str(self.output), **settings
            ),
            num_workers=2,
        )
        try:
            work.run("1%", 1, results.append)
        finally:
            work.close()
        return work, results

    def test_two_workers(self):
        work, results = self.run_ray()
        expected = tokenize_cases.contents(self.folder / "expected")
        self.assertEqual(tokenize_cases.contents(self.output), expected)
        self.assertCountEqual([result.shard for result in results], work.shards)
        self.assertTrue((self.output / "README.md").exists())
        work, results = self.run_ray()
        self.assertEqual((work.shards, results), ([], []))

    def test_worker_that_dies(self):
        self.run_ray(dies=True)
        self.assertTrue((self.output / "died").exists())
        expected = tokenize_cases.contents(self.folder / "expected")
        self.assertEqual(tokenize_cases.contents(self.output), expected)

    def test_error_of_the_job(self):
        self.inputs = self.folder / "absent"
        with self.assertRaisesRegex(ValueError, "absent: no such file or folder"):
            self.run_ray()


if __name__ == "__main__":
    absltest.main()
