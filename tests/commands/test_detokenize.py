"""`run.py detokenize`: the sound of rows is what the codec decodes, in files of safe names."""

import contextlib
import dataclasses
import functools
import io
import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

import numpy as np
import pytest
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk import tokens
from encodec_hk.commands import checkpoints
from encodec_hk.commands import detokenize
from encodec_hk.sound import sound_files
from encodec_hk.system import part_file
from encodec_hk.tokens import detokenizer
from tests import infer_cases
from tests import token_files
from tests import tokenize_cases


def info_of(codec, num_codebooks=2):
    framing = codec.framing
    has_segments = framing.has_segments
    return token_files.with_fields(
        fingerprint=codec.fingerprint,
        checkpoint=codec.name,
        sample_rate=codec.sample_rate,
        channels=codec.channels,
        hop_length=codec.hop_length,
        num_codebooks=num_codebooks,
        bandwidth=config.bandwidth_for(codec.model_config, num_codebooks),
        segment_length=framing.length if has_segments else 0,
        segment_stride=framing.stride if has_segments else 0,
        normalize=codec.model_config.normalize,
    )


class DetokenizeTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.mono = infer_cases.make_codec("encodec_24khz")
        cls.stereo = infer_cases.make_codec("encodec_48khz", **infer_cases.SEGMENTS)

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.codec = self.mono
        self.encoded = {}

    def write(self, lengths, codec=None, **fields):
        """Write a data set of noise, of so many samples by id."""
        self.codec = codec = codec or self.mono
        info = info_of(codec)
        rows = []
        for index, (id, length) in enumerate(lengths.items()):
            audio = infer_cases.noise(length, codec.channels, index)[None]
            encoded = self.encoded[id] = codec.encode(audio, num_codebooks=2)
            scales = None if encoded.scales is None else encoded.scales[0]
            own = {
                "id": id,
                "codes": encoded.codes[0],
                "num_samples": length,
                "scales": scales,
                **fields,
            }
            rows.append(token_files.row(index, encoded.codes.shape[-1], info, **own))
        self.path = token_files.write(self.folder / "OUT/data/train-00000.parquet", rows, info)
        return rows, info

    def detokenize(self, path=None, **settings):
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        with (
            mock.patch.object(checkpoints, "load_codec", return_value=self.codec),
            contextlib.redirect_stdout(self.stdout),
            contextlib.redirect_stderr(self.stderr),
        ):
            source = str(path or self.folder / "OUT")
            return detokenize.run(None, source, str(self.folder / "sound"), **settings)

    def sounds(self):
        root = self.folder / "sound"
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def check(self, id, name, channels=None):
        found = sound_files.read(self.folder / "sound" / name)
        expected = self.codec.decode(self.encoded[id])[0]
        self.assertEqual(found.sample_rate, self.codec.sample_rate)
        if channels == 1:
            expected = expected.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(found.samples, expected, rtol=0, atol=1e-5)

    @parameterized.parameters("mono", "stereo")
    def test_rows_are_what_the_codec_decodes(self, kind):
        lengths = {"a": 24001, "b/c": 100, "b/d": 70000, "e": 48000, "f": 12345}
        self.write(lengths, getattr(self, kind))
        self.assertEqual(self.detokenize(sample_format="float32"), 0)
        self.assertEqual(self.sounds(), ["a.wav", "b/c.wav", "b/d.wav", "e.wav", "f.wav"])
        for id in lengths:
            self.check(id, f"{id}.wav")
        self.assertIn("[5/5] ", self.stdout.getvalue())
        self.assertRegex(self.stdout.getvalue(), r"5 of 5 rows, \d+\.\d s of audio in ")

    def test_a_row_that_its_source_goes_on_after(self):
        # Cut after whole segments: the codes of the last one reach into the next row.
        stride, frames = self.stereo.framing.stride, self.stereo.framing.segment_frames
        [row], info = self.write({"a": 3 * stride}, self.stereo)
        cut = dataclasses.replace(
            self.encoded["a"],
            codes=row.codes[None, :, : 2 * frames],
            num_samples=np.array([2 * stride]),
            num_frames=np.array([self.stereo.framing.num_frames(2 * stride)]),
            scales=row.scales[None, :2],
        )
        codes = cut.codes[0]
        part = row._replace(
            codes=codes, num_frames=2 * frames, num_samples=2 * stride, scales=row.scales[:2]
        )
        token_files.write(self.path, [part], info)
        self.encoded["a"] = cut
        self.assertEqual(self.detokenize(sample_format="float32"), 0)
        self.check("a", "a.wav")

    @parameterized.parameters(False, True)
    def test_what_tokenize_made(self, has_segments):
        self.codec = tokenize_cases.segment_codec() if has_segments else tokenize_cases.codec()
        (self.folder / "in").mkdir()
        tokenize_cases.write_clips(self.folder / "in", 3, channels=2)
        job = tokenize_cases.job(
            self.folder / "in", self.folder / "OUT", self.codec, row_seconds=0.5, channels="split"
        )
        tokenize_cases.run(job)
        self.assertEqual(self.detokenize(), 0)
        rows = tokens.open(self.folder / "OUT")
        self.assertGreater(len(rows), 6)
        self.assertEqual(self.sounds(), sorted(f"{id}.wav" for id in rows.ids()))
        for row in map(rows.__getitem__, range(len(rows))):
            found = sound_files.read(self.folder / f"sound/{row['id']}.wav")
            self.assertEqual(found.samples.shape, (row["num_samples"], 1))

    def test_one_channel_of_a_source(self):
        self.write({"left": 30000}, self.stereo, channel=0)
        self.assertEqual(self.detokenize(sample_format="float32"), 0)
        self.assertEqual(sound_files.read(self.folder / "sound/left.wav").samples.shape, (30000, 1))
        self.check("left", "left.wav", channels=1)

    def test_ids_and_limit(self):
        self.write({"a": 320, "b": 640, "c": 960, "d": 320})
        self.assertEqual(self.detokenize(ids=["d", "b"]), 0)
        self.assertEqual(self.sounds(), ["b.wav", "d.wav"])
        self.assertEqual(self.detokenize(limit=3), 0)
        self.assertEqual(self.sounds(), ["a.wav", "b.wav", "c.wav", "d.wav"])
        self.assertRegex(self.stdout.getvalue(), "kept 1 that exist already, such as .*b.wav; --fo")
        with self.assertRaisesRegex(ValueError, "^--ids: got x, y, must be IDs of the data set$"):
            self.detokenize(ids=["x", "a", "y"])
        with self.assertRaisesRegex(ValueError, "^--limit: got 0, must be a whole number above 0$"):
            self.detokenize(limit=0)

    def test_the_id_of_an_item_names_all_its_rows(self):
        self.write({"a#p0": 320, "a#p1": 640, "b#p0": 960, "a#b#c0p0": 320})
        self.assertEqual(self.detokenize(ids=["a", "b#p0"]), 0)
        self.assertEqual(self.sounds(), ["a#p0.wav", "a#p1.wav", "b#p0.wav"])
        self.assertEqual(self.detokenize(ids=["a#b"]), 0)
        self.assertEqual(self.sounds()[0], "a#b#c0p0.wav")

    def test_outputs_that_exist(self):
        self.write({"a": 320, "b": 640})
        self.assertEqual(self.detokenize(suffix=".FLAC"), 0)
        (self.folder / "sound/a.flac").write_bytes(b"")
        self.assertEqual(self.detokenize(suffix=".flac"), 0)
        self.assertEqual((self.folder / "sound/a.flac").stat().st_size, 0)
        message = "a.flac: exists already; --force replaces it$"
        with self.assertRaisesRegex(ValueError, message):
            self.detokenize(suffix=".flac", ids=["a"])
        self.assertEqual(self.detokenize(suffix=".flac", force=True), 0)
        self.assertGreater((self.folder / "sound/a.flac").stat().st_size, 0)

    def test_another_checkpoint(self):
        self.write({"a": 320, "b": 320})
        made_with = self.codec.fingerprint[:16]
        self.codec = infer_cases.like(self.codec, name="other", fingerprint="f" * 64)
        message = (
            f"^{self.path}: made with encodec_24khz \\(fingerprint {made_with}\\), the checkpoint "
            "here is other \\(ffffffffffffffff\\); --checkpoint=FILE names another$"
        )
        with self.assertRaisesRegex(ValueError, message):
            self.detokenize()
        self.assertEqual(self.sounds(), [])

    def test_decoder_that_knows_the_name_of_its_encoder_only(self):
        rows, info = self.write({"a": 320})
        made_by = functools.partial(checkpoint.CodesOf, source="", fingerprint=None)
        self.codec = infer_cases.like(self.codec, name="vocos", _codes_of=made_by("encodec_24khz"))
        self.assertEqual(self.detokenize(sample_format="float32"), 0)
        self.check("a", "a.wav")
        token_files.write(self.path, rows, dataclasses.replace(info, sample_rate=48000))
        message = "made with sample_rate 48000, the checkpoint here has 24000$"
        with self.assertRaisesRegex(ValueError, message):
            self.detokenize(force=True)
        self.codec = infer_cases.like(self.codec, _codes_of=made_by("encodec_32khz"))
        message = "made with encodec_24khz, the checkpoint here is encodec_32khz; --checkpoint=FILE"
        with self.assertRaisesRegex(ValueError, message):
            self.detokenize(force=True)

    def test_a_damaged_row_is_skipped(self):
        rows, info = self.write({"a": 320, "b": 640, "c": 960})
        rows[1] = rows[1]._replace(codes=rows[1].codes + 5000)
        rows[2] = rows[2]._replace(num_samples=96000)
        token_files.write(self.path, rows, info)
        self.assertEqual(self.detokenize(), 1)
        self.assertEqual(self.sounds(), ["a.wav"])
        self.assertRegex(self.stderr.getvalue(), "skipped 2:\nrow b.*\nrow c: got 3 frames, 96000 ")
        with self.assertRaisesRegex(ValueError, "^row b"):
            self.detokenize(ids=["b"])

    def test_what_fails_leaves_no_file(self):
        self.write({"a": 24000, "b": 24000, "c": 24000})
        with (
            mock.patch.object(detokenizer._Decoding, "read", side_effect=KeyboardInterrupt),
        ):
            self.assertEqual(self.detokenize(), 130)
        self.assertIn("interrupted: 0 of 3 rows written", self.stderr.getvalue())
        self.assertEqual(self.sounds(), [])
        full = OSError(28, "No space left on device")
        with mock.patch.object(part_file.os, "replace", side_effect=full):
            self.assertEqual(self.detokenize(), 1)
        self.assertIn("a.wav: No space left on device", self.stderr.getvalue())
        self.assertEqual(self.sounds(), [])

    @pytest.mark.slow
    def test_without_pyarrow(self):
        program = (
            "import sys; sys.modules['pyarrow'] = None\n"
            "from encodec_hk.commands import detokenize\n"
            "detokenize.run(None, 'codes', 'sound')"
        )
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        message = "ValueError: a data set of codes needs pyarrow: pip install"
        self.assertIn(message, result.stderr.splitlines()[-1])

    def test_a_folder_that_is_a_file(self):
        self.write({"a": 320})
        (self.folder / "sound").write_text("")
        with self.assertRaisesRegex(ValueError, "sound: is a file, FOLDER must be a folder"):
            self.detokenize()

    @parameterized.parameters(
        ("speaker_1/clip 2 (b).x", "speaker_1/clip 2 (b).x.wav"),
        ("Straße", "Straße.wav"),
        ("../../etc/passwd", r"__/__/etc/passwd-\w{12}\.wav"),
        ("/data/a", r"data/a-\w{12}\.wav"),
        (".hidden", r"_hidden-\w{12}\.wav"),
        ("s3://bucket/a?b=c", r"s3_/bucket/a_b=c-\w{12}\.wav"),
        ("a\\b\x00\n", r"a_b__-\w{12}\.wav"),
        ("", r"_-\w{12}\.wav"),
    )
    def test_safe_names(self, id, expected):
        self.assertRegex(
            detokenizer.file_name(id, ".wav"), f"^{expected}$".replace("(b)", r"\(b\)")
        )

    def test_long_names_differ(self):
        names = {detokenizer.file_name("é" * 300 + end, ".wav") for end in "ab"}
        self.assertLen(names, 2)
        for name in names:
            self.assertLess(len(os.fsencode(name)), 200)


if __name__ == "__main__":
    absltest.main()
