"""Items that were in work when processes were killed: tried alone, then set aside."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

import pytest
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.tokens import work_log
from tests import infer_cases
from tests import tokenize_cases

# Tokenizes in this process alone, which one of the items kills.
_RUN = """
import os, signal, sys
from encodec_hk.tokens import sound_sources
from tests import tokenize_cases
source = sound_sources.SoundSource
def open_source(item, *arguments):
    if "kills" in item.source:
        os.kill(os.getpid(), signal.SIGKILL)
    return source(item, *arguments)
sound_sources.SoundSource = open_source
job = tokenize_cases.job(*sys.argv[1:3], shard_hours=1.0)
tokenize_cases.run(job, limit="2")
"""


class WorkLogTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.inputs, self.output = self.folder / "in", self.folder / "out"
        self.work = self.output / ".tokenize" / "work"

    def leave_log(self, *lines, name="host-1-1.log"):
        self.work.mkdir(parents=True, exist_ok=True)
        (self.work / name).write_text("".join(json.dumps(line) + "\n" for line in lines))

    def log(self, is_needed=lambda shard: True):
        return work_log.WorkLog(self.work, is_needed)

    def test_counts_what_killed_processes_had_in_work(self):
        self.leave_log(["+", 0, "a"], ["+", 0, "b"], ["-", 0, "a"], ["+", 1, "c"])
        self.leave_log(["!", 0, "b"], name="other-1-1.log")
        with (self.work / "host-1-1.log").open("a") as file:
            file.write('["+", 0, "cut')
        with self.log() as log:
            self.assertEqual(log.deaths(0, "a"), (0, 0))
            self.assertEqual(log.deaths(0, "b"), (2, 1))
            self.assertEqual(log.deaths(1, "c"), (1, 0))
        self.assertLen(list(self.work.iterdir()), 2)
        with self.log(is_needed=lambda shard: shard == 1) as log:
            self.assertEqual(log.deaths(0, "b"), (0, 0))
        self.assertEqual([path.name for path in self.work.iterdir()], ["host-1-1.log"])

    def test_processes_at_work_are_not_dead(self):
        with self.log() as log:
            log.begin(0, "a", is_alone=False)
            with self.log() as other:
                self.assertEqual(other.deaths(0, "a"), (0, 0))
        self.assertEqual(list(self.work.iterdir()), [])

    def test_log_does_not_grow(self):
        with mock.patch.object(work_log, "_MOST_LINES", 10), self.log() as log:
            log.begin(0, "first", is_alone=True)
            for index in range(101):
                log.begin(0, f"{index}", is_alone=False)
                log.end(0, f"{index}")
            (path,) = self.work.iterdir()
            text = path.read_text()
        self.assertLess(len(text.splitlines()), 12)
        self.leave_log(*map(json.loads, text.splitlines()))
        with self.log() as log:
            self.assertEqual(log.deaths(0, "first"), (1, 1))
            self.assertEqual(log.deaths(0, "100"), (0, 0))

    @parameterized.parameters(1, 2, 3)
    def test_items_that_were_in_work_are_tried(self, deaths):
        tokenize_cases.write_clips(self.inputs, 6)
        tokenize_cases.run(tokenize_cases.job(self.inputs, self.folder / "expected"))
        for death in range(deaths):
            lines = [["+", 0, f"{index:02}.flac"] for index in range(4)]
            self.leave_log(*lines, name=f"{death}.log")
        tokenize_cases.run(tokenize_cases.job(self.inputs, self.output))
        expected = tokenize_cases.contents(self.folder / "expected")
        self.assertEqual(tokenize_cases.contents(self.output), expected)
        self.assertEqual(list(self.work.iterdir()), [])

    def test_items_that_were_alone_twice_are_set_aside(self):
        tokenize_cases.write_clips(self.inputs, 4)
        job = tokenize_cases.job(self.inputs, self.output, shard_hours=1.0)
        for death in range(2):
            self.leave_log(["!", 0, "02.flac"], name=f"{death}.log")
        (result,) = tokenize_cases.run(job)
        self.assertEqual([error.id for error in result.errors], ["02.flac"])
        self.assertEqual(result.errors[0].error, "2 processes died while it was alone in work")
        (result,) = tokenize_cases.run(job, retry_errors=True)
        self.assertEqual((result.errors, result.receipt.rows), ([], 4))

    @pytest.mark.slow
    def test_item_that_kills_whole_processes(self):
        tokenize_cases.write_clips(self.inputs, 4)
        (self.inputs / "00.flac").rename(self.inputs / "kills.flac")
        script = self.folder / "script.py"
        script.write_text(_RUN)
        codes = []
        while not codes or codes[-1]:
            done = subprocess.run(
                [sys.executable, script, self.inputs, self.output],
                env=os.environ | {"PYTHONPATH": str(infer_cases.REPOSITORY)},
            )
            codes.append(done.returncode)
            self.assertLess(len(codes), 8)
        self.assertEqual(codes, [-9, -9, -9, -9, 0])
        self.assertLen(tokenize_cases.rows(self.output), 3)


if __name__ == "__main__":
    absltest.main()
