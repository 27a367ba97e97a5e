"""Tokenizing: the codes are those of the file alone, and the bytes depend on nothing else."""

import contextlib
import io
import pathlib
import shutil
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk import checkpoint
from encodec_hk.sound import sound_files
from encodec_hk.tokens import av_sounds
from encodec_hk.tokens import schema
from tests import infer_cases
from tests import tokenize_cases


class TokenizerTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.inputs, self.output = self.folder / "in", self.folder / "out"
        self.inputs.mkdir()

    def assert_codes_of_file_alone(self, row, samples, rate, codec=None):
        codes, scales = tokenize_cases.encode_alone(samples, rate, codec)
        np.testing.assert_array_equal(row["codes"], codes)
        if scales is not None:
            np.testing.assert_array_equal(np.float32(row["scales"]), scales)

    @parameterized.parameters(".wav", ".flac", ".mp3", ".ogg", ".opus")
    def test_codes_are_those_of_the_file_alone(self, suffix):
        for index in range(5):
            samples, rate = tokenize_cases.clip(index, 0.4 + 0.5 * index)
            tokenize_cases.write_sound(self.inputs / f"{index}{suffix}", samples, rate)
        results = tokenize_cases.run(tokenize_cases.job(self.inputs, self.output))
        self.assertEqual([result.failure for result in results], [None] * len(results))
        rows = tokenize_cases.rows(self.output)
        self.assertEqual([row["id"] for row in rows], [f"{index}{suffix}" for index in range(5)])
        for row in rows:
            audio = sound_files.read(self.inputs / row["source"])
            self.assert_codes_of_file_alone(row, audio.samples, audio.sample_rate)
            self.assertEqual(row["source_rate"], audio.sample_rate)
            self.assertEqual((row["part"], row["channel"], row["start"]), (0, -1, 0.0))
            seconds = len(audio.samples) / audio.sample_rate
            self.assertAlmostEqual(row["duration"], seconds, delta=1e-4)
            self.assertEqual(
                row["num_samples"], -(-len(audio.samples) * 24000 // audio.sample_rate)
            )

    @parameterized.parameters("mean", "split", "first")
    def test_channels(self, policy):
        tokenize_cases.write_clips(self.inputs, 6, channels=2)
        tokenize_cases.run(tokenize_cases.job(self.inputs, self.output, channels=policy))
        rows = tokenize_cases.rows(self.output)
        self.assertLen(rows, 12 if policy == "split" else 6)
        for row in rows:
            audio = sound_files.read(self.inputs / row["source"])
            channel = row["channel"]
            own = audio.samples if channel < 0 else audio.samples[:, channel : channel + 1]
            self.assert_codes_of_file_alone(row, own, audio.sample_rate)
            self.assertEqual(row["source_channels"], 2)
        ids = {row["id"] for row in rows}
        self.assertLen(ids, len(rows))
        if policy == "split":
            self.assertIn("00.flac#c1", ids)

    @parameterized.product(policy=("mean", "split"), has_segments=(False, True))
    def test_cut_rows_join_to_the_whole(self, policy, has_segments):
        tokenize_cases.write_clips(self.inputs, 4, channels=2)
        samples, rate = tokenize_cases.clip(2, 4.5)
        soundfile.write(self.inputs / "long.flac", samples, rate)
        codec = tokenize_cases.segment_codec() if has_segments else tokenize_cases.codec()
        for row_seconds, name in ((None, "whole"), (1.0, "cut")):
            job = tokenize_cases.job(
                self.inputs, self.folder / name, codec, row_seconds=row_seconds, channels=policy
            )
            tokenize_cases.run(job)
        whole = tokenize_cases.rows(self.folder / "whole")
        cut = tokenize_cases.rows(self.folder / "cut")
        self.assertGreater(len(cut), len(whole))
        for row in whole:
            parts = [
                own
                for own in cut
                if (own["source"], own["channel"]) == (row["source"], row["channel"])
            ]
            joined = np.concatenate([own["codes"] for own in parts], axis=1)
            np.testing.assert_array_equal(joined, row["codes"])
            self.assertEqual([own["part"] for own in parts], list(range(len(parts))))
            self.assertEqual(sum(own["num_samples"] for own in parts), row["num_samples"])
            self.assertAlmostEqual(sum(own["duration"] for own in parts), row["duration"])
            if has_segments:
                scales = np.concatenate([own["scales"] for own in parts])
                np.testing.assert_array_equal(scales, row["scales"])
            start = 0.0
            for own in parts:
                self.assertAlmostEqual(own["start"], start)
                self.assertLen(own["codes"][0], own["num_frames"])
                start += own["duration"]
            audio = sound_files.read(self.inputs / row["source"])
            channel = row["channel"]
            alone = audio.samples if channel < 0 else audio.samples[:, channel : channel + 1]
            self.assert_codes_of_file_alone(row, alone, audio.sample_rate, codec)

    @parameterized.parameters(False, True)
    def test_reader_processes_batch_and_order_change_no_byte(self, has_segments):
        codec = tokenize_cases.segment_codec() if has_segments else tokenize_cases.codec()
        tokenize_cases.write_clips(self.inputs, 12)
        job = tokenize_cases.job(self.inputs, self.output, codec)
        tokenize_cases.run(job)
        self.assertGreater(job.plan.num_shards, 2)
        expected = tokenize_cases.contents(self.output)
        other = tokenize_cases.job(self.inputs, self.folder / "other", codec)
        shards = range(other.plan.num_shards)[::-1]
        tokenize_cases.run(other, shards=shards, num_readers=2)
        self.assertEqual(tokenize_cases.contents(self.folder / "other"), expected)

    def test_tars_and_parquet_files(self):
        tokenize_cases.write_tar(self.inputs / "a.tar", 4)
        tokenize_cases.write_parquet(self.inputs / "b.parquet", 5)
        job = tokenize_cases.job(self.inputs, self.output, keep=("text", "txt", "speaker"))
        tokenize_cases.run(job)
        rows = tokenize_cases.rows(self.output)
        self.assertLen(rows, 9)
        for number, row in enumerate(rows):
            index = number if number < 4 else number - 4
            self.assert_codes_of_file_alone(row, *tokenize_cases.clip(index, 0.5 + 0.1 * index))
            self.assertEqual(row["speaker"], index)
            text = f"text {index}"
            self.assertEqual(
                (row["txt"], row["text"]), (text, None) if number < 4 else (None, text)
            )
        self.assertEqual(rows[1]["source"], "a.tar/01.flac")
        self.assertEqual(rows[5]["source"], "b.parquet/00000001")

    @parameterized.parameters(".wav", ".mp3", ".opus", ".m4a")
    def test_same_codes_from_files_tars_and_parquet_files(self, suffix):
        for index in range(3):
            samples, rate = tokenize_cases.clip(index, 0.5 + 0.1 * index)
            tokenize_cases.write_sound(self.inputs / f"{index}{suffix}", samples, rate)
        tokenize_cases.write_tar(self.inputs / "a.tar", 3, suffix)
        tokenize_cases.write_parquet(self.inputs / "b.parquet", 3, suffix)
        tokenize_cases.run(tokenize_cases.job(self.inputs, self.output))
        rows = tokenize_cases.rows(self.output)
        self.assertLen(rows, 9)
        for first, *others in (rows[0::3], rows[1::3], rows[2::3]):
            for row in others:
                np.testing.assert_array_equal(row["codes"], first["codes"])

    def test_urls(self):
        tokenize_cases.write_clips(self.inputs, 3)
        tokenize_cases.write_tar(self.inputs / "a.tar", 2)
        tokenize_cases.write_parquet(self.inputs / "b.parquet", 2)
        for name, inputs in (("local", str(self.inputs)), ("url", f"file://{self.inputs}")):
            tokenize_cases.run(tokenize_cases.job(inputs, self.folder / name), num_readers=1)
        local, url = (tokenize_cases.contents(self.folder / name) for name in ("local", "url"))
        self.assertEqual(local, url)

    def test_opus_by_pyav(self):
        for index in range(2):
            samples, rate = tokenize_cases.clip(index, 1.0)
            tokenize_cases.write_sound(self.inputs / f"{index}.opus", samples, rate)
        for decoder in ("soundfile", "av"):
            job = tokenize_cases.job(self.inputs, self.folder / decoder, decoder=decoder)
            tokenize_cases.run(job)
        rows, av_rows = (tokenize_cases.rows(self.folder / name) for name in ("soundfile", "av"))
        for row, other in zip(rows, av_rows, strict=True):
            self.assertAlmostEqual(row["duration"], other["duration"], delta=0.02)

    def test_m4a_and_webm(self):
        samples, rate = tokenize_cases.clip(3, 2.0)
        tokenize_cases.write_av(self.inputs / "a.m4a", samples, rate)
        tokenize_cases.write_av(self.inputs / "b.webm", samples, rate)
        tokenize_cases.run(tokenize_cases.job(self.inputs, self.output))
        rows = tokenize_cases.rows(self.output)
        self.assertEqual([row["source"] for row in rows], ["a.m4a", "b.webm"])
        for row in rows:
            self.assertAlmostEqual(row["duration"], 2.0, delta=0.05)

    @parameterized.parameters(10 * 1024, 24017, 48000)
    def test_m4a_has_the_length_of_the_original(self, length):
        path = self.folder / "a.m4a"
        tokenize_cases.write_av(path, tokenize_cases.clip(3, 3.0)[0][:length], 44100)
        with contextlib.closing(av_sounds.AvReader(path, io.BytesIO(path.read_bytes()))) as reader:
            self.assertLen(reader.read(2 * length), length)

    def test_excerpts_and_kept_fields_of_a_manifest(self):
        samples, rate = tokenize_cases.clip(4, 3.0)
        for suffix in (".flac", ".mp3"):
            soundfile.write(self.inputs / f"a{suffix}", samples, rate)
        manifest = self.inputs / "manifest.jsonl"
        manifest.write_text(
            '{"path": "a.flac", "duration": 3.0, "text": "all", "tags": ["x"]}\n'
            '{"audio_filepath": "a.flac", "offset": 0.5, "duration": 1.25, "id": 7}\n'
            '{"path": "a.mp3", "offset": 1.5, "score": 0.5}\n'
        )
        job = tokenize_cases.job(manifest, self.output, keep=("text", "tags", "score"))
        tokenize_cases.run(job)
        by_id = {row["id"]: row for row in tokenize_cases.rows(self.output)}
        self.assertEqual(sorted(by_id), ["7", "a.flac", "a.mp3@1.5"])
        flac, mp3 = (sound_files.read(self.inputs / f"a{s}").samples for s in (".flac", ".mp3"))
        self.assert_codes_of_file_alone(by_id["a.flac"], flac, rate)
        start, stop = round(0.5 * rate), round(0.5 * rate) + round(1.25 * rate)
        self.assert_codes_of_file_alone(by_id["7"], flac[start:stop], rate)
        self.assert_codes_of_file_alone(by_id["a.mp3@1.5"], mp3[round(1.5 * rate) :], rate)
        self.assertEqual(by_id["7"]["start"], 0.5)
        self.assertEqual(by_id["a.flac"]["tags"], ["x"])
        self.assertEqual(by_id["a.mp3@1.5"]["score"], 0.5)
        self.assertIsNone(by_id["7"]["text"])

    def test_model_that_takes_whole_items(self):
        codec = infer_cases.make_codec("whole", norm="time_group_norm", causal=False)
        self.assertTrue(codec.takes_whole_items)
        tokenize_cases.write_clips(self.inputs, 3)
        tokenize_cases.run(tokenize_cases.job(self.inputs, self.output, codec))
        for row in tokenize_cases.rows(self.output):
            audio = sound_files.read(self.inputs / row["source"])
            self.assert_codes_of_file_alone(row, audio.samples, audio.sample_rate, codec)

    def test_lengths_outside_the_limits_are_skipped(self):
        for seconds in (0.2, 1.0, 3.0):
            for suffix in (".wav", ".mp3"):
                samples, rate = tokenize_cases.clip(0, seconds)
                soundfile.write(self.inputs / f"{seconds}{suffix}", samples, rate)
        job = tokenize_cases.job(
            self.inputs, self.output, min_seconds=0.5, max_seconds=2.0, shard_hours=1
        )
        (result,) = tokenize_cases.run(job)
        self.assertEqual((result.receipt.rows, result.receipt.skipped), (2, 4))
        self.assertEqual(result.receipt.errors, 0)
        ids = [row["id"] for row in tokenize_cases.rows(self.output)]
        self.assertEqual(ids, ["1.0.mp3", "1.0.wav"])

    def test_shard_without_rows_has_no_file(self):
        tokenize_cases.write_clips(self.inputs, 2)
        job = tokenize_cases.job(self.inputs, self.output, min_seconds=60.0)
        results = tokenize_cases.run(job)
        self.assertEqual([result.receipt.rows for result in results], [0] * len(results))
        self.assertEqual(tokenize_cases.files(self.output), [])
        self.assertEqual(tokenize_cases.run(job), [])  # done nevertheless

    def test_data_sets_library_reads_the_result_offline(self):
        import datasets

        tokenize_cases.write_clips(self.inputs, 8)
        job = tokenize_cases.job(self.inputs, self.output)
        tokenize_cases.run(job)
        self.assertTrue(job.write_card())
        datasets.disable_progress_bars()
        cache = str(self.folder / "cache")
        expected = tokenize_cases.rows(self.output)
        for arguments in (
            {"path": "parquet", "data_files": str(self.output / "data" / "*.parquet")},
            {"path": str(self.output)},
        ):
            found = datasets.load_dataset(split="train", cache_dir=cache, **arguments)
            self.assertEqual(list(found), expected)

    def test_files_carry_what_their_rows_share(self):
        tokenize_cases.write_clips(self.inputs, 2)
        tokenize_cases.run(tokenize_cases.job(self.inputs, self.output))
        found = pq.read_schema(tokenize_cases.files(self.output)[0])
        self.assertEqual(found.field("codes").type, pa.list_(pa.list_(pa.int16())))
        metadata = found.metadata
        codec = tokenize_cases.codec()
        self.assertEqual(metadata[b"encodec_hk.fingerprint"].decode(), codec.fingerprint)
        self.assertEqual(metadata[b"encodec_hk.licence"], b"MIT")

    def test_rows_name_the_model_whose_codes_they_are(self):
        tokenize_cases.write_clips(self.inputs, 2)
        codec = infer_cases.like(
            tokenize_cases.codec(), _codes_of=checkpoint.CodesOf("a", "b", "c")
        )
        tokenize_cases.run(tokenize_cases.job(self.inputs, self.output, codec))
        info = schema.read_info(tokenize_cases.files(self.output)[0])
        self.assertEqual((info.checkpoint, info.source, info.fingerprint), ("a", "b", "c"))

    def test_model_without_an_encoder(self):
        tokenize_cases.write_clips(self.inputs, 1)
        codec = infer_cases.like(tokenize_cases.codec(), has_encoder=False)
        with self.assertRaisesRegex(ValueError, "decodes only: it has no encoder"):
            tokenize_cases.job(self.inputs, self.output, codec)
        self.assertFalse(self.output.exists())

    def test_another_folder_of_the_same_input_goes_on(self):
        tokenize_cases.write_clips(self.inputs, 8)
        tokenize_cases.run(tokenize_cases.job(self.inputs, self.output), shards=[0])
        moved = self.folder / "elsewhere"
        shutil.move(self.inputs, moved)
        results = tokenize_cases.run(tokenize_cases.job(moved, self.output))
        self.assertNotIn(0, [result.shard for result in results])
        self.assertLen(tokenize_cases.rows(self.output), 8)


if __name__ == "__main__":
    absltest.main()
