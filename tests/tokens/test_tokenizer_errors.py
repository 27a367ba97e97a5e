"""Errors in three kinds: of an item, of the system, of a process."""

import errno
import os
import pathlib
import shutil
import signal
import tempfile
from unittest import mock

import numpy as np
import pytest
import soundfile
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.sound import sound_files
from encodec_hk.tokens import item_table
from encodec_hk.tokens import reader_pool
from encodec_hk.tokens import reader_slots
from encodec_hk.tokens import schema
from encodec_hk.tokens import shard_work
from encodec_hk.tokens import shard_writer
from encodec_hk.tokens import sound_sources
from encodec_hk.tokens import verification
from tests import tokenize_cases

_READ = reader_pool._read


def read_and_die(*arguments):
    """Read as a reader process does, but for items that kill it."""
    source = sound_sources.SoundSource

    def open_source(item, settings, *others):
        marker = pathlib.Path(settings.base, "died")
        if "kills" in item.source or ("once" in item.source and not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return source(item, settings, *others)

    sound_sources.SoundSource = open_source
    _READ(*arguments)


class ErrorsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.inputs, self.output = self.folder / "in", self.folder / "out"
        tokenize_cases.write_clips(self.inputs, 6)
        self.enterContext(mock.patch.object(reader_slots, "_PAUSE", 0.01))
        self.enterContext(mock.patch.object(shard_writer, "_PAUSE", 0.01))

    def job(self, output=None, **options):
        return tokenize_cases.job(
            self.inputs, output or self.output, **{"shard_hours": 1.0, **options}
        )

    def write_bad_files(self):
        samples, rate = tokenize_cases.clip(0, 2.0)
        for suffix in (".mp3", ".wav", ".flac", ".ogg", ".opus"):
            path = self.inputs / f"cut{suffix}"
            tokenize_cases.write_sound(path, samples, rate)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        (self.inputs / "empty.wav").write_bytes(b"")
        (self.inputs / "text.wav").write_bytes(b"no sound" * 100)
        samples[5] = np.nan
        soundfile.write(self.inputs / "nan.wav", samples, rate, "FLOAT")
        soundfile.write(self.inputs / "none.wav", samples[:0], rate)
        return 9

    @parameterized.parameters("soundfile", "av")
    def test_bad_files_are_reported_and_the_others_go_on(self, decoder):
        bad = self.write_bad_files()
        (result,) = tokenize_cases.run(self.job(decoder=decoder), limit="100%")
        found = {error.source: error.error for error in result.errors}
        self.assertLen(found, bad)
        for name, message in (
            ("cut.mp3", "cut off after 0.9[0-9] s of 2"),
            ("cut.wav", "cut off after 1.00 s of 2.00 s"),
            ("cut.flac", "cut off after "),
            ("cut.ogg", r"cut off after \d\.\d\d s"),
            ("cut.opus", r"cut off after \d\.\d\d s"),
            ("empty.wav", "the file is empty"),
            ("text.wav", "Format not recogni"),
            ("nan.wav", "NaN or infinite"),
            ("none.wav", "no samples"),
        ):
            self.assertRegex(found[name], message)
        self.assertEqual(result.receipt.rows, 6)
        self.assertEqual(result.receipt.errors, bad)
        job = self.job(decoder=decoder)
        self.assertEqual(list(job.files.errors(0)), list(result.errors))
        self.assertEqual(tokenize_cases.run(job), [])

    @parameterized.parameters(
        ("1%", 2, False), ("1%", 1, True), ("0", 1, False), ("50%", 6, True), ("3", 3, True)
    )
    def test_limit(self, limit, bad, is_done):
        for index in range(bad):
            (self.inputs / f"bad{index}.wav").write_bytes(b"bad")
        (result,) = tokenize_cases.run(self.job(), limit=limit)
        self.assertEqual(result.receipt is not None, is_done)
        if not is_done:
            self.assertRegex(result.failure, f"items failed, more than --max_errors={limit}; such")
            self.assertEqual(tokenize_cases.files(self.output), [])
            self.assertEqual(self.job().files.failure(0), result.failure)
            (result,) = tokenize_cases.run(self.job(), limit="100%")  # tried again
            self.assertIsNone(self.job().files.failure(0))

    @parameterized.parameters("x", "1.5", "101%", "-1", "")
    def test_limits_that_are_none(self, text):
        with self.assertRaisesRegex(ValueError, "--max_errors: got"):
            shard_work.ErrorLimit(text)

    def test_retry_ends_in_the_bytes_of_a_run_without_errors(self):
        tokenize_cases.run(self.job(self.folder / "expected", row_seconds=0.5))
        hidden = self.folder / "03.flac"
        content = (self.inputs / "03.flac").read_bytes()
        shutil.copy(self.inputs / "03.flac", hidden)
        (self.inputs / "03.flac").write_bytes(b"x" * len(content))  # of the size in the plan
        (result,) = tokenize_cases.run(self.job(row_seconds=0.5))
        self.assertLen(result.errors, 1)
        (result,) = tokenize_cases.run(self.job(row_seconds=0.5), retry_errors=True)
        self.assertLen(result.errors, 1)
        (self.inputs / "03.flac").write_bytes(content)
        (result,) = tokenize_cases.run(self.job(row_seconds=0.5), retry_errors=True)
        self.assertEqual(result.receipt.errors, 0)
        self.assertEqual(
            tokenize_cases.contents(self.output), tokenize_cases.contents(self.folder / "expected")
        )
        self.assertEqual(tokenize_cases.run(self.job(row_seconds=0.5), retry_errors=True), [])

    def test_fault_of_the_system_is_tried_again(self):
        tokenize_cases.run(self.job(self.folder / "expected"))
        read, faults = sound_files.SoundReader.read, [2]

        def fail_twice(reader, size):
            if "02.flac" in str(reader._path) and faults[0] and reader._count:
                faults[0] -= 1
                raise OSError(errno.EIO, "Input/output error")
            return read(reader, size)

        with mock.patch.object(sound_files.SoundReader, "read", fail_twice):
            (result,) = tokenize_cases.run(self.job())
        self.assertEqual(faults, [0])
        self.assertEqual(result.receipt.errors, 0)
        self.assertEqual(
            tokenize_cases.contents(self.output), tokenize_cases.contents(self.folder / "expected")
        )

    @parameterized.parameters(errno.EIO, errno.ESTALE)
    def test_fault_that_stays_fails_the_shard_and_blames_no_item(self, number):
        def fail(reader, size):
            raise OSError(number, os.strerror(number))

        with mock.patch.object(sound_files.SoundReader, "read", fail):
            (result,) = tokenize_cases.run(self.job())
        self.assertIsNone(result.receipt)
        self.assertEqual(result.errors, [])
        self.assertIn(os.strerror(number), result.failure)
        (result,) = tokenize_cases.run(self.job())
        self.assertEqual(result.receipt.rows, 6)

    def test_file_that_became_shorter(self):
        path = self.inputs / "00.flac"
        samples, rate = soundfile.read(path)
        settings = sound_sources.ReadSettings(str(self.inputs), rate, 1)
        slots = reader_slots.ReaderSlots(settings, np.zeros((1, 1000), np.float32))
        slots.fill(0, item_table.AudioItem("a", "00.flac", b"00.flac"))
        slots.fill(0, None)
        take, faults = sound_sources.SoundSource.take, [1]

        def fail_once(source, into):
            if faults:
                faults.clear()
                soundfile.write(path, samples[:1500], rate)
                raise sound_sources.SystemFault("00.flac: Input/output error")
            return take(source, into)

        with mock.patch.object(sound_sources.SoundSource, "take", fail_once):
            reply = slots.fill(0, None)
        self.assertEqual(
            reply[-2:], (reader_slots.DATA, "00.flac: it became shorter while it was read")
        )

    def test_other_shards_go_on_after_one_that_fails(self):
        job = self.job(shard_hours=1e-4)
        self.assertGreater(job.plan.num_shards, 2)
        (self.inputs / "00.flac").write_bytes(b"x")
        results = tokenize_cases.run(job, limit="0")
        failed = [result.shard for result in results if result.receipt is None]
        self.assertEqual(failed, [0])
        self.assertLen(results, job.plan.num_shards)

    def test_full_disk(self):
        write, failures = schema.write_file, []

        def fail(*arguments):
            if len(failures) < 3:
                failures.append(1)
                raise OSError(errno.ENOSPC, "No space left on device", "train-00000.parquet")
            return write(*arguments)

        with mock.patch.object(schema, "write_file", fail):
            (result,) = tokenize_cases.run(self.job())
            self.assertIsNone(result.receipt)
            self.assertEqual(result.failure, "train-00000.parquet: No space left on device")
            (result,) = tokenize_cases.run(self.job())
        self.assertEqual(result.receipt.rows, 6)

    @pytest.mark.slow
    def test_item_that_kills_its_reader_is_set_aside(self):
        tokenize_cases.run(self.job(self.folder / "expected"))
        shutil.copy(self.inputs / "02.flac", self.inputs / "kills.flac")
        shutil.copy(self.inputs / "02.flac", self.inputs / "once.flac")
        with mock.patch.object(reader_pool, "_read", read_and_die):
            (result,) = tokenize_cases.run(self.job(), num_readers=2)
        self.assertEqual([error.id for error in result.errors], ["kills.flac"])
        self.assertEqual(result.errors[0].error, "the process that read it died (signal 9)")
        self.assertEqual(result.receipt.rows, 7)
        expected = tokenize_cases.rows(self.folder / "expected")
        found = [row for row in tokenize_cases.rows(self.output) if row["id"] != "once.flac"]
        self.assertEqual(found, expected)

    def test_files_that_are_gone_are_errors_of_items(self):
        for base in (str(self.inputs), f"file://{self.inputs}"):
            output = self.folder / str(len(base))
            job = tokenize_cases.job(base, output, shard_hours=1.0)
            content = (self.inputs / "00.flac").read_bytes()
            (self.inputs / "00.flac").unlink()
            (result,) = tokenize_cases.run(job)
            self.assertEqual([error.id for error in result.errors], ["00.flac"])
            self.assertEqual(result.receipt.rows, 5)
            (self.inputs / "00.flac").write_bytes(content)

    def test_damaged_parquet_file(self):
        path = self.folder / "a.parquet"
        tokenize_cases.write_parquet(path, 6)
        job = tokenize_cases.job(path, self.output, shard_hours=1.0)
        content = bytearray(path.read_bytes())
        content[100:3000] = bytes(2900)  # of the first row group
        path.write_bytes(content)
        (result,) = tokenize_cases.run(job, limit="2")
        self.assertBetween(len(result.errors), 1, 2)
        self.assertBetween(result.receipt.rows, 4, 5)

    def test_short_shared_memory(self):
        with mock.patch.object(reader_pool, "_free_shared_memory", return_value=2**20):
            self.assertEqual(reader_pool.slot_size(16, 10**9, 1000), 8192)
            with self.assertRaisesRegex(ValueError, "shared memory: 1 MB are free in /dev/shm, "):
                reader_pool.slot_size(16, 10**9, 10_000)

    def test_verify(self):
        job = self.job()
        with self.assertRaisesRegex(ValueError, "--verify: no shard"):
            verification.verify(job, 5)
        tokenize_cases.run(job)
        found = verification.verify(job, 5)
        self.assertTrue(found.is_equal)
        self.assertRegex(found.lines[-1], "^5 items of 1 shards: 0 of [0-9]+ codes differ$")
        samples, rate = soundfile.read(self.inputs / "02.flac")
        soundfile.write(self.inputs / "02.flac", 0.5 * samples, rate)
        found = verification.verify(job, 100)
        self.assertFalse(found.is_equal)


if __name__ == "__main__":
    absltest.main()
