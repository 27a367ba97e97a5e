"""Names and groups of files, means of rows, and the journal between two runs."""

import csv
import json
import pathlib
import tempfile

import numpy as np
from absl.testing import parameterized
from scipy import stats

from encodec_hk.evaluation import excerpts
from encodec_hk.evaluation import journals
from encodec_hk.evaluation import results
from encodec_hk.evaluation import score_table
from encodec_hk.evaluation import selection


def row(file, group, kbps, **measures):
    facts = {"file": file, "group": group, "codec": "a", "is_speech": False}
    return {**facts, "kbps": kbps, "seconds": 1.0, **measures}


class MeansTest(parameterized.TestCase):
    def test_groups(self):
        rows = [
            row("x/1", "x", 1.5, si_snr=1.0, stoi=0.5),
            row("x/2", "x", 1.5, si_snr=3.0),
            row("y/1", "y", 1.5, si_snr=8.0, stoi=float("nan")),
            row("y/1", "y", 3.0, si_snr=9.0),
        ]
        found = results.means(rows)
        self.assertEqual(list(found), ["all", "x", "y"])
        self.assertEqual(found["all"]["a"]["1.5"]["si_snr"]["mean"], 4.0)
        self.assertEqual(found["all"]["a"]["1.5"]["stoi"]["count"], 1)
        self.assertEqual(found["x"]["a"]["1.5"]["si_snr"]["mean"], 2.0)
        self.assertNotIn("stoi", found["y"]["a"]["1.5"])
        self.assertEqual(list(found["y"]["a"]), ["1.5", "3"])

    def test_interval(self):
        values = np.random.default_rng(1).normal(3, 2, 40)
        found = results.interval(values)
        expected = stats.bootstrap(
            (values,), np.mean, method="percentile", n_resamples=20000, rng=2
        ).confidence_interval
        self.assertAlmostEqual(found["mean"], values.mean())
        np.testing.assert_allclose((found["low"], found["high"]), expected, atol=0.05)
        self.assertEqual(results.interval(values), found)
        one = {"mean": 2.0, "low": 2.0, "high": 2.0, "count": 1}
        self.assertEqual(results.interval([2.0]), one)

    def test_files(self):
        folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        results.write_rows(folder / "a.csv", [row("a, b", "", 1.5, si_snr=1 / 3)])
        with (folder / "a.csv").open() as file:
            (read,) = csv.DictReader(file)
        self.assertEqual((read["file"], read["pesq"]), ("a, b", ""))
        self.assertAlmostEqual(float(read["si_snr"]), 1 / 3)
        results.write_summary(folder / "a.json", {"failed": {}})
        self.assertEqual(json.loads((folder / "a.json").read_text()), {"failed": {}})

    def test_table(self):
        rows = [row("x/1", "x", 1.5, si_snr=1.234), row("y/1", "y", 1.5, si_snr=2.0, stoi=0.5)]
        codebook = {"entropy": 7.5, "perplexity": 181.0, "used": 200, "dead": 824}
        parity = {"equal": 0.5, "codes": 10, "difference": 1e-6, "peak": 0.25}
        text = score_table.render(
            {
                "means": results.means(rows),
                "codebooks": {"a": {"1.5": [codebook]}},
                "parity": {"a": parity},
            }
        )
        self.assertIn("all 2 files", text)
        self.assertRegex(text, r"x: 1 file\n.*\n.*\na +1\.5 +1\.23\n")
        self.assertRegex(text, r"a +1\.5 +2\.00 +0\.500")
        self.assertIn("entropy 7.50 of 10 bits, perplexity 181 of 1024, unused 824", text)
        self.assertIn("50.000% of 10 codes equal", text)


class SelectionTest(parameterized.TestCase):
    def test_names_groups_and_speech(self):
        root = pathlib.Path("some/clips")
        names = ("a.wav", "speech_b.wav", "My Speeches/c.wav", "x/y/d.wav", "x/e.wav")
        found = selection.name_all([root / name for name in names], root, ["*/y/*", "e.wav"])
        self.assertEqual([file.name for file in found], list(names))
        self.assertEqual(
            [file.group for file in found], ["clips", "clips", "My Speeches", "x/y", "x"]
        )
        self.assertEqual([file.is_speech for file in found], [False, True, True, True, True])
        (inside,) = selection.name_all([pathlib.Path("speech/a.wav")], pathlib.Path("speech"))
        self.assertTrue(inside.is_speech)

    def test_chosen_in_turn_from_groups(self):
        root = pathlib.Path("r")
        names = ("a/1", "a/2", "a/3", "b/1", "c/1", "c/2")
        found = selection.name_all([root / name for name in names], root)
        chosen = [file.name for file in excerpts.choose(found, 5)]
        self.assertEqual(chosen, ["a/1", "b/1", "c/1", "a/2", "c/2"])
        self.assertLen(excerpts.choose(found, 100), 6)
        self.assertEmpty(excerpts.choose(found, 0))

    def test_middle(self):
        samples = np.arange(100)[:, None]
        np.testing.assert_array_equal(excerpts.middle(samples, 10, 2.0), samples[40:60])
        np.testing.assert_array_equal(excerpts.middle(samples, 10, 20.0), samples)


class JournalTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        folder = self.enter_context(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(folder, "journal.jsonl")

    def open(self):
        found = journals.Journal(self.path)
        self.addCleanup(found.close)
        return found

    def test_entries_are_kept(self):
        first = self.open()
        first.add("a", {"value": 1})
        first.add("b", {"value": 2})
        first.add("a", {"value": 3})
        self.assertEqual(first.get("a"), {"value": 3})
        again = self.open()
        self.assertEqual((again.get("a"), again.get("c")), ({"value": 3}, None))

    @parameterized.parameters(b'{"key": "b", "val', b"[1]\n", b'{"value": 1}\n', b"\xff\n", b"\0\0")
    def test_damage(self, end):
        self.open().add("a", {"value": 1})
        with self.path.open("ab") as file:
            file.write(end)
        damaged = self.open()
        self.assertEqual(damaged.get("a"), {"value": 1})
        damaged.add("c", {"value": 4})
        self.assertEqual(self.open().get("c"), {"value": 4})

    def test_keys(self):
        self.assertEqual(journals.key_of("a", 1.5, ["b"]), journals.key_of("a", 1.5, ("b",)))
        self.assertNotEqual(journals.key_of("a", 1.5), journals.key_of("a", 3.0))

    def test_a_folder_that_cannot_be_written(self):
        with self.assertRaisesRegex(ValueError, "none/journal.jsonl: No such file or directory"):
            journals.Journal(self.path.parent / "none" / "journal.jsonl")
