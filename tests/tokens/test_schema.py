"""Parquet files of codes: columns, metadata, and bytes that depend on the rows alone."""

import dataclasses
import pathlib
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.tokens import schema
from tests import token_files

INFO = token_files.INFO


def row(index, frames=5, **kept):
    codes = np.random.default_rng(index).integers(0, 1024, (2, frames))
    return schema.TokenRow(
        *(f"{index:04}", "a.wav", 0, -1, 0.0, 0.1, frames, 1600, 16000, 2, codes), kept=kept
    )


class SchemaTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = self.folder / "train-00000.parquet"

    def write(self, rows, arrow_schema, size=100):
        tables = [
            schema.make_table(rows[at : at + size], arrow_schema)
            for at in range(0, len(rows), size)
        ]
        return schema.write_file(self.path, tables, arrow_schema)

    def test_rows_come_back(self):
        arrow_schema = schema.arrow_schema(INFO, {"text": pa.string(), "speaker": pa.int64()})
        rows = [row(0, 5, text="a", speaker=3), row(1, 1, text="b"), row(2, 9)]
        count, size = self.write(rows, arrow_schema)
        self.assertEqual((count, size), (3, self.path.stat().st_size))
        table = pq.read_table(self.path)
        self.assertEqual(table.column_names, [*schema.COLUMNS[:-1], "text", "speaker"])
        self.assertEqual(table.schema.field("codes").type, pa.list_(pa.list_(pa.int16())))
        self.assertEqual(table["text"].to_pylist(), ["a", "b", None])
        self.assertEqual(table["speaker"].to_pylist(), [3, None, None])
        for index, own in enumerate(rows):
            codes = schema.codes_of(table["codes"].combine_chunks(), index)
            np.testing.assert_array_equal(codes, own.codes)

    def test_scales_of_a_model_that_normalises(self):
        arrow_schema = schema.arrow_schema(dataclasses.replace(INFO, normalize=True))
        self.write([row(0)._replace(scales=np.float32([0.5, 0.25]))], arrow_schema)
        self.assertEqual(pq.read_table(self.path)["scales"].to_pylist(), [[0.5, 0.25]])

    def test_metadata_comes_back(self):
        self.write([row(0)], schema.arrow_schema(INFO))
        self.assertEqual(schema.read_info(self.path), INFO)

    def test_other_files_are_refused(self):
        pq.write_table(pa.table({"a": [1]}), self.path)
        with self.assertRaisesRegex(ValueError, "not a file of codes"):
            schema.read_info(self.path)
        self.path.write_bytes(b"x")
        with self.assertRaisesRegex(ValueError, "train-00000.parquet: "):
            schema.read_info(self.path)

    def test_bytes_do_not_depend_on_the_tables(self):
        arrow_schema = schema.arrow_schema(INFO, {"text": pa.string()})
        rows = [row(index, 1 + index % 7, text=str(index)) for index in range(600)]
        found = []
        for size in (600, 256, 7):
            self.write(rows, arrow_schema, size)
            found.append(self.path.read_bytes())
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0], found[2])
        groups = pq.ParquetFile(self.path).metadata
        self.assertEqual(
            [groups.row_group(at).num_rows for at in range(groups.num_row_groups)], [256, 256, 88]
        )

    def test_codes_take_about_ten_bits(self):
        rows = [row(index, 750) for index in range(256)]
        _, size = self.write(rows, schema.arrow_schema(INFO))
        self.assertLess(size * 8 / (256 * 750 * 2), 10.5)

    def test_no_rows_no_file(self):
        self.write([row(0)], schema.arrow_schema(INFO))
        self.assertEqual(self.write([], schema.arrow_schema(INFO)), (0, 0))
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_kept_fields_have_names_of_their_own(self):
        with self.assertRaisesRegex(ValueError, "--keep: got codes"):
            schema.arrow_schema(INFO, {"codes": pa.string()})


if __name__ == "__main__":
    absltest.main()
