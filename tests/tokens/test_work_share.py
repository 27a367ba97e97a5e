"""--shard: named, or what a cluster says."""

from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.tokens import work_share

ARRAY = {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}


class WorkShareTest(parameterized.TestCase):
    @parameterized.parameters(
        (None, {}, [0, 1, 2, 3, 4, 5, 6]),
        ("1/3", {}, [1, 4]),
        ("6/7", {}, [6]),
        ("8/9", {}, []),
        ("auto", {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "3"}, [1, 4]),
        ("auto", ARRAY | {"SLURM_ARRAY_TASK_STEP": "2"}, [2, 6]),
        ("auto", {"SLURM_PROCID": "2", "SLURM_NTASKS": "3"}, [2, 5]),
        (
            "auto",
            {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_PROCID": "1"}
            | {"SLURM_NTASKS": "2"},
            [3],
        ),
        ("auto", {"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "4"}, [0, 4]),
        ("auto", {"RANK": "1", "WORLD_SIZE": "2"}, [1, 3, 5]),
    )
    def test_shards(self, text, environment, expected):
        self.assertEqual(list(work_share.parse(text, environment).shards(7)), expected)

    @parameterized.parameters(
        ("3/3", {}, "--shard: got '3/3', must be i/n"),
        ("x", {}, "--shard: got 'x', must be i/n"),
        ("auto", {}, "--shard: got auto, but no cluster"),
        ("auto", {"JOB_COMPLETION_INDEX": "0"}, "but no JOB_COMPLETIONS; set it to"),
        ("auto", {"RANK": "2", "WORLD_SIZE": "2"}, "but RANK=2 and WORLD_SIZE=2"),
        ("auto", {"RANK": "x", "WORLD_SIZE": "2"}, "but RANK=x"),
        ("auto", ARRAY, "SLURM_ARRAY_TASK_ID=5 is not one of 4 elements from 1 on"),
    )
    def test_errors(self, text, environment, message):
        with self.assertRaisesRegex(ValueError, message):
            work_share.parse(text, environment)


if __name__ == "__main__":
    absltest.main()
