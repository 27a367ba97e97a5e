"""Random access to rows and crops: equal to the files, exact to resume, in any process."""

import itertools
import pathlib
import pickle
import sys
import tempfile
from unittest import mock

import fsspec
import grain
import numpy as np
import pyarrow.parquet as pq
import pytest
from absl import flags
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk import tokens
from tests import token_files

LENGTHS = [12, 30, 7, 25, 3, 30, 30, 18, 9, 30, 21, 5, 30]


class TokensTestCase(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.written = token_files.write_dataset(self.folder, LENGTHS)


class TokenRowsTest(TokensTestCase):
    def test_rows(self):
        rows = tokens.open(self.folder)
        self.assertLen(rows, len(LENGTHS))
        np.testing.assert_array_equal(rows.num_frames, LENGTHS)
        self.assertEqual(rows.info, token_files.INFO)
        for index in (5, 0, 12, 5, -1):
            found, expected = rows[index], self.written[index]
            np.testing.assert_array_equal(found.pop("codes"), expected.codes)
            self.assertEqual(found.pop("text"), expected.kept["text"])
            self.assertEqual(found, {name: getattr(expected, name) for name in found})
            self.assertLen(found, 10)
        self.assertEqual(rows[3]["codes"].dtype, np.int32)
        np.testing.assert_array_equal(rows.codes(3, 4, 9), self.written[3].codes[:, 4:9])

    @parameterized.parameters(13, -14)
    def test_index_out_of_range(self, index):
        with self.assertRaisesRegex(IndexError, f"row: got {index}, must be -13 to 12"):
            tokens.open(self.folder)[index]

    def test_scales(self):
        info = token_files.with_fields(normalize=True)
        scales = np.array([0.5, 0.25], np.float32)
        path = self.folder / "scaled.parquet"
        token_files.write(path, [token_files.row(0, 4, info, scales=scales)], info)
        found = tokens.open(path)[0]["scales"]
        np.testing.assert_array_equal(found, scales)
        self.assertEqual(found.dtype, np.float32)

    def test_names(self):
        data = self.folder / "data"
        for path, count in (
            (str(self.folder), 13),
            (data, 13),
            (data / "train-00000.parquet", 6),
            (f"{data}/train-*1.parquet", 7),
            ([data / "train-00001.parquet", data], 13),
        ):
            self.assertLen(tokens.open(path), count)

    def test_urls(self):
        system = fsspec.filesystem("memory")
        self.addCleanup(system.store.clear)
        system.put(f"{self.folder}/data", "/OUT/data", recursive=True)
        for url in ("memory://OUT", "memory://OUT/data", "memory://OUT/data/*.parquet"):
            rows = tokens.open(url)
            self.assertLen(rows, 13)
            np.testing.assert_array_equal(rows[7]["codes"], self.written[7].codes)
        with self.assertRaisesRegex(ValueError, "^memory://NOWHERE: "):
            tokens.open("memory://NOWHERE")

    def test_reads_groups_and_columns_when_they_are_needed(self):
        rows = tokens.open(self.folder, cached_groups=2)
        read = pq.ParquetFile.read_row_group
        with mock.patch.object(pq.ParquetFile, "read_row_group", autospec=True) as spy:
            spy.side_effect = read
            for index in (0, 1, 2, 2, 0):
                rows.codes(index)
            self.assertEqual([call.kwargs["columns"] for call in spy.mock_calls], [["codes"]])
            rows[1]
            self.assertEqual(spy.call_count, 2)
            for index in (3, 6, 3, 0):
                rows.codes(index)
            self.assertEqual(spy.call_count, 5)

    def test_pickles(self):
        rows = tokens.open(self.folder)
        rows[0]
        again = pickle.loads(pickle.dumps(rows))
        np.testing.assert_array_equal(again[7]["codes"], self.written[7].codes)

    @parameterized.parameters(
        ({"fingerprint": "f" * 64}, "fingerprint ffffffffffffffff of encodec_tiny, but .*train-00"),
        ({"num_codebooks": 3}, "num_codebooks 3 of encodec_tiny, but .* has 2 of encodec_tiny: "),
    )
    def test_files_of_different_codes(self, fields, message):
        info = token_files.with_fields(**fields)
        path = self.folder / "data" / "train-00002.parquet"
        token_files.write(path, [token_files.row(0, 4, info)], info)
        with self.assertRaisesRegex(ValueError, f"{path}: {message}") as context:
            tokens.open(self.folder)
        self.assertNotIn("\n", str(context.exception))

    def test_errors(self):
        (self.folder / "empty").mkdir()
        damaged = self.folder / "damaged.parquet"
        damaged.write_bytes(b"PAR1")
        foreign = self.folder / "foreign.parquet"
        pq.write_table(pq.read_table(self.folder / "data").replace_schema_metadata({}), foreign)
        for path, message in (
            ("nowhere", "^nowhere: no such file or folder$"),
            ("nowhere*", r"^nowhere\*: found no .parquet files$"),
            (self.folder / "empty", "empty: found no .parquet files"),
            (damaged, f"^{damaged}: Parquet"),
            (foreign, "foreign.parquet: not a file of codes made by `run.py tokenize`"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                tokens.open(path)

    def test_without_pyarrow(self):
        with (
            mock.patch.dict(sys.modules, {"pyarrow": None}),
            self.assertRaisesRegex(
                ValueError, r"^a data set of codes needs pyarrow: pip install '.\[tokens\]'$"
            ),
        ):
            tokens.open(self.folder)


class TokenCropsTest(TokensTestCase):
    def crops(self, num_frames=5, **settings):
        return tokens.open(self.folder).crops(num_frames, window=2, **settings)

    def check(self, crop, num_frames=5):
        start, row = int(crop["start_frame"]), int(crop["row"])
        valid = int(crop["num_frames"])
        expected = self.written[row].codes[:, start : start + valid]
        self.assertEqual(crop["codes"].shape, (2, num_frames))
        self.assertEqual(crop["codes"].dtype, np.int32)
        np.testing.assert_array_equal(crop["codes"][:, :valid], expected)

    def test_an_epoch_has_every_part_of_every_row(self):
        crops = self.crops(epochs=2)
        self.assertEqual(crops.epoch_length, sum(length // 5 for length in LENGTHS))
        self.assertLen(crops, 2 * crops.epoch_length)
        self.assertEqual(crops.num_left_out, 1)
        epochs = [
            [crops[index] for index in range(first, first + crops.epoch_length)]
            for first in (0, crops.epoch_length)
        ]
        for epoch in epochs:
            for crop in epoch:
                self.check(crop)
            rows = [int(crop["row"]) for crop in epoch]
            for row, length in enumerate(LENGTHS):
                self.assertEqual(rows.count(row), length // 5)
        places = [[(int(crop["row"]), int(crop["start_frame"])) for crop in own] for own in epochs]
        self.assertNotEqual(places[0], places[1])
        self.assertNotEqual(sorted(places[0]), sorted(places[1]))
        self.assertNotEqual(places[0], sorted(places[0]))

    def test_crops_reach_every_frame(self):
        crops = self.crops(epochs=60)
        seen = {row: set() for row in range(len(LENGTHS))}
        for index in range(len(crops)):
            crop = crops[index]
            seen[int(crop["row"])].add(int(crop["start_frame"]))
        for row, length in enumerate(LENGTHS):
            self.assertEqual(seen[row], set(range(length - 4)) if length >= 5 else set())

    def test_a_function_of_seed_and_index(self):
        first, again, other = self.crops(seed=1), self.crops(seed=1), self.crops(seed=2)
        self.assertLen(first, 2**62)
        order = [3, 200, 7, 3, 41]
        for index, back in zip(order, reversed(order), strict=True):
            first[index], again[back]
        for index in order:
            np.testing.assert_equal(first[index], again[index])
        self.assertFalse(
            all(np.array_equal(first[i]["codes"], other[i]["codes"]) for i in range(10))
        )
        with self.assertRaisesRegex(IndexError, "crop: got -1, must be 0 to"):
            first[-1]

    def test_in_order(self):
        crops = self.crops(10, shuffle=False, epochs=1)
        found = [
            (int(crop["row"]), int(crop["start_frame"]))
            for crop in map(crops.__getitem__, range(len(crops)))
        ]
        expected = [(row, 10 * at) for row, n in enumerate(LENGTHS) for at in range(n // 10)]
        self.assertEqual(found, expected)

    def test_padding_of_short_rows(self):
        crops = self.crops(10, pad=1024, epochs=1)
        self.assertEqual(crops.num_left_out, 0)
        found = [crops[index] for index in range(len(crops))]
        self.assertEqual({int(crop["row"]) for crop in found}, set(range(len(LENGTHS))))
        for crop in found:
            self.check(crop, 10)
            valid = int(crop["num_frames"])
            self.assertEqual(valid, min(10, LENGTHS[int(crop["row"])]))
            self.assertTrue((crop["codes"][:, valid:] == 1024).all())

    def test_no_group_is_read_twice_in_an_epoch(self):
        crops = self.crops(epochs=1)
        read = pq.ParquetFile.read_row_group
        with mock.patch.object(pq.ParquetFile, "read_row_group", autospec=True) as spy:
            spy.side_effect = read
            for index in range(len(crops)):
                crops[index]
            self.assertEqual(spy.call_count, 5)

    def check_batches(self, crops, batches, first):
        for at, batch in enumerate(batches, first):
            expected = np.stack([crops[4 * at + place]["codes"] for place in range(4)])
            np.testing.assert_array_equal(batch["codes"], expected)

    def test_grain_resumes(self):
        crops = self.crops()
        dataset = grain.MapDataset.source(crops).batch(4).to_iter_dataset()
        iterator = iter(dataset)
        self.check_batches(crops, itertools.islice(iterator, 3), 0)
        state = iterator.get_state()
        iterator.close()
        again = iter(dataset)
        again.set_state(state)
        self.check_batches(crops, itertools.islice(again, 2), 3)
        again.close()

    @pytest.mark.slow
    def test_grain_with_worker_processes(self):
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        crops = self.crops()
        dataset = grain.MapDataset.source(crops).batch(4).to_iter_dataset()
        iterator = iter(dataset.mp_prefetch(grain.MultiprocessingOptions(2)))
        self.check_batches(crops, itertools.islice(iterator, 4), 0)
        iterator.close()

    @parameterized.parameters(
        ({"num_frames": 0}, "num_frames: got 0, must be at least 1"),
        ({"num_frames": 31}, "num_frames: got 31, must be at most 30, the longest row"),
        ({"seed": -1}, "seed: got -1, must be at least 0"),
        ({"epochs": 0}, "epochs: got 0, must be None or at least 1"),
        ({"pad": 2**31}, "pad: got 2147483648, must be None or a value of int32"),
        ({"window": 9}, "window: got 9, must be 1 to 8, half of cached_groups"),
    )
    def test_errors(self, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            tokens.open(self.folder).crops(**{"num_frames": 5, **arguments})


if __name__ == "__main__":
    absltest.main()
