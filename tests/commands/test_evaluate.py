"""`run.py evaluate`: its files, resumption, missing packages and bad input."""

import contextlib
import csv
import dataclasses
import functools
import io
import json
import os
import pathlib
import sys
import tempfile
from unittest import mock

import numpy as np
import pytest
from absl.testing import parameterized

from configs import encodec_tiny
from encodec_hk.commands import checkpoints
from encodec_hk.commands import evaluate
from encodec_hk.evaluation import baseline_coder
from encodec_hk.evaluation import coders
from encodec_hk.evaluation import measures
from encodec_hk.evaluation import measuring_pool
from encodec_hk.evaluation import model_coder
from encodec_hk.evaluation import parity
from encodec_hk.evaluation import results
from encodec_hk.language import language_coder
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files
from encodec_hk.system import interruption
from tests import infer_cases
from tests.language import random_language

ROOT = pathlib.Path(__file__).parents[2]
SMALL = "small.safetensors"
TINY = str(ROOT / "checkpoints" / "encodec_tiny.safetensors")
CHEAP = ("si_snr", "si_snr_windows", "mel_distance", "log_spectral_distance")
ARGUMENTS = {"bandwidths": ["0.75", "1.5"], "baselines": [], "workers": 0}


def clip(name, start, seconds):
    samples, rate, _ = sound_files.read(ROOT / "assets" / "clips" / f"{name}.flac")
    return samples[round(start * rate) : round((start + seconds) * rate)], rate


@functools.cache
def codecs():
    """Return small codecs by checkpoint, the same for all tests, so that they compile once."""
    wide = {"sample_rate": 48000, "channels": 2, "ratios": (8, 5)}
    return {
        SMALL: infer_cases.make_codec("small"),
        "wide.safetensors": infer_cases.make_codec("wide", **wide),
    }


class EvaluateTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.data = self.folder / "data"
        self.add("speech/reading.wav", *clip("speech_reading", 1, 1.2))
        self.add("music/guitar.wav", *clip("music_guitar", 1, 1.0))
        self.report = mock.Mock()
        self.set_module("encodec_hk.evaluation.report", self.report)
        # Measures have tests of their own, and ViSQOL compiles for seconds.
        self.available = self.enter_context(
            mock.patch.object(measures, "available", return_value=(CHEAP, []))
        )
        load = checkpoints.load_codec

        def load_codec(config, path):
            return codecs()[path] if path in codecs() else load(config, path)

        self.enter_context(mock.patch.object(checkpoints, "load_codec", load_codec))

    def set_module(self, name, module):
        """Replace a module; None makes it appear not installed."""
        before = sys.modules.get(name)
        sys.modules[name] = module
        restore = (
            [sys.modules.pop, name] if before is None else [sys.modules.update, {name: before}]
        )
        self.addCleanup(*restore)

    def add(self, name, samples, rate=24000):
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sound_files.write(path, samples, rate)

    def run_command(self, config=None, *, status=0, **settings):
        """Run the command on the small checkpoint; return the summary, or None."""
        self.report.reset_mock()
        out, errors = io.StringIO(), io.StringIO()
        arguments = {**ARGUMENTS, "data": str(self.data), "out": str(self.folder / "out")}
        if config is None:
            arguments["checkpoint"] = SMALL
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            found = evaluate.run(config, **{**arguments, **settings})
        self.stdout, self.stderr = out.getvalue(), errors.getvalue()
        self.assertEqual(found, status, self.stderr)
        path = self.folder / "out" / "summary.json"
        return json.loads(path.read_text()) if path.exists() else None

    def rows(self):
        with (self.folder / "out" / "metrics.csv").open() as file:
            return list(csv.DictReader(file))

    def num_new(self):
        return int(self.stdout.rpartition("rows, ")[2].split()[0])

    def test_rows_and_summary(self):
        summary = self.run_command()
        rows = self.rows()
        self.assertEqual(
            [(row["file"], row["group"], row["is_speech"], row["kbps"]) for row in rows],
            [
                ("music/guitar.wav", "music", "False", "0.75"),
                ("music/guitar.wav", "music", "False", "1.5"),
                ("speech/reading.wav", "speech", "True", "0.75"),
                ("speech/reading.wav", "speech", "True", "1.5"),
            ],
        )
        self.assertEqual({row["codec"] for row in rows}, {"small"})
        for row in rows:
            self.assertAlmostEqual(float(row["payload_kbps"]), float(row["kbps"]), delta=0.05)
            self.assertGreater(float(row["total_kbps"]), float(row["payload_kbps"]) + 0.5)
            self.assertGreater(float(row["encode_speed"]), 0)
            self.assertEqual(row["pesq"], "")
        self.assertEqual(list(summary["means"]), ["all", "music", "speech"])
        cell = summary["means"]["all"]["small"]["1.5"]["si_snr"]
        values = [float(row["si_snr"]) for row in rows if row["kbps"] == "1.5"]
        self.assertAlmostEqual(cell["mean"], np.mean(values), places=6)
        self.assertAlmostEqual(cell["low"], min(values), places=6)  # half of a draw of two
        self.assertEqual(cell["count"], 2)
        codebooks = summary["codebooks"]["small"]
        self.assertEqual(
            {kbps: len(found) for kbps, found in codebooks.items()}, {"0.75": 1, "1.5": 2}
        )
        # The first codebooks' codes are those of a lower rate.
        self.assertEqual(codebooks["1.5"][:1], codebooks["0.75"])
        frames = 75 + 90
        self.assertBetween(codebooks["1.5"][0]["entropy"], 0.5, np.log2(frames))
        facts = summary["codecs"]["small"]
        self.assertEqual((facts["kind"], facts["sample_rate"]), ("encodec", 24000))
        self.assertEqual((summary["failed"], summary["parity"]), ({}, {}))
        self.assertIn("small  0.75", self.stdout)
        self.assertIn("[2/2] speech/reading.wav: 2 of 2 rows new", self.stdout)

    def test_bitrates_with_a_language_model(self):
        codec, audio = codecs()[SMALL], clip("speech_reading", 1, 1.2)[0][None]
        model = random_language.counting_model(codec, audio)
        coder = language_coder.LanguageCoder(model)
        with mock.patch.object(checkpoints, "load_language", return_value=coder):
            summary = self.run_command()
            self.assertEqual(summary["codecs"]["small"]["language"], model.fingerprint)
            self.assertIn("lang. model", self.stdout)
            for row in self.rows():
                if row["is_speech"] == "True":
                    saved = 1 - float(row["language_payload_kbps"]) / float(row["payload_kbps"])
                    self.assertBetween(saved, 0.1, 0.9)
                more = float(row["language_total_kbps"]) - float(row["language_payload_kbps"])
                self.assertGreater(more, 0.5)
            self.run_command()
            self.assertEqual(self.num_new(), 0)
        self.run_command()
        self.assertEqual(self.num_new(), 4)
        self.assertEqual({row["language_total_kbps"] for row in self.rows()}, {""})
        foreign = dataclasses.replace(model, codec="ab" * 32)
        coder = language_coder.LanguageCoder(foreign)
        with mock.patch.object(checkpoints, "load_language", return_value=coder):
            self.run_command()
        self.assertEqual(self.num_new(), 0)

    def test_items_of_the_report(self):
        self.add("music/long.wav", np.tile(clip("music_beat", 0, 3)[0], (4, 1)), 44100)
        self.run_command(bandwidths=["1.5"], report_files=2)
        (path,), given = self.report.write.call_args
        self.assertEqual(path, self.folder / "out" / "report.html")
        self.assertLen(given["rows"], 3)
        self.assertIn("small on 3 files", given["title"])
        # Groups take turns.
        names = [item.file for item in given["items"]]
        self.assertEqual(names, ["music/guitar.wav", "speech/reading.wav"])
        self.run_command(bandwidths=["1.5"], report_files=3)
        self.assertEqual(self.num_new(), 1)  # the third file had no excerpts yet
        items = {item.file: item for item in self.report.write.call_args[1]["items"]}
        long = items["music/long.wav"]
        self.assertIsInstance(long, results.Item)
        self.assertEqual(long.original.shape, (240000, 1))
        sound = sound_files.read(self.data / "music/long.wav")
        whole = resampling.resample(resampling.mix(sound.samples, 1), 44100, 24000)
        np.testing.assert_allclose(long.original, whole[24000:264000], atol=2**-15)
        (rendition,) = long.renditions
        self.assertEqual((rendition.codec, rendition.kbps), ("small", 1.5))
        self.assertEqual(rendition.samples.shape, (240000, 1))

    def test_a_report_that_cannot_be_written(self):
        self.report.write.side_effect = ValueError("evaluation needs PIL")
        call = {"bandwidths": ["1.5"], "report_files": 0}
        summary = self.run_command(**call)
        self.assertEqual(summary["missing"], ["report.html: evaluation needs PIL"])
        self.assertIn("wrote metrics.csv and summary.json into", self.stdout)

    def test_continues(self):
        first = self.run_command()
        self.assertEqual(self.num_new(), 4)
        before = self.rows()
        with mock.patch.object(model_coder.ModelCoder, "code", side_effect=AssertionError):
            again = self.run_command()
        self.assertEqual(self.num_new(), 0)
        self.assertEqual(self.rows(), before)
        self.assertEqual(again["codebooks"], first["codebooks"])
        self.assertLen(self.report.write.call_args[1]["items"], 2)
        # New or changed rows are run.
        self.run_command(bandwidths=["0.75", "2.25"])
        self.assertEqual(self.num_new(), 2)
        self.add("speech/reading.wav", *clip("speech_reading", 2, 1.3))
        self.run_command()
        self.assertEqual(self.num_new(), 2)
        self.run_command(speech=["*guitar*"])
        self.assertEqual(self.num_new(), 2)
        with mock.patch.object(
            type(codecs()[SMALL]), "fingerprint", new_callable=mock.PropertyMock
        ) as fingerprint:
            fingerprint.return_value = "f" * 64  # another checkpoint
            self.run_command()
        self.assertEqual(self.num_new(), 4)

    def test_a_journal_that_was_cut_off(self):
        self.run_command()
        journal = self.folder / "out" / "journal.jsonl"
        journal.write_bytes(journal.read_bytes()[:-100])
        self.run_command()
        self.assertEqual(self.num_new(), 1)
        self.run_command()
        self.assertEqual(self.num_new(), 0)

    def test_interrupted(self):
        checks = iter([None] * 3)

        def check():
            if next(checks, 1):
                raise KeyboardInterrupt

        with mock.patch.object(interruption, "check", check):
            self.run_command(status=130)
        self.assertIn("interrupted: 0 of 2 files done; the same command continues", self.stderr)
        self.report.write.assert_not_called()
        self.run_command()
        self.assertEqual(self.num_new(), 3)

    def test_bad_files(self):
        (self.data / "music" / "bad.wav").write_bytes(b"RIFF, but no sound")
        (self.data / "music" / "empty.flac").write_bytes(b"")
        self.add("speech/silent.wav", np.zeros((2400, 1)))
        summary = self.run_command()
        self.assertEqual(set(summary["failed"]), {"music/bad.wav", "music/empty.flac"})
        self.assertEqual(summary["failed"]["music/empty.flac"], "the file is empty (0 bytes)")
        self.assertIn("failed: music/bad.wav: ", self.stderr)
        self.assertLen(self.rows(), 6)
        (line,) = summary["missing"]
        self.assertStartsWith(
            line, "SI-SNR, whole file: missing from 2 rows, such as speech/silent.wav"
        )
        self.run_command(status=1, data=str(self.data / "music" / "bad.wav"))
        self.assertIn("none of 1 files could be measured", self.stderr)

    def test_a_codec_that_fails(self):
        """It costs its rows alone."""
        code = model_coder.ModelCoder.code

        def fails(model, samples, kbps):
            if kbps == 1.5:
                raise ValueError("no such thing")
            return code(model, samples, kbps)

        with mock.patch.object(model_coder.ModelCoder, "code", fails):
            summary = self.run_command()
        self.assertLen(self.rows(), 2)
        self.assertEqual(
            summary["failed"],
            {
                f"{file}, small 1.5 kbps": "no such thing"
                for file in ("music/guitar.wav", "speech/reading.wav")
            },
        )

    def test_baselines_and_what_is_missing(self):
        line = "PESQ, wide band: pesq not installed"
        self.available.return_value = CHEAP, [line]
        with mock.patch.object(baseline_coder, "find_tool") as find:
            find.side_effect = lambda kind: None if kind == "mp3" else ("stub", "stub 1")
            with mock.patch.object(baseline_coder.Baseline, "code") as code:
                code.side_effect = lambda samples, kbps: coders.Coded(samples, 1000, 1100, 1.0, 0.5)
                summary = self.run_command(bandwidths=["2.25"], baselines=["opus", "mp3"])
        self.assertEqual([row["kbps"] for row in self.rows()], ["2.25", "6"] * 2)
        self.assertEqual(summary["means"]["all"]["opus"]["6"]["si_snr"]["mean"], 100)
        self.assertStartsWith(summary["missing"][0], "mp3: no ffmpeg with libmp3lame: apt-get")
        self.assertEqual(summary["missing"][1], line)
        self.assertIn(f"missing: {line}", self.stderr)
        self.assertEqual(list(summary["codebooks"]), ["small"])

    def test_several_models(self):
        """Two of one name, and one with another sample rate and more channels."""
        summary = self.run_command(
            checkpoint=f"{SMALL},{SMALL},wide.safetensors", bandwidths=["1.5", "12"]
        )
        names = ["small (small) #1", "small (small) #2", "wide"]
        self.assertEqual(list(summary["codecs"]), names)
        self.assertEqual(
            {name: list(cells) for name, cells in summary["means"]["all"].items()},
            {names[0]: ["1.5"], names[1]: ["1.5"], "wide": ["12"]},
        )
        item = self.report.write.call_args[1]["items"][0]
        self.assertEqual((item.sample_rate, item.original.shape), (48000, (48000, 2)))
        self.assertEqual({r.samples.shape for r in item.renditions}, {(48000, 2)})

    def test_several_checkpoints_with_one_config(self):
        summary = self.run_command(
            encodec_tiny.get_config(),
            checkpoint=f"{SMALL},wide.safetensors",
            bandwidths=["1.5", "12"],
        )
        self.assertLen(summary["codecs"], 2)

    def test_parity(self):
        network = object()
        comparison = parity.verify.Comparison(np.array([1.0, 0.5]), 10, 1e-6, 0.5)
        with (
            mock.patch.object(parity.verify, "exported", return_value=network),
            mock.patch.object(parity.verify, "compare", return_value=comparison) as compare,
        ):
            summary = self.run_command(bandwidths=["1.5"], compare=["transformers"])
            self.assertEqual(compare.call_count, 2)
            self.run_command(bandwidths=["1.5"], compare=["transformers"])
            self.assertEqual(compare.call_count, 2)  # the journal has it
        found = summary["parity"]["small"]
        self.assertEqual((found["equal"], found["codes"], found["files"]), (0.75, 40, 2))
        self.assertEqual(found["by_codebook"], [1.0, 0.5])
        self.assertIn("75.000% of 40 codes equal", self.stdout)

    def test_parity_without_transformers(self):
        self.set_module("transformers", None)
        summary = self.run_command(bandwidths=["1.5"], compare=["transformers"])
        self.assertEqual(summary["parity"], {})
        self.assertRegex(summary["missing"][0], "^--compare=transformers: .*pip install")

    @pytest.mark.slow  # to compile the network and to import torch take half a minute
    def test_parity_of_the_shipped_tiny_model(self):
        (self.data / "music" / "guitar.wav").unlink()
        summary = self.run_command(bandwidths=["6"], compare=["transformers"], checkpoint=TINY)
        self.assertGreater(float(self.rows()[0]["si_snr"]), 2)
        found = summary["parity"]["encodec_tiny"]
        self.assertGreater(found["equal"], 0.99)
        self.assertLess(found["difference"], 1e-4)

    def test_processes(self):
        """They measure the same, without JAX; one that dies costs its file alone."""
        self.run_command(bandwidths=["1.5"])
        expected = [row["mel_distance"] for row in self.rows()]
        self.run_command(bandwidths=["1.5"], workers=1, out=str(self.folder / "out2"))
        rows = csv.DictReader((self.folder / "out2" / "metrics.csv").open())
        self.assertEqual([row["mel_distance"] for row in rows], expected)
        pool = measuring_pool.Pool(1)
        self.addCleanup(pool.close)
        with mock.patch.object(measuring_pool.measures, "measure_files", os._exit):
            future = pool.submit(3)
            self.assertRaises(measuring_pool.BrokenExecutor, future.result)
        pool.close()
        with mock.patch.object(measuring_pool.measures, "measure_files", eval):
            code = (
                "__import__('encodec_hk.evaluation.measures') and __import__('sys').modules.keys()"
            )
            self.assertNotIn("jax", pool.submit(f"list({code})").result())

    @parameterized.parameters(
        ({"bandwidths": ["x"]}, "^--bandwidths: got x, must be kbps with commas between: 1.5,3,6$"),
        ({"bandwidths": ["-1", "3"]}, "^--bandwidths: got -1,3, must be kbps"),
        ({"bandwidths": ["2"]}, "^--bandwidths: got 2.0, must be a whole number of codebooks"),
        ({"baselines": ["flac"]}, "^--baselines: got 'flac', must be one of opus, mp3, or empty"),
        ({"report_files": -1}, "^--report_files: got -1, must be 0 or more$"),
        ({"workers": -1}, "^--workers: got -1, must be 0 or more$"),
        ({"data": "nothing.wav"}, "^nothing.wav: no such file or folder$"),
        ({"out": __file__}, "^--out: .*: File exists$"),
        ({"checkpoint": "none.safetensors"}, "^none.safetensors: no such file"),
    )
    def test_bad_calls(self, settings, message):
        with self.assertRaisesRegex(ValueError, message) as context:
            self.run_command(**settings)
        self.assertNotIn("\n", str(context.exception))


