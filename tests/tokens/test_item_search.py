"""What IN names: folders, globs, URLs, manifests, tars and Parquet files."""

import gzip
import json
import pathlib
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.tokens import item_search
from encodec_hk.tokens import item_table
from tests import tokenize_cases


class ItemSearchTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def write(self, name, content=b"12345"):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def find(self, inputs, *keep, output=None):
        return item_search.find_items(str(inputs), keep, output=output)

    def items(self, inputs, *keep):
        return item_table.items_of(self.find(inputs, *keep).table)

    def write_manifest(self, *entries, name="list.jsonl"):
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        return self.write(name, text.encode())

    def test_folder(self):
        for name in ("b/2.wav", "a.flac", "b/1.m4a", "notes.txt", ".hidden.wav", "video.mp4"):
            self.write(name)
        found = self.items(self.folder)
        self.assertEqual([item.id for item in found], ["a.flac", "b/1.m4a", "b/2.wav"])
        self.assertEqual([item.size for item in found], [5, 5, 5])
        self.assertEqual(found[0].path, b"a.flac")

    def test_glob_and_file(self):
        for name in ("x/1.wav", "x/2.flac", "y/1.wav"):
            self.write(name)
        found = self.find(self.folder / "*" / "1.wav")
        self.assertEqual(found.table["id"].to_pylist(), ["x/1.wav", "y/1.wav"])
        self.assertEqual(pathlib.Path(found.base), self.folder)
        found = self.find(self.folder / "x" / "2.flac")
        self.assertEqual(found.table["id"].to_pylist(), ["2.flac"])

    def test_own_output_is_no_input(self):
        self.write("a.wav")
        self.write("out/data/train-00000.parquet")
        found = self.find(self.folder, output=str(self.folder / "out"))
        self.assertEqual(found.table["id"].to_pylist(), ["a.wav"])

    @parameterized.parameters("file://{}", "file://{}/*.wav", "file://{}/a.wav")
    def test_urls(self, form):
        self.write("a.wav")
        self.write(".hidden.wav")
        found = self.find(form.format(self.folder))
        self.assertEqual(found.table["id"].to_pylist(), ["a.wav"])
        self.assertEqual(found.base, f"file://{self.folder}")
        self.assertEqual(found.table["size"].to_pylist(), [5])

    @parameterized.parameters("list.jsonl", "list.json", "list.jsonl.gz", "list.json.gz")
    def test_forms_of_manifests(self, name):
        lines = (
            b'{"path": "a.wav", "duration": 1.5}\n\n'
            b'{"audio_filepath": "/b.wav", "duration": 2, "offset": 3.5, "text": "t", "l": 1}\n'
            b'{"path": "s3://bucket/c.wav", "id": "c", "duration": 1}\n'
        )
        path = self.write(name, gzip.compress(lines) if name.endswith("gz") else lines)
        by_source = {item.source: item for item in self.items(path, "text")}
        a, b, c = (by_source[name] for name in ("a.wav", "/b.wav", "s3://bucket/c.wav"))
        self.assertEqual((a.id, a.seconds, a.offset, a.duration), ("a.wav", 1.5, None, None))
        self.assertEqual((b.id, b.offset, b.duration), ("/b.wav@3.5", 3.5, 2.0))
        self.assertEqual((b.kept, a.kept), ({"text": "t"}, {"text": None}))
        self.assertEqual((c.id, c.path), ("c", b"s3://bucket/c.wav"))

    def test_paths_are_relative_to_the_manifest(self):
        self.write_manifest({"path": "a.wav", "duration": 1}, name="one/list.jsonl")
        self.write_manifest({"path": "b.wav", "duration": 1}, name="two/list.jsonl")
        found = self.find(self.folder / "*" / "list.jsonl")
        self.assertEqual(found.table["path"].to_pylist(), [b"one/a.wav", b"two/b.wav"])

    @parameterized.parameters(
        ("[1]", "list.jsonl:2: got no object"),
        ('{"duration": 1}', "list.jsonl:2: got no path, must have path or audio_filepath"),
        ('{"path": "a.wav", "offset": -1}', "list.jsonl:2: offset: got -1, must be"),
        ('{"path": "a.wav", "duration": "x"}', "list.jsonl:2: duration: got 'x', must be"),
        ("{", "list.jsonl:2: "),
    )
    def test_errors_of_manifests(self, line, message):
        path = self.write("list.jsonl", f'{{"path": "b.wav", "duration": 1}}\n{line}\n'.encode())
        with self.assertRaisesRegex(ValueError, message):
            self.find(path)

    def test_equal_ids_are_an_error(self):
        path = self.write_manifest(
            {"path": "a.wav", "id": 1, "duration": 1},
            {"path": "b.wav", "id": "1", "duration": 1},
        )
        with self.assertRaisesRegex(ValueError, r"IN: got the id '1' twice \(a.wav, b.wav\)"):
            self.find(path)

    def test_types_of_kept_fields(self):
        path = self.write_manifest(
            {"path": "a", "duration": 1, "i": 1, "f": 1, "s": "x", "l": ["x"], "d": {"x": 1}},
            {"path": "b", "duration": 1, "i": None, "f": 0.5},
        )
        found = self.find(path, "i", "f", "s", "l", "d")
        self.assertEqual(
            item_table.kept_types(found.table.schema),
            {
                "i": pa.int64(),
                "f": pa.float64(),
                "s": pa.string(),
                "l": pa.list_(pa.string()),
                "d": pa.struct([("x", pa.int64())]),
            },
        )

    def test_kept_fields_that_cannot_be(self):
        path = self.write_manifest(
            {"path": "a", "duration": 1, "x": 1}, {"path": "b", "duration": 1, "x": "1"}
        )
        with self.assertRaisesRegex(ValueError, "--keep: the values of x have several types"):
            self.find(path, "x")
        with self.assertRaisesRegex(ValueError, "--keep: got y, which no item has"):
            self.find(path, "y")

    def test_tar(self):
        tokenize_cases.write_tar(self.folder / "a.tar", 3)
        found = self.items(self.folder, "txt", "speaker")
        self.assertEqual([item.id for item in found], [f"a.tar/0{i}.flac" for i in range(3)])
        self.assertEqual(found[2].kept, {"txt": "text 2", "speaker": 2})
        content = (self.folder / "a.tar").read_bytes()
        self.assertEqual(content[found[1].at :][:4], b"fLaC")

    def test_parquet(self):
        tokenize_cases.write_parquet(self.folder / "a.parquet", 5)
        found = self.items(self.folder, "speaker")
        self.assertEqual([item.at for item in found], list(range(5)))
        self.assertEqual([item.group for item in found], [0, 0, 1, 1, 2])
        self.assertEqual([item.kept["speaker"] for item in found], list(range(5)))
        schema = self.find(self.folder, "speaker").table.schema
        self.assertEqual(item_table.kept_types(schema), {"speaker": pa.int16()})

    def test_parquet_without_sounds(self):
        pq.write_table(pa.table({"x": [1]}), self.folder / "a.parquet")
        with self.assertRaisesRegex(ValueError, "a.parquet: got 0 columns of struct<bytes, path>"):
            self.find(self.folder)

    @parameterized.parameters("a.tar", "a.parquet")
    def test_damaged_containers(self, name):
        self.write(name, b"no container" * 100)
        with self.assertRaisesRegex(ValueError, f"^{self.folder}/?.*{name}: |^{name}: "):
            self.find(self.folder)

    def test_nothing_found(self):
        for inputs, message in (
            ("", "IN: got an empty name"),
            (str(self.folder), "found no sound files"),
            (str(self.folder / "absent"), "absent: no such file or folder"),
            ("nonsense://x", "nonsense://x: "),
        ):
            with self.assertRaisesRegex(ValueError, message):
                self.find(inputs)


if __name__ == "__main__":
    absltest.main()