class MeasuresTest(parameterized.TestCase):
    def test_measures(self):
        names, missing = measures.available()
        self.assertEqual((set(names) - set(measures.MEASURES), missing), (set(), []))
        find = measures.importlib.util.find_spec
        with mock.patch.object(
            measures.importlib.util,
            "find_spec",
            lambda name: None if name in ("pesq", "visqol") else find(name),
        ):
            names, missing = measures.available()
            self.assertLen(measures.available(has_speech=False)[1], 1)
        self.assertEqual(set(names), {*CHEAP, "stoi"})
        self.assertIn("PESQ, wide band: pesq not installed: pip install '.[pesq]'", missing)
        self.assertLen(missing, 3)

    def test_speech_measures_are_for_speech(self):
        samples, rate = clip("speech_reading", 1, 1.0)
        names = ("si_snr", "pesq", "stoi")
        found = measures.measure(samples, samples, rate, names, is_speech=False)
        self.assertEqual(list(found.values), ["si_snr"])
        found = measures.measure(samples, samples, rate, names, is_speech=True)
        self.assertEqual(list(found.values), list(names))
        found = measures.measure(samples[:800], samples[:800], rate, names, is_speech=True)
        self.assertIn("PESQ needs 0.25 s", found.errors["pesq"])
        self.assertEqual(found.values, {"si_snr": 100.0})


if __name__ == "__main__":
    parameterized.absltest.main()
